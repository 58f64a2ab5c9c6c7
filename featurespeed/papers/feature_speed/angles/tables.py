"""Artefact tables of Figure 1 of arXiv:2311.18718."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurespeed.drawing.tabulate import (
    artefact_table,
    draws,
    percentiles,
    published,
    select,
    summaries,
    theory,
)
from featurespeed.papers.feature_speed.angles.published import read_published
from featurespeed.papers.feature_speed.shared import DENSE
from featurespeed.statistics import mean_interval


def _angles(records: pd.DataFrame, x: str) -> pd.DataFrame:
    """Figure 1: single draws, the mean of many seeds, the band of their draws, and the theory."""
    bfa = records[records["quantity"] == "bfa"]
    sampler = select(bfa, "sampler")
    return artefact_table(
        draws(select(bfa, DENSE), x, "draws"),
        summaries(sampler, x, "draws", percentiles),
        summaries(sampler, x, "mean", mean_interval),
        theory(select(bfa, "theory"), x, "mean"),
    )


def tabulate_fig1a(records: pd.DataFrame, points: Path) -> pd.DataFrame:
    """Backward-feature angle against the layer v (x), with the points read off Figure 1a."""
    return artefact_table(_angles(records, "layer"), published(read_published(points), "1a", "mean"))


def tabulate_fig1b(records: pd.DataFrame, points: Path) -> pd.DataFrame:
    """Output angle theta_{L-1} against the depth L (x), with the points read off Figure 1b."""
    return artefact_table(_angles(records, "depth"), published(read_published(points), "1b", "mean"))


def tabulate_fig1c(records: pd.DataFrame) -> pd.DataFrame:
    """Output angle against c = sqrt(L) beta (x); the paper shows the mean of its draws, so that is here too."""
    jvp = select(records, "jvp", quantity="bfa")
    repeated = jvp.groupby(["series", "c"])["seed"].transform("nunique") > 1
    return artefact_table(_angles(records, "c"), summaries(jvp[repeated], "c", "mean", mean_interval))
