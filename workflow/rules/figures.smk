# One rule an artefact, named like it: its figure, and the table of exactly what is drawn. Seconds of work, so local.
for ARTEFACT in DRAWN:

    rule:
        name:
            ARTEFACT
        input:
            table=f"{RESULTS}/stages/{ARTEFACT}.parquet",
            style=SOURCES / "scripts/figures.mplstyle",
            published=PUBLISHED,
        output:
            table=report(
                f"{RESULTS}/tables/{ARTEFACT}.csv",
                caption=f"../report/{ARTEFACT}.rst",
                category=ARTEFACTS[ARTEFACT].paper,
                labels={"artefact": ARTEFACT, "kind": "table"},
            ),
            pdf=f"{RESULTS}/figures/{ARTEFACT}.pdf",
            svg=f"{RESULTS}/figures/{ARTEFACT}.svg",
            png=report(
                f"{RESULTS}/figures/{ARTEFACT}.png",
                caption=f"../report/{ARTEFACT}.rst",
                category=ARTEFACTS[ARTEFACT].paper,
                labels={"artefact": ARTEFACT, "kind": "figure"},
            ),
        log:
            f"{LOGS}/figures/{ARTEFACT}.log",
        benchmark:
            f"{RESULTS}/benchmarks/figures/{ARTEFACT}.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
            gpu=0,
        params:
            artefact=ARTEFACT,
            scale=CONFIG.scale,
            code=script_hash("figures_fsf.py"),
        script:
            "../../scripts/figures_fsf.py"


for GROUP in GROUPS:

    rule:
        name:
            GROUP
        input:
            [f"{RESULTS}/tables/{name}.csv" for name in DRAWN if ARTEFACTS[name].group == GROUP],
            [f"{RESULTS}/figures/{name}.png" for name in DRAWN if ARTEFACTS[name].group == GROUP],
            CLAIMS,
            PAGE,
        localrule: True
