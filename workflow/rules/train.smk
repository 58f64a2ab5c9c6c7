# Training: one job an architecture and size, all learning rates and seeds inside. A killed job goes on from a checkpoint
# that lies outside the outputs; the weights at the probe steps are removed when the stages that read them are done.
RUNS = CONFIG.training_runs()


def data_files(dataset):
    """The files of a data set, by the names that stages use; none for a stage that reads no data."""
    if dataset is None:
        return {}
    return {
        "data": rules.data.output.npz.format(dataset=dataset),
        "facts": rules.data.output.facts.format(dataset=dataset),
    }


def stage_inputs(wildcards):
    """What a stage reads: its data set, and the records and weights of its training jobs."""
    runs = list(CONFIG.training_runs(wildcards.artefact))
    jobs = {
        "records": [f"{RESULTS}/training/{run}.parquet" for run in runs],
        "weights": [f"{RESULTS}/weights/{run}" for run in runs],
    }
    return data_files(CONFIG.dataset(wildcards.artefact)) | (jobs if runs else {})


def kept(folder):
    """The folder of weights as an output: temporary unless the configuration keeps it."""
    return directory(folder) if CONFIG.training.keep_weights else temp(directory(folder))


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
        run="|".join(RUNS) or "none",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=TRAINING_MINUTES,
        gpu=TRAINING_GPUS,
    params:
        spec=lambda wildcards: RUNS[wildcards.run].model_dump(mode="json", exclude_none=True),
        checkpoints=f"{RESULTS}/checkpoints/{{run}}",
        code=script_hash("train.py"),
    script:
        "../../scripts/train.py"
