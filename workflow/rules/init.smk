# The stages that measure: one rule a script, one job an artefact.
for SCRIPT in STAGE_SCRIPTS:

    rule:
        name:
            Path(SCRIPT).stem
        input:
            unpack(stage_inputs),
        output:
            table=f"{RESULTS}/stages/{{artefact}}.parquet",
            sidecar=f"{RESULTS}/stages/{{artefact}}.run.json",
        log:
            f"{LOGS}/{Path(SCRIPT).stem}/{{artefact}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{Path(SCRIPT).stem}/{{artefact}}.tsv"
        wildcard_constraints:
            artefact=artefacts_of(SCRIPT),
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
            gpu=lambda wildcards: gpus(wildcards.artefact),
        params:
            spec=lambda wildcards: CONFIG.params(wildcards.artefact),
            script=SCRIPT,  # the path below is read when the job runs, and so cannot name the loop's variable
            code=script_hash(SCRIPT),
        script:
            "../../scripts/{params.script}"
