"""Results kept in the repository: what is kept of a run, and that figures and claims come out of it again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from featurespeed.drawing.making import make
from featurespeed.errors import UserError
from featurespeed.machine.files import PART
from featurespeed.pipeline.page_ledger import Run, read_runs
from featurespeed.pipeline.stage import Task
from featurespeed.records import read_table, write_table
from tests.conftest import REPOSITORY, copy_of_the_sources, load_script, run_snakemake
from tests.papers.cases import STYLE, drawing_of
from tests.papers.super_consistency.coordinate_check_cases import fig28_records, table1_records
from tests.papers.super_consistency.edge_cases import all_tables as edge_tables
from tests.pipeline.test_config import of_scale

RECORDS = {"sc_fig28": fig28_records, "sc_table1": table1_records}
KEPT = sorted((REPOSITORY / "results/reference").glob("*/stages/*.parquet"))
JUDGING = "snakemake --cores all claims --config scale=smoke"
script = load_script("keep_reference")


def finished_run(results: Path) -> Path:
    """A run of some artefacts, as far as its folder goes."""
    for artefact, records in RECORDS.items():
        table = records()
        write_table(table, results / f"stages/{artefact}.parquet", {"spec": {"artefact": artefact}})
        for folder in ("tables", "figures"):
            (results / folder).mkdir(exist_ok=True)
        images = {"png": results / f"figures/{artefact}.png", "svg": results / f"figures/{artefact}.svg"}
        make(drawing_of(artefact), (table,), results / f"tables/{artefact}.csv", images, STYLE)
    (results / "claims.csv").write_text("claim_id\n")
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run") / "results/smoke")


@pytest.fixture
def mine(results, tmp_path) -> Path:
    """The same run, to be altered."""
    return Path(shutil.copytree(results, tmp_path / "mine"))


def keep(results: Path, reference: Path, **params) -> None:
    script.main(Task({}, {}, {"results": str(results), "reference": str(reference), **params}))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fault(results: Path, reference: Path, **params) -> str:
    """The one line with which keeping ends."""
    with pytest.raises(SystemExit) as error:
        keep(results, reference, **params)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# --- keeping ----------------------------------------------------------------------------------------------------------


def test_kept_files_are_those_of_the_run_byte_for_byte(results, tmp_path):
    keep(results, tmp_path / "reference/smoke")
    kept, run = files(tmp_path / "reference/smoke"), files(results)
    names = [f"{folder}/{name}.{kind}" for name in RECORDS for folder, kind in
             (("stages", "parquet"), ("tables", "csv"), ("figures", "png"))]  # fmt: skip
    assert kept == {name: run[name] for name in [*names, "claims.csv"]}  # no SVG
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["smoke"]


def test_when_and_with_which_commit_an_artefact_was_run_is_kept(mine, tmp_path):
    """By the first of the jobs that it gathers: they may be older than the stage."""
    (mine / "training").mkdir()
    for path, started, commit in (
        ("stages/sc_fig28", "2026-02-02T00:00:00+00:00", "b"),
        ("stages/sc_table1", "2026-02-03T00:00:00+00:00", ""),
        ("training/one", "2026-02-01T00:00:00+00:00", "a+changes"),
    ):
        (mine / f"{path}.run.json").write_text(json.dumps({"started": started, "commit": commit}))
    keep(mine, tmp_path / "reference", jobs={"sc_fig28": ["one"]})
    assert read_runs(tmp_path / "reference/runs.csv") == {
        "sc_fig28": Run("2026-02-01T00:00:00+00:00", "a+changes"), "sc_table1": Run("2026-02-03T00:00:00+00:00")
    }  # fmt: skip


def test_a_list_keeps_these_and_no_others(results, tmp_path):
    reference = tmp_path / "reference"
    keep(results, reference)
    keep(results, reference, artefacts=["sc_table1"])
    assert set(files(reference)) == {
        "stages/sc_table1.parquet", "tables/sc_table1.csv", "figures/sc_table1.png", "claims.csv"
    }  # fmt: skip


def test_an_artefact_that_draws_nothing_is_kept_as_its_stage_table(mine, tmp_path):
    shutil.copy2(mine / "stages/sc_fig28.parquet", mine / "stages/sc_sharpness.parquet")
    keep(mine, tmp_path / "reference", artefacts=["sc_sharpness"])
    assert set(files(tmp_path / "reference")) == {"stages/sc_sharpness.parquet", "claims.csv"}


def test_an_incomplete_artefact_is_not_kept_by_default(mine, tmp_path):
    (mine / "figures/sc_fig28.png").unlink()
    keep(mine, tmp_path / "reference")
    assert {Path(name).stem for name in files(tmp_path / "reference")} == {"sc_table1", "claims"}
    assert "sc_fig28.png" in fault(mine, tmp_path / "reference", artefacts=["sc_fig28"])


def test_a_file_too_large_for_a_repository_is_refused_by_name_and_nothing_changes(mine, tmp_path):
    reference = tmp_path / "reference"
    keep(mine, reference, artefacts=["sc_table1"])
    before = files(reference)
    (mine / "figures/sc_fig28.png").write_bytes(b"0" * script.LARGEST)
    message = fault(mine, reference)
    assert "sc_fig28.png" in message and "2000000" in message
    assert files(reference) == before
    (mine / "figures/sc_fig28.png").write_bytes(b"0" * (script.LARGEST - 1))
    keep(mine, reference)
    assert len(files(reference)) == 7


@pytest.fixture
def gathered(mine) -> Path:
    """A run that has trained networks, too."""
    table = edge_tables()["sc_fig11"]
    shifted = table.assign(value=table["value"] * (1 + 1e-7 * table.index))
    write_table(shifted, mine / "stages/sc_fig11.parquet", {"spec": {"artefact": "sc_fig11"}})
    for drawn in ("tables/sc_fig11.csv", "figures/sc_fig11.png"):
        (mine / drawn).write_text(drawn)
    (mine / "claims.csv").touch()  # a run judges its tables last
    return mine


def test_tables_of_trained_networks_are_kept_with_five_digits(gathered, tmp_path):
    keep(gathered, tmp_path / "reference")
    source, kept = (folder / "stages/sc_fig11.parquet" for folder in (gathered, tmp_path / "reference"))
    own, found = read_table(source), read_table(kept)
    assert found.attrs["provenance"] == own.attrs["provenance"]
    pd.testing.assert_frame_equal(found.drop(columns="value"), own.drop(columns="value"))
    apart = (found["value"] / own["value"] - 1).abs()
    assert 0 < apart.max() <= 2**-18
    assert kept.stat().st_size < source.stat().st_size
    keep(tmp_path / "reference", tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "reference")  # rounding is done once


def test_a_table_that_another_artefact_has_too_is_kept_once(gathered, tmp_path):
    """A link stands for it, unless the settings differ in more than the name of the artefact."""
    table, reference = read_table(gathered / "stages/sc_fig11.parquet"), tmp_path / "reference"
    for name, others in (("sc_fig12", {}), ("sc_fig13", {"shown": {"muP": 1.0}})):
        write_table(table, gathered / f"stages/{name}.parquet", {"spec": {"artefact": name} | others})
        for drawn in (f"tables/{name}.csv", f"figures/{name}.png"):
            (gathered / drawn).write_text(drawn)
    (gathered / "claims.csv").touch()
    keep(gathered, reference)
    links = {path.name: os.readlink(path) for path in reference.glob("stages/*") if path.is_symlink()}
    assert links == {"sc_fig12.parquet": "sc_fig11.parquet"}
    assert read_table(reference / "stages/sc_fig12.parquet").equals(read_table(reference / "stages/sc_fig13.parquet"))
    keep(reference, tmp_path / "again")
    assert files(tmp_path / "again") == files(reference)


def test_rounded_tables_count_with_the_size_that_they_are_kept_in(gathered, tmp_path, monkeypatch):
    source = gathered / "stages/sc_fig11.parquet"
    keep(gathered, tmp_path / "reference")
    kept = (tmp_path / "reference/stages/sc_fig11.parquet").stat().st_size
    monkeypatch.setattr(script, "LARGEST", kept + 1)
    keep(gathered, tmp_path / "large", artefacts=["sc_fig11"])
    monkeypatch.setattr(script, "LARGEST", kept)
    assert source.name in fault(gathered, tmp_path / "large", artefacts=["sc_fig11"])
    assert (tmp_path / "large/stages/sc_fig11.parquet").is_file()


def test_a_damaged_table_is_named(gathered, tmp_path):
    source = gathered / "stages/sc_fig11.parquet"
    source.write_bytes(source.read_bytes()[:-100])
    (gathered / "claims.csv").touch()
    assert f"{source}: cannot be read" in fault(gathered, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_a_failure_midway_leaves_what_was_kept(mine, tmp_path, monkeypatch):
    reference = tmp_path / "reference/smoke"
    keep(mine, reference, artefacts=["sc_table1"])
    before = files(reference)

    def full_disk(source: Path, target: Path) -> None:
        if "tables" in str(source):
            raise OSError("no space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(script.shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="no space"):
        keep(mine, reference)
    assert files(reference) == before
    assert not list(reference.parent.glob(f"{PART}*"))


@pytest.mark.parametrize(("artefact", "words"), [("sc_fig82", ["sc_fig82", "sc_fig28"]), ("sc_fig01", ["sc_fig01"])])
def test_what_cannot_be_kept_is_named(results, tmp_path, artefact, words):
    message = fault(results, tmp_path / "reference", artefacts=[artefact])
    assert [word for word in words if word not in message] == []
    assert not (tmp_path / "reference").exists()


def test_an_empty_run_is_named(tmp_path):
    (tmp_path / "results").mkdir()
    assert str(tmp_path / "results") in fault(tmp_path / "results", tmp_path / "reference")


def test_files_are_checked_before_any_is_copied(results):
    with pytest.raises(UserError, match="absent"):
        script.checked(results, ["claims.csv", "stages/sc_fig01.parquet"])


def test_a_ledger_that_is_not_made_yet_is_named_with_its_remedy(mine, tmp_path):
    run = mine.rename(tmp_path / "smoke")
    (run / "claims.csv").unlink()
    for params in ({}, {"artefacts": ["sc_fig28"]}, {"ledger_only": True}):
        message = fault(run, tmp_path / "reference", **params)
        assert f"{run / 'claims.csv'}: absent; make the ledger: `{JUDGING}`" in message
        assert "artefacts" not in message


# --- a ledger older than a table --------------------------------------------------------------------------------------


def judged_before(results: Path, artefact: str, seconds: float = 60) -> Path:
    """The stage table of an artefact, whose file is now so many seconds younger than the ledger."""
    table, judged = results / f"stages/{artefact}.parquet", (results / "claims.csv").stat()
    os.utime(table, ns=(judged.st_atime_ns, judged.st_mtime_ns + int(seconds * 1e9)))
    return table


def write_sidecar(table: Path, results: Path, seconds: float, wall_seconds: float = 0) -> None:
    """Says that the job of the table began so many seconds after the ledger was judged, or before it."""
    judged = datetime.fromtimestamp(int((results / "claims.csv").stat().st_mtime), UTC)
    facts = {"started": (judged + timedelta(seconds=seconds)).isoformat(), "wall_seconds": wall_seconds}
    table.with_suffix(".run.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("params", [{}, {"artefacts": ["sc_fig28"]}, {"ledger_only": True}], ids=str)
def test_a_ledger_older_than_a_table_is_refused(mine, tmp_path, params):
    run = mine.rename(tmp_path / "smoke")
    table = judged_before(run, "sc_fig28")
    message = fault(run, tmp_path / "reference", **params)
    assert f"{table}: newer than {run / 'claims.csv'}" in message and f"`{JUDGING}`" in message
    assert not (tmp_path / "reference").exists()
    (run / "claims.csv").touch()
    os.utime(table, ns=(0, (run / "claims.csv").stat().st_mtime_ns - 1))
    keep(run, tmp_path / "reference", **params)


def test_the_remedy_names_no_scale_that_the_folder_does_not_tell(mine, tmp_path):
    judged_before(mine, "sc_fig28")
    assert "`snakemake --cores all claims`" in fault(mine, tmp_path / "reference")


def test_tables_that_are_not_kept_may_be_newer_than_the_ledger(mine, tmp_path):
    judged_before(mine, "sc_fig28")
    keep(mine, tmp_path / "reference", artefacts=["sc_table1"])
    assert len(files(tmp_path / "reference")) == 4


def test_files_with_equal_times_are_kept(mine, tmp_path):
    for path in (path for path in mine.rglob("*") if path.is_file()):
        os.utime(path, ns=(10**18, 10**18))
    keep(mine, tmp_path / "reference")
    assert len(files(tmp_path / "reference")) == 7


def test_a_table_that_was_copied_after_the_ledger_but_computed_before_it_is_kept(mine, tmp_path):
    write_sidecar(judged_before(mine, "sc_fig28"), mine, -7200, 3600)
    keep(mine, tmp_path / "reference")


@pytest.mark.parametrize(("began", "took"), [(60, 1), (-3600, 7200)])
def test_a_table_whose_job_ended_after_the_ledger_is_refused(mine, tmp_path, began, took):
    """Also if it began before: what was judged was the table of an earlier run."""
    table = judged_before(mine, "sc_fig28", 24 * 3600)
    write_sidecar(table, mine, began, took)
    assert str(table) in fault(mine, tmp_path / "reference")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"started": 3}', '{"started": "yesterday"}'])
def test_a_sidecar_that_tells_no_time_leaves_that_of_the_file(mine, text):
    table = judged_before(mine, "sc_fig28")
    table.with_suffix(".run.json").write_text(text)
    assert script.made(table) == table.stat().st_mtime


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_sidecar_is_named(mine, tmp_path, text):
    path = mine / "stages/sc_fig28.run.json"
    path.write_text(text)
    assert f"{path}: cannot be read" in fault(mine, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


# --- parameters -------------------------------------------------------------------------------------------------------

FAULTS = {
    "misspelt key": ({"artefact": ["sc_fig28"]}, 'artefact = ["sc_fig28"]: unknown key, allowed: results, reference,'
                     " artefacts, ledger_only, jobs; did you mean 'artefacts'?"),
    "unknown key": ({"zzz": 1}, "zzz = 1: unknown key, allowed: results, reference, artefacts, ledger_only, jobs"),
    "no artefact": ({"artefacts": []}, "artefacts = []: names none; leave it out"),
    "a name": ({"artefacts": "sc_fig28"}, 'artefacts = "sc_fig28": must be a list of names, such as ["sc_fig28"]'),
    "two lines": ({"artefacts": "sc_fig28\nsc_table1"}, "must be a list of names"),
    "nothing": ({"artefacts": None}, "artefacts = null: must be a list of names"),
    "no names": ({"artefacts": [28]}, "artefacts = [28]: must be a list of names"),
}  # fmt: skip


@pytest.mark.parametrize(("params", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_the_parameters_is_named(results, tmp_path, params, words):
    assert words in fault(results, tmp_path / "reference", **params)
    assert not (tmp_path / "reference").exists()


# --- drawing again ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Redrawing:
    """A checkout in which something is kept, and one run of `reference_figures` in a folder of its own."""

    checkout: Path
    directory: Path
    done: subprocess.CompletedProcess[str]

    @property
    def made(self) -> Path:
        return self.directory / "results/reference_figures/smoke"


@pytest.fixture(scope="module")
def redrawing(results, run_once) -> Redrawing:
    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        checkout = copy_of_the_sources(folder / "checkout")
        keep(results, checkout / "results/reference/smoke")
        (folder / "directory").mkdir()
        return run_snakemake("--cores", "1", "reference_figures", directory=folder / "directory", sources=checkout)

    folder, done = run_once("redrawing", run)
    return Redrawing(folder / "checkout", folder / "directory", done)


def jobs_of(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Rule -> number of jobs, from the table that Snakemake prints first."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}


def test_drawing_again_needs_no_stage(redrawing):
    assert redrawing.done.returncode == 0, redrawing.done.stderr[-3000:]
    jobs = jobs_of(redrawing.done)
    assert jobs == {"reference_smoke_sc_coordinate_check": 1, "reference_claims": 1, "reference_figures": 1, "total": 3}


def test_tables_drawn_again_are_the_kept_ones(redrawing, results):
    for artefact in RECORDS:
        again = (redrawing.made / f"tables/{artefact}.csv").read_bytes()
        assert again == (results / f"tables/{artefact}.csv").read_bytes()
        assert all((redrawing.made / f"figures/{artefact}.{kind}").stat().st_size for kind in ("pdf", "svg", "png"))


def test_claims_about_what_is_not_kept_are_not_run(redrawing):
    claims = pd.read_csv(redrawing.made / "claims.csv")
    kept = claims["artefact"].isin(RECORDS)
    assert set(claims.loc[~kept, "verdict"]) == {"not run"}
    assert "confirmed" in set(claims.loc[kept, "verdict"])
    assert set(claims["scale"]) == {"smoke"}
    assert (redrawing.made / "claims_sensitivity.csv").stat().st_size


def test_drawing_again_writes_nothing_into_the_repository(redrawing):
    kept = {path.name for path in (redrawing.checkout / "results").iterdir()}
    assert kept == {"reference"} and not (redrawing.checkout / "logs").exists()


@pytest.mark.parametrize(("scale", "count"), [("gpu", 7), ("laptop", 1)])
def test_a_run_of_the_workflow_can_be_kept(redrawing, results, scale, count):
    """Of a run that anybody repeats in minutes only the ledger."""
    run = redrawing.directory / f"results/{scale}"
    shutil.copytree(results, run)
    command = ("--cores", "1", "keep_reference", "--config", f"scale={scale}")
    done = run_snakemake(*command, directory=redrawing.directory, sources=redrawing.checkout)
    assert done.returncode == 0, done.stderr[-3000:]
    kept = files(redrawing.checkout / f"results/reference/{scale}")
    assert len(kept) == count and "claims.csv" in kept
    (run / "claims.csv").write_text("claim_id\nlater\n")
    again = run_snakemake(*command, directory=redrawing.directory, sources=redrawing.checkout)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (redrawing.checkout / f"results/reference/{scale}/claims.csv").read_text() == "claim_id\nlater\n"
    assert (redrawing.directory / f"logs/{scale}/keep_reference/keep_reference.log").read_text()


def test_nothing_kept_is_said_in_one_line(tmp_path):
    sources = copy_of_the_sources(tmp_path / "checkout")
    done = run_snakemake("-n", "reference_figures", directory=tmp_path, sources=sources)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "results/reference" in line]
    assert len(lines) == 1 and "no stage tables" in lines[0] and "Traceback" not in done.stderr


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_kept_table_has_the_settings_of_its_scale(path):
    """Who changes the settings of a scale runs it again, or sets those of the kept run in its file.

    What a table was made without, because there was no such setting yet, has the value that it has by default. A link
    stands for the table of another artefact.
    """
    config = of_scale(path.parts[-3])
    block, own = config.block(path.stem), read_table(path).attrs["provenance"]["spec"]
    assert own["artefact"] == path.resolve().stem
    assert type(block).model_validate(own | {"artefact": path.stem}) == block
