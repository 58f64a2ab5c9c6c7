"""The workflow from outside: one smoke run end to end, targets, scales, and every kind of bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from featurespeed.pipeline.config import SCALES, Config, load_config, rooms_together
from featurespeed.pipeline.provenance import Imports, code_hash
from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF, groups
from featurespeed.records import read_table
from tests.conftest import REPOSITORY, copy_of_the_sources, repository_files, run_snakemake

SCRIPTS = REPOSITORY / "scripts"
DRAWN = [name for name, artefact in ARTEFACTS.items() if artefact.drawn]
NOTEBOOKS = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.py"))
STAGES = {artefact.stage for artefact in ARTEFACTS.values()}
TOGETHER = "|".join(rooms_together("room"))
TABLE_HEADER = "panel,series,x,y,y_low,y_high,n,estimator,order,flag"


def smoke_config() -> Config:
    """The configuration of the smoke run."""
    scales = {"smoke": yaml.safe_load((REPOSITORY / "workflow/scales/smoke.yaml").read_text())}
    return load_config(yaml.safe_load((REPOSITORY / "config.yaml").read_text()), scales, {"scale": "smoke"})


def script_of(stage: str) -> Path:
    return SCRIPTS / f"{stage}.py"


def figure_rules(scale: str) -> set[str]:
    """The rules that draw everything: of rooms with several figures one for all of them, or one for each."""
    together = rooms_together("paper" if scale == "smoke" else "room")
    drawn = {name: [artefact.id for room in rooms for artefact in room.drawn] for name, rooms in together.items()}
    one_process = scale in ("smoke", "laptop")
    rules = [[f"figures_{name}"] if one_process and len(names) > 1 else names for name, names in drawn.items()]
    return {rule for own in rules for rule in own}


def jobs_of(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Rule -> number of jobs, from the table that a dry run prints."""
    rows = [line.split() for line in done.stdout.splitlines()]
    jobs = [row for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "total" and row[0][-1] != ":"]
    table = {rule: int(count) for rule, count in jobs}  # a dry run prints it twice
    found: Counter[str] = Counter()
    for rule, jobs in table.items():
        together = re.match("(train|sharpness|descent)_", rule)  # one process for several sizes
        together = together or re.match(f"(gather|gather_descent)_({TOGETHER})$", rule)  # or for several artefacts
        found[together[1] if together and rule not in STAGES else rule] += jobs
    return dict(found)


# --- one run of everything --------------------------------------------------------------------------------------------


def test_smoke_run_makes_every_output(smoke_results):
    expected = [f"figures/{name}.{kind}" for name in DRAWN for kind in ("pdf", "svg", "png")]
    expected += [f"tables/{name}.csv" for name in DRAWN]
    expected += [f"stages/{name}.{kind}" for name in ARTEFACTS for kind in ("parquet", "run.json")]
    expected += ["claims.csv", "claims_sensitivity.csv", "published_points.csv", "index.html"]
    expected += ["headline.csv", "headline.json"]
    expected += [f"notebooks/{name}.{kind}" for name in NOTEBOOKS for kind in ("ipynb", "html")]
    missing = [
        name for name in expected if not (smoke_results / name).is_file() or not (smoke_results / name).stat().st_size
    ]
    assert missing == []
    config = smoke_config()
    folders = {"training": config.training_runs(), "sharpness": config.sharpness_runs(), "descent": config.descents()}
    for folder, jobs in folders.items():
        assert {path.stem for path in (smoke_results / folder).glob("*.parquet")} == set(jobs)
        expected += [f"{folder}/{run}.{kind}" for run in jobs for kind in ("parquet", "run.json")]
    known = set(expected) | {str(p.relative_to(smoke_results)) for p in (smoke_results / "benchmarks").rglob("*")}
    found = {str(path.relative_to(smoke_results)) for path in smoke_results.rglob("*") if path.is_file()}
    assert found <= known


@pytest.mark.parametrize("name", DRAWN)
def test_tables_have_the_public_columns(smoke_results, name):
    assert (smoke_results / f"tables/{name}.csv").read_text().splitlines()[0] == TABLE_HEADER


@pytest.mark.parametrize("name", ARTEFACTS)
def test_stage_tables_carry_their_spec_and_the_hash_of_their_code(smoke_results, name):
    provenance = read_table(smoke_results / f"stages/{name}.parquet").attrs["provenance"]
    assert provenance["spec"]["artefact"] == name
    assert provenance["code_hash"] == code_hash(
        script_of(ARTEFACTS[name].stage), modules=(ARTEFACTS[name].spec.__module__,)
    )
    facts = json.loads((smoke_results / f"stages/{name}.run.json").read_text())
    assert facts["host"] not in json.dumps(provenance) and facts["threads"] == 1


def test_nothing_is_written_elsewhere(smoke_run):
    assert {path.name for path in smoke_run.directory.iterdir()} <= {"results", "logs", "resources", ".snakemake"}
    assert [str(path) for path in smoke_run.home.rglob("*")] == []
    new = repository_files() - smoke_run.before
    assert [name for name in new if "/.snakemake/" not in name] == []


def test_a_finished_run_has_nothing_to_do(smoke_run):
    again = run_snakemake("-n", "--config", "scale=smoke", directory=smoke_run.directory)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr


def test_a_changed_setting_reruns_its_stage_and_no_other(smoke_run):
    change = "fsf_fig1b={sampler_seeds: 9, seed: 1234}"
    done = run_snakemake("-n", "--config", "scale=smoke", change, directory=smoke_run.directory)
    assert done.returncode == 0, done.stderr
    assert {name: count for name, count in jobs_of(done).items() if name in STAGES} == {"init_bfa": 1}


def test_report_of_snakemake_works(smoke_run, tmp_path):
    report = tmp_path / "report.html"
    done = run_snakemake("--config", "scale=smoke", "--report", str(report), directory=smoke_run.directory)
    assert done.returncode == 0, done.stderr[-3000:]
    text = report.read_text()
    assert all(name in text for name in DRAWN)


# --- targets, scales, directories -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_a_plan_by_file_and_by_name(snakemake, scale):
    by_name = snakemake("-n", "--config", f"scale={scale}")
    by_file = snakemake("-n", "--configfile", f"workflow/scales/{scale}.yaml")
    assert by_name.returncode == by_file.returncode == 0, by_name.stderr + by_file.stderr
    assert jobs_of(by_name) == jobs_of(by_file)
    assert set(jobs_of(by_name)) == {
        *figure_rules(scale),
        *STAGES,
        "data",
        "train",
        "sharpness",
        "descent",
        "claims",
        "notebook",
        "page",
        "all",
    }
    assert f"results/{scale}/index.html" in by_file.stdout
    # What asks a scheduler for a GPU: the stages of scale gpu, and training of real size.
    assert ("gpu=1" in by_name.stdout) == (scale in ("gpu", "paper"))


def test_laptop_is_the_default_scale(snakemake):
    done = snakemake("-n")
    assert done.returncode == 0 and "results/laptop/index.html" in done.stdout


def test_scale_files_and_scale_names_agree():
    assert {path.stem for path in (REPOSITORY / "workflow/scales").glob("*.yaml")} == set(SCALES)
    for name in SCALES:
        assert yaml.safe_load((REPOSITORY / f"workflow/scales/{name}.yaml").read_text())["scale"] == name


@pytest.mark.parametrize("name", ["fsf_fig1a", "fsf_fig2b", "fsf_table2", "fsf_theory"])
def test_one_artefact_needs_its_own_stage_only(snakemake, name):
    done = snakemake("-n", "--config", "scale=smoke", "--", name)
    assert done.returncode == 0, done.stderr
    assert len(jobs_of(done)) == 2 and name in jobs_of(done)


def test_a_trained_artefact_needs_its_data_and_its_training_only(snakemake):
    jobs = jobs_of(snakemake("-n", "--config", "scale=smoke", "--", "sc_fig28"))
    assert jobs == {"data": 2, "coordinate_check": 1, "sc_fig28": 1}  # images and a text
    jobs = jobs_of(snakemake("-n", "--config", "scale=smoke", "--", "results/smoke/stages/fsf_training.parquet"))
    assert jobs == {"data": 2, "train": 2, "along_training": 1}  # images and a text


def test_curvature_is_measured_once_a_training_job_and_gathered(snakemake):
    jobs = jobs_of(snakemake("-n", "--config", "scale=smoke", "--", "results/smoke/stages/sc_sharpness.parquet"))
    # In one process with others of the paper, whose networks two processes train.
    assert jobs == {"data": 1, "train": 2, "sharpness": 1, "gather": 1}


def test_figures_that_share_runs_train_and_measure_them_once(snakemake):
    own = jobs_of(snakemake("-n", "--config", "scale=smoke", "--", "sc_fig01"))
    both = jobs_of(snakemake("-n", "--config", "scale=smoke", "--", "sc_fig01", "sc_fig24"))
    assert own == {"data": 1, "train": 1, "sharpness": 1, "gather": 1, "sc_fig01": 1}
    assert both == own | {"gather": 2, "sc_fig24": 1}


SEPARATE = "results/smoke/stages/sc_sharpness.parquet"
SEPARATELY = ("--config", "scale=smoke", "training={keep_weights: true, sizes_per_process: 1}")


@pytest.fixture(scope="session")
def separate_run(run_once) -> Path:
    """The folder of a run of one artefact with a process for each size, whose weights are kept."""
    folder, done = run_once(
        "separate", lambda folder: run_snakemake("--cores", "2", *SEPARATELY, "--", SEPARATE, directory=folder)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_sizes_that_share_a_process_have_the_tables_of_those_that_do_not(separate_run, smoke_results):
    results = separate_run / "results/smoke"
    tables = [path.relative_to(results) for path in results.rglob("*.parquet")]
    assert len(tables) == 4 + 4 + 1  # trained, measured, gathered
    assert [name for name in tables if (results / name).read_bytes() != (smoke_results / name).read_bytes()] == []


def test_another_measurement_trains_nothing_anew_where_weights_are_kept(separate_run):
    change = "sc_sharpness={curvature: {quantities: [sharpness]}}"
    changed = run_snakemake("-n", *SEPARATELY, change, "--", SEPARATE, directory=separate_run)
    assert jobs_of(changed) == {"sharpness": 4, "gather": 1}


def test_a_large_measurement_is_several_jobs_of_some_seeds(snakemake, separate_run):
    seeds = smoke_config().block("sc_sharpness").seeds
    parts = (*SEPARATELY[:-1], SEPARATELY[-1].replace("}", ", pflop_per_measurement: 1.0e-9}"))
    assert jobs_of(snakemake("-n", *parts, "--", SEPARATE)) == {
        "data": 1,
        "train": 4,
        "sharpness": 4 * seeds,
        "gather": 1,
    }
    there = run_snakemake("-n", *parts, "--", SEPARATE, directory=separate_run)
    assert seeds > 1 and "Nothing to be done" in there.stdout + there.stderr


def test_weights_are_removed_unless_they_are_to_be_kept(separate_run, smoke_results):
    assert not (smoke_results / "weights").exists()
    kept = {path.name for path in (separate_run / "results/smoke/weights").iterdir() if list(path.rglob("step_*"))}
    assert kept == set(smoke_config().training_runs("sc_sharpness"))


def test_how_training_runs_and_where_data_lie_repeat_nothing(smoke_run, tmp_path):
    for change in ("training={checkpoint_minutes: 3, cuda_graph: false}", f"data_dir={tmp_path}"):
        again = run_snakemake("-n", "--config", "scale=smoke", change, directory=smoke_run.directory)
        assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr


def test_group_target_makes_all_of_its_paper_and_of_no_other(snakemake):
    for group in ("fsf", "sc", "beos"):
        own = {name for name in DRAWN if ROOM_OF[name].paper.group == group}
        done = snakemake("-n", "--config", "scale=smoke", "--", group)
        made = set(re.findall(r"results/smoke/tables/(\w+)\.csv", done.stdout))
        assert made == own == set(groups()[group]) and not set(jobs_of(done)) & {"claims", "page"}


def test_group_of_some_rooms_waits_for_no_others(snakemake):
    done = snakemake("-n", "--config", "scale=smoke", "--", "sc_transformers")
    made = set(re.findall(r"results/smoke/tables/(\w+)\.csv", done.stdout))
    assert made == set(groups()["sc_transformers"]) and not any("two_layer" in job for job in jobs_of(done))


def test_one_artefact_on_demand(snakemake, tmp_path, smoke_results):
    done = snakemake("--cores", "1", "--config", "scale=smoke", "--", "fsf_fig1c")
    assert done.returncode == 0, done.stderr[-3000:]
    made = {str(path.relative_to(tmp_path / "results/smoke")) for path in (tmp_path / "results/smoke").rglob("*.*")}
    made = {name for name in made if not name.startswith("benchmarks")}
    figure = {f"figures/fsf_fig1c.{kind}" for kind in ("pdf", "svg", "png")}
    assert made == figure | {"tables/fsf_fig1c.csv", "stages/fsf_fig1c.parquet", "stages/fsf_fig1c.run.json"}
    for name in ("tables/fsf_fig1c.csv", "stages/fsf_fig1c.parquet"):
        assert (tmp_path / "results/smoke" / name).read_bytes() == (smoke_results / name).read_bytes()


def test_list_names_every_artefact_and_group(snakemake):
    done = snakemake("--list")
    assert done.returncode == 0
    assert {*DRAWN, "fsf", "sc", "beos", "all"} <= set(done.stdout.split())


def test_every_rule_states_what_a_cluster_needs():
    texts = {path.name: path.read_text() for path in (REPOSITORY / "workflow/rules").glob("*.smk")}
    text = "\n".join(texts.values())
    computing = text.count("script:")
    assert computing >= 5 and not re.search(r"^\s*run:", text, re.MULTILINE)
    for directive in ("log:", "benchmark:", "threads: 1", "mem_mb=", "runtime=", "gpu=", "code="):
        lacking = directive == "benchmark:"  # of keep_reference, which would be done only once with it
        assert text.count(directive) == computing - lacking, directive
    assert len((REPOSITORY / "Snakefile").read_text().splitlines()) < 40


def test_every_artefact_has_a_caption():
    captions = {name for name in DRAWN if (ROOM_OF[name].folder / "captions" / f"{name}.rst").is_file()}
    assert captions == set(DRAWN)
    assert {path.stem for path in (REPOSITORY / "workflow/report").glob("*.rst")} == {
        "claims",
        "notebook",
        "own",
        "page",
    }


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "unknown key": ("colour=red", ["colour", "red", "allowed"]),
    "misspelt key": ("scal=smoke", ["scal", "smoke", "scale"]),
    "misspelt nested key": ("fsf_fig1a={widht: 64}", ["fsf_fig1a.widht", "64", "width"]),
    "wrong type": ("fsf_fig1a={width: wide}", ["fsf_fig1a.width", "wide", "integer"]),
    "block that is a number": ("fsf_fig1a=3", ["fsf_fig1a", "3", "block"]),
    "negative width": ("fsf_fig1a={width: -5}", ["fsf_fig1a.width", "-5", "greater"]),
    "L < 3": ("fsf_fig1b={depths: [2, 10]}", ["fsf_fig1b.depths", "2", "3"]),
    "beta > 1": ("fsf_fig1a={branch_scales: {x: 1.5}}", ["fsf_fig1a", "1.5", "[0, 1]"]),
    "beta < 0": ("fsf_fig1a={branch_scales: {x: -0.5}}", ["fsf_fig1a", "-0.5", "[0, 1]"]),
    "empty grid": ("fsf_fig1b={depths: []}", ["fsf_fig1b.depths", "[]"]),
    "unknown artefact": ("fsf_fig9={width: 64}", ["fsf_fig9", "64", "fsf_fig1a"]),
    "unknown scale": ("scale=huge", ["scale", "huge", "smoke, laptop, gpu, paper"]),
    "repeated key": ("fsf_fig1a={width: 48, width: 64}", ["--config fsf_fig1a", "width: written twice"]),
    "depths in a figure over the width": (
        "sc_fig09={networks: {Depth-muP: {depths: [3, 6]}}}",
        ["sc_fig09: networks.Depth-muP.depths = [3, 6]", "over the width"],
    ),
}


def assert_one_line(done: subprocess.CompletedProcess[str], words: list[str]) -> None:
    """One line on stderr besides Snakemake's own note about the profile, holding all the words; no job, no trace."""
    lines = [line for line in done.stderr.splitlines() if "specific profile" not in line]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    assert [word for word in words if word not in lines[0]] == [], lines[0]
    assert "Traceback" not in done.stdout and "rule" not in done.stdout


@pytest.mark.parametrize("fault", BAD)
def test_bad_config_ends_in_one_line_before_any_job(snakemake, tmp_path, fault):
    setting, words = BAD[fault]
    assert_one_line(snakemake("--cores", "1", "--config", setting), words)
    assert not (tmp_path / "results").exists() and not (tmp_path / "logs").exists()


def test_bad_configfile_and_dry_run_end_alike(snakemake, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("scale: smoke\nfsf_fig1a:\n  width: -5\n")
    for arguments in (("--cores", "1"), ("-n",), ("--list",)):
        assert_one_line(snakemake(*arguments, "--configfile", str(file)), ["fsf_fig1a.width", "-5"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("scale: smoke\nfsf_fig1a:\n  width: 48\nfsf_fig1a:\n  draws: 3\n", "line 4: fsf_fig1a: written twice"),
        ("scale: smoke\nfsf_fig1a:\n  width: 48\n  width: 64\n", "line 4: fsf_fig1a.width: written twice"),
        ('{"scale": "smoke", "fsf_fig1a": {"width": 48,\n"width": 64}}', "line 2: fsf_fig1a.width: written twice"),
    ],
)
def test_a_key_that_stands_twice_in_a_configfile_is_a_fault(snakemake, tmp_path, content, words):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("fsf_fig1b: {seed: 5}\n")
    bad.write_text(content)
    for files in ((bad,), (good, bad), (bad, good)):
        assert_one_line(snakemake("-n", "--configfile", *map(str, files)), [str(bad), words])


def test_the_last_configfile_and_then_the_command_line_win(snakemake, tmp_path):
    first, last = tmp_path / "first.yaml", tmp_path / "last.yaml"
    first.write_text("scale: smoke\nfsf_fig1a: {width: 30, draws: -1}\n")
    last.write_text("fsf_fig1a: {width: -31}\n")
    arguments = ("-n", "--configfile", str(first), str(last), "--config")
    assert_one_line(snakemake(*arguments, "fsf_fig1a={draws: 2}"), ["fsf_fig1a.width = -31: "])
    assert_one_line(snakemake(*arguments, "fsf_fig1a={width: 32}"), ["fsf_fig1a.draws = -1: "])


def test_options_that_snakemake_would_lose_are_a_fault(snakemake):
    done = snakemake("-n", "--config", "scale=smoke", "--config", "data_dir=/data")
    assert_one_line(done, ["--config: given twice"])
    assert_one_line(snakemake("-n", "--config", "scale=smoke", "scale=gpu"), ["--config scale", "given twice"])


DATA_OF_CIFAR = "resources/data/cifar10/cifar10.npz"


@pytest.mark.parametrize("name", ["my #1 set", "a: b", "it's {x}", 'a "b" $HOME'])
def test_the_name_of_a_folder_reaches_the_job_as_it_is(snakemake, tmp_path, name):
    done = snakemake("--cores", "1", "--config", "scale=smoke", f"data_dir=/absent/{name}", "--", DATA_OF_CIFAR)
    log = (tmp_path / "logs/smoke/data/cifar10.log").read_text()
    assert done.returncode != 0 and f"data_dir = /absent/{name}: no such folder" in log


def test_braces_in_the_path_of_the_repository_are_named(tmp_path):
    sources = copy_of_the_sources(tmp_path / "a {b} c")
    for directory in (tmp_path / "elsewhere", sources):
        done = run_snakemake("-n", "--config", "scale=smoke", directory=directory, sources=sources)
        assert_one_line(done, [str(sources), "braces"])


FILES = {
    "config.yaml": "\nfsf_fig1a: {seed: 1}\n",
    "workflow/scales/smoke.yaml": "\nfsf_fig1a: {seed: 1}\n",
    "featurespeed/papers/feature_speed/angles/claims.yaml": "\npaper: another\n",
    "featurespeed/papers/super_consistency/edge/claims.yaml": "\n# caf\xe9\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_fault_in_a_file_of_the_repository_is_told_before_any_job(checkout, tmp_path, name):
    path = checkout / name
    path.write_bytes(path.read_bytes() + FILES[name].encode("latin-1"))
    done = run_snakemake("-n", "--config", "scale=smoke", directory=tmp_path, sources=checkout)
    assert_one_line(done, [str(path), "line ", "UTF-8" if "caf" in FILES[name] else "written twice"])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fsf_fig99", ["'fsf_fig99'", "unknown", "fsf_fig1a"]),
        ("fsf_training", ["draws nothing", "stages/fsf_training.parquet"]),
    ],
)
def test_a_target_that_cannot_be_made_is_told_in_one_line(snakemake, target, words):
    assert_one_line(snakemake(target, "-n", "--config", "scale=smoke"), [target, *words])
    assert_one_line(snakemake("-n", "--config", "scale=smoke", "--", "fsf_fig1a", target), [target, *words])


def test_a_directory_may_have_the_name_of_a_figure(tmp_path):
    done = run_snakemake("-n", "--config", "scale=smoke", "--", "fsf_fig1a", directory=tmp_path / "fsf_fig1b")
    assert done.returncode == 0, done.stderr


def test_nested_settings_of_the_command_line_are_numbers(snakemake):
    done = snakemake("-n", "--config", "scale=smoke", "fsf_fig1a={width: 33, finite_step: 1e-3, depths: [12]}")
    assert done.returncode == 0, done.stderr


MAKE_BAD = {
    "SCALE=huge": ["SCALE", "huge", "laptop"],
    "ARTEFACT=fsf_fig9": ["ARTEFACT", "fsf_fig9", "fsf_fig1a"],
    "CORES=some": ["CORES", "some", "all"],
    "CORES=-1": ["CORES", "-1", "all"],
    "CONFIG=absent.yaml": ["CONFIG", "absent.yaml"],
    "SCALLE=smoke": ["SCALLE", "smoke", "SCALE"],
}


def run_make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`make figures` as a user calls it, whether or not make has started these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments, "figures"], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("content", ["", "\n", "# sc_fig04: {seeds: 3}\n  # no more\n"])
def test_a_file_without_settings_is_named(tmp_path, content):
    """Snakemake would end in two lines that do not name it."""
    file = tmp_path / "it's mine.yaml".replace(" ", "_")
    file.write_text(content)
    for files in (f"{file}", f"config.yaml {file}"):
        done = run_make(f"CONFIG={files}")
        assert_one_line(done, [f"CONFIG = '{file}': holds no settings, allowed: a YAML file like config.yaml"])
        assert done.stdout == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("variable", MAKE_BAD)
def test_bad_make_variable_ends_in_one_line_before_any_job(variable):
    done = run_make(variable)
    assert_one_line(done, MAKE_BAD[variable])
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_variables_are_passed_on():
    variables = ("SCALE=smoke", "ARTEFACT=fsf_fig1c fsf_fig1a", "CORES=2", "CONFIG=config.yaml")
    done = run_make("-n", *variables)
    assert done.returncode == 0
    last = done.stdout.splitlines()[-1]
    assert last.endswith("snakemake --cores 2 fsf_fig1c fsf_fig1a --configfile config.yaml --config scale=smoke")


def test_make_knows_the_targets_of_the_workflow(snakemake):
    refusal = run_make("ARTEFACT=x").stderr
    allowed = set(refusal.split("allowed: ")[1].strip(" .\n").removesuffix(".  Stop").split())
    listed = set(snakemake("--list").stdout.split())
    assert {*DRAWN, "fsf", "all"} <= allowed <= listed


# --- what reruns ------------------------------------------------------------------------------------------------------


def stages_to_run(checkout: Path, finished: Path) -> set[str]:
    """Stage rules that the sources of `checkout` would run again over a finished run."""
    done = run_snakemake("-n", "--config", "scale=smoke", directory=finished, sources=checkout)
    assert done.returncode == 0, done.stderr
    return STAGES & set(jobs_of(done))


def test_an_edit_of_a_module_reruns_exactly_the_stages_that_import_it(checkout, smoke_run):
    module = checkout / "featurespeed/papers/feature_speed/panels.py"
    module.write_text(module.read_text() + "\n# an edit\n")
    specs = {artefact.stage: artefact.spec.__module__ for artefact in ARTEFACTS.values()}
    using = {
        stage
        for stage, spec in specs.items()
        if "featurespeed.papers.feature_speed.panels" in Imports().of_script(script_of(stage), (spec,))
    }
    assert {"init_bfa"} <= using < STAGES
    assert stages_to_run(checkout, smoke_run.directory) == using


def test_a_touch_reruns_nothing(checkout, smoke_run):
    for path in checkout.rglob("*"):
        path.touch()
    assert stages_to_run(checkout, smoke_run.directory) == set()
