"""Figures of the two-layer linear network: tables hold what was computed, and what did not converge is seen."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from featurespeed.drawing import making
from featurespeed.drawing.making import Drawing
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from featurespeed.papers.super_consistency.two_layer import drawing as sc_theory_draw
from featurespeed.papers.super_consistency.two_layer import tables as sc_theory_tables
from featurespeed.papers.super_consistency.two_layer.spec import ToySpec, TwoLayerRunsSpec, TwoLayerTheorySpec
from tests.conftest import load_script
from tests.papers.cases import STYLE
from tests.papers.super_consistency.two_layer_cases import RUNS, THEORY, TOY

STAGES = {
    "theory": ("two_layer_theory", TwoLayerTheorySpec, THEORY),
    "fig05": ("two_layer", TwoLayerRunsSpec, RUNS),
    "fig10": ("two_layer_toy", ToySpec, TOY | {"shown": {"MUP": [0.5, 1.1], "NTP": [1, 500]}}),
}


@pytest.fixture(scope="module")
def records() -> dict[str, pd.DataFrame]:
    return {name: load_script(script).main(kind.model_validate(spec)) for name, (script, kind, spec) in STAGES.items()}


def tabulate(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return getattr(sc_theory_tables, f"tabulate_{name}")(table)


def draw(name: str, table: pd.DataFrame):
    figure = new_figure(STYLE, 11, 8)
    getattr(sc_theory_draw, f"draw_{name}")(table, figure)
    return figure


@pytest.mark.parametrize("name", STAGES)
def test_artefact_is_made_whatever_the_order_of_the_records(name, records, tmp_path):
    functions = (getattr(sc_theory_tables, f"tabulate_{name}"), getattr(sc_theory_draw, f"draw_{name}"))
    drawing = Drawing(*functions, (9.0, 7.0))
    making.make(drawing, (records[name],), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == (1800, 1400)
    write_csv(drawing.tabulate(records[name].sample(frac=1, random_state=1)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_edge_panel_holds_every_converged_run_between_its_lines(records):
    table = tabulate("theory", records["theory"])
    runs = table[(table["panel"] == "edge") & ~table["series"].str.startswith("guide")]
    source = records["theory"]
    assert len(runs) == ((source["series"] == "run") & (source["value"] == 1)).sum() > 0
    assert (runs["y"] <= 1 + 1e-9).all() and (runs["y"] >= runs["x"] * (1 - 1e-5)).all()
    printed = table[table["series"] == "guide printed edge"]
    assert printed["y"].tolist() == pytest.approx((1 + printed["x"] ** 2 / 2).tolist())


def test_exponents_are_printed_in_the_legend(records):
    table = tabulate("theory", records["theory"])
    table.loc[(table["panel"] == "statistic | limit") & table["series"].str.startswith("NTP"), "y"] = -0.87
    legends = [ax.get_legend().get_texts() for ax in draw("theory", table).axes if ax.get_legend()]
    assert any("N^{-0.87}" in text.get_text() for texts in legends for text in texts)


def test_sharpening_factor_is_the_ratio_of_the_ends(records):
    source, table = records["fig05"], tabulate("fig05", records["fig05"])
    own = source[(source["quantity"] == "sharpness") & (source["parameterization"] == "NTP") & (source["width"] == 16)]
    ends = own.pivot_table(index="seed", columns="step", values="value")
    row = table[(table["panel"] == "sharpening") & (table["series"] == "NTP") & (table["x"] == 16)]
    assert row["y"].item() == pytest.approx((ends[40] / ends[0]).mean())
    assert table[table["series"] == "guide 2/eta_0"]["y"].unique().tolist() == pytest.approx([2 / 0.3, 2.0])


def test_exponent_of_the_rise_is_one_fit_a_seed():
    ends = [(seed, width, step) for seed in (0, 1) for width in (8, 16, 32) for step in (0, 40)]
    rows = pd.DataFrame(ends, columns=["seed", "width", "step"]).assign(learning_rate=0.5, quantity="sharpness")
    rise = 3.0 * (1 + rows["seed"]) * rows["width"] ** -0.5
    rows = rows.assign(value=(1 + rise).where(rows["step"] == 40, 1.0))
    both = pd.concat([rows, rows.assign(quantity="gauss_newton_eigenvalue")])
    table = pd.concat(sc_theory_tables._ends(both, "NTP"))
    assert table[table["panel"] == "statistic | sharpening"]["y"].item() == pytest.approx(-0.5)
    fallen = both.assign(value=both["value"].where((both["seed"] == 0) | (both["step"] == 0), 0.9))
    table = pd.concat(sc_theory_tables._ends(fallen, "NTP"))
    assert not (table["panel"] == "statistic | sharpening").any()


def test_toy_draws_cycling_runs_hollow_and_diverged_ones_as_crosses(records):
    table = tabulate("fig10", records["fig10"])
    flags = table[table["panel"].str.startswith("terminal")].set_index(["panel", "series", "x"])["flag"]
    assert flags["terminal | MUP", "eta_0=0.5", 64.0] == ""
    assert flags["terminal | MUP", "eta_0=1.1", 64.0] == "unconverged"
    assert flags["terminal | NTP", "eta_0=500", 8.0] == "diverged"
    left, right = draw("fig10", table).axes[-2:]
    assert any(line.get_markerfacecolor() == "white" and len(line.get_xdata()) for line in left.lines)
    assert [line for line in right.lines if line.get_marker() == "x" and len(line.get_xdata())]


def test_toy_says_its_slope_only_where_the_smallest_rate_converged(records):
    table = tabulate("fig10", records["fig10"])
    assert "statistic | terminal | NTP" in set(table["panel"])
    stuck = records["fig10"].assign(converged=False)
    without = tabulate("fig10", stuck)
    assert "statistic | terminal | NTP" not in set(without["panel"])
    assert draw("fig10", without).axes[-1].get_title(loc="left") == "NTP: terminal sharpness"


def test_threshold_is_a_note_where_it_is_far_above(records):
    table = tabulate("fig05", records["fig05"])
    near = draw("fig05", table).axes[1]
    assert near.get_ylim()[1] > 2 / 0.3 or any("= 6.67" in text.get_text() for text in near.texts)
    far = table.assign(y=table["y"].where(table["series"] != "guide 2/eta_0", 1000.0))
    assert any("= 1000" in text.get_text() for text in draw("fig05", far).axes[1].texts)


@pytest.mark.parametrize("name", STAGES)
def test_nothing_computed_is_an_error(name, records):
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        tabulate(name, records[name].iloc[:0])
