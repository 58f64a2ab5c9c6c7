"""The comparison of conventions: its table holds what was measured, its figure says what is not known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.papers.super_consistency.conventions.tables import LEVEL, OVER_BASE, RATE, SHIFT
from tests.papers.cases import drawing_of
from tests.papers.super_consistency.conventions_cases import WIDTHS, conventions
from tests.papers.super_consistency.figure_cases import assert_made, draw, texts, values

ID = "sc_conventions"
TABULATE = drawing_of(ID).tabulate
TABLE = TABULATE(conventions())
STUCK = "ConvNet, without the nine"


def point(table: pd.DataFrame, panel: str, series: str) -> pd.Series:
    """The last point of a series."""
    return table[(table["panel"] == panel) & (table["series"] == series)].iloc[-1]


def names(figure) -> list[str]:
    """The networks from above to below."""
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_artefact_is_made_and_its_table_does_not_depend_on_the_order_of_the_records(tmp_path):
    assert_made(ID, conventions(), tmp_path)


def test_two_widths_and_two_seeds_are_drawn():
    stage = conventions()
    small = stage[(stage["width"] <= 16) & (stage["seed"] < 2)]
    assert draw(ID, TABULATE(small)).axes


def test_nothing_measured_is_an_error():
    stage = conventions()
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        TABULATE(stage[stage["quantity"] == "training_loss"])


@pytest.mark.parametrize("label", ["ConvNet, average pooling", "ConvNet"])
def test_a_network_that_overflows_at_the_start_is_left_out(label):
    stage = conventions()
    without = stage[(stage["series"] != label) | (stage["quantity"] == "training_loss")]
    without.attrs |= stage.attrs
    table = TABULATE(without)
    assert label not in set(table["series"]) and "3-layer ConvNet, ours" in set(table["series"])
    assert draw(ID, table).axes


def test_a_start_without_a_logarithm_is_compared_with_nothing():
    stage = conventions()
    dead = (stage["series"] == "3-layer ConvNet, ours") & (stage["quantity"] == "sharpness")
    table = TABULATE(stage.assign(value=stage["value"].mask(dead, 0.0)))
    assert "3-layer ConvNet, ours" not in set(table.loc[table["panel"] == f"{LEVEL}{OVER_BASE} | ConvNet", "series"])


def test_the_table_holds_what_is_planted():
    rates = values(TABLE, f"{RATE} | SimpleConvNet", "SimpleConvNet, without the nine")
    assert rates == pytest.approx([0.25] * 2, rel=0.05)
    assert values(TABLE, f"{RATE} | SimpleConvNet", "SimpleConvNet", "x") == [WIDTHS[0], WIDTHS[-1]]
    # A SimpleConvNet of stride 1 ends at 2 x 2 pixels, all of which the authors' gamma counts.
    assert values(TABLE, f"{RATE} | SimpleConvNet", "SimpleConvNet, stride 1", "x") == [4 * WIDTHS[0], 4 * WIDTHS[-1]]
    assert point(TABLE, f"{LEVEL} | ConvNet", "3-layer ConvNet, ours")["y"] == pytest.approx(0.5, rel=0.02)
    assert point(TABLE, f"{SHIFT} | ConvNet", "ConvNet")["y"] == pytest.approx(0, abs=0.2)


def test_factors_on_the_base_are_paired_and_printed():
    row = point(TABLE, f"{LEVEL}{OVER_BASE} | ConvNet", "3-layer ConvNet, ours")
    assert row["y"] == pytest.approx(10, rel=0.02) and row["y_low"] < row["y"] < row["y_high"]
    assert point(TABLE, f"{RATE}{OVER_BASE} | ConvNet", STUCK)["y"] == pytest.approx(0.25, rel=0.05)
    written = texts(draw(ID, TABLE))
    assert "×10" in written and "×0.25" in written
    assert not (TABLE["panel"].str.contains(OVER_BASE) & TABLE["series"].isin(("ConvNet", "SimpleConvNet"))).any()


def test_rows_are_grouped_by_family_under_their_base():
    assert names(draw(ID, TABLE)) == [
        "SimpleConvNet", "average pooling", "stride 1", "without the nine", "2-layer ConvNet, ours",
        "ConvNet", "average pooling", "without the nine", "3-layer ConvNet, ours",
    ]  # fmt: skip


def test_best_rates_at_an_end_of_the_grid_are_hollow_and_their_shift_is_open():
    table = TABULATE(conventions({STUCK: -6.0}))
    assert point(table, f"{RATE} | ConvNet", STUCK)["flag"] == "grid edge"
    assert np.isinf(point(table, f"{SHIFT} | ConvNet", STUCK)["y_high"])
    assert STUCK not in set(table.loc[table["panel"] == f"{RATE}{OVER_BASE} | ConvNet", "series"])
    legend = [text.get_text() for text in draw(ID, table).legends[0].get_texts()]
    assert "best rate not bracketed" in legend
    assert "best rate not bracketed" not in [text.get_text() for text in draw(ID, TABLE).legends[0].get_texts()]


def test_a_network_that_trains_at_no_rate_keeps_its_row():
    stage = conventions()
    failed = (stage["series"] == STUCK) & (stage["quantity"] == "training_loss")
    table = TABULATE(stage.assign(value=stage["value"].mask(failed, 5.0)))
    row = point(table, f"{LEVEL} | ConvNet", STUCK)
    assert math.isnan(row["y"]) and row["flag"] == "dead"
    figure = draw(ID, table)
    assert names(figure) == names(draw(ID, TABLE)) and "trains at no rate" in texts(figure)


def test_an_eigenvalue_that_did_not_converge_is_flagged():
    stage = conventions()
    bad = (stage["series"] == STUCK) & (stage["quantity"] == "sharpness") & (stage["seed"] == 1)
    table = TABULATE(stage.assign(converged=stage["converged"] & ~bad))
    assert point(table, f"{LEVEL} | ConvNet", STUCK)["flag"] == "unconverged"
    assert point(table, f"{LEVEL} | ConvNet", "ConvNet")["flag"] == ""
