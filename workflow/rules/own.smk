# A model of the user's own: does its best learning rate move with its size? Asked for by the target `own` alone, and only
# with a block `own` in the configuration. One job a size, all learning rates and seeds inside; then the sharpness along
# training at the rate that is best for all sizes, one job a size; then tables, figure and verdict. Killed jobs go on from
# checkpoints that lie outside the outputs.
from featurespeed.pipeline.asked import NO_OWN_BLOCK

OWN_TABLES = {"table": "transfer", "best": "best", "sharpness": "sharpness"}

if CONFIG.own is None:

    rule own:
        input:
            lambda _: sys.exit(NO_OWN_BLOCK),  # only if this is asked for
        localrule: True

else:
    OWN_FILES = CONFIG.own.files

    rule own_train:
        input:
            **own_data(),
        output:
            losses=f"{RESULTS}/own/training/size_{{size}}.npz",
        log:
            f"{LOGS}/own_train/size_{{size}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/own_train/size_{{size}}.tsv"
        wildcard_constraints:
            size="|".join(map(str, CONFIG.own.sizes)),
        priority: 70
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=TRAINING_MINUTES,
            gpu=TRAINING_GPUS,
        params:
            spec=lambda wildcards: CONFIG.own.training(int(wildcards.size)),
            files=OWN_FILES,
            # Functions of the output are no part of Snakemake's record: folders may move.
            paths=lambda wildcards, output: CONFIG.own.paths,
            checkpoints=f"{RESULTS}/checkpoints/own_size_{{size}}",
            code=script_hash("own_train.py"),
        script:
            "../../scripts/own_train.py"

    checkpoint own_rate:
        input:
            losses=[f"{RESULTS}/own/training/size_{size}.npz" for size in CONFIG.own.sizes],
        output:
            rate=f"{RESULTS}/own/rate.json",
        log:
            f"{LOGS}/own_rate/own_rate.log",
        benchmark:
            f"{RESULTS}/benchmarks/own_rate/own_rate.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
            gpu=0,
        params:
            sizes=CONFIG.own.sizes,
            learning_rates=CONFIG.own.learning_rates,
            code=script_hash("own_rate.py"),
        script:
            "../../scripts/own_rate.py"

    rule own_sharpness:
        input:
            **own_data(),
        output:
            sharpness=f"{RESULTS}/own/sharpness/size_{{size}}_rate_{{rate}}.json",
        log:
            f"{LOGS}/own_sharpness/size_{{size}}_rate_{{rate}}.log",
        benchmark:
            f"{RESULTS}/benchmarks/own_sharpness/size_{{size}}_rate_{{rate}}.tsv"
        wildcard_constraints:
            size="|".join(map(str, CONFIG.own.sizes)),
            rate="[-+.0-9e]+",
        priority: 80
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=TRAINING_MINUTES,
            gpu=TRAINING_GPUS,
        params:
            spec=lambda wildcards: CONFIG.own.sharpness(int(wildcards.size), float(wildcards.rate)),
            files=OWN_FILES,
            paths=lambda wildcards, output: CONFIG.own.paths,
            checkpoints=f"{RESULTS}/checkpoints/own_size_{{size}}_rate_{{rate}}",
            code=script_hash("own_sharpness.py"),
        script:
            "../../scripts/own_sharpness.py"

    rule own:
        input:
            losses=rules.own_rate.input.losses,
            sharpness=own_sharpness,
        output:
            **{key: own_report(f"{name}.csv", "table") for key, name in OWN_TABLES.items()},
            verdict=own_report("verdict.txt", "verdict"),
            png=own_report("transfer.png", "figure"),
            pdf=f"{RESULTS}/own/transfer.pdf",
            svg=f"{RESULTS}/own/transfer.svg",
        log:
            f"{LOGS}/own/own.log",
        benchmark:
            f"{RESULTS}/benchmarks/own/own.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
            gpu=0,
        params:
            grid=CONFIG.own.grid(),
            code=script_hash("own_transfer.py"),
        script:
            "../../scripts/own_transfer.py"
