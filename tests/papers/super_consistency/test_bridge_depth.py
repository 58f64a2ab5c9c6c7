"""The bridge over the depth: planted laws are found and drawn, what cannot be told says so."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing.plotting import new_figure
from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.super_consistency.bridge.depth_drawing import AT_END, BARS, STYLES, WITHIN, WITHOUT
from featurespeed.papers.super_consistency.bridge.depth_tables import BEFORE, BEST, ERROR, OBSERVED
from featurespeed.papers.super_consistency.bridge.spec import OVER_DEPTH
from tests.papers.cases import STYLE, criteria_of, drawing_of
from tests.papers.super_consistency.bridge_depth_cases import LAWS, depth_bridge_table, law

ARTEFACT = "sc_bridge_depth"
CRITERIA = [criterion for criterion in criteria_of("sc_bridge") if criterion.artefact == ARTEFACT]
DRAWING = drawing_of(ARTEFACT)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    return ledger(CRITERIA, {ARTEFACT: table}, "planted")[0].set_index("claim_id")


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    return depth_bridge_table()


@pytest.fixture(scope="module")
def table(records) -> pd.DataFrame:
    return DRAWING.tabulate(records)


def test_planted_laws_confirm_every_claim(records):
    found = judged(records)
    assert len(found) == 4 and set(found["verdict"]) == {Verdict.CONFIRMED}, found[["verdict", "note"]].to_dict()
    assert found["control"].str.endswith("fails, as it must").all()
    assert faults(CRITERIA, {ARTEFACT: records}) == []


def test_best_rates_that_follow_no_law_of_the_angle_contradict():
    """Rates move most in the networks whose angle stays."""
    reverse = dict(zip(OVER_DEPTH, (0.8, -0.1, 0.0, 0.6), strict=True))
    found = judged(depth_bridge_table(best=reverse.__getitem__))
    assert found.loc["sc_bridge_depth_angle", "verdict"] == Verdict.CONTRADICTED
    assert found.loc["sc_bridge_depth_shift_angle", "verdict"] == Verdict.CONTRADICTED


def without_a_start(label: str) -> float:
    """Nothing was measured before training of one network."""
    return math.nan if label == OVER_DEPTH[2] else law(label)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rates": (0.25, 0.5)}, "the interval straddles the threshold"),
        ({"start": without_a_start}, "this run has no measurements of"),
    ],
)
def test_what_cannot_be_told_is_inconclusive(options, reason):
    found = judged(depth_bridge_table(**options))
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found["note"].str.contains(reason).all(), found["note"].tolist()


def failing(records: pd.DataFrame, label: str, depths: tuple[int, ...], largest: float) -> pd.DataFrame:
    """The same runs, but one network ends at chance at larger rates, at these depths."""
    edited = records.copy()
    edited.attrs = records.attrs
    lost = (edited["series"] == label) & edited["depth"].isin(depths) & (edited["learning_rate"] > largest)
    edited.loc[lost & (edited["quantity"] == "training_loss"), "value"] = 3.0
    return edited


def test_a_depth_at_which_every_rate_fails_is_named(records):
    found = judged(failing(records, OVER_DEPTH[0], (24,), 0.0))
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found["note"].str.startswith(f"{OVER_DEPTH[0]}: best rates by depth").all()
    assert found["note"].str.endswith("no rate is left at 24").all()


def test_best_rates_next_to_a_rate_that_failed_are_known_within_bounds(records):
    """The deepest network of one kind fails at 2, its best rate is 1: the shift is known within 0.45 and 0.9 steps."""
    plain, found = judged(records), judged(failing(records, OVER_DEPTH[0], (24,), 1.0))
    errors = [f"sc_bridge_depth_shift_{name}" for name in ("angle", "sensitivity", "sharpness")]
    assert set(found["verdict"]) == {Verdict.CONFIRMED}, found[["ci_low", "ci_high", "verdict", "note"]].to_dict()
    assert found.loc[errors, "ci_high"].tolist() == pytest.approx([0.9] * 3, abs=0.1)
    assert (plain.loc[errors, "ci_high"] < 0.3).all()
    # the law of this network is the least of all, so that its shift takes away from all three pairs of it
    order = "sc_bridge_depth_angle"
    assert found.loc[order, "ci_low"] < plain.loc[order, "ci_low"] - 0.9 / 3 * 3 / 6 + 0.03
    assert found.loc[order, "value"] == pytest.approx(plain.loc[order, "value"], abs=0.02)


def test_best_rates_that_all_lie_next_to_a_rate_that_failed_decide_nothing_of_one_step(records):
    found = judged(failing(records, OVER_DEPTH[0], (3, 6, 12, 24), 1.0))
    errors = found.loc[[f"sc_bridge_depth_shift_{name}" for name in ("angle", "sensitivity", "sharpness")]]
    assert set(errors["verdict"]) == {Verdict.INCONCLUSIVE} and (errors["ci_low"] < 0.2).all()
    assert errors["ci_high"].tolist() == pytest.approx([1.8] * 3, abs=0.1)


def test_a_missing_network_is_named(records):
    found = judged(records[records["series"] != OVER_DEPTH[3]])
    assert found["note"].str.startswith(f"this run has no measurements of {OVER_DEPTH[3]}").all()


@pytest.mark.parametrize("label", OVER_DEPTH)
def test_the_table_holds_shifts_and_quantities_of_the_last_hidden_node(table, label):
    octaves, own = 3, table[table["series"] == label]
    observed = own.loc[own["panel"] == OBSERVED, "y"].iloc[0]
    assert observed == pytest.approx(octaves * LAWS[label], abs=0.15)
    for name in ("angle", "feature sensitivity", "feature speed", "sharpness"):
        values = own[own["panel"] == name].sort_values("x")["y"]
        assert values.iloc[-1] / values.iloc[0] == pytest.approx(8 ** -LAWS[label], rel=0.1)
        predicted = own[own["panel"] == f"{BEFORE}{name}"].iloc[0]
        assert predicted["x"] == pytest.approx(observed) and predicted["y"] == pytest.approx(observed, abs=0.2)
    assert own[own["panel"] == BEST].sort_values("x")["x"].tolist() == [3, 6, 12, 24]


def test_the_ledger_and_the_table_have_the_same_errors(records, table):
    found = judged(records)
    for name, claim in (("angle", "angle"), ("feature sensitivity", "sensitivity"), ("sharpness", "sharpness")):
        drawn = table[table["series"] == f"{ERROR}{name}"].iloc[0]
        row = found.loc[f"sc_bridge_depth_shift_{claim}"]
        assert [drawn["y"], drawn["y_low"], drawn["y_high"]] == pytest.approx(
            [row["value"], row["ci_low"], row["ci_high"]]
        )


def test_the_figure_prints_the_errors_and_names_the_networks(table):
    figure = new_figure(STYLE, *DRAWING.size)
    DRAWING.draw(table, figure)
    printed = [text.get_text() for ax in figure.axes for text in ax.texts if "largest error" in text.get_text()]
    assert len(printed) == 1 and all(name in printed[0] for name in ("angle", "feature sensitivity", "sharpness"))
    assert len(figure.legends[0].get_texts()) == len(STYLES) == 4
    assert len({tuple(style.values()) for style in STYLES.values()}) == 4


def drawn(table: pd.DataFrame):
    """The lower panels of the figure: best learning rates and shifts."""
    figure = new_figure(STYLE, *DRAWING.size)
    DRAWING.draw(table, figure)
    return figure.axes[4:]


def legend_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_hollow_marks_and_bars_are_in_the_legends(table):
    best, shifts = drawn(table.assign(flag=""))
    assert legend_of(best) == [] and {WITHOUT, WITHIN, BARS} < set(legend_of(shifts))
    flag = table["flag"].where(table["panel"] != BEST, "grid edge")
    assert legend_of(drawn(table.assign(flag=flag))[0]) == [AT_END]


def bars(ax) -> set[tuple[float, ...]]:
    """Ends of all bars of a panel, rounded: x and y of the one and of the other."""
    lines = [line for found in ax.collections if hasattr(found, "get_segments") for line in found.get_segments()]
    return {tuple(round(float(value), 6) for end in line for value in end) for line in lines if len(line)}


def test_bounds_of_shifts_are_bars_and_open_ones_reach_the_frame(table):
    label, other = OVER_DEPTH[:2]
    own = table.copy()
    observed, predicted = own["panel"] == OBSERVED, own["panel"] == f"{BEFORE}angle"
    own.loc[observed, ["y_low", "y_high"]] = math.nan
    own.loc[observed & (own["series"] == label), ["y_low", "y_high"]] = -9.0, math.inf
    ax, row = drawn(own)[1], own[predicted & (own["series"] == label)].iloc[0]
    found, (left, right) = bars(ax), ax.get_xlim()
    upright, level = (row.x, row.y_low, row.x, row.y_high), (-9.0, row.y, right, row.y)
    assert {tuple(round(float(value), 6) for value in line) for line in (upright, level)} <= found
    assert left < -9.0
    height = round(float(own.loc[predicted & (own["series"] == other), "y"].iloc[0]), 6)
    assert not [line for line in found if line[1] == line[3] == height]  # nothing is known of it


def test_best_rates_within_a_decade_have_enough_numbers(table):
    own = table["panel"] == BEST
    ax = drawn(table.assign(y=table["y"].where(~own, 0.2 + 0.03 * table["x"])))[0]
    low, high = ax.get_ylim()
    assert len([tick for tick in ax.get_yticks() if low <= tick <= high]) >= 3


def test_best_rates_at_an_end_of_the_grid_leave_shifts_and_errors_open(table):
    """At rates up to 1: best ones of all shallow networks may lie above; those of one kind fall to 1/4, and below."""
    found = DRAWING.tabulate(depth_bridge_table(rates=(0.25, 0.5, 1.0)))
    errors = found[found["panel"] == "statistic"]
    assert len(errors) == 4 and np.isposinf(errors["y_high"]).all() and (errors["y_low"] == 0).all()
    observed = found[found["panel"] == OBSERVED].set_index("series")[["y_low", "y_high"]]
    rising, falling = observed.loc[OVER_DEPTH[1]], observed.loc[OVER_DEPTH[2]]
    assert (rising["y_low"], rising["y_high"]) == (-math.inf, math.inf)
    assert falling["y_low"] == -math.inf and 3 * LAWS[OVER_DEPTH[2]] < falling["y_high"] < -1
    assert np.isfinite(table.loc[table["panel"].isin([OBSERVED, "statistic"]), ["y_low", "y_high"]]).all(axis=None)
    ax = drawn(found)[1]
    left, right = (round(float(end), 6) for end in ax.get_xlim())
    for label, low, high in ((OVER_DEPTH[1], left, right), (OVER_DEPTH[2], left, round(falling["y_high"], 6))):
        own = (found["panel"] == f"{BEFORE}angle") & (found["series"] == label)
        height = round(float(found.loc[own, "y"].iloc[0]), 6)
        assert (low, height, high, height) in bars(ax)


def test_networks_that_diverge_are_left_out_of_the_drawing_and_told():
    found = DRAWING.tabulate(depth_bridge_table(start=without_a_start))
    assert OVER_DEPTH[2] not in set(found.loc[found["panel"] == "angle", "series"])
    figure = new_figure(STYLE, *DRAWING.size)
    DRAWING.draw(found, figure)
    printed = next(text.get_text() for ax in figure.axes for text in ax.texts if "largest error" in text.get_text())
    assert printed.count("cannot be told") == 4
