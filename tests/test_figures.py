"""Artefact tables and figures: what is tabulated is right, complete, and exactly what is drawn."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import load_script
from PIL import Image

from featurespeed.config import ARTEFACTS
from featurespeed.figures import fsf_draw, fsf_tables, making
from featurespeed.plotting import draw_dots, new_figure, ordered_colors
from featurespeed.published import read_published
from featurespeed.records import frame
from featurespeed.scalings import FSF_EXPONENTS
from featurespeed.statistics import mean_interval, median_interval
from featurespeed.tabulate import (
    ARTEFACT_COLUMNS,
    artefact_table,
    draws,
    median,
    percentiles,
    published,
    read_csv,
    summaries,
    write_csv,
)

ROOT = Path(__file__).resolve().parents[1]
SERIES = ("beta=1/L", "beta=1/sqrtL", "beta=1")
DRAWN = [name for name, known in ARTEFACTS.items() if known.drawn and known.group == "fsf"]
PROPERTIES = ("forward_rms", "feature_speed_rms", "loss_decay", "contribution_ratio")


@pytest.fixture(scope="module")
def script():
    return load_script("figures_fsf")


@pytest.fixture(scope="module")
def points():
    return read_published()


# --- small stage tables -----------------------------------------------------------------------------------------------


def record(**changes) -> dict:
    base = {
        "series": "beta=1", "branch_scale": 1.0, "width": 16, "depth": 8, "input_dim": 4, "output_dim": 1, "layer": 7,
        "seed": 0, "estimator": "jvp", "quantity": "bfa", "value": 0.5,
    }  # fmt: skip
    return base | changes


def angle_records(places: list[dict], seeds: int = 8) -> pd.DataFrame:
    """Random angles of every estimator at every place (keys of the stage table)."""
    generator = np.random.default_rng(3)
    counts = {"jvp": 2, "finite step": 2, "sampler": seeds, "theory": 1}
    rows = []
    for place, (estimator, count) in itertools.product(places, counts.items()):
        values = generator.uniform(0.2, 1.4, size=count)
        rows += [record(**place, estimator=estimator, seed=seed, value=v) for seed, v in enumerate(values)]
    return frame(rows)


def stage_table(artefact: str) -> pd.DataFrame:
    if artefact == "fsf_fig1a":
        return angle_records([{"series": s, "layer": v} for s in SERIES for v in (2, 4, 7)])
    if artefact == "fsf_fig1b":
        return angle_records([{"series": s, "depth": d, "layer": d - 1} for s in SERIES for d in (10, 20)])
    if artefact == "fsf_fig1c":
        grid = itertools.product((10, 30), (0.01, 0.1, 1.0))
        places = [{"series": f"L={d}", "depth": d, "layer": d - 1, "branch_scale": b, "c": b * d**0.5} for d, b in grid]
        return angle_records(places)
    if artefact in ("fsf_fig2a", "fsf_fig2b"):
        names = ("NTK", "MF+muP", "FSC") if artefact == "fsf_fig2a" else ("beta=1/sqrtL", "beta=1/L")
        quantities = ("feature_sensitivity", "inverse_backward_norm")
        places = [{"series": s, "depth": d, "quantity": q} for s in names for d in (5, 10, 20) for q in quantities]
        table = angle_records(places)
        return table[table.estimator != "theory"]
    if artefact in ("fsf_table1", "fsf_table2"):
        return scaling_records(("NTK", "FSC") if artefact == "fsf_table1" else ("ResNet FSC",))
    return theory_records()


def scaling_records(scalings: tuple[str, ...], seeds: int = 4) -> pd.DataFrame:
    """Exact power laws with the stated exponents, times a factor of each seed."""
    reference = {"width": 64, "depth": 16, "input_dim": 16, "output_dim": 4}
    sizes = [reference] + [reference | {key: 4 * value} for key, value in reference.items()]
    columns = {"m": "width", "L": "depth", "d": "input_dim", "k": "output_dim"}
    rows = []
    for scaling in scalings:
        laws = dict(FSF_EXPONENTS[scaling]) | {name: dict.fromkeys(columns, 0.0) for name in PROPERTIES}
        for (quantity, law), size, seed in itertools.product(laws.items(), sizes, range(seeds)):
            value = (1 + seed) * math.prod(size[columns[key]] ** power for key, power in law.items())
            rows.append(record(series="", scaling=scaling, seed=seed, quantity=quantity, value=value, **size))
    return frame(rows)


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


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_drawn_artefact_of_the_paper_has_a_drawing(script):
    assert set(script.FIGURES) == set(DRAWN)


@pytest.mark.parametrize("artefact", DRAWN)
def test_artefact_is_made_in_all_formats(script, points, artefact, tmp_path):
    drawing, records = script.FIGURES[artefact], stage_table(artefact)
    paths = {kind: tmp_path / f"a.{kind}" for kind in ("pdf", "svg", "png")}
    making.make(drawing, (records, points), tmp_path / "a.csv", paths, script.STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert paths["pdf"].read_bytes().startswith(b"%PDF") and b"CreationDate" not in paths["pdf"].read_bytes()
    assert b"<svg" in paths["svg"].read_bytes() and b"<dc:date>" not in paths["svg"].read_bytes()
    assert Image.open(paths["png"]).size == tuple(round(200 * inches) for inches in drawing.size)
    # The order of the records is nobody's business.
    write_csv(drawing.tabulate(records.sample(frac=1, random_state=1), points), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_figure_drawn_twice_is_the_same_file(script, points, tmp_path):
    for run in ("a", "b"):
        paths = {kind: tmp_path / f"{run}.{kind}" for kind in ("pdf", "svg", "png")}
        sources = stage_table("fsf_table2"), points
        making.make(script.FIGURES["fsf_table2"], sources, tmp_path / f"{run}.csv", paths, script.STYLE)
    for kind in ("csv", "pdf", "svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_csv_round_trip_keeps_the_table(tmp_path, points):
    table = fsf_tables.tabulate_fig1a(stage_table("fsf_fig1a"), points)
    write_csv(table, tmp_path / "t.csv")
    again = read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False, rtol=1e-5)
    assert set(again["flag"]) == {""}


def test_angles_summarise_the_sampler_and_keep_every_draw(points):
    records = stage_table("fsf_fig1a")
    table = fsf_tables.tabulate_fig1a(records, points)
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


def test_draws_are_counted_at_each_x_even_if_seeds_differ_there():
    records = frame([record(depth=depth, seed=100 + depth) for depth in (10, 11, 12)])
    assert set(draws(records, "depth", "draws")["order"]) == {0}


def test_published_points_carry_their_reading_error(points):
    table = fsf_tables.tabulate_fig1b(stage_table("fsf_fig1b"), points)
    own = table[table.estimator == "published"]
    assert len(own) == 15 and set(own["x"]) == {75.0, 125.0, 175.0} and set(own["n"]) == {51}
    row = own.query("series == 'beta=1' and x == 75").iloc[0]
    half_width = 1.96 * math.sqrt(0.0502**2 / 51 + 0.0026**2)
    assert (row.y, row.y_low, row.y_high) == pytest.approx((1.4196, 1.4196 - half_width, 1.4196 + half_width))
    assert len(published(points, "1a", "mean")) == 25


def test_fig1c_has_the_mean_of_the_draws_against_c(points):
    table = fsf_tables.tabulate_fig1c(stage_table("fsf_fig1c"), points)
    means = table.query("panel == 'mean' and estimator == 'jvp'")
    assert set(means["n"]) == {2}
    assert sorted(means.query("series == 'L=30'")["x"]) == pytest.approx([0.01 * 30**0.5, 0.1 * 30**0.5, 30**0.5])
    assert "published" not in set(table["estimator"])


def test_sensitivities_are_medians_and_guides_have_the_stated_powers(points):
    records = stage_table("fsf_fig2a")
    table = fsf_tables.tabulate_fig2a(records, points)
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
        assert power == pytest.approx(fsf_tables.FIG2A_GUIDES[panel][scaling])
    assert len(guides) == 12


def test_table_exponents_are_recovered_and_set_beside_the_stated_ones(points):
    table = fsf_tables.tabulate_table1(stage_table("fsf_table1"), points)
    assert set(table["panel"]) == {f"{s} | exponent of {v}" for s in ("NTK", "FSC") for v in ("m", "L", "d", "k")}
    np.testing.assert_allclose(table["y"], table["x"], atol=1e-9)
    row = table.query("panel == 'FSC | exponent of L' and series == 'learning_rate_hidden'").iloc[0]
    assert row.x == -2.0 and row.n == 4
    assert set(table.loc[table.series.isin(PROPERTIES), "x"]) == {0.0}


def test_finite_widths_are_relative_to_the_infinite_one(points):
    table = fsf_tables.tabulate_theory(theory_records(), points)
    level = table.query("panel == 'finite width' and estimator == 'theory'")
    assert sorted(level["x"]) == [50.0, 200.0] and set(level["y"]) == {0.0}
    excess = table.query("panel == 'finite width' and estimator == 'sampler' and x == 50").iloc[0]
    assert excess.y == pytest.approx((0.5 + 2 / 50) / 0.5 - 1)  # the mean of the three seeds
    guides = table[table.series.str.startswith("guide")].sort_values("x")
    ends = {series: line["y"].iloc[1] / line["y"].iloc[0] for series, line in guides.groupby("series")}
    assert ends == pytest.approx({"guide ∝ 1/c": 0.3, "guide ∝ 1/√c": 0.3**0.5})


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


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_flagged_points_are_drawn_hollow(script):
    ax = new_figure(script.STYLE, 3, 2).add_subplot()
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0], "flag": ["", "dead", ""]})
    draw_dots(ax, table, "#123456")
    full, hollow = ax.lines
    assert list(full.get_xdata()) == [1.0, 3.0]
    assert list(hollow.get_xdata()) == [2.0] and hollow.get_markerfacecolor() == "white"


def test_the_drawn_numbers_are_those_of_the_table(script, points):
    table = fsf_tables.tabulate_fig1a(stage_table("fsf_fig1a"), points)
    figure = new_figure(script.STYLE, 7, 4)
    fsf_draw.draw_fig1a(table, figure)
    drawn = set()
    for line in figure.axes[0].lines:
        drawn |= {(float(x), round(float(y), 9)) for x, y in zip(*line.get_data(), strict=True) if np.isfinite(y)}
    # Of the band of single draws only its edges are drawn, not its median.
    shown = table[~((table.panel == "draws") & (table.estimator == "sampler"))]
    assert {(x, round(y, 9)) for x, y in zip(shown.x, shown.y, strict=True)} <= drawn


def test_every_kind_of_evidence_present_is_named_in_the_legend(script, points):
    figure = new_figure(script.STYLE, 7, 4)
    fsf_draw.draw_fig1a(fsf_tables.tabulate_fig1a(stage_table("fsf_fig1a"), points), figure)
    texts = " ".join(text.get_text() for legend in figure.legends for text in legend.get_texts())
    for words in (
        "exact tangent",
        "finite step",
        "mean of 8 exact samples",
        "infinite width (ours)",
        "the paper's figure",
    ):
        assert words in texts


def test_ordered_colours_get_lighter_step_by_step():
    colours = ordered_colors(list("abcde")).values()
    luminance = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in colours]
    assert all(earlier < later for earlier, later in itertools.pairwise(luminance))


def test_figures_claims_and_page_do_not_import_torch():
    modules = ("figures.fsf_draw", "figures.fsf_tables", "page", "claims.engine")
    code = f"import sys, {', '.join(f'featurespeed.{name}' for name in modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
