# What one process makes together: what a room gathers, and the figures of a company of rooms, mostly a single one; and the
# files and the code of figures and ledger.
def in_one_process(artefacts):
    """Whether one process makes all of these: not where one is asked for, nor where jobs are long and may fail alone."""
    return len(artefacts) > 1 and MOST > 1 and not ASKED & set(artefacts)


@cache
def gathers(artefact):
    """Whether the stage of an artefact only gathers the tables of jobs."""
    return bool(CONFIG.descents(artefact) or CONFIG.sharpness_runs(artefact))


def gathered_by(room, stage):
    """What one stage gathers for a room."""
    return [artefact.id for artefact in room.artefacts if artefact.stage == stage and gathers(artefact.id)]


def gathered_together():
    """(room, stage) -> several artefacts that one process gathers, unless somebody asks for one of them."""
    groups = {(room, stage): gathered_by(room, stage) for room in ROOMS for stage in GATHERING}
    return {key: names for key, names in groups.items() if in_one_process(names)}


def gathered_inputs(names):
    """The tables of all jobs that some artefacts gather, by kind, each once."""
    found = {}
    for name in names:
        for kind, paths in gathered_tables(name).items():
            found[kind] = list(dict.fromkeys([*found.get(kind, []), *paths]))
    return found


def gathered_settings(room, artefact):
    """The settings of all that is gathered with an artefact."""
    return [CONFIG.params(name) for name in gathered_by(room, ARTEFACTS[artefact].stage)]


def gathered_hash(room, artefact):
    """The code that gathers an artefact and those beside it, with the types of their settings."""
    names = gathered_by(room, ARTEFACTS[artefact].stage)
    specs = sorted({ARTEFACTS[name].spec.__module__ for name in names})
    return script_hash(f"{ARTEFACTS[artefact].stage}.py", tuple(specs))


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


def figure_rules(company):
    """``(company, rule, artefacts)``: one for each figure of a company of rooms, and one for all of them."""
    names = [artefact.id for room in COMPANIES[company] for artefact in room.drawn]
    one_by_one = [(company, name, [name]) for name in names]
    return [*one_by_one, (company, f"figures_{company}", names)] if in_one_process(names) else one_by_one


def ledger_hash():
    """The code of the ledger: all statistics of all rooms."""
    return script_hash("claims.py", tuple(module for room in ROOMS for module in room.claim_modules))


GATHERING = list(dict.fromkeys(artefact.stage for name, artefact in ARTEFACTS.items() if gathers(name)))
