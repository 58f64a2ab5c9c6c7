"""Figures of spectra and curves over the width: tables hold what was measured, and what is drawn says what failed."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from PIL import Image
from spectra_cases import EDGE, PLAIN, SKIPS, all_tables, directional, full_batch, loss, residuals, spectra, spectrum

from featurespeed.figures import sc_edge_draw, sc_edge_tables, sc_spectra_draw, sc_spectra_tables
from featurespeed.figures.making import Drawing, make
from featurespeed.figures.width_curves import network_label, shown
from featurespeed.figures.width_rows import EDGE as EDGE_SERIES
from featurespeed.plotting import new_figure
from featurespeed.tabulate import ARTEFACT_COLUMNS, write_csv

STYLE = REPOSITORY / "scripts" / "figures.mplstyle"
FIGURES = {
    "sc_fig02": Drawing(sc_spectra_tables.tabulate_fig02, sc_spectra_draw.draw_fig02, (11.4, 6.0)),
    "sc_fig03": Drawing(sc_spectra_tables.tabulate_fig03, sc_spectra_draw.draw_fig03, (12.0, 6.0)),
    "sc_fig23": Drawing(sc_spectra_tables.tabulate_fig23, sc_spectra_draw.draw_fig23, (11.6, 5.6)),
    "sc_fig09": Drawing(sc_edge_tables.tabulate_fig09, sc_edge_draw.draw_fig09, (10.6, 3.6)),
    "sc_fig11": Drawing(sc_edge_tables.tabulate_fig11, sc_edge_draw.draw_fig11, (11.0, 3.9)),
    "sc_fig27": Drawing(sc_edge_tables.tabulate_fig27, sc_edge_draw.draw_fig27, (11.4, 3.8)),
}


@cache
def stage(name: str) -> pd.DataFrame:
    return all_tables()[name]


@cache
def table(name: str) -> pd.DataFrame:
    """The artefact table of the planted stage table."""
    return FIGURES[name].tabulate(stage(name))


def draw(name: str, artefact: pd.DataFrame):
    figure = new_figure(STYLE, *FIGURES[name].size)
    FIGURES[name].draw(artefact, figure)
    return figure


def texts(figure) -> str:
    """All that is written in the panels."""
    return "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)


def values(artefact: pd.DataFrame, panel: str, series: str, column: str = "y") -> list[float]:
    own = artefact[(artefact["panel"] == panel) & (artefact["series"] == series)]
    return own.sort_values("x")[column].tolist()


@pytest.mark.parametrize("name", FIGURES)
def test_artefact_is_made_and_its_table_does_not_depend_on_the_order_of_the_records(name, tmp_path):
    drawing = FIGURES[name]
    make(drawing, (stage(name),), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == tuple(round(200 * side) for side in drawing.size)
    labels = stage(name)["series"].unique()  # their order is that of the settings
    shuffled = [stage(name)[stage(name)["series"] == label].sample(frac=1, random_state=1) for label in labels]
    write_csv(drawing.tabulate(pd.concat(shuffled)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


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


@pytest.mark.parametrize(
    ("name", "statistic", "text"),
    [
        ("sc_fig02", "CV of eigenvalue 10 over that of eigenvalue 1, early", "early (shaded): CV"),
        ("sc_fig02", "CV of the NTK, last over first step", "last step / first = "),
        ("sc_fig03", "exponent in time | sharpness", "$b$ = "),
        ("sc_fig23", "CV of the trace, first over last tenth | tau = 1", "CV, first / last tenth\n= "),
        ("sc_fig23", "CV of the sharpness, second half | tau = 0", "CV, second half = "),
        ("sc_fig09", "sharpness over 2/learning rate", "all widths: "),
        ("sc_fig11", "rise at the largest width, muP over NTP", "largest width, μP / NTP:\n"),
        ("sc_fig27", "CV over widths | Depth-muP", "CV over widths, second half = "),
    ],
)
def test_statistic_of_the_claim_is_printed_as_it_stands_in_the_table(name, statistic, text):
    row = table(name)[(table(name)["panel"] == "statistic") & (table(name)["series"] == statistic)].iloc[0]
    written = texts(draw(name, table(name)))
    assert text in written and f"{shown(row.y)} [{shown(row.y_low)}, {shown(row.y_high)}]" in written


def test_distances_and_their_fits_are_in_the_table_and_begin_after_the_warm_up():
    found = table("sc_fig03")
    expected = 0.004 * 1.01 * (1 / math.sqrt(8) - 1 / math.sqrt(128))
    distances = values(found, "distance | training loss", "N=8")
    assert distances == pytest.approx([expected * step for step in range(10, 101, 10)], rel=0.02)
    assert values(found, "law | training loss", "N=8", "x") == [20, 100]
    assert values(found, "law | training loss", "N=8") == pytest.approx([20 * expected, 100 * expected], rel=0.05)
    assert values(found, "exponent in time", "training loss") == pytest.approx([1.0] * 4, abs=0.05)
    assert "N=128" not in set(found.loc[found["panel"].str.startswith("distance |"), "series"])


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


def test_trajectories_follow_the_probe_steps_and_not_the_eigenvalue():
    found = table("sc_fig11")
    own = found[(found["panel"] == "trajectory | NTP") & (found["series"] == "N=32")].sort_values("order")
    assert own["order"].tolist() == list(range(12))
    assert own["x"].tolist() == pytest.approx([1.01] * 4 + [0.505] * 8)
    assert own["y"].is_monotonic_decreasing
    rises = values(found, sc_edge_tables.RISE, "muP")
    assert rises == pytest.approx([2.0] * 5)


def test_sharpness_over_its_threshold_is_shown_by_width():
    found = FIGURES["sc_fig09"].tabulate(full_batch(0.9))
    assert values(found, sc_edge_tables.EDGE_RATIO, "Depth-muP") == pytest.approx([0.9 * 1.01] * 3)
    assert values(found, sc_edge_tables.EDGE_RATIO, "Depth-muP", "x") == [8, 16, 32]


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


def test_full_batch_runs_that_all_die_say_so_instead_of_a_level():
    table = full_batch()
    stopped = table[table["quantity"] == "training_loss"].drop_duplicates(["width", "seed"])
    stopped = stopped.assign(quantity="dead_step", unit="step", step=15, value=15.0)
    left = pd.concat([table[(table["step"] <= 10)], stopped, table[table["step"] == 100].head(1)])
    figure = draw("sc_fig09", FIGURES["sc_fig09"].tabulate(left))
    assert "no width trains to the end" in texts(figure)


def test_a_network_that_did_not_converge_is_flagged():
    table = stage("sc_fig27").copy()
    table.loc[(table["quantity"] == "directional_sharpness") & (table["step"] == 50), "converged"] = False
    found = FIGURES["sc_fig27"].tabulate(table)
    own = found[found["panel"] == "directional sharpness | Depth-muP"]
    assert set(own.loc[own["flag"] == "unconverged", "x"]) == {50.0}


def test_curvature_along_the_gradient_may_be_negative_and_start_far_above_the_threshold():
    table = directional()
    below = (table["quantity"] == "directional_sharpness") & (table["step"] == 20)
    ax = draw("sc_fig27", FIGURES["sc_fig27"].tabulate(table.assign(value=table["value"].where(~below, -0.5)))).axes[0]
    low, high = ax.get_ylim()
    assert ax.get_yscale() == "symlog" and low < -0.5 and high > 30


def test_figure_of_residuals_marks_the_threshold_of_each_network():
    axes = draw("sc_fig11", FIGURES["sc_fig11"].tabulate(residuals())).axes[:2]
    verticals = [{x for line in ax.lines for x in line.get_xdata() if line.get_linestyle() != "-"} for ax in axes]
    assert EDGE in verticals[0] and 2 / 8 in verticals[1]


def test_numbers_are_written_for_a_reader():
    assert [shown(value) for value in (-0.001, -1.234, 12.34, 123.4)] == ["0.00", "−1.23", "12.3", "123"]


def test_a_network_without_any_curvature_is_drawn():
    table = residuals()
    dark = (table["quantity"] == "gauss_newton_eigenvalue") & (table["series"] == "muP") & (table["width"] == 8)
    found = FIGURES["sc_fig11"].tabulate(table.assign(value=table["value"].where(~dark, 0.0)))
    assert values(found, sc_edge_tables.RISE, "muP", "x") == [16, 32, 64, 128]
    assert draw("sc_fig11", found).axes[0].get_xscale() == "log"


def test_networks_are_named_for_a_reader():
    assert network_label("muP, no skips") == "μP, no skips"
    assert (network_label("Depth-muP"), network_label("tau = 1"), network_label("NTP")) == (
        "Depth-μP",
        "$\\tau = 1$",
        "NTP",
    )
