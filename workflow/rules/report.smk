# What a reader opens: the executed notebooks, and one self-contained page.
rule notebook:
    input:
        source=SOURCES / "notebooks/{notebook}.py",
    output:
        ipynb=f"{RESULTS}/notebooks/{{notebook}}.ipynb",
        html=report(f"{RESULTS}/notebooks/{{notebook}}.html", caption="../report/notebook.rst", category="Notebooks"),
    log:
        f"{LOGS}/notebook/{{notebook}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/notebook/{{notebook}}.tsv"
    wildcard_constraints:
        notebook="|".join(NOTEBOOKS),
    priority: 60
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    params:
        code=lambda wildcards: script_hash("notebook.py") + notebook_hash(wildcards.notebook),
        quick=CONFIG.scale == "smoke",
    script:
        "../../scripts/notebook.py"


rule page:
    input:
        claims=CLAIMS,
        sensitivity=rules.claims.output.sensitivity,
        published=rules.claims.output.published,
        criteria=CRITERIA,
        record=CRITERIA_COMMITS,
        kept=sorted(REFERENCE.glob("*/claims.csv")),
        kept_runs=sorted(REFERENCE.glob("*/runs.csv")),
        tables=together(DRAWN, f"{RESULTS}/tables/{{name}}.csv"),
        figures=together(DRAWN, f"{RESULTS}/figures/{{name}}.svg"),
        stages=TABLES,
        sidecars=[f"{RESULTS}/stages/{name}.run.json" for name in ARTEFACTS]
        + [f"{RESULTS}/training/{name}.run.json" for name in RUNS]
        + [f"{RESULTS}/sharpness/{name}.run.json" for name in MEASURED]
        + [f"{RESULTS}/descent/{name}.run.json" for name in DESCENTS],
        notebook=[f"{RESULTS}/notebooks/{name}.html" for name in NOTEBOOKS],
        template=SOURCES / "workflow/report/page.html.j2",
    output:
        page=report(PAGE, caption="../report/page.rst", category="Page"),
    log:
        f"{LOGS}/page/page.log",
    benchmark:
        f"{RESULTS}/benchmarks/page/page.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        scale=CONFIG.scale,
        jobs={name: CONFIG.jobs(name) for name in ARTEFACTS},
        code=script_hash("page.py", tuple(module for room in ROOMS for module in room.facts if room.artefacts)),
    script:
        "../../scripts/page.py"
