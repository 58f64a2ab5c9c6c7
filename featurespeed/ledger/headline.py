"""What a ledger says in short: the central claims of each paper, counts by kind, and where scales disagree."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from featurespeed.ledger.criteria import Kind
from featurespeed.ledger.engine import Verdict

#: Columns of ``headline.csv`` and keys of ``headline.json``, a public interface.
HEADLINE_COLUMNS = (
    "paper", "claim_id", "statement", "scale", "verdict", "value", "ci_low", "ci_high", "threshold", "n", "fragile",
    "criterion_commit",
)  # fmt: skip
#: From the smallest runs to the largest: the larger scale speaks for the paper.
SCALES_BY_SIZE = ("smoke", "laptop", "gpu", "paper")
DECIDED = (str(Verdict.CONFIRMED), str(Verdict.CONTRADICTED))


def headline(claims: pd.DataFrame) -> pd.DataFrame:
    """The central rows of a ledger (``claims.csv``), of each paper in turn; ``paper`` is its arXiv number alone."""
    central = claims[claims["kind"] == str(Kind.CENTRAL)]
    papers = central["paper"].str.partition(",")[0]
    return central.assign(paper=papers)[list(HEADLINE_COLUMNS)].reset_index(drop=True)


def tally(claims: pd.DataFrame) -> pd.DataFrame:
    """Number of claims by paper and kind (rows) and verdict (columns), all kinds and verdicts in their order."""
    papers = claims["paper"].str.partition(",")[0]
    counts = claims.groupby([papers, "kind", "verdict"]).size().unstack("verdict", fill_value=0)
    rows = pd.MultiIndex.from_product([papers.unique(), [str(kind) for kind in Kind]], names=["paper", "kind"])
    counts = counts.reindex(rows, columns=[str(verdict) for verdict in Verdict], fill_value=0)
    return counts[counts.sum(axis=1) > 0]


def disagreements(verdicts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Claims that one scale confirms and another one contradicts, from scale -> claim -> verdict."""
    names = dict.fromkeys(claim for own in verdicts.values() for claim in own)
    return [claim for claim in names if set(DECIDED) <= {own.get(claim) for own in verdicts.values()}]


def place_of(scale: str) -> int:
    """Place of a scale by size; one that is not known comes first, because it must not speak for a paper."""
    return SCALES_BY_SIZE.index(scale) if scale in SCALES_BY_SIZE else -1
