"""Figure 28 and Table 1 of the second paper: what is tabulated is right, complete, and exactly what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from featurespeed.drawing import making
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, read_csv, write_csv
from featurespeed.papers.super_consistency.coordinate_check import claims_forms as forms
from featurespeed.papers.super_consistency.coordinate_check import drawing as sc_draw
from featurespeed.papers.super_consistency.coordinate_check import tables as sc_tables
from featurespeed.papers.super_consistency.coordinate_check.analysis import depth_table, fit_exponent, width_table
from featurespeed.papers.super_consistency.coordinate_check.drawing_table1 import draw_table1
from featurespeed.records import frame
from tests.papers.cases import STYLE, criteria_of, drawing_of
from tests.papers.super_consistency.coordinate_check_cases import (
    DIFFERENT,
    SAME,
    SEEDS,
    WIDTHS,
    fig28_records,
    row,
    table1_records,
)

RECORDS = {"sc_fig28": fig28_records, "sc_table1": table1_records}
TRANSFORMER_AXES = 6  # three networks, features and outputs; widths and depths
CASES = 11  # SP, muP, Depth-muP with two optimizers, NTP and random features with one, two further checks


@pytest.mark.parametrize("artefact", RECORDS)
def test_artefact_is_made_from_its_stage_table_whatever_the_order_of_the_records(artefact, tmp_path):
    drawing, records = drawing_of(artefact), RECORDS[artefact]()
    making.make(drawing, (records,), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == tuple(round(200 * inches) for inches in drawing.size)
    write_csv(drawing.tabulate(records.sample(frac=1, random_state=1)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


# --- Figure 28 --------------------------------------------------------------------------------------------------------


def test_updates_are_geometric_means_over_seeds():
    table = sc_tables.tabulate_fig28(fig28_records())
    point = table.query("panel == 'feature update | NTP, sgd' and series == 'step 4' and x == 128").iloc[0]
    logs = np.log([5 * (1 + seed) / 128**0.5 for seed in range(SEEDS)])
    half = 3.182446 * logs.std(ddof=1) / SEEDS**0.5  # Student's t, three degrees of freedom
    expected = tuple(np.exp([logs.mean(), logs.mean() - half, logs.mean() + half]))
    assert (point.y, point.y_low, point.y_high) == pytest.approx(expected, rel=1e-5)
    assert point.n == SEEDS


def test_slopes_in_the_table_are_the_planted_ones():
    table = sc_tables.tabulate_fig28(fig28_records(wrong_rule=0.5, small_outputs=-0.03))
    slopes = table[table["panel"].str.startswith("slope")].set_index(["panel", "series", "x"])["y"]
    expected = {
        ("slope | SP, sgd", "feature update", 1.0): 0.5,
        ("slope | SP, adam", "feature update", 4.0): 1.0,
        ("slope | NTP, sgd", "hidden, propagating", 4.0): -0.5,
        ("slope | MUP, adam", "readout, effective", 4.0): 0.0,
        ("slope | MUP, sgd, wrong rule", "feature update", 4.0): 0.5,
        ("slope | MUP, sgd, small outputs", "feature update", 1.0): -0.03,
    }
    for key, value in expected.items():
        assert slopes[key] == pytest.approx(value, abs=1e-9)


def test_parts_are_those_of_the_last_step_and_hidden_layers_are_averaged():
    records = fig28_records()
    table = sc_tables.tabulate_fig28(records)
    rows = records.query(
        "case == 'convnet' and parameterization == 'DEPTH_MUP' and optimizer == 'sgd' and series == 'hidden' and "
        "quantity == 'effective_update_rms' and step == 4 and width == 64"
    )
    assert rows["layer"].nunique() == 2
    own = table.query("panel == 'parts | DEPTH_MUP, sgd' and series == 'hidden, effective' and x == 64").iloc[0]
    assert own.y == pytest.approx(math.exp(np.log(rows.groupby("seed")["value"].mean()).mean()))
    assert set(table.loc[table["panel"].str.startswith("slope"), "x"]) == {1.0, 4.0}
    parts = table[table["panel"].str.startswith("slope") & table["series"].isin(sc_tables.PARTS)]
    assert set(parts["x"]) == {4.0}


def test_random_features_stay_in_the_table_as_exact_zeros_without_a_slope():
    table = sc_tables.tabulate_fig28(fig28_records())
    own = table[table["panel"] == "feature update | RANDOM_FEATURES, sgd"]
    assert len(own) == 2 * len(WIDTHS) and (own[["y", "y_low", "y_high"]] == 0).all(axis=None)
    slopes = table[table["panel"] == "slope | RANDOM_FEATURES, sgd"]
    assert set(slopes["series"]) == {"readout, effective"}


def test_a_seed_without_an_update_is_left_out_of_the_slope_and_flagged():
    records = fig28_records()
    dead = (records["quantity"] == "feature_update_rms") & (records["parameterization"] == "NTP")
    dead &= (records["seed"] == 0) & (records["width"] == 64)
    table = sc_tables.tabulate_fig28(records.assign(value=records["value"].where(~dead, 0.0)))
    slopes = table.query("panel == 'slope | NTP, sgd' and series == 'feature update'")
    assert set(slopes["flag"]) == {"dead"} and set(slopes["n"]) == {SEEDS - 1}
    assert slopes["y"].to_numpy() == pytest.approx(-0.5)
    points = table.query("panel == 'feature update | NTP, sgd'").set_index("x")["flag"]
    assert set(points[64]) == {"unconverged"} and set(points[128]) == {""}


def test_figure_has_a_panel_a_case_and_says_that_random_features_stand_still():
    figure = new_figure(STYLE, 10, 11)
    sc_draw.draw_fig28(sc_tables.tabulate_fig28(fig28_records()), figure)
    assert len(figure.axes) == 2 * CASES + 1 + len(sc_tables.PARTS) + TRANSFORMER_AXES
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:2] == ["SP (SGD)", "NTP (SGD)"] and titles.count("Depth-μP (Adam)") == 2
    still = next(ax for ax in figure.axes if ax.get_title(loc="left") == "random features (SGD)")
    assert "exactly 0 at every" in " ".join(text.get_text() for text in still.texts)


def test_drawn_curves_and_slopes_are_those_of_the_table():
    table = sc_tables.tabulate_fig28(fig28_records())
    figure = new_figure(STYLE, 10, 11)
    sc_draw.draw_fig28(table, figure)
    sp = next(ax for ax in figure.axes if ax.get_title(loc="left") == "SP (SGD)")
    drawn = {(float(x), float(y)) for line in sp.lines for x, y in zip(*line.get_data(), strict=True)}
    own = table[table["panel"] == "feature update | SP, sgd"]
    assert drawn == set(zip(own["x"], own["y"], strict=True))
    assert any("step 4: 0.50 [0.50, 0.50]" in text.get_text() for text in sp.texts)


def test_fewer_parameterizations_and_one_optimizer_still_make_a_figure():
    records = fig28_records()
    keep = records["parameterization"].isin(["MUP", "NTP"]) & (records["optimizer"] == "sgd")  # no transformers
    figure = new_figure(STYLE, 10, 11)
    sc_draw.draw_fig28(sc_tables.tabulate_fig28(records[keep]), figure)
    assert len(figure.axes) == 2 * 4 + 1 + len(sc_tables.PARTS)


# --- Table 1 ----------------------------------------------------------------------------------------------------------


def test_measured_exponents_stand_beside_the_stated_ones():
    table = sc_tables.tabulate_table1(table1_records())
    exponents = table[table["panel"].str.contains("exponent of N")]
    assert exponents["panel"].str.startswith("transformer").any()
    np.testing.assert_allclose(exponents["y"], exponents["x"], atol=1e-8)
    assert set(exponents["n"]) == {SEEDS} and set(exponents["flag"]) == {""}
    own = table.query("panel == 'SP | exponent of N, propagating_update_rms'").set_index("series")["x"]
    # SP, Adam: the first hidden layer moves like N, the second by its own weights too, the readout like N^1.5.
    assert dict(own) == {
        "hidden 1, sgd": -0.5, "hidden 2, sgd": 0.5, "readout, sgd": 1.0, "hidden 1, adam": 0.0, "hidden 2, adam": 1.0,
        "readout, adam": 1.5, "hidden 1, adamw": 0.0, "hidden 2, adamw": 1.0, "readout, adamw": 1.5,
    }  # fmt: skip


def test_what_is_exactly_zero_has_rows_of_its_own():
    table = sc_tables.tabulate_table1(table1_records())
    zero = table[table["panel"].str.startswith("RANDOM_FEATURES | exactly 0")]
    assert set(zip(zero["panel"].str.split(", ").str[1], zero["series"], strict=True)) == {
        ("effective_update_rms", "input, sgd"), ("effective_update_rms", "hidden 1, sgd"),
        ("effective_update_rms", "hidden 2, sgd"), ("propagating_update_rms", "input, sgd"),
        ("propagating_update_rms", "hidden 1, sgd"), ("propagating_update_rms", "hidden 2, sgd"),
        ("propagating_update_rms", "readout, sgd"),
    }  # fmt: skip
    assert set(zero["y"]) == {0.0}


def test_depth_exponents_take_the_mean_over_blocks_and_the_control_stands_beside_them():
    table = sc_tables.tabulate_table1(table1_records())
    own = table[table["panel"] == "DEPTH_MUP | exponent of L"].set_index("series")
    np.testing.assert_allclose(own["y"], own["x"], atol=1e-8)
    assert own.loc["hidden, effective, sgd", "x"] == -0.5
    control = table[table["panel"] == "MUP | exponent of L"]
    np.testing.assert_allclose(control["y"], control["x"] + 2.0, atol=1e-8)


def test_forms_give_the_largest_difference_and_the_bounds():
    table = sc_tables.tabulate_table1(table1_records())
    own = table[table["panel"] == "forms"].set_index("series")
    assert set(own.index) == {f"{v} | {n}" for v in SAME | DIFFERENT for n in ("MUP", "DEPTH_MUP")} | set(
        sc_tables.FORM_BOUNDS
    )
    one = own.loc["adam, one eps | MUP"]
    assert (one.y, one.y_low, one.y_high, one.x, one.n) == pytest.approx((0.13, 0.1, 0.13, 100, SEEDS))


def test_drawn_bounds_of_the_forms_are_the_ledgers_thresholds():
    criteria = criteria_of("sc_coordinate_check")
    same = {c.threshold.high for c in criteria if c.compute in {f"largest difference of the training curves, {v}"
                                                                 for v in forms.SAME}}  # fmt: skip
    differ = {c.threshold.low for c in criteria if c.compute in {f"difference of the training curves, {v}"
                                                                  for v in forms.DIFFERENT}}  # fmt: skip
    assert (same, differ) == tuple({bound} for bound in sc_tables.FORM_BOUNDS.values())


def test_table_names_every_layer_and_marks_zeros(tmp_path):
    write_csv(sc_tables.tabulate_table1(table1_records()), tmp_path / "t.csv")
    figure = new_figure(STYLE, 9, 10)
    draw_table1(read_csv(tmp_path / "t.csv"), figure)
    assert len(figure.axes) == 5 * 3 + 3 + TRANSFORMER_AXES
    labels = [label.get_text() for label in figure.axes[9].get_yticklabels()]  # Depth-muP, activations
    assert labels == ["input", "hidden 1", "hidden 2", "hidden 3", "readout"]
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts.count("exactly 0") == 4 + 7  # the input layer's propagating update, and random features


def test_what_is_stated_to_be_zero_and_moves_is_marked():
    records = table1_records()
    wrong = (records["parameterization"] == "NTP") & (records["quantity"] == "propagating_update_rms")
    wrong &= (records["series"] == "input") & (records["case"] == "width")
    table = sc_tables.tabulate_table1(records.assign(value=records["value"].where(~wrong, 0.25)))
    marked = table[table["panel"].str.startswith("NTP | exactly 0")].iloc[0]
    assert (marked.y, marked.flag) == (0.25, "")
    figure = new_figure(STYLE, 9, 10)
    draw_table1(table, figure)
    assert "stated 0, up to 0.2" in [text.get_text() for ax in figure.axes for text in ax.texts]


# --- transformers -----------------------------------------------------------------------------------------------------


def test_updates_of_transformers_are_those_of_the_first_and_the_last_step_and_slopes_of_the_last():
    table = sc_tables.tabulate_fig28(fig28_records())
    own = table[table["panel"] == "transformer | GPT | features"]
    assert set(own["series"]) == {f"{name}, step {step}" for name in ("SP", "MUP", "DEPTH_MUP") for step in (1, 4)}
    point = own.query("series == 'SP, step 4' and x == 128").iloc[0]
    assert point.y == pytest.approx(5 * 128 * math.prod(1 + seed for seed in range(SEEDS)) ** (1 / SEEDS), rel=1e-5)
    slopes = table[table["panel"] == "transformer | GPT | slope, features"].set_index("series")
    assert dict(slopes["y"]) == pytest.approx({"SP": 1.0, "MUP": 0.0, "DEPTH_MUP": 0.0}, abs=1e-8)
    assert set(slopes["x"]) == {4.0}
    # The update of the output of the planted SP is the larger one of its parts, N^(3/2).
    output = table[table["panel"] == "transformer | GPT | slope, output"].set_index("series")["y"]
    assert output["SP"] == pytest.approx(1.5)


def test_drawn_updates_of_transformers_are_those_of_the_table_and_slopes_stand_beside_them():
    table = sc_tables.tabulate_fig28(fig28_records())
    figure = new_figure(STYLE, 10, 13)
    sc_draw.draw_fig28(table, figure)
    ax = next(ax for ax in figure.axes if ax.get_title(loc="left") == "post-LN, features")
    drawn = {(float(x), float(y)) for line in ax.lines for x, y in zip(*line.get_data(), strict=True)}
    own = table[table["panel"] == "transformer | post-LN | features"]
    assert drawn == set(zip(own["x"], own["y"], strict=True))
    assert {text.get_text().replace("−0.00", "0.00") for text in ax.texts} == {
        "SP: 1.00 [1.00, 1.00]", "μP: 0.00 [0.00, 0.00]", "Depth-μP: 0.00 [0.00, 0.00]",
    }  # fmt: skip


def test_layers_of_one_kind_are_averaged_and_networks_have_the_parts_that_they_have():
    table = sc_tables.tabulate_table1(table1_records())
    parts = {
        label: {series.partition(", ")[0] for series in table.query("panel == @panel")["series"]}
        for label, panel in ((label, f"transformer | {label} | exponent of N") for label in ("ViT", "GPT"))
    }
    common = {"feature update", "hidden", "readout", "biases", "gains", "embeddings"}
    assert parts == {"ViT": common | {"input"}, "GPT": common}
    own = table.query("panel == 'transformer | ViT | exponent of N'").set_index("series")
    assert own.loc["hidden, SP", "x"] == own.loc["feature update, SP", "x"] == 1.0
    assert own.loc["hidden, MUP", "x"] == own.loc["embeddings, SP", "x"] == 0.0


def test_a_transformer_without_an_update_keeps_its_row_without_an_exponent():
    records = table1_records()
    still = (records["case"] == "width | GPT") & (records["series"] == "gain")
    table = sc_tables.tabulate_table1(records.assign(value=records["value"].where(~still, 0.0)))
    own = table.query("panel == 'transformer | GPT | exponent of N'").set_index("series")
    assert math.isnan(own.loc["gains, MUP", "y"]) and own.loc["gains, MUP", "flag"] == "dead"
    figure = new_figure(STYLE, 9, 15)
    draw_table1(table, figure)


def test_over_the_depth_diamonds_stand_at_what_is_stated_for_depth_mup_and_the_control_has_none():
    table = sc_tables.tabulate_table1(table1_records())
    figure = new_figure(STYLE, 9, 15)
    draw_table1(table, figure)
    ax = next(ax for ax in figure.axes if ax.get_title(loc="center") == "GPT: over the depth")
    diamonds = [float(x) for line in ax.lines if line.get_marker() == "D" for x in line.get_xdata()]
    assert sorted(diamonds) == [-0.5, 0.0, 0.0]
    own = table.query("panel == 'transformer | GPT | exponent of L'").set_index("series")
    assert own.loc["feature update, MUP", "y"] == pytest.approx(1.0)


# --- reading coordinate checks ----------------------------------------------------------------------------------------


def test_exponents_of_another_parameterization_can_be_put_beside():
    records = table1_records()
    own, other = (width_table(records, "NTP", "sgd", stated) for stated in (None, "SP"))
    assert [e.measured.value for e in own if e.measured] == pytest.approx([e.stated for e in own if e.measured])
    assert max(abs(e.measured.value - e.stated) for e in other if e.measured) == pytest.approx(1.0)


def test_absent_networks_give_no_exponents():
    records = table1_records()
    assert width_table(records, "NTP", "adam") == [] and depth_table(records, "SP", "sgd") == []


def test_one_seed_alone_gives_no_exponent():
    records = frame([row(width=w, quantity="update_rms", series="hidden", value=float(w)) for w in WIDTHS])
    assert fit_exponent(records, "width") == (None, 0)
