# Curvature along training: one job a training job, at the weights that it kept, all learning rates and seeds inside.
# A killed job goes on from a checkpoint that lies outside the outputs.
rule sharpness:
    input:
        unpack(lambda wildcards: data_files(MEASURED[wildcards.measurement].training.data.name)),
        records=lambda wildcards: f"{RESULTS}/training/{MEASURED[wildcards.measurement].training.run}.parquet",
        weights=lambda wildcards: f"{RESULTS}/weights/{MEASURED[wildcards.measurement].training.run}",
    output:
        table=f"{RESULTS}/sharpness/{{measurement}}.parquet",
        sidecar=f"{RESULTS}/sharpness/{{measurement}}.run.json",
    log:
        f"{LOGS}/sharpness/{{measurement}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sharpness/{{measurement}}.tsv"
    wildcard_constraints:
        measurement=alone(PROBED),
    priority: 80
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=TRAINING_MINUTES,
        gpu=TRAINING_GPUS,
    params:
        spec=lambda wildcards: MEASURED[wildcards.measurement].model_dump(mode="json"),
        checkpoints=f"{RESULTS}/checkpoints/{{measurement}}",
        code=script_hash("sharpness.py"),
    script:
        "../../scripts/sharpness.py"


# The same for jobs that are measured one after the other.
for NAMES in several(PROBED):

    rule:
        name:
            f"sharpness_{NAMES[0]}"
        input:
            **data_files(MEASURED[NAMES[0]].training.data.name),
            records=[f"{RESULTS}/training/{MEASURED[name].training.run}.parquet" for name in NAMES],
            weights=[f"{RESULTS}/weights/{MEASURED[name].training.run}" for name in NAMES],
        output:
            table=[f"{RESULTS}/sharpness/{name}.parquet" for name in NAMES],
            sidecar=[f"{RESULTS}/sharpness/{name}.run.json" for name in NAMES],
        log:
            [f"{LOGS}/sharpness/{name}.log" for name in NAMES],
        benchmark:
            f"{RESULTS}/benchmarks/sharpness/{NAMES[0]}.tsv"
        priority: 80
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=TRAINING_MINUTES,
            gpu=TRAINING_GPUS,
        params:
            specs=[MEASURED[name].model_dump(mode="json") for name in NAMES],
            checkpoints=[f"{RESULTS}/checkpoints/{name}" for name in NAMES],
            code=script_hash("sharpness.py"),
        script:
            "../../scripts/sharpness.py"
