# Results that are kept in the repository, under results/reference/<scale>: drawn and judged again from the stage tables
# alone, in seconds, without a GPU; and how those of a run are put there.
from featurespeed.pipeline.config import SCALES

REDRAWN = "results/reference_figures"
KEPT = {}  # scale -> artefacts whose stage tables are kept
for TABLE in sorted(REFERENCE.glob("*/stages/*.parquet")):
    if TABLE.parts[-3] in SCALES and TABLE.stem in ARTEFACTS:
        KEPT.setdefault(TABLE.parts[-3], []).append(TABLE.stem)


NOTHING_KEPT = "results/reference: no stage tables are kept there, so there is nothing to draw; see docs/running.md"


wildcard_constraints:
    kept_scale="|".join(KEPT) or "none",


# One job a room and scale.
for SCALE, ROOM in [(scale, room) for scale in KEPT for room in ROOMS]:
    NAMES = [artefact.id for artefact in ROOM.drawn if artefact.id in KEPT[SCALE]]
    if not NAMES:
        continue

    rule:
        name:
            f"reference_{SCALE}_{ROOM.name}"
        input:
            *figure_points(NAMES),
            **figure_inputs(NAMES, f"{REFERENCE / SCALE}/stages/{{name}}.parquet"),
        output:
            table=together(NAMES, f"{REDRAWN}/{SCALE}/tables/{{name}}.csv"),
            pdf=together(NAMES, f"{REDRAWN}/{SCALE}/figures/{{name}}.pdf"),
            svg=together(NAMES, f"{REDRAWN}/{SCALE}/figures/{{name}}.svg"),
            png=together(NAMES, f"{REDRAWN}/{SCALE}/figures/{{name}}.png"),
        log:
            together(NAMES, f"logs/reference_figures/{SCALE}/figures/{{name}}.log"),
        benchmark:
            f"{REDRAWN}/{SCALE}/benchmarks/figures/{ROOM.name}.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
            gpu=0,
        params:
            artefact=lambda wildcards, output: [Path(path).stem for path in output.png],
            together=lambda wildcards, output: len(output.png),
            scale=SCALE,
            code=figure_hash([ROOM]),
        script:
            "../../scripts/figure.py"


REDRAWN_FILES = [f"{REDRAWN}/{scale}/claims.csv" for scale in KEPT] + [
    f"{REDRAWN}/{scale}/tables/{name}.csv" for scale, names in KEPT.items() for name in names if name in DRAWN
]


# Claims about artefacts that are not kept come out as `not run`.
rule reference_claims:
    input:
        tables=lambda wildcards: [
            REFERENCE / f"{wildcards.kept_scale}/stages/{name}.parquet" for name in KEPT[wildcards.kept_scale]
        ],
        criteria=CRITERIA,
        record=CRITERIA_COMMITS,
        points=sorted(set(POINTS.values())),
    output:
        claims=f"{REDRAWN}/{{kept_scale}}/claims.csv",
        sensitivity=f"{REDRAWN}/{{kept_scale}}/claims_sensitivity.csv",
        headline=f"{REDRAWN}/{{kept_scale}}/headline.csv",
        headline_json=f"{REDRAWN}/{{kept_scale}}/headline.json",
        published=f"{REDRAWN}/{{kept_scale}}/published_points.csv",
    log:
        "logs/reference_figures/{kept_scale}/claims/claims.log",
    benchmark:
        f"{REDRAWN}/{{kept_scale}}/benchmarks/claims/claims.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        scale="{kept_scale}",
        code=ledger_hash(),
    script:
        "../../scripts/claims.py"


rule reference_figures:
    input:
        lambda _: REDRAWN_FILES or sys.exit(NOTHING_KEPT),  # only if this is asked for
    localrule: True


# Of the scale of this run, whatever it has by now: no inputs, so that nothing is computed for it, and neither outputs nor
# a benchmark, so that it is done anew whenever it is asked for.
rule keep_reference:
    log:
        f"{LOGS}/keep_reference/keep_reference.log",
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        results=RESULTS,
        reference=str(REFERENCE / CONFIG.scale),
        jobs={name: CONFIG.jobs(name) for name in ARTEFACTS},
        ledger_only=CONFIG.scale == "laptop",  # anybody can run it in minutes
        code=script_hash("keep_reference.py"),
    script:
        "../../scripts/keep_reference.py"
