# The configuration, validated before any rule is read, and the paths and lists that all rules share. Rules have
# priorities: what takes longest alone starts first, then training; and what follows on it goes before more of it.
import json
import os
import sys
from functools import cache
from pathlib import Path

from snakemake.cli import get_argument_parser

BASE = Path(workflow.basedir)
if set("{}") & set(str(BASE)):
    sys.exit(f"{BASE}: braces in the path of the repository are wildcards to Snakemake; rename or move it")
SOURCES = Path(os.path.relpath(BASE))  # for inputs: a project that moves as a whole has not changed
# This checkout's package, here and in every job, whatever else is installed: the code hashes below are of this one.
sys.path.insert(0, str(BASE))
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [str(BASE), os.getenv("PYTHONPATH")])))
# Libraries keep their caches with the run, not in the user's home.
STATE = Path(".snakemake").resolve()
os.environ.update({name: str(STATE / "cache") for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")})

from featurespeed.ledger.criteria import CriteriaError
from featurespeed.machine.files import remove_parts
from featurespeed.machine.locks import clear_stale_locks
from featurespeed.pipeline.provenance import Imports, code_hash, public_modules

try:
    from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF, ROOMS, check_criteria, criteria_files, groups
except ValueError as error:  # a RegistryError: a fault in a room
    sys.exit(str(error))

from featurespeed.pipeline.asked import check_target, read_changes, read_config
from featurespeed.pipeline.config import ConfigError, jobs_together, owners_of, rooms_together


def configuration():
    """The validated configuration; a fault ends the run here, with one line.

    No `configfile:` statement, and not Snakemake's `config`: that one has lost keys that are written twice, and has read
    what stands on the command line as YAML, which cuts a folder's name at ` #`.
    """
    given = workflow.config_settings
    try:
        return read_config(BASE, read_changes(given.configfiles, given.config_args))
    except ConfigError as error:
        sys.exit(str(error))


def check_request():
    """End the run with one line for a target that cannot be made, or criteria that could not be read at its end."""
    if len([word for word in sys.argv if word in ("--config", "-C")]) > 1:
        sys.exit("--config: given twice, of which Snakemake takes the last; put all settings behind one")
    try:
        for target in get_argument_parser().parse_known_args()[0].targets:
            check_target(target, CONFIG)
        check_criteria()
    except (ConfigError, CriteriaError) as error:
        sys.exit(str(error))


def artefacts_of(stage):
    """The artefacts that one stage computes, as a wildcard pattern."""
    return "|".join(name for name, artefact in ARTEFACTS.items() if artefact.stage == stage)


def gpus(artefact):
    """GPUs that the stage of an artefact asks for: all that use one at scale gpu, those that train at scale paper."""
    trains = bool(CONFIG.datasets(artefact))
    return int(ARTEFACTS[artefact].gpu and (CONFIG.scale == "gpu" or (trains and TRAINING_GPUS)))


def data_files(*datasets):
    """The files of data sets, by the names that stages use: of several a list; none for a stage that reads no data."""
    files = {"data": rules.data.output.npz, "facts": rules.data.output.facts}
    found = {kind: [path.format(dataset=name) for name in datasets] for kind, path in files.items()}
    return {kind: paths if len(paths) > 1 else paths[0] for kind, paths in found.items() if paths}


@cache
def gathered_tables(artefact):
    """The tables that a gathering stage reads: of descents, or of training jobs and what was measured along them."""
    descents = CONFIG.descents(artefact)
    if descents:
        return {"runs": [f"{RESULTS}/descent/{run}.parquet" for run in descents]}
    runs, measured = CONFIG.training_runs(artefact), CONFIG.sharpness_runs(artefact)
    return {
        "records": [f"{RESULTS}/training/{run}.parquet" for run in runs],
        "curvature": [f"{RESULTS}/sharpness/{name}.parquet" for name in measured],
    }


def stage_inputs(wildcards):
    """What a stage reads: what it gathers, or else its data sets, and the records and weights of its training jobs."""
    if gathers(wildcards.artefact):
        return gathered_tables(wildcards.artefact)
    runs = list(CONFIG.training_runs(wildcards.artefact))
    records = {"records": [f"{RESULTS}/training/{run}.parquet" for run in runs]}
    weights = {"weights": [f"{RESULTS}/weights/{run}" for run in runs]}
    return data_files(*CONFIG.datasets(wildcards.artefact)) | (records | weights if runs else {})


def by_process(jobs_of, data_of, most):
    """Names of jobs that one process does, one after the other; ``jobs_of`` an artefact, ``data_of`` a job.

    Together are jobs on the same data that the same artefact is the first to need: whoever asks for that artefact alone
    has no others to wait for. `training.together` may put a room or a paper in the place of the artefact.
    """
    jobs = jobs_of()
    owners = owners_of(jobs, {artefact: jobs_of(artefact) for artefact in ARTEFACTS}, CONFIG.training.together)
    return jobs_together({name: (owners[name], data_of(job)) for name, job in jobs.items()}, most)


def several(groups):
    """The groups of more than one job."""
    return [names for names in groups if len(names) > 1]


def alone(groups):
    """The jobs that have a process of their own, as a wildcard pattern."""
    return "|".join(names[0] for names in groups if len(names) == 1) or "none"


def kept(folder):
    """The folder of weights as an output: temporary unless the configuration keeps it."""
    return directory(folder) if CONFIG.training.keep_weights else temp(directory(folder))


@cache
def script_hash(name, modules=()):
    """The hash of all the code that a script runs: as a parameter of its rule, it makes an edit rerun the rule.

    ``modules`` are those that it loads by their names.
    """
    return code_hash(BASE / "scripts" / name, IMPORTS, modules)


def notebook_hash(name):
    """The code of a notebook, and that of the public names of the package that it imports."""
    source = BASE / "notebooks" / f"{name}.py"
    return code_hash(source, IMPORTS, public_modules(source))


def stage_hash(artefact):
    """The code of the stage of an artefact, with the type of its settings."""
    known = ARTEFACTS[artefact]
    return script_hash(f"{known.stage}.py", (known.spec.__module__,))


def figure_hash(rooms):
    """The code that makes the figures of some rooms: what their registry entries name, and what that imports."""
    drawn = [(room, artefact) for room in rooms for artefact in room.drawn]
    named = {room.module_of(text) for room, artefact in drawn for text in (artefact.tables, artefact.drawing)}
    return script_hash("figure.py", tuple(sorted({*(f"{room.module}.artefacts" for room in rooms), *named})))


def together(names, path):
    """The paths of a list of names: ``path`` has the place {name}."""
    return [path.format(name=name) for name in names]


def own_report(name, kind):
    """A file about a user's own model that Snakemake's report shows."""
    labels = {"file": name, "kind": kind}
    return report(f"{RESULTS}/own/{name}", caption="../report/own.rst", category="Own model", labels=labels)


def own_data():
    """The files of the data set for a user's own model, if it is one of this project's."""
    return data_files(*filter(None, [CONFIG.own.dataset]))


def own_sharpness(wildcards):
    """Sharpness of all sizes at the rate that is best for all of them, which is known once they are trained."""
    if not CONFIG.own.sharpness_at:
        return []
    rate = json.loads(Path(checkpoints.own_rate.get().output.rate).read_text())["learning_rate"]
    return [f"{RESULTS}/own/sharpness/size_{size}_rate_{rate!r}.json" for size in CONFIG.own.sizes]


for ARTEFACT in ARTEFACTS.values():
    if not (BASE / f"scripts/{ARTEFACT.stage}.py").is_file():
        sys.exit(f"{ROOM_OF[ARTEFACT.id].module}: {ARTEFACT.id}: stage = {ARTEFACT.stage!r}: there is no such script")

CONFIG = configuration()
IMPORTS = Imports()
RUNS = CONFIG.training_runs()
MEASURED = CONFIG.sharpness_runs()
KEPT_RATES = CONFIG.kept_rates()
DESCENTS = CONFIG.descents()
COMPANY_OF = {room.name: rooms for rooms in rooms_together(CONFIG.training.together).values() for room in rooms}
MOST = CONFIG.training.sizes_per_process
TRAINED = by_process(CONFIG.training_runs, lambda run: run.data.name, MOST)
PROBED = by_process(CONFIG.sharpness_runs, lambda spec: spec.training.data.name, MOST)
DESCENDED = by_process(CONFIG.descents, lambda job: job.data.name, -(-MOST // 2))  # half as many: they are longer
RESULTS = f"results/{CONFIG.scale}"
REFERENCE = SOURCES / "results/reference"
LOGS = f"logs/{CONFIG.scale}"
DRAWN = [name for name, artefact in ARTEFACTS.items() if artefact.drawn]
NOTEBOOKS = sorted(path.stem for path in (BASE / "notebooks").glob("*.py"))
STAGES = list(dict.fromkeys(artefact.stage for artefact in ARTEFACTS.values()))
WHOLE = ["records", "curvature", "runs", "settings", "whole"]  # what everything gathered in one process shares
ASKED = {Path(word).stem for word in sys.argv}  # of a room with one of these, everything is made one by one
# Whoever asks for a group does not wait for the rooms beside it.
COMPANIES = rooms_together("room" if ASKED & set(groups()) else CONFIG.training.together)
TABLES = [f"{RESULTS}/stages/{name}.parquet" for name in ARTEFACTS]
CLAIMS = f"{RESULTS}/claims.csv"
CRITERIA_COMMITS = SOURCES / "workflow/criteria_commits.csv"
CRITERIA = [SOURCES / path.relative_to(BASE) for path in criteria_files()]
POINTS = {
    name: SOURCES / ROOM_OF[name].path / artefact.points for name, artefact in ARTEFACTS.items() if artefact.points
}
PAGE = f"{RESULTS}/index.html"
TRAINING_GPUS = 1 if CONFIG.scale in ("gpu", "paper") else 0
TRAINING_MINUTES = {"smoke": 10, "laptop": 60, "gpu": 240}.get(CONFIG.scale, 2880)
os.environ.update(CONFIG.environment())
ENVIRONMENT = BASE / "workflow/envs/featurespeed.yaml"  # for --software-deployment-method conda only

if workflow.is_main_process:
    check_request()
if workflow.is_main_process and clear_stale_locks(STATE):
    remove_parts("results")
    print("The last run here was killed: its locks are removed.", file=sys.stderr)


wildcard_constraints:
    artefact="|".join(ARTEFACTS),
