# Figure 1: backward-feature angles at initialisation.
rule init:
    output:
        table=f"{RESULTS}/stages/{{artefact}}.parquet",
        sidecar=f"{RESULTS}/stages/{{artefact}}.run.json",
    log:
        f"{LOGS}/init/{{artefact}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/init/{{artefact}}.tsv"
    wildcard_constraints:
        artefact=artefacts_of("init_bfa.py"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=GPUS,
    params:
        spec=lambda wildcards: CONFIG.params(wildcards.artefact),
        code=script_hash("init_bfa.py"),
    script:
        "../../scripts/init_bfa.py"
