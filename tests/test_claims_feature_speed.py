"""The first paper's ledger: its criteria are complete, its statistics find what is planted, its controls can fail."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from featurespeed.claims.criteria import Threshold, load_criteria
from featurespeed.claims.engine import STATISTICS, StageTables, Undecidable, Verdict, decide, ledger
from featurespeed.claims.feature_speed import angles, scalings
from featurespeed.config import ARTEFACTS
from featurespeed.published import read_published
from featurespeed.records import frame, read_table
from featurespeed.statistics import Interval

CRITERIA = load_criteria(REPOSITORY / "workflow" / "claims" / "feature_speed.yaml", STATISTICS)
OF_THIS_PAPER = {
    name for name, function in STATISTICS.items() if function.__module__.startswith("featurespeed.claims.feature_speed")
}

#: Every figure, table, theorem, proposition and appendix of the paper that the ledger must hold.
OF_THE_PAPER = (
    "Thm 2.1", "Thm 3.2", "Prop. 4.1", "Prop. 5.3", "Prop. 5.4", "Prop. 6.1", "Prop. 6.2", "Thm 6.3", "App. B",
    "App. C", "Eq. 14", "Sec. 2", "Sec. 5.1", "Sec. 5.2", "Sec. 6.1", "Fig. 1a", "Fig. 1b", "Fig. 1c", "Fig. 2a",
    "Fig. 2b", "Table 1", "Table 2",
)  # fmt: skip


def test_every_part_of_the_paper_has_a_row():
    sources = " | ".join(criterion.source for criterion in CRITERIA)
    assert [part for part in OF_THE_PAPER if part not in sources] == []
    assert {criterion.artefact for criterion in CRITERIA} <= set(ARTEFACTS)
    drawn = {name for name, artefact in ARTEFACTS.items() if artefact.drawn and artefact.group == "fsf"}
    assert drawn <= {criterion.artefact for criterion in CRITERIA}


def test_every_computed_claim_has_a_control_of_its_own_and_no_statistic_lies_idle():
    computed = [criterion for criterion in CRITERIA if criterion.compute]
    assert all(criterion.control and criterion.control.compute != criterion.compute for criterion in computed)
    used = {c.compute for c in computed} | {c.control.compute for c in computed}
    assert used == OF_THIS_PAPER


def test_small_run_is_judged_without_an_error_and_confirms_no_comparison_with_the_paper(smoke_results):
    tables = StageTables(sorted((smoke_results / "stages").glob("*.parquet")), read_table)
    claims, _ = ledger(CRITERIA, tables, "smoke")
    verdicts = claims.set_index("claim_id")["verdict"]
    assert verdicts["fsf_thm21_mlp"] == verdicts["fsf_prop62"] == Verdict.CONFIRMED
    assert verdicts["fsf_fig1_published"] == verdicts["fsf_discrepancy_fig2b_level"] == Verdict.INCONCLUSIVE
    assert verdicts["fsf_thm21_mlp_trained"] == verdicts["fsf_thm21_convnet"] == Verdict.CONFIRMED
    assert set(verdicts[verdicts == Verdict.NOT_RUN].index) == {"fsf_thm21_transformer"}


# --- planted tables ---------------------------------------------------------------------------------------------------


def records(rows: list[dict], **common) -> pd.DataFrame:
    base = {"branch_scale": 1.0, "width": 200, "depth": 200, "input_dim": 10, "output_dim": 1, "layer": 199}
    return frame(base | {"estimator": "sampler", "quantity": "bfa"} | common | row for row in rows)


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(7)


def at_published_points(noise: np.random.Generator, offset: float) -> dict[str, pd.DataFrame]:
    """Ten seeds that scatter around the published angles, shifted by ``offset`` radians."""
    tables: dict[str, list[dict]] = {"fsf_fig1a": [], "fsf_fig1b": []}
    for point in read_published().itertuples():
        for seed in range(10):
            value = point.y + offset + 1e-3 * noise.standard_normal()
            row = {"series": point.series, "seed": seed, "value": value}
            if point.figure == "1a":
                tables["fsf_fig1a"].append(row | {"layer": int(point.x)})
            else:
                depth = {"50-100": 75, "100-150": 125, "150-200": 200}[point.x]
                tables["fsf_fig1b"].append(row | {"depth": depth})
    return {name: records(rows) for name, rows in tables.items()}


def test_published_points_are_met_by_themselves_and_missed_from_afar(noise):
    share, rotated = (STATISTICS[f"share of published points with |z| <= 3{end}"] for end in ("", ", series rotated"))
    assert share(at_published_points(noise, 0.0)).value == 1.0
    assert share(at_published_points(noise, 0.5)).value < 0.2
    assert rotated(at_published_points(noise, 0.0)).value < 0.2


def test_comparison_gives_the_z_of_each_point(noise):
    compared = angles.compare_with_published(at_published_points(noise, 0.1))
    assert list(compared.columns) == ["figure", "series", "x", "y", "y_sd", "k", "mean", "se", "z", "n"]
    assert len(compared) == 40 and (compared["n"] == 10).all()
    by_hand = (compared["mean"] - compared["y"]) / np.sqrt(
        compared["y_sd"] ** 2 / compared["k"] + compared["se"] ** 2 + 0.0026**2
    )
    np.testing.assert_allclose(compared["z"], by_hand)


def test_points_of_another_width_are_undecidable(noise):
    tables = {name: table.assign(width=100) for name, table in at_published_points(noise, 0.0).items()}
    with pytest.raises(Undecidable, match="m = 200"):
        angles.compare_with_published(tables)


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0])
def test_exponent_of_the_median_survives_heavy_tails(noise, power):
    rows = [
        {"depth": depth, "seed": seed, "series": "NTK", "value": depth**power / abs(noise.standard_normal())}
        for depth in (5, 10, 20, 40)
        for seed in range(200)
    ]
    estimate = STATISTICS["exponent of the median S in L, NTK"](
        {"fsf_fig2a": records(rows, quantity="feature_sensitivity")}
    )
    assert estimate.ci_low < power < estimate.ci_high and estimate.ci_high - estimate.ci_low < 0.5


def test_collapse_against_c_is_told_from_no_collapse(noise):
    rows = [
        {"depth": L, "series": f"L={L}", "branch_scale": b, "c": L**0.5 * b, "seed": s, "value": np.arctan(L**0.5 * b)}
        for L in (30, 100, 500)
        for b in np.geomspace(1e-3, 1, 40)
        for s in range(5)
    ]
    tables = {"fsf_fig1c": records(rows)}
    assert STATISTICS["largest gap between the curves of Fig. 1c, against c"](tables).value < 0.02
    assert STATISTICS["largest gap between the curves of Fig. 1c, against beta"](tables).value > 0.3


@pytest.mark.parametrize(
    ("intervals", "stated", "expected"),
    [
        ({"m": (0.0, -0.1, 0.1)}, 0.0, (0.0, 0.0, 0.1)),
        ({"m": (0.4, 0.3, 0.5)}, 0.0, (0.4, 0.3, 0.5)),
        ({"m": (-0.4, -0.5, -0.3)}, 0.0, (0.4, 0.3, 0.5)),
        ({"m": (0.1, 0.0, 0.2), "L": (0.3, -0.1, 0.7)}, 0.0, (0.3, 0.0, 0.7)),
        ({"m": (0.9, 0.8, 1.0), "L": (1.0, 0.9, 1.1)}, 1.0, (0.1, 0.0, 0.2)),
    ],
)
def test_largest_deviation_bounds_all_sizes_at_once(intervals, stated, expected):
    measured = {name: Interval(*numbers, 9, "planted") for name, numbers in intervals.items()}
    estimate = scalings.largest_deviation(measured, dict.fromkeys(measured, stated))
    assert (estimate.value, estimate.ci_low, estimate.ci_high) == pytest.approx(expected)
    assert estimate.n == 9


def test_a_wrong_exponent_is_contradicted_under_the_ledgers_own_threshold():
    threshold = next(c.threshold for c in CRITERIA if c.claim_id == "fsf_table1_fsc_eta_hid")
    assert threshold == Threshold(-np.inf, 0.25)
    planted = {"m": Interval(0.5, 0.45, 0.55, 9, "planted"), "L": Interval(0.0, -0.1, 0.1, 9, "planted")}
    assert decide(scalings.largest_deviation(planted, {"m": 0.0, "L": 0.0}), threshold) is Verdict.CONTRADICTED


def trained_networks(speeds: tuple[float, ...], error: float, series: str = "residual ConvNet") -> pd.DataFrame:
    rows = []
    for seed in (0, 1):
        for layer, speed in enumerate(speeds, start=1):
            place = {"layer": layer, "seed": seed, "series": series, "learning_rate": 0.1, "case": "along training"}
            rows.append(place | {"quantity": "feature_speed", "value": speed})
            rows.append(place | {"quantity": "formula_error", "value": error})
    return records(rows, estimator="jvp")


def test_formula_along_training_is_confirmed_by_rounding_errors_and_failed_by_the_neighbours_speeds():
    tables = {"fsf_training": trained_networks((1.0, 2.0, 5.0), 3e-16)}
    error = STATISTICS["formula error along training, ConvNet"](tables)
    assert (error.value, error.n) == (3e-16, 6)
    # Speeds 5, 1, 2 in place of 1, 2, 5: the first node is off by a factor of five.
    assert STATISTICS["formula error along training with shuffled layers, ConvNet"](tables).value == pytest.approx(4.0)
    with pytest.raises(Undecidable, match="no MLP"):
        STATISTICS["formula error along training, MLP"](tables)


def test_formula_that_fails_at_one_node_is_contradicted():
    criterion = next(c for c in CRITERIA if c.claim_id == "fsf_thm21_convnet")
    tables = {"fsf_training": trained_networks((1.0, 2.0), 1e-6)}
    assert decide(STATISTICS[criterion.compute](tables), criterion.threshold) is Verdict.CONTRADICTED


def test_criteria_file_lies_where_the_workflow_looks():
    assert Path("workflow/claims/feature_speed.yaml") in {
        path.relative_to(REPOSITORY) for path in (REPOSITORY / "workflow/claims").glob("*.yaml")
    }
