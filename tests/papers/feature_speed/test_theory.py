"""The figure of the first paper's theory: closed forms beside sampled angles."""

from __future__ import annotations

import itertools
import math

import pandas as pd
import pytest

from featurespeed.papers.feature_speed.theory import tables
from featurespeed.records import frame
from tests.papers.feature_speed.cases import assert_made_in_all_formats, record


def theory_records() -> pd.DataFrame:
    rows = []
    for c, series in itertools.product((0.1, 1.0, 10.0), ("ReLU", "linear")):
        place = {"case": "phi", "series": series, "c": c}
        rows.append(record(**place, estimator="theory", value=math.atan(c), depth=0, width=0))
        rows += [record(**place, estimator="sampler", seed=s, value=math.atan(c) + 0.01 * s) for s in range(3)]
    cosine = {"quantity": "cos_bfa"}
    rows.append(record(case="finite width", estimator="theory", value=0.5, width=0, **cosine))
    for m, seed in itertools.product((50, 100, 200), range(3)):
        rows.append(
            record(case="finite width", estimator="sampler", width=m, seed=seed, value=0.5 + (1 + seed) / m, **cosine)
        )
    for c in (3.0, 10.0):
        place = {"case": "tail", "series": "ReLU", "c": c} | cosine
        rows.append(record(**place, estimator="theory", value=1 / c, depth=0, width=0))
        rows += [record(**place, estimator="sampler", seed=s, value=(1 + 0.1 * s) / c) for s in range(3)]
    return frame(rows)


@pytest.mark.parametrize("artefact", ["fsf_theory"])
def test_artefact_is_made_in_all_formats(artefact, tmp_path):
    assert_made_in_all_formats(artefact, theory_records(), tmp_path)


def test_finite_widths_are_relative_to_the_infinite_one():
    table = tables.tabulate_theory(theory_records())
    level = table.query("panel == 'finite width' and estimator == 'theory'")
    assert sorted(level["x"]) == [50.0, 200.0] and set(level["y"]) == {0.0}
    excess = table.query("panel == 'finite width' and estimator == 'sampler' and x == 50").iloc[0]
    assert excess.y == pytest.approx((0.5 + 2 / 50) / 0.5 - 1)  # the mean of the three seeds
    guides = table[table.series.str.startswith("guide")].sort_values("x")
    ends = {series: line["y"].iloc[1] / line["y"].iloc[0] for series, line in guides.groupby("series")}
    assert ends == pytest.approx({"guide ∝ 1/c": 0.3, "guide ∝ 1/√c": 0.3**0.5})
