# Data sets, verified once and shared by all scales. Local: the nodes of a cluster often have no network, and the files are
# on the disk that all of them see.
from featurespeed.data.registry import DATASETS


rule data:
    output:
        npz="resources/data/{dataset}/{dataset}.npz",
        facts="resources/data/{dataset}/facts.json",
    log:
        f"{LOGS}/data/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/data/{{dataset}}.tsv"
    wildcard_constraints:
        dataset="|".join(DATASETS),
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
        gpu=0,
    params:
        dataset="{dataset}",
        code=script_hash("data.py"),
    script:
        "../../scripts/data.py"
