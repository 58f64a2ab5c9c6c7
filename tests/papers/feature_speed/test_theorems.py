"""The experiments behind the theorems: each comes out as its theorem says, and its control does not."""

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.papers.feature_speed.theorems.spec import TheoremsSpec
from featurespeed.records import validate
from tests.conftest import load_script

theorems = load_script("theorems")
SPEC = TheoremsSpec(
    artefact="t", width=24, depths=[4, 6, 9], kernel_width=24, input_dim=5, n_inputs=3, seeds=2, more_seeds=3,
    training_steps=3, invariance_steps=12, seed=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return theorems.main(SPEC)


def values(table: pd.DataFrame, case: str, **keys) -> np.ndarray:
    rows = table[table["case"] == case]
    for name, value in keys.items():
        rows = rows[rows[name] == value]
    assert len(rows)
    return rows["value"].to_numpy()


def test_table_follows_the_schema_and_repeats_exactly(table):
    validate(table)
    pd.testing.assert_frame_equal(table, theorems.main(SPEC))
    other = theorems.main(SPEC.model_copy(update={"seed": 2}))
    measured = table["quantity"].isin(["bfa", "cos_bfa", "feature_sensitivity"])
    assert (other["value"] != table["value"])[measured].mean() > 0.9


@pytest.mark.parametrize("series", ["MLP", "ResNet"])
def test_formula_holds_along_training_and_not_between_steps(table, series):
    errors = values(table, "formula", series=series)
    assert len(errors) == SPEC.seeds * (SPEC.training_steps + 1)
    assert errors.max() < 1e-12
    between = values(table, "formula, the step before", series=series)
    assert len(between) == SPEC.seeds * SPEC.training_steps and between.min() > 1e-4


def test_loss_falls_at_the_speed_of_the_loss_decay_under_its_own_descent_only(table):
    np.testing.assert_allclose(values(table, "loss velocity"), -1.0, rtol=1e-12)
    assert (abs(values(table, "loss velocity, another network") + 1) > 1e-2).all()


@pytest.mark.parametrize("series", ["MLP", "ResNet"])
def test_kernel_bounds_the_cosine_of_its_own_backward_pass(table, series):
    condition, cosine = (values(table, "kernel", series=series, quantity=q) for q in ("kernel_condition", "cos_bfa"))
    assert (condition <= cosine).all()
    another = values(table, "kernel, another network", series=series)
    assert (another < cosine).all()


@pytest.mark.parametrize("series", ["MLP", "ResNet"])
def test_automatic_scaling_makes_the_sensitivity_one(table, series):
    np.testing.assert_allclose(values(table, "automatic scaling", series=series), 1.0, rtol=1e-9)
    assert (values(table, "automatic scaling", series=f"{series}, readout 1/m") > 1.01).all()


def test_backward_speed_formula_needs_a_linear_loss(table):
    assert values(table, "backward speed, linear loss", quantity="formula_error").max() < 1e-10
    errors = values(table, "backward speed, quadratic loss", quantity="formula_error")
    assert errors.min() > 1e-3 and np.ptp(errors) > 1e-3
    assert (values(table, "backward speed, linear loss", quantity="backward_speed_angle") < math.pi / 2).all()
    # y = 1.5 f_L turns the sign of 1 + f_L/(f_L - y): the angle is obtuse
    near = values(table, "backward speed, quadratic loss, near target", quantity="backward_speed_angle")
    assert (near > math.pi / 2).all()


@pytest.mark.parametrize("run", ["rescaled layers", "reparameterized"])
def test_only_homogeneity_minus_two_is_invariant(table, run):
    case = f"invariance, {run}"
    assert values(table, case, series="homogeneity -2").max() < 1e-9
    for p in (0, 1, 3):
        assert values(table, case, series=f"homogeneity -{p}").min() > 1e-3


def test_forward_pass_grows_by_sqrt2_a_layer_with_the_printed_std():
    spec = SPEC.model_copy(update={"width": 200})
    rows = pd.DataFrame([row for seed in range(8) for row in theorems.forward_growth(spec, seed)])
    growth = rows.pivot_table(index="seed", columns="series", values="value")
    np.testing.assert_allclose(growth["sqrt(2/m)"].mean(), 0.0, atol=0.05)
    np.testing.assert_allclose(growth["2/sqrt(m)"].mean(), 0.5, atol=0.05)
    assert np.ptp(growth["2/sqrt(m)"] - growth["sqrt(2/m)"]) > 1e-3  # networks of their own


@pytest.mark.parametrize("factor", [2.0, 8.0])
def test_sensitivity_after_the_first_step_is_inverse_to_its_rate(factor):
    one, other = (theorems.after_first_step(SPEC, "case", 0, 6, f) for f in (1.0, factor))
    np.testing.assert_allclose(one.feature_sensitivity[-3] / other.feature_sensitivity[-3], factor, rtol=1e-4)
    np.testing.assert_allclose(one.cos[-3], other.cos[-3], rtol=1e-4)


def test_a_factor_common_to_all_rates_leaves_the_angle_alone(table):
    assert values(table, "missing beta").max() < 1e-7
    assert values(table, "missing beta, every other layer").min() > 1e-3


def test_masked_feature_moves_less(table):
    names = ("f", "g", "g, readout on g", "f, layer before")
    f, g, own, before = (values(table, "node", series=name) for name in names)
    assert (g < f).all() and (g < own).all() and len(before) == SPEC.more_seeds


def test_finite_step_errs_by_switching_relus_and_not_by_rounding():
    spec = SPEC.model_copy(update={"kernel_width": 64, "depths": [8, 16, 32]})
    rows = pd.DataFrame([row for seed in range(6) for row in theorems.finite_step_causes(spec, seed)])
    errors = rows.pivot_table(index="seed", columns="series", values="value")
    np.testing.assert_allclose(errors["float32"], errors["float64"], atol=2e-4)
    assert errors["float64, ReLUs held"].mean() < 0.7 * errors["float64"].mean()
