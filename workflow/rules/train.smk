# Training: one job an architecture and size, all learning rates and seeds inside. A killed job goes on from a checkpoint
# that lies outside the outputs; the weights at the probe steps are removed when the stages that read them are done.
rule train:
    input:
        unpack(lambda wildcards: data_files(RUNS[wildcards.run].data.name)),
    output:
        table=f"{RESULTS}/training/{{run}}.parquet",
        sidecar=f"{RESULTS}/training/{{run}}.run.json",
        weights=kept(f"{RESULTS}/weights/{{run}}"),
    log:
        f"{LOGS}/train/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{run}}.tsv"
    wildcard_constraints:
        run=alone(TRAINED),
    priority: 70
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=TRAINING_MINUTES,
        gpu=TRAINING_GPUS,
    params:
        spec=lambda wildcards: RUNS[wildcards.run].model_dump(mode="json"),
        checkpoints=f"{RESULTS}/checkpoints/{{run}}",
        kept_rates=lambda wildcards: KEPT_RATES[wildcards.run],
        code=script_hash("train.py"),
    script:
        "../../scripts/train.py"


# Jobs that train one after the other in one process, where starting one takes as long as training. Each has its own log.
for NAMES in several(TRAINED):

    rule:
        name:
            f"train_{NAMES[0]}"
        input:
            **data_files(RUNS[NAMES[0]].data.name),
        output:
            table=[f"{RESULTS}/training/{run}.parquet" for run in NAMES],
            sidecar=[f"{RESULTS}/training/{run}.run.json" for run in NAMES],
            weights=[kept(f"{RESULTS}/weights/{run}") for run in NAMES],
        log:
            [f"{LOGS}/train/{name}.log" for name in NAMES],
        benchmark:
            f"{RESULTS}/benchmarks/train/{NAMES[0]}.tsv"
        priority: 70
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=TRAINING_MINUTES,
            gpu=TRAINING_GPUS,
        params:
            specs=[RUNS[run].model_dump(mode="json") for run in NAMES],
            checkpoints=[f"{RESULTS}/checkpoints/{run}" for run in NAMES],
            kept_rates=[KEPT_RATES[run] for run in NAMES],
            code=script_hash("train.py"),
        script:
            "../../scripts/train.py"
