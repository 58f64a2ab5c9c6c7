"""Claims ledger: judge every criterion of the reviewed criteria files on the stage tables of this run.

Reads the stage tables (Parquet) and ``workflow/claims/*.yaml``; writes ``claims.csv`` (one row a claim, those not run
included) and ``claims_sensitivity.csv`` (the verdicts at half and at twice each threshold). The verdicts are decided by
``featurespeed.claims.engine.decide`` alone; ``docs/claims.md`` explains them.

Inputs: ``tables`` (list), ``criteria`` (one file or a list). Outputs: ``claims``, ``sensitivity`` and ``published``,
the z-scores of the points read off the paper's figures. Parameter: ``scale``.
"""

from pathlib import Path

import pandas as pd

from featurespeed.claims import edge_of_stability, super_consistency  # noqa: F401  (register their statistics)
from featurespeed.claims.criteria import CriteriaError, Criterion, load_criteria
from featurespeed.claims.engine import STATISTICS, MissingTable, StageTables, Undecidable, ledger
from featurespeed.claims.feature_speed.angles import compare_with_published
from featurespeed.records import read_table
from featurespeed.stage import Task, run_task

#: Six digits say more than any interval here is wide, and keep the files the same on every machine.
FLOAT_FORMAT = "%.6g"

#: Columns of ``published_points.csv``: a point, what this run has there, and how far apart the two are.
PUBLISHED_COLUMNS = ("figure", "series", "x", "y", "y_sd", "k", "mean", "se", "n", "z")


def read_criteria(paths: list[Path]) -> list[Criterion]:
    """All criteria of the files, in order; a claim may appear once only."""
    criteria = [criterion for path in paths for criterion in load_criteria(path, STATISTICS)]
    seen: set[str] = set()
    for criterion in criteria:
        if criterion.claim_id in seen:
            raise CriteriaError(f"claim_id = {criterion.claim_id!r}: used in more than one criteria file")
        seen.add(criterion.claim_id)
    return criteria


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a ledger with a fixed number format and line ending."""
    frame.to_csv(path, index=False, float_format=FLOAT_FORMAT, lineterminator="\n")


def published_points(tables: StageTables) -> pd.DataFrame:
    """Our angles at the published points with their z-scores; no rows where this run has other sizes."""
    try:
        return compare_with_published(tables)
    except (Undecidable, MissingTable):
        return pd.DataFrame(columns=list(PUBLISHED_COLUMNS))


def main(task: Task) -> None:
    """Judge the claims of this run."""
    try:
        criteria = read_criteria(task.files("criteria"))
    except CriteriaError as error:
        raise SystemExit(str(error)) from None
    known = {criterion.artefact for criterion in criteria}
    tables = StageTables(task.files("tables"), read_table, known)
    claims, sensitivity = ledger(criteria, tables, task.params["scale"])
    write_csv(claims, task.outputs["claims"])
    write_csv(sensitivity, task.outputs["sensitivity"])
    write_csv(published_points(tables)[list(PUBLISHED_COLUMNS)], task.outputs["published"])


if __name__ == "__main__":
    run_task(main)
