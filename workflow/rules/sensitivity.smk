# The other measurements at or near initialisation: Figure 2, Tables 1 and 2, the theory and the theorems.
rule sensitivity:
    output:
        table=f"{RESULTS}/stages/{{artefact}}.parquet",
        sidecar=f"{RESULTS}/stages/{{artefact}}.run.json",
    log:
        f"{LOGS}/sensitivity/{{artefact}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sensitivity/{{artefact}}.tsv"
    wildcard_constraints:
        artefact=artefacts_of("sensitivity.py"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=GPUS,
    params:
        spec=lambda wildcards: CONFIG.params(wildcards.artefact),
        code=script_hash("sensitivity.py"),
    script:
        "../../scripts/sensitivity.py"


rule scaling:
    output:
        table=f"{RESULTS}/stages/{{artefact}}.parquet",
        sidecar=f"{RESULTS}/stages/{{artefact}}.run.json",
    log:
        f"{LOGS}/scaling/{{artefact}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/scaling/{{artefact}}.tsv"
    wildcard_constraints:
        artefact=artefacts_of("scaling_tables.py"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=GPUS,
    params:
        spec=lambda wildcards: CONFIG.params(wildcards.artefact),
        code=script_hash("scaling_tables.py"),
    script:
        "../../scripts/scaling_tables.py"


rule theory:
    output:
        table=f"{RESULTS}/stages/{{artefact}}.parquet",
        sidecar=f"{RESULTS}/stages/{{artefact}}.run.json",
    log:
        f"{LOGS}/theory/{{artefact}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/theory/{{artefact}}.tsv"
    wildcard_constraints:
        artefact=artefacts_of("theory.py"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=GPUS,
    params:
        spec=lambda wildcards: CONFIG.params(wildcards.artefact),
        code=script_hash("theory.py"),
    script:
        "../../scripts/theory.py"


rule theorems:
    output:
        table=f"{RESULTS}/stages/{{artefact}}.parquet",
        sidecar=f"{RESULTS}/stages/{{artefact}}.run.json",
    log:
        f"{LOGS}/theorems/{{artefact}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/theorems/{{artefact}}.tsv"
    wildcard_constraints:
        artefact=artefacts_of("theorems.py"),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=0,
    params:
        spec=lambda wildcards: CONFIG.params(wildcards.artefact),
        code=script_hash("theorems.py"),
    script:
        "../../scripts/theorems.py"
