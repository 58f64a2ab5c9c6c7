# Descent with depth-wise scaled gradients: one job a network, scaling and schedule, all kappas and seeds inside; several
# jobs a process, one after the other, each with its own log. A killed job goes on from a
# checkpoint that lies outside the outputs.
for NAMES in DESCENDED:

    rule:
        name:
            f"descent_{NAMES[0]}"
        input:
            **data_files(DESCENTS[NAMES[0]].data.name),
        output:
            table=[f"{RESULTS}/descent/{run}.parquet" for run in NAMES],
            sidecar=[f"{RESULTS}/descent/{run}.run.json" for run in NAMES],
        log:
            [f"{LOGS}/descent/{name}.log" for name in NAMES],
        benchmark:
            f"{RESULTS}/benchmarks/descent/{NAMES[0]}.tsv"
        priority: 70
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=TRAINING_MINUTES,
            gpu=TRAINING_GPUS,
        params:
            specs=[DESCENTS[run].model_dump(mode="json") for run in NAMES],
            checkpoints=[f"{RESULTS}/checkpoints/{run}" for run in NAMES],
            code=script_hash("descent.py"),
        script:
            "../../scripts/descent.py"
