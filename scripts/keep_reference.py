"""Keep the results of a run in the repository: ``results/reference/<scale>``, from which figures are drawn again.

Copies the stage tables of some artefacts, what is drawn of them (CSV, PNG), and the run's ``claims.csv``, byte by byte,
and notes in ``runs.csv`` when each artefact was run, with which commit of the sources. Stage tables that gather the
training of many networks are rounded to five decimal digits, which halves them; of two artefacts with the same networks
and settings the second one's is a link to the first one's. The folder of the scale is replaced as
a whole, and only when every file is there and small enough for a repository, and no table younger than the ledger.

Parameters: ``results``, the folder of the run; ``reference``, the folder to make; ``artefacts``, a list, by default the
drawn ones that this run has of the papers whose results are kept; ``ledger_only``: of a scale that anybody can run in
minutes nothing but the ledger is kept; ``jobs``, artefact -> names of the jobs that trained and measured for it.
"""

import csv
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

from featurespeed.errors import UserError
from featurespeed.machine.files import PART
from featurespeed.pipeline.config import SCALES, ConfigError, check_artefact, shown
from featurespeed.pipeline.page_ledger import RUNS_COLUMNS, runs_of
from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF
from featurespeed.pipeline.stage import Task, run_task
from featurespeed.records import read_table, rounded, write_table
from featurespeed.values import did_you_mean

PARAMETERS = ("results", "reference", "artefacts", "ledger_only", "jobs")
OF_THE_RULE = ("code",)  # the hash by which Snakemake sees an edit; nobody else gives it
LEDGER = "claims.csv"
JOBS = ("stages", "training", "sharpness", "descent")  # folders with the sidecars of a run
LARGEST = 2_000_000  # bytes of one file
SMALLEST = 19  # level of compression: slow, which matters to nobody here
GATHERING = ("gather", "gather_descent")  # stages whose tables are rounded: networks that train in float32


def check_keys(params: Mapping[str, Any]) -> None:
    """UserError for a parameter that there is not: a misspelt `artefacts` would keep everything."""
    for key, value in params.items():
        if key not in PARAMETERS + OF_THE_RULE:
            hint = did_you_mean(key, PARAMETERS)
            raise UserError(f"{key} = {shown(value)}: unknown key, allowed: {', '.join(PARAMETERS)}{hint}")


def names_of(value: Any) -> list[str]:
    """The parameter ``artefacts``, if it is a list of at least one name."""
    if value == []:
        raise UserError(
            "artefacts = []: names none; leave it out to keep what this run has, or give `ledger_only: true`"
        )
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        example = shown(value) if isinstance(value, str) else next(iter(ARTEFACTS))
        raise UserError(f"artefacts = {shown(value)}: must be a list of names, such as [{example}]")
    return value


def files_of(artefact: str) -> list[str]:
    """What is kept of one artefact, relative to the folder of a run; of one that draws nothing, its stage table."""
    drawn = [f"tables/{artefact}.csv", f"figures/{artefact}.png"] if check_artefact(artefact).drawn else []
    return [f"stages/{artefact}.parquet", *drawn]


def present(results: Path) -> list[str]:
    """Drawn artefacts of the papers that are kept, of which this run has everything."""
    own = [name for name, artefact in ARTEFACTS.items() if artefact.drawn and ROOM_OF[name].paper.kept]
    return [name for name in own if all((results / file).is_file() for file in files_of(name))]


def chosen(results: Path, params: Mapping[str, Any]) -> list[str]:
    """The artefacts to be kept; none where only the ledger is."""
    if params.get("ledger_only", False):
        return []
    artefacts = names_of(params["artefacts"]) if "artefacts" in params else present(results)
    if not artefacts:
        raise UserError(f"{results}: none of the artefacts of the papers that are kept is complete there")
    return artefacts


def making_the_ledger(results: Path) -> str:
    """The command that judges this run, as far as its folder tells it."""
    scale = f" --config scale={results.name}" if results.name in SCALES else ""
    return f"`snakemake --cores all claims{scale}`, with the other options of this run"


def checked(results: Path, files: Iterable[str]) -> list[str]:
    """The files themselves; UserError for one that is absent."""
    files = list(files)
    for file in files:
        if not (results / file).is_file():
            artefact = "run the workflow for this artefact first, or leave it out of `artefacts`"
            remedy = f"make the ledger: {making_the_ledger(results)}" if file == LEDGER else artefact
            raise UserError(f"{results / file}: absent; {remedy}")
    return files


def made(table: Path) -> float:
    """When a stage table was made, in seconds since 1970: by its file, or by its sidecar if that says earlier.

    The file of a copy may be as old as the copy, but the sidecar says when the table was computed.
    """
    written = table.stat().st_mtime
    try:
        facts = json.loads(table.with_suffix(".run.json").read_text(encoding="utf-8"))
        computed = datetime.fromisoformat(facts["started"]).timestamp() + facts.get("wall_seconds", 0)
    except (OSError, ValueError, KeyError, TypeError):  # no sidecar, or none that tells
        return written
    return min(written, computed)


def check_ledger(results: Path, artefacts: Iterable[str]) -> None:
    """UserError if one of these stage tables was made after the ledger, which has then judged another one, or none."""
    judged = (results / LEDGER).stat().st_mtime
    for table in (results / f"stages/{artefact}.parquet" for artefact in artefacts):
        if table.is_file() and made(table) > judged:
            raise UserError(
                f"{table}: newer than {results / LEDGER}, which has not judged it;"
                f" make the ledger again: {making_the_ledger(results)}"
            )


def copy(source: Path, target: Path) -> None:
    """One file, to be kept as it is or rounded; UserError if it is too large then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    artefact = ARTEFACTS.get(source.stem)
    if source.suffix == ".parquet" and artefact is not None and artefact.stage in GATHERING:
        try:
            table = read_table(source)
        except (ValueError, OSError) as error:  # damaged, or not a stage table
            raise UserError(f"{source}: cannot be read: {str(error).splitlines()[0]}") from None
        write_table(rounded(table), target, table.attrs["provenance"], level=SMALLEST)
    else:
        shutil.copyfile(source, target)
    if target.stat().st_size >= LARGEST:
        raise UserError(
            f"{source}: {target.stat().st_size} bytes to be kept, a kept file has less than {LARGEST};"
            " leave this artefact out of `artefacts`"
        )


def sidecar(path: Path) -> Mapping[str, Any]:
    """What a sidecar tells; UserError for one that is damaged."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise UserError(f"{path}: cannot be read; remove it, and its run is kept without time and commit")
    return facts


def when(results: Path, jobs: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    """The content of ``runs.csv``: start and commit of every artefact that the run has, by the sidecars of its jobs.

    Nothing where there are no sidecars.
    """
    paths = [path for folder in JOBS for path in sorted((results / folder).glob("*.run.json"))]
    sidecars = {path.name.split(".")[0]: sidecar(path) for path in paths}
    runs, text = runs_of(sidecars, jobs, names), StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(RUNS_COLUMNS)
    rows.writerows([name, run.started, run.commit] for name, run in runs.items())
    return text.getvalue() if runs else ""


def comparable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What a table was made with, but for the name of its artefact."""
    own = {key: value for key, value in provenance.items() if key != "config_hash"}
    return own | {"spec": {key: value for key, value in own.get("spec", {}).items() if key != "artefact"}}


def link_equal(stages: Path) -> None:
    """A link in the place of every rounded table that equals an earlier one, in content and in what it was made with.

    Such artefacts draw different things of the same networks, and their tables are a tenth of all that is kept.
    """
    different: list[tuple[Path, dict[str, Any]]] = []
    for path in sorted(stages.glob("*.parquet")):
        if path.stem not in ARTEFACTS or ARTEFACTS[path.stem].stage not in GATHERING:
            continue
        table = read_table(path)
        own = comparable(table.attrs["provenance"])
        same = (other for other, made_with in different if made_with == own and read_table(other).equals(table))
        if (other := next(same, None)) is None:
            different.append((path, own))
        else:
            path.unlink()
            path.symlink_to(other.name)


def keep(results: Path, reference: Path, files: Iterable[str], runs: str = "") -> None:
    """Make ``reference`` hold exactly these files, and ``runs`` as its runs.csv; on any failure it stays as it is."""
    reference.parent.mkdir(parents=True, exist_ok=True)
    made, old = (reference.with_name(f"{PART}{uuid.uuid4().hex[:12]}-{reference.name}") for _ in range(2))
    try:
        for file in files:
            copy(results / file, made / file)
        link_equal(made / "stages")
        if runs:
            (made / "runs.csv").write_text(runs, encoding="utf-8")
        if reference.exists():
            reference.rename(old)
        try:
            made.rename(reference)
        except OSError:
            if old.exists():
                old.rename(reference)
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def main(task: Task) -> None:
    """Keep what the parameters name."""
    results, reference = Path(task.params["results"]), Path(task.params["reference"])
    try:
        check_keys(task.params)
        artefacts = chosen(results, task.params)
        wanted = [file for artefact in artefacts for file in files_of(artefact)]
        files = checked(results, [*wanted, LEDGER])
        told = artefacts or list(ARTEFACTS)  # a ledger that is kept alone tells of all of them
        check_ledger(results, told)
        keep(results, reference, files, when(results, task.params.get("jobs", {}), told))
    except (UserError, ConfigError) as error:
        raise SystemExit(f"keep_reference.py: {error}") from None
    size = sum((reference / file).stat().st_size for file in files)
    print(f"{reference}: {len(artefacts)} artefacts, {len(files)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_task(main)
