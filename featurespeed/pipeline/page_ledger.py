"""The ledger as a page shows it: which criterion was there before its run, and the headline at every scale."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from featurespeed.ledger.criteria import Kind
from featurespeed.ledger.engine import CLAIM_COLUMNS
from featurespeed.ledger.headline import place_of
from featurespeed.papers.entries import Paper
from featurespeed.pipeline.criteria_history import Change, Key, read_record

#: Columns of ``runs.csv`` beside a kept ledger: when each artefact was run, and with which commit of the sources.
RUNS_COLUMNS = ("artefact", "started", "commit")


@dataclass(frozen=True)
class Run:
    """When an artefact was run, or the first of the jobs that it gathers, and the commit of the sources."""

    started: str
    commit: str = ""


def read_claims(path: Path) -> list[dict[str, Any]]:
    """Rows of a ledger as text and, where they are numbers, as floats; empty cells are empty text.

    A ledger that an older version has kept lacks columns: they are empty.
    """
    numbers = {"value", "ci_low", "ci_high"}
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    lacking = [column for column in CLAIM_COLUMNS if column not in frame and "verdict" in frame]
    rows = frame.assign(**dict.fromkeys(lacking, "")).to_dict(orient="records")
    return [{key: float(cell) if key in numbers and cell else cell for key, cell in row.items()} for row in rows]


def runs_of(
    sidecars: Mapping[str, Mapping[str, Any]], jobs: Mapping[str, Sequence[str]], names: Sequence[str]
) -> dict[str, Run]:
    """Artefact -> its run, from the sidecars of the artefacts and of the jobs that they gather."""
    found = {}
    for name in names:
        own = [sidecars[job] for job in (name, *jobs.get(name, ())) if _time(sidecars.get(job, {}).get("started"))]
        if own:
            first = min(own, key=lambda facts: _time(facts["started"]))
            found[name] = Run(str(first["started"]), str(first.get("commit", "")))
    return found


def read_runs(path: Path) -> dict[str, Run]:
    """The runs of a kept ledger; nothing where they are not recorded."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("artefact")]
    return {row["artefact"]: Run(row.get("started") or "", row.get("commit") or "") for row in rows}


def with_history(
    claims: Sequence[Mapping[str, Any]], scale: str, runs: Mapping[str, Run], record: Mapping[Key, Change]
) -> list[dict[str, Any]]:
    """Each claim with ``fixed``: whether its criterion was committed before its run (yes, no, or "" if not known).

    ``fixed_text`` says the same with the commit and both times.
    """
    return [dict(claim) | _history(claim, scale, runs, record) for claim in claims]


def _history(
    claim: Mapping[str, Any], scale: str, runs: Mapping[str, Run], record: Mapping[Key, Change]
) -> dict[str, str]:
    change, run = record.get((claim["claim_id"], scale)), runs.get(claim["artefact"])
    if claim["verdict"] == "not run":
        return {"fixed": "", "fixed_text": ""}
    if change is None or not change.commit or change.commit != claim["criterion_commit"]:
        return {"fixed": "", "fixed_text": "criterion or settings are not on record as they were run"}
    text = f"criterion of {_day(change.committed)} (commit {change.commit})"
    fixed_at, run_at = _time(change.committed), _time(run.started) if run else None
    if fixed_at is None or run_at is None:
        return {"fixed": "", "fixed_text": f"{text}; when this was run is not recorded"}
    before = fixed_at <= run_at
    return {
        "fixed": "yes" if before else "no",
        "fixed_text": f"{text}, {'before' if before else 'after'} the run of {_day(run.started)}",
    }


def _time(text: object) -> datetime | None:
    """A time with its zone, UTC where it has none; None for what is no time."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _day(text: str) -> str:
    return text[:16].replace("T", " ")


@dataclass(frozen=True)
class Ledger:
    """A ledger of one scale with its history: that of this run, or a kept one."""

    scale: str
    claims: Sequence[Mapping[str, Any]]


def kept_ledgers(paths: Sequence[Path], scale: str, record: Path | None) -> list[Ledger]:
    """The kept ledgers of other scales than that of the run, by the folders in which they lie."""
    changes = read_record(record) if record else {}
    found = []
    for path in paths:
        own = path.parent.name
        if own != scale:
            found.append(
                Ledger(own, with_history(read_claims(path), own, read_runs(path.with_name("runs.csv")), changes))
            )
    return found


def headlines(papers: Sequence[Paper], ledgers: Sequence[Ledger]) -> list[dict[str, Any]]:
    """The central claims of each paper, with a cell for every scale, the smallest first; scales that judged none go."""
    ordered = sorted(ledgers, key=lambda own: place_of(own.scale))
    found = []
    for paper in papers:
        central: dict[str, dict[str, Any]] = {}
        for ledger in ordered:
            for claim in ledger.claims:
                if claim["kind"] == str(Kind.CENTRAL) and claim["paper"].startswith(f"arXiv:{paper.arxiv}"):
                    entry = central.setdefault(claim["claim_id"], {"cells": {}})
                    entry |= {key: claim[key] for key in ("claim_id", "statement", "statistic", "threshold")}
                    entry["cells"][ledger.scale] = claim
        scales = [own.scale for own in ordered if any(own.scale in _judged(entry) for entry in central.values())]
        if central:
            found.append({"paper": paper, "claims": list(central.values()), "scales": scales})
    return found


def _judged(entry: Mapping[str, Any]) -> set[str]:
    return {scale for scale, claim in entry["cells"].items() if claim["verdict"] != "not run"}
