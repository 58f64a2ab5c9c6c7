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
    artefact="t", width=24, depths=[4, 6, 9], kernel_width=24, input_dim=5, n_inputs=3, seeds=2,
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
def test_formula_holds_along_training_and_not_between_layers(table, series):
    errors = values(table, "formula", series=series)
    assert len(errors) == SPEC.seeds * (SPEC.training_steps + 1)
    assert errors.max() < 1e-12
    assert values(table, "formula, shuffled", series=series).min() > 1e-2


def test_loss_falls_at_the_speed_of_the_loss_decay(table):
    np.testing.assert_allclose(values(table, "loss velocity"), -1.0, rtol=1e-12)


@pytest.mark.parametrize("series", ["MLP", "ResNet"])
def test_kernel_bounds_the_cosine_and_its_top_eigenvector_is_aligned(table, series):
    condition, cosine = (values(table, "kernel", series=series, quantity=q) for q in ("kernel_condition", "cos_bfa"))
    assert (condition <= cosine).all()
    np.testing.assert_allclose(values(table, "kernel, top eigenvector", series=series), 1.0, rtol=1e-9)


@pytest.mark.parametrize("series", ["MLP", "ResNet"])
def test_automatic_scaling_makes_the_sensitivity_one(table, series):
    np.testing.assert_allclose(values(table, "automatic scaling", series=series), 1.0, rtol=1e-9)
    assert (values(table, "automatic scaling", series=f"{series}, readout 1/m") > 1.01).all()


def test_backward_speed_formula_needs_a_linear_loss(table):
    assert values(table, "backward speed, linear loss", quantity="formula_error").max() < 1e-10
    assert values(table, "backward speed, quadratic loss", quantity="formula_error").min() > 0.1
    assert (values(table, "backward speed, linear loss", quantity="backward_speed_angle") < math.pi / 2).all()
    # y = 1.5 f_L turns the sign of 1 + f_L/(f_L - y): the angle is obtuse
    assert (values(table, "backward speed, quadratic loss", quantity="backward_speed_angle") > math.pi / 2).all()


@pytest.mark.parametrize("run", ["rescaled layers", "reparameterized"])
def test_only_homogeneity_minus_two_is_invariant(table, run):
    case = f"invariance, {run}"
    assert values(table, case, series="homogeneity -2").max() < 1e-9
    for p in (0, 1, 3):
        assert values(table, case, series=f"homogeneity -{p}").min() > 1e-3


def test_forward_pass_grows_by_sqrt2_a_layer_with_the_printed_std(table):
    kept, printed = (values(table, "forward growth", series=s) for s in ("sqrt(2/m)", "2/sqrt(m)"))
    np.testing.assert_allclose(printed - kept, 0.5, rtol=1e-9)


def test_zero_readout_rates_differ_by_the_square_root_of_the_depth(table):
    for depth in SPEC.depths:
        plain = values(table, "zero readout", series="1/(m |b|^2)", depth=depth)
        scaled = values(table, "zero readout", series="sqrt(L)/(m |b|^2)", depth=depth)
        np.testing.assert_allclose(plain / scaled, math.sqrt(depth), rtol=1e-4)


def test_a_factor_common_to_all_rates_leaves_the_angle_alone(table):
    assert values(table, "missing beta").max() < 1e-7
    assert values(table, "missing beta, every other layer").min() > 1e-3


def test_masked_feature_moves_less(table):
    f, g, own = (values(table, "node", series=s) for s in ("f", "g", "g, readout on g"))
    assert (g < f).all() and (g < own).all()


def test_finite_step_errs_by_switching_relus_and_not_by_rounding():
    spec = SPEC.model_copy(update={"kernel_width": 64, "depths": [8, 16, 32]})
    rows = pd.DataFrame([row for seed in range(6) for row in theorems.finite_step_causes(spec, seed)])
    errors = rows.pivot_table(index="seed", columns="series", values="value")
    np.testing.assert_allclose(errors["float32"], errors["float64"], atol=2e-4)
    assert errors["float64, ReLUs held"].mean() < 0.7 * errors["float64"].mean()
