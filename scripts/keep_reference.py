"""Keep the results of a run in the repository: ``results/reference/<scale>``, from which figures are drawn again.

Copies the stage tables of some artefacts, what is drawn of them (CSV, PNG), and the run's ``claims.csv``, byte by byte,
and notes in ``runs.csv`` when each artefact was run, with which commit of the sources. Stage tables that gather the
training of many networks are rounded to five decimal digits, which halves them. The folder of the scale is replaced as
a whole, and only when every file is there and small enough for a repository.

Parameters: ``results``, the folder of the run; ``reference``, the folder to make; ``artefacts``, by default the drawn
ones that this run has of the papers whose results are kept; ``ledger_only``: of a scale that anybody can run in minutes
nothing but the ledger is kept; ``jobs``, artefact -> names of the jobs that trained and measured for it.
"""

import csv
import json
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from featurespeed.errors import UserError
from featurespeed.machine.files import PART
from featurespeed.pipeline.config import ConfigError, check_artefact
from featurespeed.pipeline.page_ledger import RUNS_COLUMNS, runs_of
from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF
from featurespeed.pipeline.stage import Task, run_task
from featurespeed.records import read_table, rounded, write_table

JOBS = ("stages", "training", "sharpness", "descent")  # folders with the sidecars of a run
LARGEST = 2_000_000  # bytes of one file
SMALLEST = 19  # level of compression: slow, which matters to nobody here
GATHERING = ("gather", "gather_descent")  # stages whose tables are rounded: networks that train in float32


def files_of(artefact: str) -> list[str]:
    """What is kept of one artefact, relative to the folder of a run; of one that draws nothing, its stage table."""
    drawn = [f"tables/{artefact}.csv", f"figures/{artefact}.png"] if check_artefact(artefact).drawn else []
    return [f"stages/{artefact}.parquet", *drawn]


def present(results: Path) -> list[str]:
    """Drawn artefacts of the papers that are kept, of which this run has everything."""
    own = [name for name, artefact in ARTEFACTS.items() if artefact.drawn and ROOM_OF[name].paper.kept]
    return [name for name in own if all((results / file).is_file() for file in files_of(name))]


def checked(results: Path, files: Iterable[str]) -> list[str]:
    """The files themselves; UserError for one that is absent."""
    files = list(files)
    for path in (results / file for file in files):
        if not path.is_file():
            raise UserError(f"{path}: absent; run the workflow for this artefact first, or leave it out of `artefacts`")
    return files


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


def when(results: Path, jobs: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    """The content of ``runs.csv``: start and commit of every artefact that the run has, by the sidecars of its jobs.

    Nothing where there are no sidecars.
    """
    paths = [path for folder in JOBS for path in sorted((results / folder).glob("*.run.json"))]
    sidecars = {path.name.split(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    runs, text = runs_of(sidecars, jobs, names), StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(RUNS_COLUMNS)
    rows.writerows([name, run.started, run.commit] for name, run in runs.items())
    return text.getvalue() if runs else ""


def keep(results: Path, reference: Path, files: Iterable[str], runs: str = "") -> None:
    """Make ``reference`` hold exactly these files, and ``runs`` as its runs.csv; on any failure it stays as it is."""
    reference.parent.mkdir(parents=True, exist_ok=True)
    made, old = (reference.with_name(f"{PART}{uuid.uuid4().hex[:12]}-{reference.name}") for _ in range(2))
    try:
        for file in files:
            copy(results / file, made / file)
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
        ledger_only = task.params.get("ledger_only", False)
        artefacts = [] if ledger_only else task.params.get("artefacts") or present(results)
        if not artefacts and not ledger_only:
            raise UserError(f"{results}: none of the artefacts of the papers that are kept is complete there")
        wanted = [file for artefact in artefacts for file in files_of(artefact)]
        files = checked(results, [*wanted, "claims.csv"])
        keep(results, reference, files, when(results, task.params.get("jobs", {}), artefacts or list(ARTEFACTS)))
    except (UserError, ConfigError) as error:
        raise SystemExit(f"keep_reference.py: {error}") from None
    size = sum((reference / file).stat().st_size for file in files)
    print(f"{reference}: {len(artefacts)} artefacts, {len(files)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_task(main)
