"""Figures 2, 3 and 23: tables hold what was measured, and what is drawn says what failed."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.plotting import GUIDE
from featurespeed.drawing.width_curves import shown
from featurespeed.drawing.width_rows import EDGE as EDGE_SERIES
from featurespeed.ledger.engine import ledger
from tests.papers.cases import criteria_of, drawing_of
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, texts, values
from tests.papers.super_consistency.spectra_cases import all_tables
from tests.sweeps.spectra_cases import EDGE, PLAIN, SKIPS, loss, spectra, spectrum

FIGURES = {name: drawing_of(name) for name in ("sc_fig02", "sc_fig03", "sc_fig23")}

NETWORKS = {"sc_fig02": (PLAIN,), "sc_fig03": (PLAIN,), "sc_fig23": (PLAIN, SKIPS)}


@cache
def stage(name: str) -> pd.DataFrame:
    return all_tables()[name]


@cache
def table(name: str) -> pd.DataFrame:
    """The artefact table of the planted stage table."""
    return FIGURES[name].tabulate(stage(name))


@pytest.mark.parametrize("name", FIGURES)
def test_artefact_is_made_and_its_table_does_not_depend_on_the_order_of_the_records(name, tmp_path):
    assert_made(name, stage(name), tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_two_widths_and_two_seeds_are_drawn(name):
    small = stage(name)[(stage(name)["width"] <= 16) & (stage(name)["seed"] < 2)]
    small = small[small["step"].isin((0, 50, 100))]
    assert draw(name, FIGURES[name].tabulate(small)).axes


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_measured_is_an_error(name):
    losses = stage(name)[stage(name)["quantity"] == "training_loss"]
    for nothing in (losses, losses.iloc[:0]):
        with pytest.raises(ValueError, match="nothing that this artefact draws"):
            FIGURES[name].tabulate(nothing)


def test_curves_are_means_with_the_range_over_seeds_and_the_threshold_is_2_over_the_rate():
    found = table("sc_fig02")
    low, middle, high = (spectrum(PLAIN, 16, 0.8, 0, seed)[2] for seed in range(3))
    for column, expected in {"y": middle, "y_low": low, "y_high": high}.items():
        assert values(found, "eigenvalue 3", "N=16", column) == pytest.approx([expected] * 12)
    assert values(found, "eigenvalue 1", EDGE_SERIES) == [EDGE, EDGE]
    assert values(found, "eigenvalue 1", EDGE_SERIES, "x") == [0, 100]


def test_spread_of_every_eigenvalue_is_tabulated():
    found = table("sc_fig02")
    own = found[found["panel"] == "CV over widths | Hessian"]
    assert set(own["series"]) == {f"eigenvalue {k}" for k in range(1, 11)}
    expected = [spectrum(PLAIN, n, 0.8, 0, 0)[9] for n in (8, 16, 32, 64, 128)]
    cv = np.std(expected, ddof=1) / np.mean(expected)
    assert values(found, "CV over widths | Hessian", "eigenvalue 10") == pytest.approx([cv] * 12)


def test_fewer_eigenvalues_than_ten_are_drawn_as_they_are():
    few = stage("sc_fig02")[stage("sc_fig02")["index"] < 3]
    found = FIGURES["sc_fig02"].tabulate(few)
    assert {"eigenvalue 1", "eigenvalue 2"} < set(found["panel"])
    assert "\\lambda_{2}" in texts(draw("sc_fig02", found))


STEEPNESS = "exponent of eigenvalue 10 minus that of eigenvalue 1, early"
GROWTH = "exponent of the NTK, last minus first step"
FALL, LATE = "exponent of the trace, first minus last tenth", "exponent of the sharpness, second half"


@pytest.mark.parametrize(
    ("name", "series", "claim", "text"),
    [
        ("sc_fig02", STEEPNESS, "sc_fig2_spectrum", "early (shaded): "),
        ("sc_fig02", GROWTH, "sc_fig2_ntk", "last step minus first: "),
        ("sc_fig03", "exponent in time | training loss", "sc_fig3_loss", "$b$ = "),
        ("sc_fig03", "exponent in time | sharpness", "sc_fig3_sharpness", "$b$ = "),
        ("sc_fig23", f"{FALL} | tau = 1", "sc_fig23_trace", "first\nminus last tenth: "),
        ("sc_fig23", f"{FALL} | tau = 0", "sc_fig23_trace_no_skips", "first\nminus last tenth: "),
        ("sc_fig23", f"{LATE} | tau = 1", "sc_fig23_sharpness", "second half:\n"),
        ("sc_fig23", f"{LATE} | tau = 0", "sc_fig23_sharpness_no_skips", "second half:\n"),
    ],
)
def test_figures_print_the_numbers_of_the_claims(name, series, claim, text):
    judged, _ = ledger([c for c in criteria_of("sc_spectra") if c.claim_id == claim], all_tables(), "planted")
    row = table(name)[(table(name)["panel"] == "statistic") & (table(name)["series"] == series)].iloc[0]
    expected = judged[["value", "ci_low", "ci_high"]].iloc[0].tolist()
    assert [row.y, row.y_low, row.y_high] == pytest.approx(expected)
    assert f"{text}{shown(row.y)} [{shown(row.y_low)}, {shown(row.y_high)}]" in texts(draw(name, table(name)))


def test_values_without_a_logarithm_have_no_exponent_to_print():
    negative = stage("sc_fig23").assign(value=lambda t: t["value"].where(t["quantity"] != "hessian_trace", -1.0))
    found = FIGURES["sc_fig23"].tabulate(negative)
    printed = set(found.loc[found["panel"] == "statistic", "series"])
    assert printed == {f"{LATE} | {label}" for label in (PLAIN, SKIPS)}


def test_a_fit_is_drawn_through_the_steps_above_the_noise_floor():
    def apart_from_50_on(label, width, rate, step, seed):
        return 2.0 + (seed - 2) * (width < 128) if step <= 40 else 2.0 + 0.1 * step / width

    found = FIGURES["sc_fig03"].tabulate(spectra(seeds=5, loss=apart_from_50_on))
    assert values(found, "law | training loss", "N=8", "x") == [50, 100]


def test_a_quantity_in_the_noise_has_no_exponent_and_is_named():
    def in_the_noise(label, width, rate, step, seed):
        return 2.0 + (seed - 2) * (width < 128)

    found = FIGURES["sc_fig03"].tabulate(spectra(seeds=5, loss=in_the_noise))
    assert "in the noise: loss" in texts(draw("sc_fig03", found))
    assert "in the noise" not in texts(draw("sc_fig03", table("sc_fig03")))


def test_distances_and_their_fits_are_in_the_table_and_begin_after_the_warm_up():
    found = table("sc_fig03")
    expected = 0.004 * 1.02 * (1 / math.sqrt(8) - 1 / math.sqrt(128))
    distances = values(found, "distance | training loss", "N=8")
    assert distances == pytest.approx([expected * step for step in range(10, 101, 10)], rel=0.02)
    assert values(found, "law | training loss", "N=8", "x") == [20, 100]
    assert values(found, "law | training loss", "N=8") == pytest.approx([20 * expected, 100 * expected], rel=0.05)
    assert values(found, "exponent in time", "training loss") == pytest.approx([1.0] * 4, abs=0.05)
    assert "N=128" not in set(found.loc[found["panel"].str.startswith("distance |"), "series"])


def test_noise_floor_is_tabulated_drawn_and_named():
    found = table("sc_fig03")
    floors = values(found, "noise floor | training loss", "N=8")
    spread = np.std([1.00, 1.01, 1.02, 1.03, 1.04], ddof=1) / math.sqrt(5)
    gaps = [0.004 * step * (1 / math.sqrt(8) - 1 / math.sqrt(128)) for step in range(10, 101, 10)]
    assert floors == pytest.approx([spread * gap for gap in gaps])
    figure = draw("sc_fig03", found)
    dashed = [line for line in figure.axes[1].lines if line.get_color() == GUIDE]
    assert sum(len(line.get_xdata()) > 0 for line in dashed) == 4
    assert any("noise floor" in text for text in legend_texts(figure))


def test_too_few_seeds_for_a_jackknife_print_the_exponent_without_an_interval():
    found = FIGURES["sc_fig03"].tabulate(spectra())
    row = found[(found["panel"] == "statistic") & (found["series"] == "exponent in time | sharpness")].iloc[0]
    assert np.isnan([row.y_low, row.y_high]).all() and "[nan" not in texts(draw("sc_fig03", found))


def test_exponent_in_the_width_is_drawn_over_the_widths_that_gave_it():
    found = table("sc_fig03")
    assert values(found, "distance over the width", "guide training loss", "x") == [8, 32]
    assert "\\propto N^{−0.79}" in texts(draw("sc_fig03", found))


def test_figure_23_looks_at_steps_where_loss_and_curvature_are_both_known():
    found = table("sc_fig23")
    own = found[found["panel"] == f"sharpness | {SKIPS}"]
    assert set(own["series"]) == {"step 0", "step 10", "step 40", "step 70", "step 100", EDGE_SERIES}
    assert not values(found, f"training loss | {SKIPS}", "step 0")
    assert values(found, f"training loss | {SKIPS}", "step 40", "x") == [8, 16, 32, 64]


def dying(label, width, rate, step, seed):
    """One seed of width 16 dies at step 60."""
    return math.nan if (width, seed) == (16, 1) and step >= 60 else loss(label, width, rate, step, seed)


def test_a_network_that_dies_is_flagged_from_its_last_point_on_and_drawn_hollow():
    found = FIGURES["sc_fig02"].tabulate(spectra(loss=dying))
    own = found[(found["panel"] == "eigenvalue 1") & found["series"].str.startswith("N=")]
    assert set(own.loc[own["flag"] == "dead", "series"]) == {"N=16"}
    assert own.loc[own["flag"] == "dead", "x"].tolist() == [50, 60, 70, 80, 90, 100]
    assert values(found, "eigenvalue 1", "N=16", "n") == [3] * 7 + [2] * 5
    hollow = [line for line in draw("sc_fig02", found).axes[0].lines if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in hollow) == 6
    assert not (found["panel"] == "statistic").any()  # what a dead network leaves cannot be compared


def test_a_network_that_diverges_at_once_is_flagged_at_its_only_point():
    def at_once(label, width, rate, step, seed):
        return math.inf if (label, width) == (SKIPS, 8) else loss(label, width, rate, step, seed)

    found = FIGURES["sc_fig23"].tabulate(spectra((PLAIN, SKIPS), loss=at_once))
    own = found[(found["panel"] == f"Hessian trace | {SKIPS}") & (found["x"] == 8)]
    assert own["series"].tolist() == ["step 0"] and own["flag"].tolist() == ["diverged"]
    assert len(draw("sc_fig23", found).axes) == 8


def test_a_network_that_diverges_between_two_steps_of_figure_23_is_flagged_at_the_later_one():
    def late(label, width, rate, step, seed):
        return (
            math.inf if (label, width, seed) == (SKIPS, 8, 1) and step >= 90 else loss(label, width, rate, step, seed)
        )

    found = FIGURES["sc_fig23"].tabulate(spectra((PLAIN, SKIPS), loss=late))
    own = found[(found["panel"] == f"sharpness | {SKIPS}") & (found["x"] == 8) & found["series"].str.startswith("step")]
    assert dict(zip(own["series"], own["n"], strict=True)) == {
        "step 0": 3, "step 10": 3, "step 40": 3, "step 70": 3, "step 100": 2
    }  # fmt: skip
    assert own.loc[own["flag"] != "", ["series", "flag"]].to_numpy().tolist() == [["step 100", "diverged"]]


def test_seeds_of_which_a_network_diverged_are_left_out_and_named():
    def diverging(label, width, rate, step, seed):
        return math.inf if (width, step, seed) == (16, 60, 2) else loss(label, width, rate, step, seed)

    six = {name: spectra(labels, seeds=6, loss=diverging) for name, labels in NETWORKS.items()}
    for name, stage_table in six.items():
        found = FIGURES[name].tabulate(stage_table)
        assert (found["flag"] == "").all()
        curves_of = found["panel"].str.startswith(("eigenvalue", "sharpness")) & (found["estimator"] == "Lanczos")
        assert set(found.loc[curves_of, "n"]) == {5}
        counts = ", ".join(f"$\\tau = {label[-1]}$: 1 of 6" for label in NETWORKS[name])
        assert f"left out: seeds of which a network failed ({counts})" in legend_texts(draw(name, found))
    whole = draw("sc_fig02", table("sc_fig02"))
    assert not any("left out" in text for text in legend_texts(whole))
