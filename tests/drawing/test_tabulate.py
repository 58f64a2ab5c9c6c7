"""Pieces of artefact tables: draws, summaries, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table, draws, median, percentiles, summaries
from featurespeed.records import frame


def record(**changes) -> dict:
    base = {
        "series": "one", "branch_scale": 1.0, "width": 16, "depth": 8, "input_dim": 4, "output_dim": 1, "layer": 7,
        "seed": 0, "estimator": "jvp", "quantity": "bfa", "value": 0.5,
    }  # fmt: skip
    return base | changes


def test_draws_are_counted_at_each_x_even_if_seeds_differ_there():
    records = frame([record(depth=depth, seed=100 + depth) for depth in (10, 11, 12)])
    assert set(draws(records, "depth", "draws")["order"]) == {0}


def test_too_few_values_for_an_interval_are_flagged_not_dropped():
    records = frame([record(seed=seed, estimator="sampler", value=1.0 + seed) for seed in range(3)])
    row = summaries(records, "depth", "p", median).iloc[0]
    assert (row.y, row.n, row.flag) == (2.0, 3, "unconverged") and math.isnan(row.y_low)
    assert percentiles(np.arange(41.0)).low == 1.0


def test_an_empty_or_misflagged_table_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        artefact_table(pd.DataFrame(columns=list(ARTEFACT_COLUMNS)))
    row = dict.fromkeys(ARTEFACT_COLUMNS, 0) | {"flag": "odd"}
    with pytest.raises(ValueError, match="odd"):
        artefact_table(pd.DataFrame([row]))
