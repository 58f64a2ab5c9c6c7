# The figures of a room, and the tables of exactly what they draw: seconds of work, so local. One rule an artefact, named
# like it, for whoever asks for this one; and one rule a room that makes all of its figures in one process, which is what
# everything else depends on. Both leave the same record, so that one never repeats what the other has made.


def figure_inputs(names, table):
    """Named inputs of figures: their stage tables, one each, and the style of all."""
    return {"table": together(names, table), "style": SOURCES / "scripts/figures.mplstyle"}


def figure_points(names):
    """Files of points read off published figures; figures find them in their rooms."""
    return sorted({POINTS[name] for name in names if name in POINTS})


def figure_output(name, kind, shown=False):
    """A file of a figure; one that is shown is in Snakemake's report, with its caption."""
    room = ROOM_OF[name]
    file = f"{RESULTS}/tables/{name}.csv" if kind == "table" else f"{RESULTS}/figures/{name}.{kind}"
    if not shown:
        return file
    caption = os.path.relpath(room.folder / "captions" / f"{name}.rst", BASE / "workflow/rules")
    labels = {"artefact": name, "kind": "table" if kind == "table" else "figure"}
    return report(file, caption=caption, category=f"arXiv:{room.paper.arxiv}", labels=labels)


def figure_outputs(names):
    """Named outputs of figures."""
    kinds = {"table": True, "pdf": False, "svg": False, "png": True}
    return {kind: [figure_output(name, kind, shown) for name in names] for kind, shown in kinds.items()}


def figure_files(names):
    """The table and the image of each of these artefacts."""
    return together(names, f"{RESULTS}/tables/{{name}}.csv") + together(names, f"{RESULTS}/figures/{{name}}.png")


def figure_rules(room):
    """``(rule, artefacts)``: one for each figure of a room, and one for all of them."""
    names = [artefact.id for artefact in room.drawn]
    one_by_one = [(name, [name]) for name in names]
    return [*one_by_one, (f"figures_{room.name}", names)] if in_one_process(names) else one_by_one


for ROOM, (RULE, NAMES) in [(room, entry) for room in ROOMS for entry in figure_rules(room)]:

    rule:
        name:
            RULE
        input:
            *figure_points(NAMES),
            **figure_inputs(NAMES, f"{RESULTS}/stages/{{name}}.parquet"),
        output:
            **figure_outputs(NAMES),
        log:
            together(NAMES, f"{LOGS}/figures/{{name}}.log"),
        benchmark:
            f"{RESULTS}/benchmarks/figures/{ROOM.name}.tsv"  # one for both rules: Snakemake wants that of a target
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
            gpu=0,
        params:
            # Functions of the output are no part of Snakemake's record: who made a figure is no reason to make it again.
            artefact=lambda wildcards, output: [Path(path).stem for path in output.png],
            together=lambda wildcards, output: len(output.png),
            scale=CONFIG.scale,
            code=figure_hash(ROOM),
        script:
            "../../scripts/figure.py"

    if len(NAMES) > 1:
        for NAME in NAMES:
            workflow.ruleorder(RULE, NAME)


# All of one paper, and other groups that artefacts name; without the ledger and the page, which are about all papers.
for GROUP, NAMES in groups().items():

    rule:
        name:
            GROUP
        input:
            figure_files(NAMES),
        localrule: True
