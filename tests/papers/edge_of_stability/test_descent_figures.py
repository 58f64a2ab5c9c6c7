"""Figures beyond the edge of stability: tables hold what was measured, failures are drawn, what is ours is named."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from featurespeed.drawing.making import make
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from featurespeed.papers.edge_of_stability.descent import drawing as beos_draw
from featurespeed.papers.edge_of_stability.descent import drawing_curves as beos_curves_draw
from featurespeed.papers.edge_of_stability.descent import drawing_table1 as beos_table1_draw
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, Key
from tests.papers.cases import STYLE, drawing_of
from tests.papers.edge_of_stability.cases import (
    EVERYWHERE,
    NARROW,
    QUADRATIC,
    SMALL,
    Case,
    broken,
    fails,
    never,
    rank,
    sharpness,
)

NAMES = ("beos_fig1", "beos_fig2", "beos_fig3", "beos_fig4", "beos_fig5", "beos_table1")
FIGURES = {name: drawing_of(name) for name in NAMES}
EXPLODING, DYING = f"{NARROW} | rel1 | constant", f"{QUADRATIC} | rel1 | constant"

ALONE = {"networks": {QUADRATIC: ("rel1",)}, "few": (), "geometric": (0.5,)}  # a table that is drawn fast


@cache
def stage() -> pd.DataFrame:
    return SMALL.table()


@cache
def table(name: str) -> pd.DataFrame:
    """The artefact table of the planted stage table."""
    return FIGURES[name].tabulate(stage())


@cache
def tiny() -> pd.DataFrame:
    """A table that is drawn fast."""
    return broken(networks={QUADRATIC: ("rel1",)}, few=(), kappas=(0.5, 32.0), geometric=(1.5,), seeds=(0, 1))


@cache
def drawn(name: str):
    """The figure of the planted stage table."""
    return draw(name, table(name))


def draw(name: str, artefact: pd.DataFrame):
    figure = new_figure(STYLE, *FIGURES[name].size)
    FIGURES[name].draw(artefact, figure)
    return figure


def texts(figure) -> str:
    """All that is written: in panels, titles, labels and legends."""
    own = [text.get_text() for ax in figure.axes for text in (*ax.texts, ax.title, ax._left_title, ax.xaxis.label,
                                                              ax.yaxis.label)]  # fmt: skip
    legends = [text.get_text() for legend in figure.legends for text in (*legend.get_texts(), legend.get_title())]
    return "\n".join([*own, *legends, figure.get_supxlabel()])


def rows(artefact: pd.DataFrame, panel: str, series: str) -> pd.DataFrame:
    return artefact[(artefact["panel"] == panel) & (artefact["series"] == series)].sort_values(["order", "x"])


def values(artefact: pd.DataFrame, panel: str, series: str, column: str = "y") -> list[float]:
    return rows(artefact, panel, series)[column].tolist()


def run(kappa: float, seed: int, network: str = QUADRATIC, schedule: str = CONSTANT) -> Case:
    failure = fails(network, "rel1", schedule, kappa, seed, SMALL.steps)
    return Case(network, "rel1", schedule, kappa, seed, failure, SMALL.steps)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_artefact_is_made_and_its_table_does_not_depend_on_the_order_of_the_records(name, tmp_path):
    make(FIGURES[name], (tiny(),), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert min(Image.open(tmp_path / "a.png").size) > 200
    write_csv(FIGURES[name].tabulate(tiny().sample(frac=1, random_state=1)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_what_is_our_reconstruction(name):
    written = " ".join(texts(drawn(name)).split())
    assert "our reconstruction, from the abstract of arXiv:2502.13110; not the author's formula" in written
    assert "rel1 (ours)" in written or name == "beos_fig1"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_measured_is_an_error(name):
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        FIGURES[name].tabulate(stage().iloc[:0])


@pytest.mark.parametrize("name", ("beos_fig2", "beos_fig3", "beos_fig4", "beos_fig5"))
def test_failures_alone_are_nothing_to_draw(name):
    failures = stage()[stage()["quantity"].isin(("step_norm", "diverged_step", "dead_step"))]
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        FIGURES[name].tabulate(failures)


@pytest.mark.parametrize("name", NAMES)
def test_networks_that_all_fail_at_once_are_drawn(name):
    found = FIGURES[name].tabulate(broken(failure=lambda *_: ("diverged_step", 1), **ALONE))
    assert draw(name, found).axes


# --- Figure 1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_figures_end_at_the_largest_kappa_of_all_scalings_and_the_table_has_the_rest(name):
    records = broken(kappas=(0.5, 32.0, 768.0))
    records.attrs["provenance"]["spec"] |= {"kappas": [0.5, 32.0], "shown": [0.5, 32.0]}
    found = FIGURES[name].tabulate(records)
    outcomes = found[found["panel"] == "trained"]
    assert (768.0 in set(outcomes["x"])) == (name == "beos_table1")


def test_shares_of_seeds_that_trained_diverged_and_died_add_up_and_their_count_is_that_of_the_seeds():
    found = table("beos_fig1")
    assert values(found, "trained", DYING) == [1, 1, 1, 0] and values(found, "dead", DYING) == [0, 0, 0, 1]
    assert values(found, "diverged", EXPLODING) == [0, 0, 1, 1]
    assert values(found, "trained", EXPLODING, "n") == [3] * 4
    sums = sum(
        found[found["panel"] == name].set_index(["series", "x"])["y"] for name in ("trained", "diverged", "dead")
    )
    assert np.allclose(sums, 1)
    assert values(found, "trained", EXPLODING, "flag") == ["", "", "diverged", "diverged"]


def test_stability_map_fills_each_cell_with_what_became_of_its_seeds():
    def one(network, scaling, schedule, kappa, seed, steps):
        return ("diverged_step", 20) if (network, kappa, seed) == (QUADRATIC, 8.0, 0) else None

    small = broken(failure=one, networks={QUADRATIC: ("rel1",)}, few=(), geometric=())
    figure = draw("beos_fig1", FIGURES["beos_fig1"].tabulate(small))
    patches = [patch for patch in figure.axes[0].patches if patch.get_width() > 0]
    orange = [patch for patch in patches if patch.get_facecolor()[:3] == pytest.approx((0.898, 0.455, 0.224), abs=0.01)]
    assert len(patches) == 5 and len(orange) == 1
    assert orange[0].get_width() == pytest.approx(0.96 / 3)
    assert "2/3" in texts(figure) and "$\\kappa$: learning rate over $2/\\lambda_\\Xi(0)$ (ours)" in texts(figure)


def test_large_loss_ratios_are_written_as_powers_of_ten():
    assert [beos_draw.power(value) for value in (1.04, 9.96, 54.2, 3e7)] == ["1.0", "10", "54", "$10^{7}$"]


def test_networks_are_named_for_a_reader():
    assert beos_draw.network_label("r = 0, base width of r = 2") == "$r=0$, base width of $r=2$"
    assert beos_draw.short_network("r = 0, base width of r = 2") == "$r=0$ (base width)"
    assert beos_draw.scaling_label("none") == "no scaling" and beos_draw.scaling_label("fsf") == "fsf (ours)"


# --- Figure 2 ---------------------------------------------------------------------------------------------------------


def test_curves_are_medians_with_the_range_over_seeds():
    own = rows(table("beos_fig2"), f"sharpness | {DYING}", "kappa=32")
    assert own["x"].tolist() == [0, 20, 40] and own["n"].tolist() == [3] * 3
    expected = sorted(sharpness(run(32, seed), 40) for seed in range(3))
    assert own[["y_low", "y", "y_high"]].iloc[-1].tolist() == pytest.approx(expected)


def test_scaled_sharpness_is_in_units_of_its_edge():
    """It begins at kappa, whatever the seed."""
    for kappa in (0.5, 8.0):
        panel = f"scaled sharpness over its edge | {DYING}"
        own = rows(table("beos_fig2"), panel, f"kappa={kappa:g}").iloc[0]
        assert own[["y_low", "y", "y_high"]].tolist() == pytest.approx([kappa] * 3)


def test_only_the_kappas_that_the_settings_show_are_drawn_along_training():
    found = table("beos_fig2")
    assert set(found.loc[found["panel"].str.startswith("sharpness"), "series"]) == {"kappa=0.5", "kappa=8", "kappa=32"}


def test_every_network_that_failed_is_a_cross_at_its_last_step():
    own = rows(table("beos_fig2"), f"training loss | {EXPLODING}", "kappa=32")
    crosses = own[own["order"] > 0]
    expected = [run(32, seed, NARROW).end for seed in range(3)]
    assert crosses["x"].tolist() == expected and set(crosses["flag"]) == {"diverged"}
    figure = drawn("beos_fig2")
    lines = [line for line in figure.axes[5].lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert sorted(x for line in lines for x in line.get_xdata()) == sorted(expected)
    assert "$\\kappa=32$: 3 of 3 failed" in texts(figure) and "not finite from here on" in texts(figure)


def test_the_last_record_of_a_network_that_failed_is_no_point_of_the_curve():
    own = rows(table("beos_fig2"), f"training loss | {EXPLODING}", "kappa=32")
    assert {run(32, seed, NARROW).end % 10 for seed in range(3)} != {0}
    assert set(own.loc[own["order"] == 0, "x"] % 10) <= {0}


def test_a_network_that_fails_before_the_first_record_has_a_cross_on_the_axis():
    found = FIGURES["beos_fig2"].tabulate(broken(failure=lambda *_: ("dead_step", 0), **ALONE))
    own = rows(found, f"training loss | {DYING}", "kappa=32")
    assert own["y"].isna().all() and own["flag"].tolist() == ["dead"] * 3 and own["x"].tolist() == [0] * 3
    ax = draw("beos_fig2", found).axes[0]
    lines = [line for line in ax.lines if line.get_marker() == "X"]
    assert any(list(line.get_ydata()) == [ax.get_ylim()[0]] * 3 for line in lines)


def test_an_explosion_leaves_room_for_the_others_and_its_cross_stands_at_the_border():
    def curve(run, step):
        return 1e15 if run.network == NARROW and run.kappa == 32 else 2.0 - step / 40

    networks = {NARROW: ("rel1",), QUADRATIC: ("rel1",)}
    found = FIGURES["beos_fig2"].tabulate(broken(formulas={"training_loss": curve}, networks=networks, few=()))
    ax = draw("beos_fig2", found).axes[0]  # r = 0
    low, high = ax.get_ylim()
    crosses = [y for line in ax.lines if line.get_marker() == "x" for y in line.get_ydata()]
    assert high < 20 and crosses == [high] * 3


def test_columns_are_blocks_of_whole_networks():
    keys = [Key(f"r = {r}", scaling) for r in range(4) for scaling in EVERYWHERE]
    assert [len(block) for block in beos_curves_draw._blocks(keys)] == [6, 6]
    assert [len(block) for block in beos_curves_draw._blocks(keys[:9])] == [6, 3]
    assert [len(block) for block in beos_curves_draw._blocks([*keys, Key("r = 4", "none")])] == [7, 6]


def test_curvature_ratio_is_drawn_with_the_edge_at_1():
    figure = drawn("beos_fig2")
    for place in (2, 3):  # scaled sharpness, curvature ratio
        dotted = [line for line in figure.axes[place].lines if list(line.get_ydata()) == [1.0, 1.0]]
        assert len(dotted) == 1


def test_a_negative_curvature_ratio_is_inside_the_axes_and_the_edge_is_not_lost():
    found = FIGURES["beos_fig2"].tabulate(
        broken(formulas={"curvature_ratio": lambda run, step: -3.0 if step == 20 else 40.0}, **ALONE)
    )
    ax = draw("beos_fig2", found).axes[3]
    low, high = ax.get_ylim()
    assert ax.get_yscale() == "symlog" and low < -3 and high > 40 and 1.0 in ax.get_yticks()


# --- Figures 3 and 4 --------------------------------------------------------------------------------------------------


def test_ranks_at_the_end_are_means_over_the_seeds_that_trained():
    own = rows(table("beos_fig3"), "participation ratio", DYING)
    assert own["x"].tolist() == [0.5, 8, 32]
    expected = np.mean([rank(run(32, seed), 40) for seed in range(3)])
    assert own["y"].iloc[-1] == pytest.approx(expected)


def test_a_point_without_some_seeds_is_flagged_and_drawn_hollow():
    def one(network, scaling, schedule, kappa, seed, steps):
        return ("dead_step", 20) if (scaling, kappa, seed) == ("rel1", 8.0, 0) else None

    found = FIGURES["beos_fig3"].tabulate(broken(failure=one, **ALONE))
    own = rows(found, "participation ratio", DYING)
    assert own["flag"].tolist() == ["", "dead", "", ""] and own["n"].tolist() == [3, 2, 3, 3]
    hollow = [line for line in draw("beos_fig3", found).axes[1].lines if line.get_markerfacecolor() == "white"]
    assert [x for line in hollow for x in line.get_xdata()] == [8.0]


def test_who_trained_is_a_disc_and_who_did_not_a_cross():
    axes = drawn("beos_fig3").axes
    above = [(line.get_marker(), line.get_xdata()[0]) for line in axes[0].lines if line.get_ydata()[0] == -1]
    assert above == [("o", 0.5), ("o", 8), ("o", 32), ("x", 48)]  # rel1, after none


def test_ratios_of_the_claims_are_printed_and_missing_where_a_network_failed():
    found = table("beos_fig3")
    printed = found[found["panel"] == "statistic"]["series"].tolist()
    assert f"participation ratio, 32 over 0.5 | {DYING}" in printed and f"sharpness, 32 over 0.5 | {DYING}" in printed
    assert not [name for name in printed if name.endswith(EXPLODING)]
    row = rows(found, "statistic", f"participation ratio, 32 over 0.5 | {DYING}").iloc[0]
    assert f"32 / 0.5: {row.y:.2f} [{row.y_low:.2f}, {row.y_high:.2f}]" in texts(draw("beos_fig3", found))


def test_mean_cosine_is_over_all_steps_and_thresholds_are_drawn():
    own = rows(table("beos_fig4"), "mean update cosine", DYING)
    records = [np.mean([0.3 / (8 * run(8, s).jitter) + 0.2 / (1 + t) for t in (10, 20, 30, 40)]) for s in range(3)]
    assert own["y"].iloc[1] == pytest.approx(np.mean(records)) and own["flag"].iloc[-1] == "dead"
    figure = drawn("beos_fig4")
    levels = {line.get_ydata()[0] for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1}
    assert {0.1, 0.03} <= levels & set(figure.axes[0].get_yticks()) and "thresholds 0.1 and 0.03" in texts(figure)


def test_a_negative_cosine_is_inside_the_axes():
    found = FIGURES["beos_fig4"].tabulate(broken(formulas={"update_cosine": lambda run, step: -0.2}, **ALONE))
    low, high = draw("beos_fig4", found).axes[0].get_ylim()
    assert low < -0.2 and high > 0.1


def test_an_eigenvalue_that_has_not_converged_is_kept_flagged_and_drawn_hollow():
    poor = broken(**ALONE)
    here = (poor["quantity"] == "sharpness") & (poor["step"] == 40) & (poor["c"] == 8) & (poor["seed"] == 1)
    poor.loc[here, "converged"] = False
    along, end = (FIGURES[name].tabulate(poor) for name in ("beos_fig2", "beos_fig3"))
    curve = rows(along, f"sharpness | {DYING}", "kappa=8")
    assert curve["flag"].tolist() == ["", "", "unconverged"] and set(curve["estimator"]) == {"Lanczos"}
    assert rows(end, "sharpness", DYING)["flag"].tolist() == ["", "unconverged", ""]
    assert "has not converged" in texts(draw("beos_fig2", along)) and "not converged" in texts(draw("beos_fig3", end))


# --- Figure 5 and Table 1 ---------------------------------------------------------------------------------------------


def test_geometry_aware_schedule_is_beside_the_constant_one_of_the_same_network():
    found = table("beos_fig5")
    panels = {panel for panel in found["panel"] if panel.startswith("step size")}
    assert panels == {f"step size | {DYING}", f"step size | {QUADRATIC} | rel1 | {GEOMETRY_AWARE}"}
    constant = rows(found, f"step size | {DYING}", "kappa=8")
    assert constant["y"].tolist() == pytest.approx([np.median([0.8 / run(8, seed).jitter for seed in range(3)])] * 2)
    written = texts(draw("beos_fig5", found))
    assert "$\\kappa_g=1.5$: 3/3 trained" in written and "geometry-aware (ours)" in written
    assert f"beyond on {values(found, 'steps beyond the edge', DYING)[0]:.0%} of steps" in written


def test_without_a_geometry_aware_schedule_there_is_no_figure_5():
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        FIGURES["beos_fig5"].tabulate(broken(geometric=()))


def test_table_has_every_run_with_intervals_over_seeds():
    found = table("beos_table1")
    accuracy = rows(found, "test accuracy", DYING)
    assert accuracy["x"].tolist() == [0.5, 8, 32]
    assert accuracy[["y_low", "y", "y_high"]].iloc[0].tolist() == pytest.approx([0.9, 0.903, 0.906])
    written = texts(draw("beos_table1", found)).split("\n")
    assert "0.903 [0.900, 0.906]" in written and "0/3 [0.00, 0.71]" in written and "3/3" in written
    assert sum(text == "48" for text in written) == 5  # one line for each group of runs


def test_table_says_one_seed_has_no_interval():
    def others(network, scaling, schedule, kappa, seed, steps):
        return ("diverged_step", 20) if seed else None

    found = FIGURES["beos_table1"].tabulate(broken(failure=others, **ALONE))
    own = rows(found, "sharpness", DYING)
    assert own["n"].tolist() == [1] * 4 and own["y_low"].isna().all()
    assert "nan" not in texts(draw("beos_table1", found))


def test_numbers_of_the_table_have_three_digits_and_no_negative_zero():
    found = [beos_table1_draw.digits(value) for value in (-0.001, 9.999, 12.34, 1369.2, -0.126)]
    assert found == ["0.00", "10.0", "12.3", "1369", "−0.13"]


def test_a_long_table_is_laid_out_in_columns_of_about_the_same_height():
    groups = [[beos_table1_draw.Line(Key(f"r = {i}", "none"))] * 8 for i in range(16)]
    pages = beos_table1_draw._pages(groups)
    assert [len(page) for page in pages] == [64, 64]
    assert [len(page) for page in beos_table1_draw._pages(groups[:5])] == [40]


def test_networks_that_all_train_have_no_marks_of_failure():
    found = FIGURES["beos_fig2"].tabulate(broken(failure=never, networks={QUADRATIC: ("none",)}, few=()))
    written = texts(draw("beos_fig2", found))
    assert "failed" not in written and "from here on" not in written
