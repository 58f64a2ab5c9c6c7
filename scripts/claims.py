"""Claims ledger: judge every criterion of the rooms on the stage tables of this run.

Reads the stage tables (Parquet) and the rooms' ``claims.yaml``; writes ``claims.csv`` (one row a claim, those not run
included), ``claims_sensitivity.csv`` (the verdicts at half and at twice each threshold) and the central rows as
``headline.csv`` and ``headline.json``. The verdicts are decided by ``featurespeed.ledger.engine.decide`` alone;
``docs/claims.md`` explains them. Rows that the lint of the ledger finds worthless on this run are named in the log.

Inputs: ``tables`` (list), ``criteria`` (one file or a list), ``record`` (which commit fixed each criterion). Outputs:
``claims``, ``sensitivity``, ``headline``, ``headline_json`` and ``published``, the z-scores of the points read off the
papers' figures. Parameter: ``scale``.
"""

import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd

from featurespeed.ledger.criteria import CriteriaError, load_all
from featurespeed.ledger.engine import MissingTable, StageTables, Undecidable, ledger
from featurespeed.ledger.headline import headline
from featurespeed.ledger.lint import faults
from featurespeed.pipeline.criteria import criteria_names
from featurespeed.pipeline.criteria_history import on_record
from featurespeed.pipeline.registry import ROOMS
from featurespeed.pipeline.stage import Task, run_task
from featurespeed.records import read_table

#: Six digits say more than any interval here is wide, and keep the files the same on every machine.
FLOAT_FORMAT = "%.6g"

#: Columns of ``published_points.csv``: a point, what this run has there, and how far apart the two are.
PUBLISHED_COLUMNS = ("figure", "series", "x", "y", "y_sd", "k", "mean", "se", "n", "z")


def settings_of(tables: StageTables) -> dict[str, dict]:
    """Artefact -> settings of its run, of the tables that are there."""
    return {name: tables[name].attrs.get("provenance", {}).get("spec", {}) for name in tables}


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a ledger with a fixed number format and line ending."""
    frame.to_csv(path, index=False, float_format=FLOAT_FORMAT, lineterminator="\n")


def write_headline(rows: pd.DataFrame, csv: Path, json: Path) -> None:
    """Write the central rows twice, with the same numbers."""
    write_csv(rows, csv)
    kept = pd.read_csv(csv, dtype={"criterion_commit": str, "fragile": str, "statement": str})
    json.write_text(kept.to_json(orient="records", indent=1) + "\n", encoding="utf-8")


def published_points(tables: StageTables) -> pd.DataFrame:
    """This run at the published points of all rooms, with z-scores; no rows of a room where it has other sizes."""
    found = []
    for room in (room for room in ROOMS if room.comparison):
        with suppress(Undecidable, MissingTable):
            found.append(room.function(room.comparison)(tables)[list(PUBLISHED_COLUMNS)])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(PUBLISHED_COLUMNS))


def main(task: Task) -> None:
    """Judge the claims of this run."""
    try:
        criteria = load_all(task.files("criteria"), criteria_names())
    except CriteriaError as error:
        raise SystemExit(str(error)) from None
    tables = StageTables(task.files("tables"), read_table, {criterion.artefact for criterion in criteria})
    scale = task.params["scale"]
    changes = on_record(criteria, scale, settings_of(tables), task.files("record")[0])
    commits = {claim: change.commit for claim, change in changes.items()}
    claims, sensitivity = ledger(criteria, tables, scale, commits)
    for fault in faults(criteria, tables):
        print(f"lint: {fault}", file=sys.stderr)
    write_csv(claims, task.outputs["claims"])
    write_headline(headline(claims), task.outputs["headline"], task.outputs["headline_json"])
    write_csv(sensitivity, task.outputs["sensitivity"])
    write_csv(published_points(tables), task.outputs["published"])


if __name__ == "__main__":
    run_task(main)
