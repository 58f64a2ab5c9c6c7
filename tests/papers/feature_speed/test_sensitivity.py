"""Figure 2 of the first paper: sensitivities are medians, guides have the stated powers."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from featurespeed.papers.feature_speed.sensitivity import tables
from featurespeed.statistics import median_interval
from tests.papers.feature_speed.cases import angle_records, assert_made_in_all_formats


def stage_table(artefact: str) -> pd.DataFrame:
    names = ("NTK", "MF+muP", "FSC") if artefact == "fsf_fig2a" else ("beta=1/sqrtL", "beta=1/L")
    quantities = ("feature_sensitivity", "inverse_backward_norm")
    places = [{"series": s, "depth": d, "quantity": q} for s in names for d in (5, 10, 20) for q in quantities]
    table = angle_records(places)
    return table[table.estimator != "theory"]


@pytest.mark.parametrize("artefact", ["fsf_fig2a", "fsf_fig2b"])
def test_artefact_is_made_in_all_formats(artefact, tmp_path):
    assert_made_in_all_formats(artefact, stage_table(artefact), tmp_path)


def test_sensitivities_are_medians_and_guides_have_the_stated_powers():
    records = stage_table("fsf_fig2a")
    table = tables.tabulate_fig2a(records)
    ntk = records.query("series == 'NTK' and depth == 10 and estimator == 'sampler'")
    sample = ntk[ntk["quantity"] == "feature_sensitivity"]
    line = table.query("panel == 'feature_sensitivity' and series == 'NTK' and estimator == 'sampler'")
    row = line.set_index("x").loc[10]
    expected = median_interval(sample["value"])
    assert (row.y, row.y_low, row.y_high) == pytest.approx((expected.value, expected.low, expected.high))
    guides = table[table.series.str.startswith("guide")]
    for (panel, series), line in guides.groupby(["panel", "series"]):
        line = line.sort_values("x")
        power = math.log(line.y.iloc[1] / line.y.iloc[0]) / math.log(line.x.iloc[1] / line.x.iloc[0])
        scaling = series.split()[1]
        assert power == pytest.approx(tables.FIG2A_GUIDES[panel][scaling])
    assert len(guides) == 12
