"""How many seeds each central claim needs, from the kept ledgers: the table in ``docs/claims.md``."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from featurespeed.ledger import power
from featurespeed.ledger.criteria import Criterion, Kind
from featurespeed.ledger.engine import Verdict
from featurespeed.pipeline.coverage import SHOWN
from featurespeed.pipeline.criteria import all_criteria

HEADER = (
    "| central claim | threshold | scale | n | spread of the seeds | holds at | confirmed | fails at | contradicted"
    " | seeds needed |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
)
SHARE = "Clopper-Pearson"  # in the statistic of a share of the seeds


def power_table(base: Path) -> str:
    """A row for each central claim and scale whose kept ledger has an interval for it, else one without a spread."""
    central = [criterion for criterion in all_criteria() if criterion.kind is Kind.CENTRAL]
    rows = [row for criterion in central for row in [*_rows(criterion, base)] or [_without_spread(criterion)]]
    return "\n" + HEADER + "".join(rows) + "\n"


def _without_spread(criterion: Criterion) -> str:
    """What can be said of a criterion whose seeds' spread is not known: an identity needs none, a share only counts."""
    threshold, needed = criterion.threshold, "—"
    if criterion.identity:
        needed = "an identity"
    elif threshold and SHARE in criterion.statistic:
        needed = power.seeds_needed(lambda value, n: power.rates_of_share(threshold, value, n), threshold) or "over 200"
    return f"| `{criterion.claim_id}` | {threshold or 'not run'} |" + " — |" * 7 + f" {needed} |\n"


def _rows(criterion: Criterion, base: Path) -> Iterator[str]:
    if criterion.identity:
        return
    for scale in SHOWN:
        path = base / f"results/reference/{scale}/claims.csv"
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", newline="") as file:
            found = [row for row in csv.DictReader(file) if row["claim_id"] == criterion.claim_id and row["ci_low"]]
        if found and found[0]["threshold"] == str(criterion.threshold) and _is_finite(found[0]):
            yield _row(criterion, scale, found[0])


def _is_finite(row: Mapping[str, str]) -> bool:
    """Whether an interval has two ends: of one that is open nobody can say how far seeds are apart."""
    return math.isfinite(float(row["ci_low"])) and math.isfinite(float(row["ci_high"]))


def _row(criterion: Criterion, scale: str, row: Mapping[str, str]) -> str:
    threshold, seeds = criterion.threshold, int(row["n"])
    true = power.sides(threshold)
    spread = power.spread_of(float(row["ci_low"]), float(row["ci_high"]), seeds)
    is_share = SHARE in criterion.statistic

    def rates(value: float, n: int) -> power.Rates:
        return (
            power.rates_of_share(threshold, value, n) if is_share else power.rates_of_mean(threshold, value, spread, n)
        )

    holds, fails = rates(true.holds, seeds)[Verdict.CONFIRMED], rates(true.fails, seeds)[Verdict.CONTRADICTED]
    needed = power.seeds_needed(rates, threshold)
    shown = "of counts" if is_share else f"{spread:.2g}"
    cells = [
        f"`{criterion.claim_id}`", str(threshold), scale, seeds, shown, f"{true.holds:.3g}", f"{holds:.0%}",
        f"{true.fails:.3g}", f"{fails:.0%}", needed or "over 200",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"
