"""Figure 1 of the first paper: what is tabulated is right, complete, and exactly what is drawn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import published, read_csv, write_csv
from featurespeed.papers.feature_speed.angles import drawing, tables
from featurespeed.papers.feature_speed.angles.published import POINTS, read_published
from featurespeed.statistics import mean_interval
from tests.papers.cases import STYLE
from tests.papers.feature_speed.cases import angle_records, assert_made_in_all_formats

SERIES = ("beta=1/L", "beta=1/sqrtL", "beta=1")


def stage_table(artefact: str) -> pd.DataFrame:
    if artefact == "fsf_fig1a":
        return angle_records([{"series": s, "layer": v} for s in SERIES for v in (2, 4, 7)])
    if artefact == "fsf_fig1b":
        return angle_records([{"series": s, "depth": d, "layer": d - 1} for s in SERIES for d in (10, 20)])
    grid = itertools.product((10, 30), (0.01, 0.1, 1.0))
    places = [{"series": f"L={d}", "depth": d, "layer": d - 1, "branch_scale": b, "c": b * d**0.5} for d, b in grid]
    return angle_records(places)


@pytest.mark.parametrize("artefact", ["fsf_fig1a", "fsf_fig1b", "fsf_fig1c"])
def test_artefact_is_made_in_all_formats(artefact, tmp_path):
    assert_made_in_all_formats(artefact, stage_table(artefact), tmp_path)


def test_csv_round_trip_keeps_the_table(tmp_path):
    table = tables.tabulate_fig1a(stage_table("fsf_fig1a"), POINTS)
    write_csv(table, tmp_path / "t.csv")
    again = read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False, rtol=1e-5)
    assert set(again["flag"]) == {""}


def test_angles_summarise_the_sampler_and_keep_every_draw():
    records = stage_table("fsf_fig1a")
    table = tables.tabulate_fig1a(records, POINTS)
    sample = records.query("series == 'beta=1/sqrtL' and layer == 4 and estimator == 'sampler'")["value"]
    row = table.query("panel == 'mean' and estimator == 'sampler' and series == 'beta=1/sqrtL' and x == 4").iloc[0]
    expected = mean_interval(sample)
    assert (row.y, row.y_low, row.y_high, row.n) == pytest.approx((expected.value, expected.low, expected.high, 8))
    band = table.query("panel == 'draws' and estimator == 'sampler' and series == 'beta=1/sqrtL' and x == 4").iloc[0]
    assert (band.y_low, band.y, band.y_high) == pytest.approx(tuple(np.percentile(sample, [2.5, 50, 97.5])))
    for estimator in ("jvp", "finite step"):
        dots = table[table.estimator == estimator]
        assert len(dots) == (records.estimator == estimator).sum()
        assert set(dots["order"]) == {0, 1} and set(dots["panel"]) == {"draws"} and dots["y_low"].isna().all()


def test_published_points_carry_their_reading_error():
    table = tables.tabulate_fig1b(stage_table("fsf_fig1b"), POINTS)
    own = table[table.estimator == "published"]
    assert len(own) == 15 and set(own["x"]) == {75.0, 125.0, 175.0} and set(own["n"]) == {51}
    row = own.query("series == 'beta=1' and x == 75").iloc[0]
    half_width = 1.96 * math.sqrt(0.0502**2 / 51 + 0.0026**2)
    assert (row.y, row.y_low, row.y_high) == pytest.approx((1.4196, 1.4196 - half_width, 1.4196 + half_width))
    assert len(published(read_published(), "1a", "mean")) == 25


def test_fig1c_has_the_mean_of_the_draws_against_c():
    table = tables.tabulate_fig1c(stage_table("fsf_fig1c"))
    means = table.query("panel == 'mean' and estimator == 'jvp'")
    assert set(means["n"]) == {2}
    assert sorted(means.query("series == 'L=30'")["x"]) == pytest.approx([0.01 * 30**0.5, 0.1 * 30**0.5, 30**0.5])
    assert "published" not in set(table["estimator"])


def test_the_drawn_numbers_are_those_of_the_table():
    table = tables.tabulate_fig1a(stage_table("fsf_fig1a"), POINTS)
    figure = new_figure(STYLE, 7, 4)
    drawing.draw_fig1a(table, figure)
    drawn = set()
    for line in figure.axes[0].lines:
        drawn |= {(float(x), round(float(y), 9)) for x, y in zip(*line.get_data(), strict=True) if np.isfinite(y)}
    # Of the band of single draws only its edges are drawn, not its median.
    shown = table[~((table.panel == "draws") & (table.estimator == "sampler"))]
    assert {(x, round(y, 9)) for x, y in zip(shown.x, shown.y, strict=True)} <= drawn


def test_every_kind_of_evidence_present_is_named_in_the_legend():
    figure = new_figure(STYLE, 7, 4)
    drawing.draw_fig1a(tables.tabulate_fig1a(stage_table("fsf_fig1a"), POINTS), figure)
    texts = " ".join(text.get_text() for legend in figure.legends for text in legend.get_texts())
    for words in (
        "exact tangent",
        "finite step",
        "mean of 8 exact samples",
        "infinite width (ours)",
        "the paper's figure",
    ):
        assert words in texts
