"""Figures 1, 24 and 26: what is tabulated is what was recorded; failures and edges of the grid are seen."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from featurespeed.drawing import making
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, read_csv, write_csv
from featurespeed.drawing.transfer_rows import ARRIVAL_EXPONENT, CHANCE, SHARPNESS_EXPONENT, SHIFT
from featurespeed.drawing.width_rows import EDGE
from featurespeed.ledger.engine import ledger
from featurespeed.papers.super_consistency.transfer import tables as sc_transfer_tables
from featurespeed.papers.super_consistency.transfer.tables import NEAR_EDGE
from tests.papers.cases import STYLE, criteria_of, drawing_of
from tests.papers.super_consistency.transfer_cases import MATCHED, SHOWN, transfer_tables
from tests.sweeps.cases import WIDTHS, flat, sweep_table

NETWORKS = ("muP", "NTP", "random features")
FIGURES = {name: drawing_of(f"sc_{name}") for name in ("fig01", "fig24", "fig26")}


def sharpness(label, width, rate, step, seed):
    """Rises to the edge in ``width / 2`` steps; differs from seed to seed by a tenth."""
    return (1 + 0.1 * (seed - 1)) * 2 / rate * min(1.0, 0.2 + 1.6 * step / width)


def records(loss=flat, curvature=sharpness, labels=NETWORKS[:2], **options) -> pd.DataFrame:
    settings = {"shown": dict.fromkeys(labels, 1.0), "early_steps": 40, "rates": (0.25, 0.5, 1.0, 2.0, 4.0)} | options
    return sweep_table(loss, {"sharpness": curvature}, labels, **settings)


def failing(label, width, rate, step, seed):
    """The narrowest network diverges at 4 in one seed and dies at 2 in another one; late in training."""
    if label == "muP" and width == 8 and step == 90 and (rate, seed) in ((4.0, 0), (2.0, 1)):
        return math.inf if rate == 4.0 else math.nan
    return flat(label, width, rate, step, seed)


def panel(table: pd.DataFrame, name: str, series: str | None = None) -> pd.DataFrame:
    own = table[table["panel"] == name]
    return own if series is None else own[own["series"] == series]


def draw(name: str, table: pd.DataFrame):
    figure = new_figure(STYLE, *FIGURES[name].size)
    FIGURES[name].draw(table, figure)
    return figure


def texts(figure) -> str:
    return "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)


@pytest.mark.parametrize("name", FIGURES)
def test_artefact_is_made_whatever_the_order_of_the_records(name, tmp_path):
    table = records(failing, labels=NETWORKS, widths=(8, 32, 128), seeds=2)
    making.make(FIGURES[name], (table,), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == (2280, 1320)
    shuffled = table.sample(frac=1, random_state=1)
    shuffled.attrs = table.attrs
    write_csv(FIGURES[name].tabulate(shuffled), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


# --- Figures 1 and 26 -------------------------------------------------------------------------------------------------


def test_transfer_has_the_mean_of_all_seeds_with_their_range():
    table = sc_transfer_tables.tabulate_fig01(records(lambda *place: flat(*place) + 0.1 * place[4]))
    row = panel(table, "transfer | NTP", "N=16").set_index("x").loc[0.5]
    late = flat("", 16, 0.5, 100, 0)
    assert (row["y"], row["y_low"], row["y_high"]) == pytest.approx((late + 0.1, late, late + 0.2))
    assert (row["n"], row["flag"]) == (3, "")
    best = panel(table, "best | NTP")
    assert best["x"].tolist() == [1.0] * 5 and set(best["flag"]) == {""}


def test_failed_rates_stand_at_chance_with_what_happened():
    table = sc_transfer_tables.tabulate_fig01(records(failing))
    rows = panel(table, "transfer | muP", "N=8").set_index("x")
    assert rows["flag"].to_dict() == {0.25: "", 0.5: "", 1.0: "", 2.0: "dead", 4.0: "diverged"}
    assert rows.loc[[2.0, 4.0], "y"].tolist() == pytest.approx([math.log(10)] * 2)
    assert panel(table, "transfer | muP", CHANCE)["y"].tolist() == pytest.approx([math.log(10)] * 2)
    assert set(panel(table, "transfer | NTP")["flag"]) == {""}


def test_losses_fill_their_panel_where_all_networks_trained():
    """A line at the loss of chance, from which those of a text are far, is there for marks of failures only."""
    table = sc_transfer_tables.tabulate_fig01(records(failing))
    assert panel(table, "transfer | NTP", CHANCE).empty
    clean = sc_transfer_tables.tabulate_fig01(records())
    trained = clean.loc[clean["panel"].str.startswith("transfer"), ["y_low", "y_high"]]
    for ax in draw("fig01", clean).axes[0:4:3]:
        low, high = ax.get_ylim()
        assert low < trained.min(axis=None) and trained.max(axis=None) < high < math.log(10)


def test_a_loss_that_explodes_leaves_its_panel_and_the_others_can_be_told_apart():
    def exploding(label, width, rate, step, seed):
        return 1e28 if label == "muP" and width == 8 and step == 0 else flat(label, width, rate, step, seed)

    calm, wild = (draw("fig01", sc_transfer_tables.tabulate_fig01(records(loss))) for loss in (flat, exploding))
    (low, high), usual = wild.axes[2].get_ylim(), calm.axes[2].get_ylim()
    assert usual[0] / 1.2 < low < high < 2.5 * usual[1]
    assert wild.axes[5].get_ylim() == (low, high)


def test_a_loss_that_underflows_beside_one_that_explodes_leaves_the_axis_alone():
    def extreme(label, width, rate, step, seed):
        return {(8, 0): 1e28, (16, 90): 0.0}.get((width, step), flat(label, width, rate, step, seed))

    low, high = draw("fig01", sc_transfer_tables.tabulate_fig01(records(extreme))).axes[2].get_ylim()
    assert 0 < low < high < 10


def test_failures_are_crosses_and_named_below():
    figure = draw("fig01", sc_transfer_tables.tabulate_fig01(records(failing)))
    crosses = {marker: [line for line in figure.axes[0].lines if line.get_marker() == marker and len(line.get_xdata())]
               for marker in ("P", "X")}  # fmt: skip
    assert {marker: len(lines) for marker, lines in crosses.items()} == {"P": 1, "X": 1}
    assert crosses["P"][0].get_xdata()[0] == pytest.approx(4.0, rel=0.2)
    legend = [text.get_text() for text in figure.legends[1].get_texts()]
    assert "a seed diverged" in legend and "a seed died or ended at chance" in legend
    clean = draw("fig01", sc_transfer_tables.tabulate_fig01(records()))
    assert "a seed diverged" not in [text.get_text() for text in clean.legends[1].get_texts()]


def test_no_exponent_is_stated_where_all_networks_are_dead_and_flat(tmp_path):
    """Outputs of 0 have a sharpness of 0, at every width."""
    table = sc_transfer_tables.tabulate_fig01(
        records(curvature=lambda label, width, rate, step, seed: 0.0 if rate == 1.0 else width / rate)
    )
    assert 1.0 not in panel(table, "statistic | muP", SHARPNESS_EXPONENT)["x"].tolist()
    assert 0.5 in panel(table, "statistic | muP", SHARPNESS_EXPONENT)["x"].tolist()
    write_csv(table, tmp_path / "a.csv")
    drawn = texts(draw("fig01", read_csv(tmp_path / "a.csv")))
    assert "at $\\eta_0=0.5$" in drawn and "at $\\eta_0=1$" not in drawn


def test_an_empty_number_is_read_as_missing(tmp_path):
    table = sc_transfer_tables.tabulate_fig01(records())
    table.loc[0, "y"] = math.nan
    write_csv(table, tmp_path / "a.csv")
    again = read_csv(tmp_path / "a.csv")
    assert again["y"].dtype == float and again["y"].isna().sum() == 1


def test_an_optimum_at_the_edge_of_the_grid_is_flagged_hollow_and_leaves_the_interval_open(tmp_path):
    table = sc_transfer_tables.tabulate_fig01(records(rates=(1.0, 2.0, 4.0)))
    assert set(panel(table, "best | muP")["flag"]) == {"grid edge"}
    write_csv(table, tmp_path / "a.csv")
    table = read_csv(tmp_path / "a.csv")
    shift = panel(table, "statistic | muP", SHIFT).iloc[0]
    assert (shift["y"], shift["y_low"], shift["y_high"]) == (0.0, -math.inf, math.inf)
    figure = draw("fig01", table)
    assert "grid edge" in texts(figure) and "0, not decided" in texts(figure)
    hollow = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert len(hollow) == len(WIDTHS) and {line.get_markerfacecolor() for line in hollow} == {"white"}


def test_curves_are_drawn_at_the_rate_that_is_best_for_all_widths():
    table = sc_transfer_tables.tabulate_fig01(records())
    edge = panel(table, "sharpness | muP", EDGE)
    assert set(edge["y"]) == {2.0} and set(edge["x"]) == {0.0, 100.0}
    late = panel(table, "sharpness | muP", "N=8").set_index("x").loc[100.0]
    assert (late["y"], late["y_low"], late["y_high"]) == pytest.approx((2.0, 1.8, 2.2))
    titles = [ax.get_title(loc="left") for ax in draw("fig01", table).axes]
    assert titles[1] == "μP: sharpness at $\\eta_0=1$" and titles[5] == "NTP: loss at $\\eta_0=1$"


def test_exponent_is_printed_at_every_measured_rate_at_which_all_train():
    table = sc_transfer_tables.tabulate_fig01(records(failing))
    assert panel(table, "statistic | muP", SHARPNESS_EXPONENT)["x"].tolist() == [0.25, 0.5, 1.0]
    assert panel(table, "statistic | NTP", SHARPNESS_EXPONENT)["x"].tolist() == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert "at $\\eta_0=0.5$" in texts(draw("fig01", table))


@pytest.mark.parametrize(
    ("name", "label", "series", "rate", "claim"),
    [
        ("fig01", "NTP", SHARPNESS_EXPONENT, MATCHED, "sc_fig1_sharpness_ntp"),
        ("fig01", "muP", SHIFT, 16.0, "sc_fig1_transfer_mup"),
        ("fig01", "NTP", SHIFT, 16.0, "sc_fig1_transfer_ntp"),
        ("fig24", "muP", SHARPNESS_EXPONENT, SHOWN["muP"], "sc_fig24_sharpness"),
        ("fig24", "muP", ARRIVAL_EXPONENT, SHOWN["muP"], "sc_fig24_edge_mup"),
        ("fig24", "NTP", ARRIVAL_EXPONENT, SHOWN["NTP"], "sc_fig24_edge_ntp"),
    ],
)
def test_numbers_of_the_claims_stand_in_the_tables(name, label, series, rate, claim):
    tables = transfer_tables()
    judged, _ = ledger([c for c in criteria_of("sc_transfer") if c.claim_id == claim], tables, "planted")
    own = panel(FIGURES[name].tabulate(tables[f"sc_{name}"]), f"statistic | {label}", series).set_index("x")
    expected = judged[["value", "ci_low", "ci_high"]].iloc[0].tolist()
    assert own.loc[rate, ["y", "y_low", "y_high"]].tolist() == pytest.approx(expected)


def test_exponents_are_printed_beside_the_curves_that_they_are_of():
    table = FIGURES["fig24"].tabulate(transfer_tables()["sc_fig24"])
    row = panel(table, "statistic | NTP", ARRIVAL_EXPONENT).iloc[0]
    assert row["y"] > 0.2
    drawn = texts(draw("fig24", table))
    assert f"of the steps to the edge {row['y']:.2g} [{row['y_low']:.2g}, {row['y_high']:.2g}]" in drawn
    row = panel(table, "statistic | muP", SHARPNESS_EXPONENT).iloc[0]
    assert f"exponent in $N$ {row['y']:.2g} [{row['y_low']:.2g}, {row['y_high']:.2g}] at $\\eta_0=0.8$" in drawn


@pytest.mark.parametrize(
    ("rates", "named"),
    [
        ((0.25, 0.5, 0.75, 1.0, 2.0), ["0.25", "0.5", "0.75", "1", "2"]),
        ((1, 2, 4, 8, 16, 22.6, 32, 45.3, 64, 90.5, 128, 181), ["1", "2", "4", "8", "16", "32", "64", "128"]),
    ],
)
def test_of_many_learning_rates_those_are_named_that_have_room(rates, named):
    figure = draw("fig01", sc_transfer_tables.tabulate_fig01(records(rates=rates)))
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    assert [text.get_text() for text in axis.get_majorticklabels()] == named
    assert sorted([*axis.get_majorticklocs(), *axis.get_minorticklocs()]) == pytest.approx(list(rates))


def test_figure_26_has_a_column_a_network_in_the_order_of_the_paper():
    table = sc_transfer_tables.tabulate_fig26(records(labels=NETWORKS))
    assert not table["panel"].str.startswith("loss").any()
    figure = draw("fig26", table)
    titles = [ax.get_title(loc="left").split(":")[0] for ax in figure.axes]
    assert titles == ["random features", "μP", "NTP"] * 2


# --- Figure 24 --------------------------------------------------------------------------------------------------------


def test_early_figure_ends_with_the_early_steps_but_arrivals_may_be_later():
    table = sc_transfer_tables.tabulate_fig24(records())
    for kind in ("loss", "sharpness"):
        assert panel(table, f"{kind} | muP")["x"].max() == 40
    arrivals = panel(table, "arrival | muP").set_index("series")
    assert arrivals.loc["N=128", "x"] == pytest.approx(128 * 0.7 / 1.6)
    assert arrivals["y"].tolist() == pytest.approx([1.8] * 5)
    drawn = [line.get_xdata()[0] for line in draw("fig24", table).axes[1].lines if line.get_marker() == "D"]
    assert len(drawn) == 4 and max(drawn) <= 40


def test_guides_are_the_edge_and_nine_tenths_of_it():
    table = sc_transfer_tables.tabulate_fig24(records(shown={"muP": 0.5, "NTP": 2.0}))
    assert set(panel(table, "sharpness | muP", EDGE)["y"]) == {4.0}
    assert set(panel(table, "sharpness | NTP", NEAR_EDGE)["y"]) == {0.9}


def test_sharpness_against_the_width_is_that_of_the_curves():
    table = sc_transfer_tables.tabulate_fig24(records())
    own = panel(table, "width | NTP")
    assert own["series"].unique().tolist() == ["step 0", "step 10", "step 20", "step 40"]
    assert panel(own, "width | NTP", "step 10").set_index("x").loc[32.0, "y"] == pytest.approx(2 * (0.2 + 16 / 32))


def test_widths_above_the_edge_from_the_start_are_named_and_have_no_exponent_of_their_steps():
    table = sc_transfer_tables.tabulate_fig24(records(curvature=lambda *place: 4 / place[2]))
    assert panel(table, "statistic | muP", ARRIVAL_EXPONENT).empty
    assert "above the edge from the start: $N=$ 8, 16, 32, 64, 128" in texts(draw("fig24", table))


@pytest.mark.parametrize("name", FIGURES)
def test_a_network_without_losses_and_sharpness_is_left_out(name):
    """Not finite from the first step on: neither a loss nor a curvature was recorded."""
    own = records(labels=NETWORKS)
    ntp = own["series"] == "NTP"
    stopped = own[ntp & (own["quantity"] == "sharpness") & (own["step"] == 0)]
    stopped = stopped.assign(quantity="diverged_step", value=0.0)
    without = pd.concat([own[~ntp], stopped], ignore_index=True)
    without.attrs |= own.attrs
    table = FIGURES[name].tabulate(without)
    assert not table["panel"].str.endswith("| NTP").any() and draw(name, table).axes


def test_a_network_that_stops_early_is_flagged_from_its_last_probe_on():
    def dying(label, width, rate, step, seed):
        return math.nan if (label, width, rate, seed, step) == ("muP", 8, 1.0, 0, 30) else flat(label, 8, rate, step, 0)

    table = sc_transfer_tables.tabulate_fig24(records(dying))
    rows = panel(table, "sharpness | muP", "N=8").set_index("x")
    assert rows.loc[40.0, ["n", "flag"]].tolist() == [2, "dead"] and rows.loc[10.0, "flag"] == ""
    assert panel(table, "statistic | muP", SHARPNESS_EXPONENT).empty
    assert np.isfinite(panel(table, "statistic | NTP", SHARPNESS_EXPONENT)["y"]).all()


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        table = records()
        empty = table.iloc[:0]
        empty.attrs = table.attrs
        sc_transfer_tables.tabulate_fig01(empty)
