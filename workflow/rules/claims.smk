# The ledger: every criterion of the reviewed files, judged on the stage tables of this run.
rule claims:
    input:
        tables=TABLES,
        criteria=CRITERIA,
        published=PUBLISHED,
    output:
        claims=report(CLAIMS, caption="../report/claims.rst", category="Claims"),
        sensitivity=f"{RESULTS}/claims_sensitivity.csv",
        published=f"{RESULTS}/published_points.csv",
    log:
        f"{LOGS}/claims/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/claims/claims.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        scale=CONFIG.scale,
        code=script_hash("claims.py"),
    script:
        "../../scripts/claims.py"
