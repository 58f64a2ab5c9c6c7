"""The panels of Figures 1 and 2 as tables: complete, labelled, reproducible, and made of what the probes measure."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from featurespeed.papers.feature_speed.angles.published import read_published
from featurespeed.papers.feature_speed.angles.spec import InitSpec
from featurespeed.papers.feature_speed.panels import (
    Panel,
    Series,
    dense_networks,
    dense_panel,
    sampled_panel,
    theory_panel,
)
from featurespeed.papers.feature_speed.sensitivity.spec import SensitivitySpec
from featurespeed.pipeline.config import load_config
from featurespeed.probes.residual_mlp import SeriesProbe
from featurespeed.randomness import derive_seed, generator
from featurespeed.theory import cos_bfa_recursion
from tests.conftest import REPOSITORY, load_script

init_bfa, sensitivity = load_script("init_bfa"), load_script("sensitivity")

NETWORK = {"width": 20, "input_dim": 4, "draws": 2, "sampler_seeds": 3, "finite_step": 1e-3, "seed": 5}
LAWS = {"beta=1/L": "1/L", "beta=1": "1"}
SPECS: dict[str, InitSpec | SensitivitySpec] = {
    "layers": InitSpec(artefact="a", depths=[8], sampler_depths=[8], layers="all", branch_scales=LAWS, **NETWORK),
    "depths": InitSpec(
        artefact="b", depths=[5, 6, 8], sampler_depths=[5, 9], layers="last", branch_scales=LAWS, **NETWORK
    ),
    "grid": InitSpec(
        artefact="c",
        depths=[5, 8],
        sampler_depths=[5, 8],
        layers="last",
        branch_scale_grid={"low": 0.01, "high": 1, "count": 3},
        **NETWORK,
    ),
    "scalings": SensitivitySpec(
        artefact="d",
        depths=[5, 8],
        sampler_depths=[5],
        scalings=["NTK", "MF+muP", "FSC"],
        branch_scales={"beta=1": "1"},
        target=1,
        **NETWORK,
    ),
    "branches": SensitivitySpec(
        artefact="e", depths=[5, 8], sampler_depths=[8], scalings=["MF+muP"], branch_scales=LAWS, target=1, **NETWORK
    ),
}
KEYS = ["series", "depth", "branch_scale", "layer", "seed", "estimator", "quantity"]


def script(spec) -> tuple[Callable[..., pd.DataFrame], Panel]:
    module = init_bfa if isinstance(spec, InitSpec) else sensitivity
    return module.main, module.panel(spec)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: script(spec)[0](spec) for name, spec in SPECS.items()}


every_spec = pytest.mark.parametrize("name", SPECS)


# --- completeness -----------------------------------------------------------------------------------------------------

# Rows of each estimator, counted by hand: (depths x) series x draws or seeds x layers x quantities.
COUNTS = {
    "layers": {"jvp": 2 * 2 * 6, "finite step": 2 * 2 * 6, "sampler": 2 * 3 * 6, "theory": 2 * 6},
    "depths": {"jvp": 3 * 2 * 2, "finite step": 3 * 2 * 2, "sampler": 2 * 2 * 3, "theory": 2 * 2},
    "grid": {"jvp": 2 * 3 * 2, "finite step": 2 * 3 * 2, "sampler": 2 * 3 * 3, "theory": 2 * 3},
    "scalings": {"jvp": 2 * 3 * 2 * 2, "finite step": 2 * 3 * 2 * 2, "sampler": 1 * 3 * 3 * 2},
    "branches": {"jvp": 2 * 2 * 2 * 2, "finite step": 2 * 2 * 2 * 2, "sampler": 1 * 2 * 3 * 2},
}


@every_spec
def test_every_row_is_there_once(name, tables):
    table = tables[name]
    assert table.groupby("estimator").size().to_dict() == COUNTS[name]
    assert not table.duplicated(KEYS).any()
    assert table["value"].notna().all() and np.isfinite(table["value"]).all()


@every_spec
def test_columns_say_what_was_run(name, tables):
    table, spec = tables[name], SPECS[name]
    assert set(table["width"]) == {20} and set(table["input_dim"]) == {4} and set(table["output_dim"]) == {1}
    np.testing.assert_array_equal(table["c"], np.sqrt(table["depth"]) * table["branch_scale"])
    dense = table["estimator"].isin(["jvp", "finite step"])
    assert set(table.loc[dense, "depth"]) == set(spec.depths)
    assert set(table.loc[~dense, "depth"]) == set(spec.sampler_depths)
    assert set(table.loc[dense, "seed"]) == {0, 1}
    assert set(table.loc[table["estimator"] == "sampler", "seed"]) == {0, 1, 2}
    last = table["layer"] == table["depth"] - 1
    if name == "layers":
        assert set(table["layer"]) == set(range(2, 8))
    else:
        assert last.all()


def test_series_have_their_labels_and_branch_scales(tables):
    by_label = {name: table.groupby("series")["branch_scale"].unique() for name, table in tables.items()}
    assert list(by_label["layers"].index) == ["beta=1", "beta=1/L"]
    assert by_label["layers"]["beta=1/L"].tolist() == [1 / 8] and by_label["layers"]["beta=1"].tolist() == [1.0]
    assert sorted(by_label["depths"]["beta=1/L"]) == [1 / 9, 1 / 8, 1 / 6, 1 / 5]
    assert list(by_label["grid"].index) == ["L=5", "L=8"]
    np.testing.assert_allclose(sorted(by_label["grid"]["L=5"]), [0.01, 0.1, 1], rtol=1e-12)
    assert list(by_label["scalings"].index) == ["FSC", "MF+muP", "NTK"]
    assert list(by_label["branches"].index) == ["beta=1", "beta=1/L"]
    assert set(tables["layers"]["scaling"]) == {""} and set(tables["branches"]["scaling"]) == {"MF+muP"}
    assert (tables["scalings"]["scaling"] == tables["scalings"]["series"]).all()


def test_labels_of_the_configuration_are_those_of_the_published_points():
    config = load_config(yaml.safe_load((REPOSITORY / "config.yaml").read_text()), {"laptop": {}}, {})
    published = read_published()
    for panel in ("1a", "1b"):
        labels = {series.label for series in init_bfa.series_at(config.block(f"fsf_fig{panel}"), 100)}
        assert labels == set(published.loc[published["figure"] == panel, "series"])


def test_readouts_are_those_of_the_figures():
    assert {s.readout_std for s in init_bfa.series_at(SPECS["layers"], 8)} == {1 / 20}
    stds = {s.label: s.readout_std for s in sensitivity.series_at(SPECS["scalings"], 9)}
    assert stds == pytest.approx({"NTK": 20**-0.5, "MF+muP": 1 / 20, "FSC": 3 / 20}, rel=1e-12)


# --- values -----------------------------------------------------------------------------------------------------------


def test_dense_rows_hold_what_the_probe_measures(tables):
    """Row by row, from weights drawn again: the right layer, series, draw, quantity and estimator."""
    for name in ("layers", "scalings"):
        spec, table = SPECS[name], tables[name].set_index(KEYS)["value"]
        _, panel = script(spec)
        for depth, draw, network in dense_networks(spec, "cpu"):
            x, y = panel.draw_input(spec.input_dim, generator(spec.seed, "input", depth, draw))
            series = panel.series(depth)
            probe = SeriesProbe(network, x, y, [s.branch_scale for s in series], [s.readout_std for s in series])
            for estimator, step in (("jvp", probe.exact_tangent()), ("finite step", probe.finite_step(1e-3))):
                for column, one in enumerate(series):
                    layer = 3 if name == "layers" else depth - 1
                    for quantity in panel.quantities:
                        values = step.angle if quantity == "bfa" else getattr(step, quantity)
                        found = table[one.label, depth, one.branch_scale, layer, draw, estimator, quantity]
                        assert found == pytest.approx(float(values[layer - 1, column]), rel=1e-6)


def test_theory_rows_are_the_recursion(tables):
    rows = tables["layers"].query("estimator == 'theory' and series == 'beta=1/L'")
    np.testing.assert_allclose(np.cos(rows["value"]), cos_bfa_recursion(8, 1 / 8), rtol=1e-12)
    assert rows["layer"].tolist() == list(range(2, 8))


def test_estimators_agree(tables):
    """The finite step with the tangent, network by network; the sampler with both, within the spread of narrow nets."""
    bfa = tables["depths"].query("quantity == 'bfa'")
    wide = bfa[bfa["estimator"].isin(["jvp", "finite step"])].pivot(
        index=["series", "depth", "seed"], columns="estimator", values="value"
    )
    difference = (wide["finite step"] - wide["jvp"]).abs()
    assert difference.median() < 1e-3 and difference.max() < 0.15  # a unit that crosses its kink matters at width 20
    means = bfa[bfa["depth"] == 5].groupby(["series", "estimator"])["value"].mean().unstack()
    assert (abs(means["sampler"] - means["jvp"]) < 0.25).all() and (
        means.loc["beta=1"] > 2 * means.loc["beta=1/L"]
    ).all()


def test_inverse_backward_norm_is_the_sensitivity_times_the_cosine():
    """``1/(|b| sqrt m) = S cos theta``, and the angle does not depend on the readout's scale, so scalings share it."""
    spec = SPECS["scalings"]
    _, panel = script(spec)
    table = pd.concat(dense_panel(spec, panel, estimators=["jvp"]))
    wide = table.pivot(index=["depth", "seed", "series"], columns="quantity", values="value")
    cos = (wide["inverse_backward_norm"] / wide["feature_sensitivity"]).unstack("series")
    assert ((cos > 0) & (cos <= 1)).all(axis=None)
    np.testing.assert_allclose(cos["NTK"], cos["FSC"], rtol=1e-4)


def test_inputs_are_those_of_the_figures():
    """Figure 1: entries of variance 1/d and a standard normal target. Figure 2: the unit sphere, a constant target."""
    draws = [init_bfa.gaussian_input(10, generator(seed, "input")) for seed in range(500)]
    squares = torch.stack([x.square().sum() for x, _ in draws])
    assert float(squares.mean()) == pytest.approx(1, abs=4 * (0.2 / 500) ** 0.5)
    assert float(torch.stack([y for _, y in draws]).std()) == pytest.approx(1, abs=4 / 1000**0.5)
    x, y = sensitivity.sphere_input(1.0)(10, generator(0, "input"))
    assert float(x.norm()) == pytest.approx(1, rel=1e-6) and y.tolist() == [1.0]


# --- seeds ------------------------------------------------------------------------------------------------------------


@every_spec
def test_two_runs_are_equal_bit_by_bit(name, tables):
    pd.testing.assert_frame_equal(script(SPECS[name])[0](SPECS[name]), tables[name], check_exact=True)


def test_another_seed_changes_every_measured_value(tables):
    spec = SPECS["depths"].model_copy(update={"seed": 6})
    other, table = script(spec)[0](spec), tables["depths"]
    same = other["value"] == table["value"]
    assert not same[table["estimator"] != "theory"].any() and same[table["estimator"] == "theory"].all()


def test_draws_and_samples_differ_from_each_other(tables):
    table = tables["depths"].query("estimator != 'theory'")
    assert (table.groupby(["series", "depth", "estimator"])["value"].nunique() > 1).all()
    spec = SPECS["depths"]
    first_weights = {float(network.hidden[0, 0, 0]) for _, _, network in dense_networks(spec, "cpu")}
    assert len(first_weights) == len(spec.depths) * spec.draws


def test_a_dense_draw_does_not_depend_on_the_other_depths(tables):
    """Each draw has its own stream, and the buffer of the weights leaves nothing behind."""
    spec = SPECS["depths"].model_copy(update={"depths": [6]})
    alone = pd.concat(dense_panel(spec, script(spec)[1], estimators=["jvp"]))["value"]
    together = tables["depths"].query("estimator == 'jvp' and depth == 6")["value"]
    assert alone.tolist() == together.tolist()


def test_series_of_a_dense_draw_share_weights_and_samples_do_not():
    """Two equal series: one value twice from the dense draw, two values from the sampler."""
    twins = Panel(lambda depth: [Series("a", 0.5, 0.05), Series("b", 0.5, 0.05)], init_bfa.gaussian_input, ("bfa",))
    spec = SPECS["depths"]
    dense = pd.concat(dense_panel(spec, twins)).pivot(
        index=["depth", "seed", "estimator"], columns="series", values="value"
    )
    np.testing.assert_allclose(dense["a"], dense["b"], rtol=1e-5)
    sampled = pd.concat(sampled_panel(spec, twins)).pivot(index=["depth", "seed"], columns="series", values="value")
    assert (sampled["a"] != sampled["b"]).all()


def test_sampler_seeds_extend_over_all_series_and_depths():
    spec = SPECS["depths"]
    frames = list(sampled_panel(spec, script(spec)[1]))
    assert [len(frame) for frame in frames] == [1] * (2 * 2 * 3)
    theory = pd.concat(theory_panel(spec, script(spec)[1]))
    assert sorted(set(theory["depth"])) == [5, 9]


def test_seeds_are_stable_and_named():
    """A literal value: tables made on another machine or by another Python have the same seeds."""
    assert derive_seed(0, "weights", 3) == 5535668229246341152
    assert len({derive_seed(*names) for names in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1))}) == 5
    assert all(0 <= derive_seed(seed, "x") < 2**63 for seed in range(100))
    first, second = (torch.randn(3, generator=generator(0, "a")) for _ in range(2))
    assert torch.equal(first, second)
