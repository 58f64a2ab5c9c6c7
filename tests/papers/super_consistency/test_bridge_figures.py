"""Figure of what connects the papers: the table holds what is drawn, failures are seen, nothing is computed twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from featurespeed.drawing import making
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from featurespeed.papers.super_consistency.bridge import drawing as sc_bridge_draw
from featurespeed.papers.super_consistency.bridge.analysis import QUANTITIES, SHIFTED
from featurespeed.papers.super_consistency.bridge.tables import BEFORE, tabulate_bridge
from tests.papers.cases import STYLE, drawing_of
from tests.papers.super_consistency.bridge_cases import PROBES, WIDTHS, bridge_table

DRAWING = drawing_of("sc_bridge")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return tabulate_bridge(bridge_table())


def texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in (*ax.texts, ax.title, ax._left_title)]


def draw(table: pd.DataFrame):
    figure = new_figure(STYLE, *DRAWING.size)
    sc_bridge_draw.draw_bridge(table, figure)
    return figure


def test_artefact_is_made_whatever_the_order_of_the_records(tmp_path):
    records = bridge_table(seeds=2)
    making.make(DRAWING, (records,), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == (2520, 1720)
    write_csv(tabulate_bridge(records.sample(frac=1, random_state=1)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_every_network_has_one_prediction_a_quantity_at_its_observed_shift(table):
    observed = table[table["panel"] == "observed shift"].set_index("series")["y"]
    shifts = {"muP": 0.0, "NTP": 2.0, "Depth-muP over depth": 0.0, "muP over depth": -2.0}
    assert observed.to_dict() == pytest.approx(shifts, abs=0.02)  # seeds differ a little
    for name in QUANTITIES:
        own = table[table["panel"] == BEFORE + name].set_index("series")
        assert set(own.index) == set(SHIFTED) and own["x"].to_dict() == observed.to_dict()
    assert own.loc["NTP", "y"] == pytest.approx(0.0, abs=1e-9)  # the sharpness, which starts equal


def test_curves_hold_every_width_and_step_and_sharpness_is_in_units_of_its_edge(table):
    for name in ("feature sensitivity", "angle", "sharpness"):
        own = table[table["panel"] == f"{name} | NTP"]
        assert len(own) == len(WIDTHS) * len(PROBES) and set(own["n"]) == {3}
    start = table[(table["panel"] == "sharpness | muP") & (table["x"] == 0)]
    assert start["y"].tolist() == pytest.approx([0.75] * len(WIDTHS))  # 1.5 at a learning rate of 1
    angle = table[(table["panel"] == "angle | muP") & (table["x"] == 0)]
    assert angle["y"].tolist() == pytest.approx([0.1] * len(WIDTHS))


def test_spreads_are_drawn_without_and_with_decay(table):
    for name in ("feature sensitivity", "angle", "sharpness"):
        own = table[table["panel"] == f"spread of {name}"]
        assert own["series"].value_counts().to_dict() == dict.fromkeys(
            ("muP", "NTP", "muP, weight decay", "NTP, weight decay"), len(PROBES)
        )


def test_panels_print_the_statistics_of_the_claims(table):
    printed = "\n".join(texts(draw(table)))
    assert "feature sensitivity: 0.0 [0.0, 0.1]" in printed and "no shift: 2.0 [2.0, 2.1]" in printed
    assert "rank corr. 0.98" in printed and "with decay" in printed


def test_shift_that_the_grid_does_not_bracket_is_flagged_and_drawn_hollow_without_bounds():
    records = bridge_table()
    cut = tabulate_bridge(records[(records["series"] != "NTP") | (records["learning_rate"] <= 2.0)])
    observed = cut[cut["panel"] == "observed shift"].set_index("series")
    assert observed["flag"].to_dict()["NTP"] == "grid edge" and (observed["flag"] == "").sum() == 3
    assert np.isnan(observed.loc["NTP", "y_high"])
    axes = draw(cut).axes
    shifts = next(ax for ax in axes if "observed" in ax.get_xlabel())
    big = [line for line in shifts.lines if line.get_marker() == "o" and line.get_markersize() > 8]
    assert sum(line.get_markerfacecolor() == "white" for line in big) == 1
    assert not any(isinstance(artist, PathCollection) for artist in shifts.collections)


def test_prediction_far_outside_stands_at_the_border_with_its_value():
    def speed(label, size, rate, step, seed):
        return 4.0 ** (size if label == "muP over depth" else 0.0)

    assert "-12" in texts(draw(tabulate_bridge(bridge_table(feature_speed_rms=speed))))


def test_networks_that_all_fail_leave_their_panels_empty_and_say_so():
    records = bridge_table()
    failed = (records["series"] == "muP") & (records["width"] == 8) & (records["quantity"] == "training_loss")
    table = tabulate_bridge(records[~failed])
    assert not (table["panel"] == "sharpness | muP").any()
    assert "no learning rate\nthat all survive" in texts(draw(table))


def test_run_without_the_networks_over_depth_is_drawn(tmp_path):
    records = bridge_table()
    table = tabulate_bridge(records[~records["series"].str.contains("depth")])
    assert set(table.loc[table["panel"] == "observed shift", "series"]) == {"muP", "NTP"}
    draw(table).savefig(tmp_path / "a.png")
