# Curvature along training: one job a training job, at the weights that it kept, all learning rates and seeds inside.
rule sharpness:
    input:
        unpack(lambda wildcards: data_files(RUNS[wildcards.run].data.name)),
        records=rules.train.output.table,
        weights=rules.train.output.weights,
    output:
        table=f"{RESULTS}/sharpness/{{run}}.parquet",
        sidecar=f"{RESULTS}/sharpness/{{run}}.run.json",
    log:
        f"{LOGS}/sharpness/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sharpness/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(MEASURED) or "none",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=TRAINING_MINUTES,
        gpu=TRAINING_GPUS,
    params:
        spec=lambda wildcards: MEASURED[wildcards.run].model_dump(mode="json"),
        code=script_hash("sharpness.py"),
    script:
        "../../scripts/sharpness.py"
