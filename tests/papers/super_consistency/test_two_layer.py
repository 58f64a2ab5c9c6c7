"""Stages of the two-layer linear network: settings that are refused, runs that converge, cycle and diverge."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from featurespeed.papers.super_consistency.two_layer.spec import ToySpec, TwoLayerRunsSpec, TwoLayerTheorySpec
from tests.conftest import load_script
from tests.papers.super_consistency.two_layer_cases import RUNS, THEORY, TOY


@pytest.mark.parametrize(
    ("kind", "block", "change", "message"),
    [
        (TwoLayerRunsSpec, RUNS, {"widths": [8]}, "at least 2"),
        (TwoLayerRunsSpec, RUNS, {"widths": [16, 8]}, "must ascend and not repeat"),
        (TwoLayerRunsSpec, RUNS, {"seeds": 1}, "greater than or equal to 2"),
        (TwoLayerRunsSpec, RUNS, {"learning_rates": {"MUP": 0.3}}, "give learning rates of MUP and NTP"),
        (TwoLayerRunsSpec, RUNS, {"probe_steps": [1, 5]}, "must begin with 0"),
        (ToySpec, TOY, {"widths": [8]}, "at least 2"),
        (ToySpec, TOY, {"shown": {"MUP": [0.4], "NTP": [1]}}, "shown = 0.4: not a learning rate of MUP"),
        (ToySpec, TOY, {"shown_steps": 201}, "shown_steps = 201: at most steps = 200"),
        (TwoLayerTheorySpec, THEORY, {"edge": THEORY["edge"] | {"highest": 0.9}}, "must lie on both sides of 1"),
        (TwoLayerTheorySpec, THEORY, {"softmax": {"classes": 1, "margins": [0, 1]}}, "greater than or equal to 2"),
        (TwoLayerTheorySpec, THEORY, {"unknown": 1}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused_by_name(kind, block, change, message):
    kind.model_validate(block)
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(block | change)


def test_toy_says_what_converged_what_cycles_and_what_diverged():
    table = load_script("two_layer_toy").main(ToySpec.model_validate(TOY))
    end = table[table["case"] == "terminal"]
    mup = end[(end["parameterization"] == "MUP") & (end["quantity"] == "sharpness")]
    settled = mup[mup["learning_rate"] == 0.5]
    assert settled["converged"].all() and settled["value"].between(2, 2.3).all() and settled["step"].max() < 200
    assert not mup[mup["learning_rate"] == 1.1]["converged"].any()
    gone = end[end["quantity"] == "diverged_step"]
    assert set(gone["learning_rate"]) == {500.0} and not gone["converged"].any()
    curves = table[table["case"] == "curve"]
    assert set(curves["learning_rate"]) == {0.5, 1.0}
    assert set(curves[curves["quantity"] == "sharpness"]["step"]) == {0, 5, 10}


def test_runs_end_with_the_gauss_newton_part_alone():
    table = load_script("two_layer").main(TwoLayerRunsSpec.model_validate(RUNS))
    wide = table.pivot_table(index=["parameterization", "width", "seed", "step"], columns="quantity", values="value")
    gap = (wide["sharpness"] - wide["gauss_newton_eigenvalue"]).abs()
    assert (gap <= wide["residual_eigenvalue"] * (1 + 1e-9)).all()
    assert len(wide) == 2 * 2 * 2 * 3
    assert (wide.xs(40, level="step")["training_loss"] < wide.xs(0, level="step")["training_loss"]).all()


def test_a_run_that_diverges_ends_with_its_step():
    table = load_script("two_layer").main(
        TwoLayerRunsSpec.model_validate(RUNS | {"learning_rates": {"MUP": 9, "NTP": 1}})
    )
    gone = table[table["quantity"] == "diverged_step"]
    assert set(gone["parameterization"]) == {"MUP"} and set(gone["value"]) == {2.0}


def test_theory_stage_computes_every_case():
    table = load_script("two_layer_theory").main(TwoLayerTheorySpec.model_validate(THEORY))
    assert set(table["case"]) == {
        "laws", "other laws", "bound", "dense", "edge", "initialisation", "uniform initialisation", "limit", "softmax"
    }  # fmt: skip
    errors = table[(table["case"] == "laws") & table["series"].isin(["one step", "free running"])]
    assert errors["value"].max() < 1e-13
    other = table[table["case"] == "other laws"]
    assert (
        len(other) == len(errors) / 2
        and other.groupby(["parameterization", "width", "seed"])["value"].max().min() > 0.01
    )
    assert (table[table["series"] == "sharpness over its least"]["value"] > 1 - 1e-5).all()


def test_runs_far_beyond_the_edge_cycle_or_diverge_and_are_kept():
    edge = THEORY["edge"] | {"highest": 3, "shares": 12}
    table = load_script("two_layer_theory").main(TwoLayerTheorySpec.model_validate(THEORY | {"edge": edge}))
    rows = table[(table["case"] == "edge") & (table["quantity"] == "curvature_ratio")]
    runs = rows.pivot_table(index=["parameterization", "width", "seed", "index"], columns="series", values="value")
    assert len(runs) == 2 * 2 * 2 * 12 and runs["printed edge over 2/learning rate"].gt(1).all()
    ratio, converged = runs["sharpness over 2/learning rate"], runs["run"] == 1
    assert 0 < ratio[converged].max() <= 1 + 1e-9
    assert ratio[~converged].max() > 1.05 and ratio[~converged].isna().any() and ratio[converged].notna().all()
    assert runs["sharpness over its least"].notna().eq(converged).all()
    assert not converged[runs["least sharpness over 2/learning rate"] > 1].any()


def test_bound_and_parts_of_the_next_network_are_told_from_its_own():
    table = load_script("two_layer_theory").main(TwoLayerTheorySpec.model_validate(THEORY))
    dense = table[table["case"] == "dense"].set_index(["parameterization", "width", "seed", "step"])
    values = {series: rows["value"] for series, rows in dense.groupby("series")}
    assert (values["H = G + R of the next network"] > 1e-3).all()
    assert (values["H = G + R, residual f - y"] < 1e-14).all()
    # The closed form of the next network is off by what its sharpness differs; its own is exact.
    assert (values["sharpness from (w, e, v) of the next network"] > 1e-3).all()
    assert (values["sharpness from (w, e, v)"] < 1e-12).all()
    first = values["bound"].xs(0, level="step")
    assert first.nunique() == len(first) == 2 * 2 * 2


def test_trajectories_of_ntp_are_compared_with_the_limit_of_mup_too():
    table = load_script("two_layer_theory").main(TwoLayerTheorySpec.model_validate(THEORY))
    found = table[table["case"] == "limit"].groupby("parameterization")["series"].unique().map(set)
    assert found["NTP"] - found["MUP"] == {"from infinite width of muP"}
