# The stages that compute: one rule a script, one job an artefact.
for STAGE in [stage for stage in STAGES if stage not in GATHERING]:

    rule:
        name:
            STAGE
        input:
            unpack(stage_inputs),
        output:
            table=f"{RESULTS}/stages/{{artefact}}.parquet",
            sidecar=f"{RESULTS}/stages/{{artefact}}.run.json",
        log:
            f"{LOGS}/{STAGE}/{{artefact}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{STAGE}/{{artefact}}.tsv"
        wildcard_constraints:
            artefact=artefacts_of(STAGE),
        priority: 75
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
            gpu=lambda wildcards: gpus(wildcards.artefact),
        params:
            spec=lambda wildcards: CONFIG.params(wildcards.artefact),
            script=f"{STAGE}.py",  # the path below is read when the job runs, and so cannot name the loop's variable
            code=lambda wildcards: stage_hash(wildcards.artefact),
        script:
            "../../scripts/{params.script}"


# Stages that only gather what jobs have trained and measured: one rule a script for whoever asks for one artefact, and
# one rule a room. They record the same parameters, the settings of all that a room gathers, so that neither repeats what
# the other has made.
for STAGE in GATHERING:

    rule:
        name:
            STAGE
        input:
            unpack(stage_inputs),
        output:
            table=[f"{RESULTS}/stages/{{artefact}}.parquet"],
            sidecar=[f"{RESULTS}/stages/{{artefact}}.run.json"],
        log:
            f"{LOGS}/{STAGE}/{{artefact}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{STAGE}/{{artefact}}.tsv"
        wildcard_constraints:
            artefact=artefacts_of(STAGE),
        priority: 90
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
            gpu=0,
        params:
            specs=lambda wildcards, output: [CONFIG.params(wildcards.artefact)],
            whole=WHOLE,
            settings=lambda wildcards: gathered_settings(ROOM_OF[wildcards.artefact], wildcards.artefact),
            script=f"{STAGE}.py",
            code=lambda wildcards: gathered_hash(ROOM_OF[wildcards.artefact], wildcards.artefact),
        script:
            "../../scripts/{params.script}"


for (ROOM, STAGE), NAMES in gathered_together().items():

    rule:
        name:
            f"{STAGE}_{ROOM.name}"
        input:
            **gathered_inputs(NAMES),
        output:
            table=together(NAMES, f"{RESULTS}/stages/{{name}}.parquet"),
            sidecar=together(NAMES, f"{RESULTS}/stages/{{name}}.run.json"),
        log:
            together(NAMES, f"{LOGS}/{STAGE}/{{name}}.log"),
        benchmark:
            f"{RESULTS}/benchmarks/{STAGE}/{ROOM.name}.tsv"
        priority: 90
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=60,
            gpu=0,
        params:
            specs=lambda wildcards, output: [CONFIG.params(Path(path).stem) for path in output.table],
            whole=WHOLE,
            settings=gathered_settings(ROOM, NAMES[0]),
            script=f"{STAGE}.py",
            code=gathered_hash(ROOM, NAMES[0]),
        script:
            "../../scripts/{params.script}"

    workflow.ruleorder(f"{STAGE}_{ROOM.name}", STAGE)
