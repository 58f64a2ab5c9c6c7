"""Points read off the authors' plots: what they are in our units, and when our curves meet them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS
from featurespeed.drawing.width_curves import width_colors
from featurespeed.ledger.engine import STATISTICS, Undecidable, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.agreement import (
    difference,
    of_another_eigenvalue,
    of_another_width,
    share_within,
)
from featurespeed.papers.super_consistency.published import (
    CONVERSIONS,
    NOT_COMPARED,
    published_points,
    read_published,
    step_of,
    why_not,
)
from featurespeed.papers.super_consistency.spectra.drawing import POINTS_TEXT
from featurespeed.sweeps.transfer import settings
from tests.papers.cases import criteria_of, drawing_of
from tests.papers.super_consistency.figure_cases import assert_made, draw, legend_texts, values
from tests.papers.super_consistency.published_cases import (
    SPREAD,
    WIDTHS,
    eigenvalues,
    kernel,
    like_theirs,
    loss,
    tables_like_theirs,
    trace,
)
from tests.papers.super_consistency.spectra_cases import all_tables
from tests.sweeps.cases import sweep_table
from tests.sweeps.spectra_cases import PLAIN

FIGURES = {"2": "sc_fig02", "3": "sc_fig03", "23": "sc_fig23"}
CLAIMS = ["sc_fig2_published", "sc_fig3_published", "sc_fig23_published"]
every_figure = pytest.mark.parametrize("figure", FIGURES)


# --- reading and conversions ------------------------------------------------------------------------------------------


def test_records_begin_anew_in_every_epoch():
    """Record 39 is the first of the third epoch: twice 196 batches and 11; 190 the last of the tenth."""
    steps = {0: 0, 1: 11, 19: 191, 20: 207, 38: 387, 39: 403, 190: 9 * 196 + 191}
    assert {record: step_of(record) for record in steps} == steps


def test_every_point_is_kept_and_either_converted_or_left_out_for_a_reason():
    raw = read_published()
    assert len(raw) == 521
    panels = set(zip(raw["figure"], raw["panel"], strict=True))
    left_out = {key for key in NOT_COMPARED if len(key) == 2}
    assert panels == set(CONVERSIONS) | left_out and not set(CONVERSIONS) & left_out
    reasons = raw.apply(lambda row: why_not(row["figure"], row["panel"], row["series"]), axis=1)
    assert (reasons == "").sum() == sum(len(published_points(figure)) for figure in raw["figure"].unique())
    used = {(row.figure, row.panel, row.series) for row in raw.itertuples()}
    assert {key for key in NOT_COMPARED if len(key) == 3} <= used


def test_figures_whose_settings_no_run_here_has_give_no_points():
    for figure in ("4b", "4c", "11", "20", "22", "25", "27"):
        assert published_points(figure).empty


def point(figure: str, panel: str, **keys: object) -> pd.Series:
    """The one converted point of a panel with these values."""
    own = published_points(figure)
    own = own[own["panel"].str.startswith(panel)]
    for column, value in keys.items():
        own = own[own[column] == value]
    assert len(own) == 1
    return own.iloc[0]


def test_kernel_sums_over_1024_images_become_means_and_epochs_steps():
    """Epoch 3 is record 57, after 2 * 196 + 191 batches; the point is its mean with record 56, 10 batches before."""
    own = point("2", "NTK lambda_1", N=32, step=578)
    assert (own["quantity"], own["index"], own["width"], own["learning_rate"]) == ("ntk_eigenvalue", 1, 8, 0.7)
    assert (own["y"], own["y_err"]) == (96320 / 1024, 3600 / 1024)


def test_curvature_times_n_is_ours():
    own = point("2", "Hessian eigenvalues", N=512, index=3, step=207)
    assert (own["quantity"], own["width"], own["y"], own["y_err"]) == ("sharpness", 128, 3.406848, 0)
    own = point("23", "Hessian trace", N=32, step=619)  # record 60: 3 * 196 + 31
    assert (own["quantity"], own["index"], own["width"], own["y"], own["y_err"]) == ("hessian_trace", 0, 8, 63.12, 1.1)


def test_gaps_are_converted_like_what_they_are_gaps_of():
    own = point("23", "gap of the top NTK", N=32, step=619)
    assert (own["quantity"], own["index"], own["width"]) == ("ntk_eigenvalue_gap", 1, 8)
    assert own["y"] == 22770 / 1024
    assert 207 not in set(published_points("23").query("quantity == 'ntk_eigenvalue_gap'")["step"])
    own = point("3", "loss gap to the width-2048 proxy against", N=32, step=1202)  # records 116 and 117: 1197, 1207
    assert (own["quantity"], own["width"], own["y"], own["y_err"]) == ("training_loss_gap", 8, 0.6519, 0.0034)


def test_no_loss_is_that_of_a_first_record_of_an_epoch():
    """It holds eleven batches and is divided by ten."""
    points = published_points("3")
    first = {step_of(1 + 19 * epoch) for epoch in range(10)}
    alone = points[points["quantity"] == "training_loss"]["step"]
    assert len(alone) and not set(alone) & first
    records = {step_of(record): record for record in range(191)}
    both = {(step_of(r) + step_of(r - 1)) / 2: {r, r - 1} for r in range(2, 191)}
    for step in points[points["quantity"] == "training_loss_gap"]["step"]:
        assert not both[step] & {records[step] for step in first}


# --- share within -----------------------------------------------------------------------------------------------------


def table_of(curve, seeds: int = 2, **curvature) -> pd.DataFrame:
    """Two widths, the second one the proxy, at 0.7, with probes at steps 0, 50 and 100."""
    return sweep_table(
        curve, curvature, (PLAIN,), (32, 2048), (0.7,), seeds=seeds, probe_steps=(0, 50, 100), record_every=50
    )


def points_of(*rows: tuple) -> pd.DataFrame:
    """Points from (quantity, index, N, step, y, y_err)."""
    table = pd.DataFrame(rows, columns=["quantity", "index", "N", "step", "y", "y_err"])
    return table.assign(learning_rate=0.7)


def rising(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """10 + step / 10, seeds apart by 2 (a standard deviation of sqrt 2)."""
    return 10 + step / 10 + 2 * seed


def test_points_are_met_within_three_standard_deviations_of_seeds_and_reading():
    """Between 50 and 100 the curve is linear: at 80 seeds have 18 and 20, mean 19; 3 sqrt(2 + 1) = 5.196."""
    points = points_of(
        ("hessian_trace", 0, 32, 80.0, 19 + 5.19, 1.0),
        ("hessian_trace", 0, 32, 80.0, 19 + 5.20, 1.0),
        ("hessian_trace", 0, 32, 80.0, 19 - 4.25, 0.0),
        ("hessian_trace", 0, 32, 80.0, 19 - 4.24, 0.0),
    )
    found = share_within(table_of(rising, hessian_trace=rising), points)
    assert found.rows["mean"].tolist() == pytest.approx([19] * 4)
    assert found.rows["sd"].tolist() == pytest.approx([np.sqrt(2)] * 4)
    assert found.rows["within"].tolist() == [True, False, False, True]
    interval = found.interval()
    assert (found.k, found.n, interval.value) == (2, 4, 0.5)
    assert (interval.low, interval.high) == pytest.approx((0.0676, 0.9324), abs=1e-4)


def test_points_without_a_counterpart_are_counted_apart_and_named():
    points = points_of(
        ("hessian_trace", 0, 32, 50.0, 16, 0.0),
        ("hessian_trace", 0, 64, 50.0, 16, 0.0),
        ("hessian_trace", 0, 32, 100.5, 16, 0.0),
        ("sharpness", 3, 32, 50.0, 16, 0.0),
    )
    found = share_within(table_of(rising, hessian_trace=rising), points)
    assert (found.k, found.n, len(found.absent)) == (1, 1, 3)
    assert found.absent["why"].tolist() == [
        "N = 64 was not run",
        "hessian_trace was recorded at steps 0 to 100 only",
        "sharpness 3 was not measured",
    ]
    assert "1 without a counterpart: N = 64 was not run" in found.note()


def test_gaps_are_taken_seed_by_seed_from_the_network_with_n_2048():
    def curve(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return (3.0 if width == 32 else 1.0) + 5 * seed  # seeds differ, gaps do not

    def kernel(*place) -> list[float]:
        return [-curve(*place)]

    points = points_of(("training_loss_gap", 0, 32, 75.0, 2, 0.0), ("ntk_eigenvalue_gap", 1, 32, 75.0, 2.1, 0.0))
    rows = table_of(curve, ntk_eigenvalue=kernel)
    found = share_within(rows, points).rows
    assert found["mean"].tolist() == [2, 2] and found["sd"].tolist() == [0, 0]
    assert found["within"].tolist() == [True, False]
    absent = share_within(rows[rows["width"] == 32], points).absent
    assert absent["why"].str.contains("to N = 2048, which was not run").all() and len(absent) == 2


def test_a_network_that_stopped_meets_no_point_afterwards():
    def curve(label: str, width: int, rate: float, step: int, seed: int) -> float:
        return np.inf if step == 100 and seed == 1 else 1.0

    points = points_of(("training_loss", 0, 32, 50.0, 1, 1.0), ("training_loss", 0, 32, 90.0, 1, 1.0))
    assert share_within(table_of(curve), points).rows["within"].tolist() == [True, False]


def test_one_seed_has_no_spread():
    points = points_of(("hessian_trace", 0, 32, 50.0, 15, 0.0), ("hessian_trace", 0, 32, 60.0, 16, 0.0))
    with pytest.raises(ValueError, match="seeds = 1: their spread needs at least 2"):
        share_within(table_of(rising, 1, hessian_trace=rising), points).interval()


def test_no_points_at_all_are_no_error_until_a_share_is_asked_for():
    found = share_within(table_of(rising), points_of())
    assert found.n == 0
    with pytest.raises(ValueError, match="n >= 2"):
        found.interval()


@every_figure
def test_controls_ascribe_every_point_to_another_curve(figure):
    points = published_points(figure)
    moved, column = (of_another_eigenvalue, "index") if figure == "2" else (of_another_width, "N")
    other = moved(points)
    assert (other[column] != points[column]).all()
    assert set(other[column]) == set(points[column])
    pd.testing.assert_frame_equal(other.drop(columns=column), points.drop(columns=column))
    if column == "N":
        assert (np.abs(np.log2(other["N"] / points["N"])) >= 2).all()


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_run_like_theirs_has_no_difference():
    assert difference(settings(tables_like_theirs()["sc_fig02"]), PLAIN) == ""


def test_the_first_setting_that_differs_is_named():
    run = settings(tables_like_theirs()["sc_fig02"])
    network = run["networks"][PLAIN]

    def told(data: dict | None = None, data_of_the_network: dict | None = None, **changes) -> str:
        networks = {PLAIN: network | changes | {"data": data_of_the_network}}
        return difference({"data": run["data"] | (data or {}), "networks": networks}, PLAIN)

    assert told({"name": "digits"}) == "data.name = digits, that of the published points is cifar10"
    own = run["data"] | {"pixels": "centred"}  # of this network alone
    assert told(data_of_the_network=own) == "data.pixels = centred, that of the published points is symmetric"
    assert told(batch_size=128) == "networks.tau = 0.batch_size = 128, that of the published points is 256"
    ours = {name: value for name, value in network["model"].items() if name != "convention"}
    assert told(model=ours).startswith("networks.tau = 0.model.convention = not set, ")
    assert told(model=network["model"] | {"gain": 1.0}).startswith("networks.tau = 0.model.gain = 1.0, ")
    assert told({"crop": 4, "flip": True}) == ""  # what the authors did is not known


# --- claims -----------------------------------------------------------------------------------------------------------


def judged(**tables: pd.DataFrame) -> pd.DataFrame:
    criteria = [criterion for criterion in criteria_of("sc_spectra") if criterion.claim_id in CLAIMS]
    return ledger(criteria, tables_like_theirs() | tables, "planted")[0].set_index("claim_id")


def test_curves_through_the_points_confirm_and_other_curves_fail():
    found = judged()
    assert set(found.index) == set(CLAIMS) and (found["verdict"] == "confirmed").all()
    assert found["control"].str.endswith("fails, as it must").all()
    assert found["n"].to_dict() == dict(zip(CLAIMS, (64, 46, 38), strict=True))


def test_curves_half_as_high_again_contradict():
    def higher(formula):
        return lambda *place: (1.5 * np.asarray(formula(*place))).tolist()

    spectrum, ntk = (higher(eigenvalues(name)) for name in ("sharpness", "ntk_eigenvalue"))
    found = judged(
        sc_fig02=like_theirs(sharpness=spectrum, ntk_eigenvalue=ntk),
        sc_fig03=like_theirs(higher(loss)),
        sc_fig23=like_theirs(hessian_trace=higher(trace), ntk_eigenvalue=ntk),
    )
    assert (found["verdict"] == "contradicted").all()


def test_other_settings_and_rates_are_undecidable_and_named():
    rate, images = like_theirs(rate=0.5), like_theirs(data={"pixels": "centred"})
    found = judged(sc_fig02=all_tables()["sc_fig02"], sc_fig03=rate, sc_fig23=images)
    assert (found["verdict"] == "inconclusive").all()
    assert "data.name = not set" in found["note"]["sc_fig2_published"]
    assert "measured at 0.5, the published points are of 0.7" in found["note"]["sc_fig3_published"]
    assert "data.pixels = centred" in found["note"]["sc_fig23_published"]


def test_the_lint_finds_no_fault():
    criteria = [criterion for criterion in criteria_of("sc_spectra") if criterion.claim_id in CLAIMS]
    assert faults(criteria, tables_like_theirs()) == []


def test_one_seed_cannot_decide():
    statistic = STATISTICS["share of the points of the authors' Fig. 3 within 3 standard deviations"]
    with pytest.raises(Undecidable, match="points of Fig. 3: seeds = 1"):
        statistic({"sc_fig03": like_theirs(seeds=1)})


# --- figures ----------------------------------------------------------------------------------------------------------


def artefact_of(figure: str, table: pd.DataFrame | None = None) -> pd.DataFrame:
    name = FIGURES[figure]
    return drawing_of(name).tabulate(tables_like_theirs()[name] if table is None else table)


def diamonds(figure) -> list:
    """The hollow diamonds in the panels."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() == "D"]
    return [line for line in lines if same_color(line.get_markerfacecolor(), "white")]


@every_figure
def test_points_stand_in_the_table_beside_what_the_run_has_there(figure):
    found = artefact_of(figure)
    assert tuple(found.columns) == ARTEFACT_COLUMNS
    theirs = found[found["panel"].str.startswith("published | ")]
    ours = found[found["panel"].str.startswith("this run at the published points | ")]
    assert set(theirs["estimator"]) == {"published"} and len(theirs) == len(ours) == len(published_points(figure))
    pairs = theirs.merge(ours, on=["order", "series", "x"])
    assert len(pairs) == len(theirs)
    assert set(theirs["n"]) == {1} and set(ours["n"]) == {3}


def test_rows_of_a_point_and_of_this_run():
    found = artefact_of("2")
    panel = "published | eigenvalue 9"
    own = found[(found["panel"] == panel) & (found["series"] == "N=128")]
    assert own[["x", "y", "y_low", "y_high"]].to_numpy().tolist() == [[1649] + [2.045824] * 3]
    mean, low, high = (
        values(found, "this run at the published points | eigenvalue 9", "N=128", column)[0]
        for column in ("y", "y_low", "y_high")
    )
    assert (low, high) == pytest.approx((mean * (1 - SPREAD), mean * (1 + SPREAD)))


@every_figure
def test_points_are_drawn_hollow_and_the_legend_names_them(figure):
    drawn = draw(FIGURES[figure], artefact_of(figure))
    assert diamonds(drawn) and POINTS_TEXT in "\n".join(legend_texts(drawn))


def test_points_have_the_colours_of_their_curves():
    table = artefact_of("2")
    drawn = draw("sc_fig02", table)
    panel = next(ax for ax in drawn.axes if ax.get_title(loc="left").startswith("$\\lambda_1$ of the NTK"))
    of_the_panel = [line for line in diamonds(drawn) if line.axes is panel]
    edges = {float(line.get_ydata()[-1]): line.get_markeredgecolor() for line in of_the_panel}
    colors = width_colors(table)
    assert len(edges) == 4
    for series in ("N=32", "N=128", "N=512", "N=2048"):
        last = values(table, "published | NTK eigenvalue 1", series)[-1]
        color = next(color for y, color in edges.items() if y == pytest.approx(last))
        assert same_color(color, colors[series])


def test_points_near_a_step_of_figure_23_are_drawn_at_their_widths():
    """1935 is near the last step, 1960, and 1855 is not."""
    table = artefact_of("23")
    steps = {float(name.split()[1]) for name in table["series"].unique() if name.startswith("step ")}
    own = table[table["panel"] == "published | Hessian trace | tau = 0"]
    near = own[[min(abs(x - step) for step in steps) <= 0.03 * 1960 for x in own["x"]]]
    assert 0 < len(near) < len(own)
    drawn = sorted(float(x) for line in diamonds(draw("sc_fig23", table)) for x in line.get_xdata())
    assert drawn == sorted(near["series"].str.removeprefix("N=").astype(float))


@every_figure
def test_nothing_is_drawn_and_no_legend_names_it_where_settings_differ(figure):
    name = FIGURES[figure]
    for table in (all_tables()[name], like_theirs(rate=0.5, ntk_eigenvalue=lambda *_: [1.0], hessian_trace=trace)):
        found = artefact_of(figure, table)
        assert not found["panel"].str.contains("published").any()
        drawn = draw(name, found)
        assert not diamonds(drawn) and not any("authors" in text for text in legend_texts(drawn))


def test_distances_stand_beside_ours_only_where_the_widest_network_is_theirs():
    distance, curve = "published | distance | training loss", "published | training loss"
    assert {distance, curve} <= set(artefact_of("3")["panel"])
    wider = artefact_of("3", like_theirs(widths=(*WIDTHS, 1024), ntk_eigenvalue=kernel))
    assert curve in set(wider["panel"]) and distance not in set(wider["panel"])
    assert judged(sc_fig03=like_theirs(widths=(*WIDTHS, 1024)))["n"]["sc_fig3_published"] == 46


@every_figure
def test_artefacts_with_points_are_made(figure, tmp_path):
    assert_made(FIGURES[figure], tables_like_theirs()[FIGURES[figure]], tmp_path)
