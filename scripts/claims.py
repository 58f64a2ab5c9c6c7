"""Claims ledger: judge every criterion of the rooms on the stage tables of this run.

Reads the stage tables (Parquet) and the rooms' ``claims.yaml``; writes ``claims.csv`` (one row a claim, those not run
included) and ``claims_sensitivity.csv`` (the verdicts at half and at twice each threshold). The verdicts are decided by
``featurespeed.ledger.engine.decide`` alone; ``docs/claims.md`` explains them.

Inputs: ``tables`` (list), ``criteria`` (one file or a list). Outputs: ``claims``, ``sensitivity`` and ``published``,
the z-scores of the points read off the papers' figures. Parameter: ``scale``.
"""

from contextlib import suppress
from pathlib import Path

import pandas as pd

from featurespeed.ledger.criteria import CriteriaError, Criterion, load_criteria
from featurespeed.ledger.engine import STATISTICS, MissingTable, StageTables, Undecidable, ledger
from featurespeed.pipeline.registry import ARTEFACTS, PLANNED, ROOMS, load_statistics
from featurespeed.pipeline.stage import Task, run_task
from featurespeed.records import read_table

#: Six digits say more than any interval here is wide, and keep the files the same on every machine.
FLOAT_FORMAT = "%.6g"

#: Columns of ``published_points.csv``: a point, what this run has there, and how far apart the two are.
PUBLISHED_COLUMNS = ("figure", "series", "x", "y", "y_sd", "k", "mean", "se", "n", "z")


def read_criteria(paths: list[Path]) -> list[Criterion]:
    """All criteria of the files, in order; a claim may appear once only, and about what the registry knows."""
    criteria = [criterion for path in paths for criterion in load_criteria(path, STATISTICS)]
    seen: set[str] = set()
    for criterion in criteria:
        if criterion.claim_id in seen:
            raise CriteriaError(f"claim_id = {criterion.claim_id!r}: used in more than one criteria file")
        if criterion.artefact not in ARTEFACTS and criterion.artefact not in PLANNED:
            raise CriteriaError(
                f"claim {criterion.claim_id!r}: artefact = {criterion.artefact!r}: unknown,"
                " allowed: the ids of ARTEFACTS and PLANNED in a room's artefacts.py"
            )
        seen.add(criterion.claim_id)
    return criteria


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a ledger with a fixed number format and line ending."""
    frame.to_csv(path, index=False, float_format=FLOAT_FORMAT, lineterminator="\n")


def published_points(tables: StageTables) -> pd.DataFrame:
    """This run at the published points of all rooms, with z-scores; no rows of a room where it has other sizes."""
    found = []
    for room in (room for room in ROOMS if room.comparison):
        with suppress(Undecidable, MissingTable):
            found.append(room.function(room.comparison)(tables)[list(PUBLISHED_COLUMNS)])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(PUBLISHED_COLUMNS))


def main(task: Task) -> None:
    """Judge the claims of this run."""
    load_statistics()
    try:
        criteria = read_criteria(task.files("criteria"))
    except CriteriaError as error:
        raise SystemExit(str(error)) from None
    tables = StageTables(task.files("tables"), read_table, {criterion.artefact for criterion in criteria})
    claims, sensitivity = ledger(criteria, tables, task.params["scale"])
    write_csv(claims, task.outputs["claims"])
    write_csv(sensitivity, task.outputs["sensitivity"])
    write_csv(published_points(tables), task.outputs["published"])


if __name__ == "__main__":
    run_task(main)
