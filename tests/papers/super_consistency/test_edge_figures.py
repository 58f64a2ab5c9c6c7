"""Figures 9, 11 and 27: tables hold what was measured, and what is drawn says what failed."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest

from featurespeed.drawing.width_curves import shown
from featurespeed.papers.super_consistency.edge import tables as sc_edge_tables
from tests.papers.cases import drawing_of
from tests.papers.super_consistency.edge_cases import all_tables, directional, full_batch, residuals
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, texts, values
from tests.sweeps.spectra_cases import EDGE

FIGURES = {name: drawing_of(name) for name in ("sc_fig09", "sc_fig11", "sc_fig27")}


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


@pytest.mark.parametrize(("name", "label"), [("sc_fig11", "NTP"), ("sc_fig27", "muP, no skips")])
def test_a_network_of_which_nothing_was_measured_is_left_out(name, label):
    """Its derivatives overflow from the start; the others are drawn."""
    own = stage(name)
    without = own[(own["series"] != label) | (own["quantity"] == "training_loss")]
    found = FIGURES[name].tabulate(without)
    assert not found["panel"].str.endswith(f"| {label}").any() and draw(name, found).axes


@pytest.mark.parametrize(
    ("name", "statistic", "text", "digits"),
    [
        ("sc_fig09", "sharpness over 2/learning rate | Depth-muP", "all widths, Depth-μP: ", 2),
        ("sc_fig11", "rise at the largest over smallest width, muP over NTP", "smallest width, μP / NTP:\n", 2),
        ("sc_fig27", "exponent in the width, second half | muP, no skips", "exponent in $N$, second half: ", 3),
        ("sc_fig27", "exponent in the depth, second half | Depth-muP", "exponent in $L$, second half: ", 3),
    ],
)
def test_statistic_of_the_claim_is_printed_as_it_stands_in_the_table(name, statistic, text, digits):
    row = table(name)[(table(name)["panel"] == "statistic") & (table(name)["series"] == statistic)].iloc[0]
    written = texts(draw(name, table(name)))
    value, low, high = (shown(number, digits) for number in (row.y, row.y_low, row.y_high))
    assert f"{text}{value} [{low}, {high}]" in written


def test_trajectories_follow_the_probe_steps_and_not_the_eigenvalue():
    found = table("sc_fig11")
    own = found[(found["panel"] == "trajectory | NTP") & (found["series"] == "N=128")].sort_values("order")
    assert own["order"].tolist() == list(range(12))
    assert own["x"].tolist() == pytest.approx([0.101] * 4 + [0.0505] * 8, rel=5e-3)
    assert own["y"].is_monotonic_decreasing
    rises = values(found, sc_edge_tables.RISE, "muP")
    assert rises == pytest.approx([2.0] * 5, rel=5e-3)


def test_sharpness_over_its_threshold_is_shown_by_width():
    found = FIGURES["sc_fig09"].tabulate(full_batch(0.9))
    assert values(found, sc_edge_tables.EDGE_RATIO, "Depth-muP") == pytest.approx([0.9 * 1.01] * 3, rel=2e-3)
    assert values(found, sc_edge_tables.EDGE_RATIO, "Depth-muP", "x") == [8, 16, 32]


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


def test_a_network_without_any_curvature_is_drawn():
    table = residuals()
    dark = (table["quantity"] == "gauss_newton_eigenvalue") & (table["series"] == "muP") & (table["width"] == 8)
    found = FIGURES["sc_fig11"].tabulate(table.assign(value=table["value"].where(~dark, 0.0)))
    assert values(found, sc_edge_tables.RISE, "muP", "x") == [16, 32, 64, 128]
    assert draw("sc_fig11", found).axes[0].get_xscale() == "log"


def test_seeds_of_which_a_network_diverged_are_left_out_of_figure_27():
    three = directional()
    table = pd.concat([three.assign(seed=three["seed"] + 3 * copy) for copy in range(2)])
    own = (table["series"] == "Depth-muP") & (table["seed"] == 4) & (table["depth"] == table["depth"].max())
    stopped = table[own & (table["quantity"] == "training_loss")].head(1)
    stopped = stopped.assign(quantity="diverged_step", step=30, value=30.0)
    found = FIGURES["sc_fig27"].tabulate(pd.concat([table[~own | (table["step"] < 30)], stopped], ignore_index=True))
    seeds = found[found["panel"].isin(("second half | width", "second half | depth"))].groupby("panel")["n"].unique()
    assert seeds.map(list).to_dict() == {"second half | width": [6], "second half | depth": [5]}
    assert "left out: seeds of which a network failed (Depth-μP: 1 of 6)" in legend_texts(draw("sc_fig27", found))
