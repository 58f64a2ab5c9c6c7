# The ledger: every criterion of the rooms, judged on the stage tables of this run.
rule claims:
    input:
        tables=TABLES,
        criteria=CRITERIA,
        record=CRITERIA_COMMITS,
        points=sorted(set(POINTS.values())),
    output:
        claims=report(CLAIMS, caption="../report/claims.rst", category="Claims"),
        sensitivity=f"{RESULTS}/claims_sensitivity.csv",
        headline=f"{RESULTS}/headline.csv",
        headline_json=f"{RESULTS}/headline.json",
        published=f"{RESULTS}/published_points.csv",
    log:
        f"{LOGS}/claims/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/claims/claims.tsv"
    priority: 100
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        scale=CONFIG.scale,
        artefacts=list(ARTEFACTS),
        code=ledger_hash(),
    script:
        "../../scripts/claims.py"
