# The configuration, validated before any rule is read, and the paths and lists that all rules share.
import os
import sys
from functools import cache
from pathlib import Path

import yaml

BASE = Path(workflow.basedir)
SOURCES = Path(os.path.relpath(BASE))  # for inputs: a project that moves as a whole has not changed
# This checkout's package, here and in every job, whatever else is installed: the code hashes below are of this one.
sys.path.insert(0, str(BASE))
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [str(BASE), os.getenv("PYTHONPATH")])))
# Libraries keep their caches with the run, not in the user's home.
STATE = Path(".snakemake").resolve()
os.environ.update({name: str(STATE / "cache") for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")})

from featurespeed.config import ARTEFACTS, ConfigError, descents_together, load_config, sizes_together
from featurespeed.locks import clear_stale_locks
from featurespeed.provenance import Imports, code_hash
from featurespeed.records import remove_parts


def read_config():
    """The validated configuration; a fault ends the run here, with one line.

    No `configfile:` statement: so `config` holds only what the user gave with --config and --configfile.
    """
    scales = {path.stem: yaml.safe_load(path.read_text()) for path in (BASE / "workflow/scales").glob("*.yaml")}
    try:
        return load_config(yaml.safe_load((BASE / "config.yaml").read_text()), scales, typed(config))
    except ConfigError as error:
        sys.exit(str(error))


def typed(value):
    """Nested values as YAML reads them: `--config 'name={key: 3}'` arrives with the text "3"."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return value


def artefacts_of(script):
    """The artefacts that one stage script computes, as a wildcard pattern."""
    return "|".join(name for name, artefact in ARTEFACTS.items() if artefact.script == script)


def gpus(artefact):
    """GPUs that the stage of an artefact asks for: all that use one at scale gpu, those that train at scale paper."""
    trains = CONFIG.dataset(artefact) is not None
    return int(ARTEFACTS[artefact].gpu and (CONFIG.scale == "gpu" or (trains and TRAINING_GPUS)))


def data_files(dataset):
    """The files of a data set, by the names that stages use; none for a stage that reads no data."""
    if dataset is None:
        return {}
    return {
        "data": rules.data.output.npz.format(dataset=dataset),
        "facts": rules.data.output.facts.format(dataset=dataset),
    }


def stage_inputs(wildcards):
    """What a stage reads: its data set, and the records and weights of its training jobs.

    One that gathers what was measured along them reads these tables instead of weights and data.
    """
    descents = CONFIG.descents(wildcards.artefact)
    if descents:
        return {"runs": [f"{RESULTS}/descent/{run}.parquet" for run in descents]}
    runs = list(CONFIG.training_runs(wildcards.artefact))
    records = {"records": [f"{RESULTS}/training/{run}.parquet" for run in runs]}
    measured = CONFIG.sharpness_runs(wildcards.artefact)
    if measured:
        return records | {"curvature": [f"{RESULTS}/sharpness/{name}.parquet" for name in measured]}
    weights = {"weights": [f"{RESULTS}/weights/{run}" for run in runs]}
    return data_files(CONFIG.dataset(wildcards.artefact)) | (records | weights if runs else {})


def by_process(jobs):
    """Names of jobs that one process does, one after the other, and of those that have a process of their own."""
    groups = sizes_together(jobs, CONFIG.training.sizes_per_process)
    together = [names for names in groups if len(names) > 1]
    return together, [names[0] for names in groups if len(names) == 1]


def kept(folder):
    """The folder of weights as an output: temporary unless the configuration keeps it."""
    return directory(folder) if CONFIG.training.keep_weights else temp(directory(folder))


@cache
def script_hash(name):
    """The hash of all the code that a script runs: as a parameter of its rule, it makes an edit rerun the rule."""
    return code_hash(BASE / "scripts" / name, IMPORTS)


CONFIG = read_config()
IMPORTS = Imports()
RUNS = CONFIG.training_runs()
MEASURED = CONFIG.sharpness_runs()
DESCENTS = CONFIG.descents()
TRAINED_TOGETHER, TRAINED_ALONE = by_process(RUNS)
MEASURED_TOGETHER, MEASURED_ALONE = by_process(MEASURED)
RESULTS = f"results/{CONFIG.scale}"
LOGS = f"logs/{CONFIG.scale}"
DRAWN = [name for name, artefact in ARTEFACTS.items() if artefact.drawn]
CORE = [name for name, artefact in ARTEFACTS.items() if artefact.core]
GROUPS = list(dict.fromkeys(artefact.group for artefact in ARTEFACTS.values()))
STAGE_SCRIPTS = list(dict.fromkeys(artefact.script for artefact in ARTEFACTS.values()))
TABLES = [f"{RESULTS}/stages/{name}.parquet" for name in ARTEFACTS]
CLAIMS = f"{RESULTS}/claims.csv"
CRITERIA = sorted((SOURCES / "workflow/claims").glob("*.yaml"))
PUBLISHED = SOURCES / "workflow/published/feature_speed_fig1ab.csv"
PAGE = f"{RESULTS}/index.html"
TRAINING_GPUS = 1 if CONFIG.scale in ("gpu", "paper") else 0
TRAINING_MINUTES = {"smoke": 10, "laptop": 60, "gpu": 240}.get(CONFIG.scale, 2880)
os.environ.update(CONFIG.environment())
ENVIRONMENT = BASE / "workflow/envs/featurespeed.yaml"  # for --software-deployment-method conda only

if workflow.is_main_process and clear_stale_locks(STATE):
    remove_parts("results")
    print("The last run here was killed: its locks are removed.", file=sys.stderr)


wildcard_constraints:
    artefact="|".join(ARTEFACTS),
