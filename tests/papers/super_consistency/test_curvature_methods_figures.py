"""Comparison of methods: what is tabulated is what was measured, and wrong or unfinished measurements are seen."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from featurespeed.drawing import making
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from featurespeed.papers.super_consistency.curvature_methods import drawing as sc_curvature_draw
from featurespeed.papers.super_consistency.curvature_methods import tables as sc_curvature_tables
from featurespeed.papers.super_consistency.curvature_methods.tables import FLOOR, METHODS, SHOWN
from featurespeed.records import frame
from tests.papers.cases import STYLE, drawing_of

RATE, STEPS, STARTS = 0.5, (0, 100), 3
TRUTH = {0: 0.5, 100: 4.0}


def rows(case: str):
    """Every method errs by 1e-5 at the first start, less at the others, and spends 10 products and one more a start."""
    base = {"case": case, "learning_rate": RATE, "width": 8, "depth": 2, "input_dim": 64, "output_dim": 10}
    for step, truth in TRUTH.items():
        keys = base | {"step": step, "estimator": "Lanczos"}
        yield keys | {"series": "truth", "seed": 0, "quantity": "sharpness", "value": truth}
        yield keys | {"series": "truth", "seed": 0, "quantity": "smallest_eigenvalue", "value": -0.1}
        for method in METHODS:
            for start in range(STARTS):
                own = keys | {"series": method, "seed": start, "products": 10 + start}
                error = 1e-5 / 10**start
                yield own | {"quantity": "sharpness", "value": truth * (1 - error)}
                yield own | {"quantity": "relative_error", "value": error}


def records(*cases: str) -> pd.DataFrame:
    return frame([row for case in cases or ("ConvNet", "MLP") for row in rows(case)])


def draw(table: pd.DataFrame):
    figure = new_figure(STYLE, 11, 7)
    sc_curvature_draw.draw_sharpness_methods(table, figure)
    return figure


def changed(column: str, value: object, **keys: object) -> pd.DataFrame:
    """The records with one value changed where all keys hold."""
    table = records()
    hit = pd.Series(True, index=table.index)
    for name, wanted in keys.items():
        hit &= table[name] == wanted
    assert hit.any()
    return table.assign(**{column: table[column].where(~hit, value)})


def test_artefact_is_made_whatever_the_order_of_the_records(tmp_path):
    drawing = drawing_of("sc_sharpness_methods")
    making.make(drawing, (records(),), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == (2280, 1480)
    write_csv(drawing.tabulate(records().sample(frac=1, random_state=1)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_every_measurement_stands_in_the_table_once_with_its_cost():
    table = sc_curvature_tables.tabulate_sharpness_methods(records())
    own = table[(table["panel"] == "error | MLP") & (table["series"] == "Lanczos, cold")].sort_values("order")
    assert own["x"].tolist() == [10, 11, 12] * len(STEPS)
    assert own["y"].tolist() == pytest.approx([1e-5, 1e-6, 1e-7] * len(STEPS))
    assert own["order"].tolist() == list(range(STARTS * len(STEPS)))


def test_medians_are_over_all_steps_and_starts_and_costs_over_starts():
    table = sc_curvature_tables.tabulate_sharpness_methods(changed("products", 50, step=100, quantity="relative_error"))
    keys = table.set_index(["panel", "series", "x"])
    medians = table[table["panel"] == "median | ConvNet"]
    assert len(medians) == len(METHODS) and set(medians["x"]) == {31.0} and set(medians["n"]) == {6}
    assert medians["y"].tolist() == pytest.approx([1e-6] * len(METHODS))
    assert keys.loc[("products | ConvNet", "ARPACK LA, tuned", 0.0), "y"] == 11
    assert keys.loc[("products | ConvNet", "ARPACK LA, tuned", 100.0), "y"] == 50


def test_an_exact_estimate_has_a_place_on_the_logarithmic_axis():
    table = sc_curvature_tables.tabulate_sharpness_methods(changed("value", 0.0, quantity="relative_error", seed=0))
    assert table.loc[table["panel"] == "error | MLP", "y"].min() == FLOOR
    assert draw(table).axes[0].get_ylim()[0] < FLOOR


def test_truth_and_threshold_are_in_the_table():
    table = sc_curvature_tables.tabulate_sharpness_methods(records())
    own = table[table["panel"] == "sharpness | MLP"].set_index(["series", "x"])["y"]
    assert own[("largest eigenvalue", 100.0)] == 4.0 and own[("smallest eigenvalue", 0.0)] == -0.1
    assert set(own["guide 2/learning rate"]) == {2 / RATE}
    ratios = table[table["panel"] == "estimate | MLP"]
    assert set(ratios["series"]) == set(SHOWN)
    assert ratios["y"].max() == pytest.approx(1 - 1e-7) and ratios["y"].min() == pytest.approx(1 - 1e-5)


def test_a_wrong_eigenvalue_is_a_cross_and_an_unfinished_one_hollow():
    plain = draw(sc_curvature_tables.tabulate_sharpness_methods(records())).axes[0]
    assert not points(plain, marker="x")
    wrong = changed("value", 2.0, series=SHOWN[1], quantity="relative_error", step=0, seed=1, case="ConvNet")
    table = sc_curvature_tables.tabulate_sharpness_methods(wrong)
    assert points(draw(table).axes[0], marker="x") == [(11.0, 2.0)]
    unfinished = changed("converged", False, series=SHOWN[1], step=0, seed=2, case="ConvNet")
    table = sc_curvature_tables.tabulate_sharpness_methods(unfinished)
    hollow = draw(table).axes[0]
    assert [p for p in points(hollow, face="white") if p[1] < 1] == [(12.0, pytest.approx(1e-7))]


def points(ax, marker: str = "", face: str = "") -> list[tuple[float, float]]:
    """Points drawn with a marker or a face colour."""
    lines = [
        line for line in ax.lines if (not marker or line.get_marker() == marker)
        and (not face or line.get_markerfacecolor() == face)
    ]  # fmt: skip
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


@pytest.mark.parametrize("cases", [("MLP",), ("ConvNet", "MLP")])
def test_figure_has_a_line_of_panels_a_training_run(cases):
    figure = draw(sc_curvature_tables.tabulate_sharpness_methods(records(*cases)))
    assert len(figure.axes) == 4 * len(cases)
    assert [ax.get_title(loc="left") for ax in figure.axes[::4]] == [f"{case}: error against cost" for case in cases]


def test_methods_of_tables_and_figure_are_the_same():
    assert set(sc_curvature_draw.STYLES) == set(METHODS)
    assert set(sc_curvature_draw.COSTS) | set(SHOWN) <= set(METHODS)


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="nothing that this artefact draws"):
        sc_curvature_tables.tabulate_sharpness_methods(records().iloc[:0])
