# One rule an artefact, named like it: its figure, and the table of exactly what is drawn. Seconds of work, so local. One
# script a group of artefacts; the first paper's figures also show points read off its own.
FIGURE_INPUTS = {"fsf": {"published": PUBLISHED}}

for ARTEFACT in DRAWN:

    rule:
        name:
            ARTEFACT
        input:
            **FIGURE_INPUTS.get(ARTEFACTS[ARTEFACT].group, {}),
            table=f"{RESULTS}/stages/{ARTEFACT}.parquet",
            style=SOURCES / "scripts/figures.mplstyle",
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
            script=f"figures_{ARTEFACTS[ARTEFACT].group}.py",  # the path below is read when the job runs
            code=script_hash(f"figures_{ARTEFACTS[ARTEFACT].group}.py"),
        script:
            "../../scripts/{params.script}"


# All of one paper, without the ledger and the page, which are about all papers.
for GROUP in GROUPS:

    rule:
        name:
            GROUP
        input:
            [f"{RESULTS}/tables/{name}.csv" for name in DRAWN if ARTEFACTS[name].group == GROUP],
            [f"{RESULTS}/figures/{name}.png" for name in DRAWN if ARTEFACTS[name].group == GROUP],
        localrule: True


# The second paper's figures on widths and learning rates, its theory and our bridge.
rule sc_core:
    input:
        [f"{RESULTS}/tables/{name}.csv" for name in CORE],
        [f"{RESULTS}/figures/{name}.png" for name in CORE],
    localrule: True
