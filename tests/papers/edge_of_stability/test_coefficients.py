"""The stage of the Taylor coefficients: its cases hold, its controls fail, its figure shows what was measured."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from featurespeed.data.embedded import load_digits
from featurespeed.data.store import ImageData
from featurespeed.drawing import making
from featurespeed.drawing.making import Drawing
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from featurespeed.errors import UserError
from featurespeed.homogeneous.losses import OUTPUT_LOSSES
from featurespeed.homogeneous.minibatch import Minibatch
from featurespeed.homogeneous.network import HomogeneousMLP, inputs_of
from featurespeed.papers.edge_of_stability.coefficients import drawing as beos_taylor_draw
from featurespeed.papers.edge_of_stability.coefficients import tables as beos_taylor_tables
from featurespeed.papers.edge_of_stability.coefficients.spec import TaylorSpec
from featurespeed.records import frame, validate
from tests.conftest import load_script
from tests.homogeneous.cases import with_change
from tests.papers.cases import STYLE
from tests.papers.edge_of_stability.coefficients_cases import TAYLOR

SPEC = TaylorSpec.model_validate(TAYLOR | {"kappa": 1, "step_sizes": [1e-6, 0.01, 0.1, 0.5, 1, 2, 4]})
EXACT_SERIES = {"c0": 1e-12, "c1": 1e-12, "c2": 1e-12, "c3": 1e-10}


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cases.architectures", 13, "greater than or equal to 14"),
        ("cases.networks", 1, "greater than or equal to 2"),
        ("network.kind", "convnet", "network.kind = 'convnet': the coefficients are"),
        ("network.data", {"name": "mnist"}, "network.data = 'mnist': give data beside network"),
        ("network.parameters", 9, "parameters = 9: at least"),
        ("step_sizes", [1, 0.5], r"step_sizes = \[1.0, 0.5\]: must ascend and not repeat"),
        ("probe_steps", [5, 20], "must begin with 0, where no network has failed yet"),
        ("probe_steps", [0, 21], "probe_steps = 21: training ends at steps = 20"),
        ("scaling", "rel3", "'rel2', 'gradn' or 'fsf'"),
        ("kappa", 0, "greater than 0"),
        ("edge_images", 5000, "edge_images = 5000: larger than the 1437"),
        ("batch_size", 5000, "batch_size = 5000: larger than the 1437"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(path, value, message):
    with pytest.raises(ValidationError, match=message):
        TaylorSpec.model_validate(with_change(TAYLOR, path, value))


def test_good_settings_are_accepted_and_survive_the_way_to_a_job():
    spec = TaylorSpec.model_validate(TAYLOR)
    assert TaylorSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_width_pattern_of_the_trained_networks_follows_from_the_data():
    spec = TaylorSpec.model_validate(TAYLOR)
    first, *rest = spec.hidden
    assert len(spec.hidden) == 3 and rest == pytest.approx([4 * first, 9 * first], abs=5)


# --- the stage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> ImageData:
    arrays, _ = load_digits()
    return ImageData(name="digits", facts={"classes": 10, "pixel_maximum": 16}, **arrays)


@pytest.fixture(scope="module")
def script():
    return load_script("taylor_coefficients")


@pytest.fixture(scope="module")
def records(script, data) -> pd.DataFrame:
    rows = [row for number in range(SPEC.cases.architectures) for row in script.case_rows(SPEC, number)]
    return validate(frame([*rows, *script.Training(SPEC, data).rows()]))


def test_random_networks_cover_scalings_losses_depths_and_patterns(records):
    own = records[records["case"] == "autodiff"]
    assert set(own["scaling"]) == {"none", "norm1", "rel1", "norm2", "rel2", "gradn", "fsf"}
    assert set(own["depth"]) == {2, 3, 4, 5, 6}
    assert {text.partition(",")[0] for text in own["run_id"]} == set(OUTPUT_LOSSES)
    assert {text[-5:] for text in own["run_id"]} == {"r = 0", "r = 1", "r = 2"}
    assert own[own["series"] == "c0"]["seed"].tolist() == list(range(28))


def test_coefficients_and_identities_hold_and_the_controls_do_not(records):
    worst = records[records["quantity"] == "relative_error"].groupby("series")["value"].max()
    for name, threshold in EXACT_SERIES.items() | dict.fromkeys(beos_taylor_tables.IDENTITIES, 1e-12).items():
        assert worst[name] < threshold, name
    others = worst[worst.index.str.endswith("another network's")]
    assert len(others) == 8 and (others > 0.1).all() and set(beos_taylor_tables.CONTROLS) < set(others.index)


def test_an_error_in_a_weight_layer_is_seen(script):
    """The errors are those of this minibatch: coefficients of other factors are off by much."""
    batch, _ = script.random_minibatch(SPEC, 2)
    object.__setattr__(batch, "factors", batch.factors * 1.001)
    errors = dict(script.autodiff_errors(batch))
    assert 5e-4 < float(errors["c1"].max()) < 2e-3 and float(errors["c2"].max()) > 1e-3


def test_predictions_get_better_with_the_order_and_are_exact_for_tiny_steps(records):
    own = records[records["quantity"] == "loss_change"]
    wide = own.pivot_table(index=["seed", "step", "c"], columns="series", values="value")
    assert len(wide) == 2 * 2 * 7 and (wide["order 1"] < 0).all()
    tiny = wide.xs(1e-6, level="c")
    assert tiny["measured"].to_numpy() == pytest.approx(tiny["order 1"].to_numpy(), rel=1e-3)
    near = wide.xs(0.01, level="c")
    errors = near.sub(near["measured, linear region"], axis=0).abs().median()
    assert errors["order 1"] > 10 * errors["order 2"] > 50 * errors["order 3"]
    at_the_edge = wide.xs(1.0, level="c")
    assert at_the_edge["order 2"].abs().max() < 1e-12 or (at_the_edge["order 2"] < 0).any()


def test_changes_are_those_of_the_network_after_the_step(data, script):
    training = script.Training(SPEC, data)
    rows = pd.DataFrame(training.rows())
    fresh = script.Training(SPEC, data)
    x, y = fresh.stream.for_seeds(fresh._seeds()).batch(0)
    loss = OUTPUT_LOSSES["cross_entropy"]
    found = fresh.net.evaluate(x, y, SPEC.scaling, loss)
    step = 0.5 * found.c1.abs() / found.c2.abs()
    for k, (matrix, gradient) in enumerate(zip(fresh.net.matrices, found.gradients, strict=True)):
        matrix.data -= (step * found.factors[:, k])[:, None, None] * gradient
    change = loss.value(fresh.net(x), y) - found.losses
    own = rows[(rows["series"] == "measured") & (rows["step"] == 0) & (rows["c"] == 0.5)].sort_values("seed")
    assert own["value"].tolist() == pytest.approx(change.tolist(), rel=1e-10)


def test_training_takes_the_steps_that_the_settings_say(data, script):
    training = script.Training(SPEC.model_copy(update={"probe_steps": [0]}), data)
    before = [weight.detach().clone() for weight in training.net.weights]
    x, y = training.stream.for_seeds(training._seeds()).batch(0)
    found = training.net.evaluate(x, y, SPEC.scaling, OUTPUT_LOSSES["cross_entropy"])
    list(training.rows())
    for k, (old, new) in enumerate(zip(before, training.net.weights, strict=True)):
        wanted = old - (training.rates * found.factors[:, k])[:, None, None] * found.gradients[k]
        assert torch.allclose(new, wanted, rtol=1e-12, atol=1e-15)


def test_a_run_that_fails_is_recorded_with_its_step_and_the_others_go_on(data, script):
    training = script.Training(SPEC, data)
    training.rates = training.rates * torch.tensor([1e200, 1.0])
    table = frame(list(training.rows()))
    failed = table[table["quantity"].isin(["diverged_step", "dead_step"])]
    assert failed["seed"].tolist() == [0] and failed["value"].tolist() == failed["step"].tolist()
    changes = table[table["quantity"] == "loss_change"]
    assert set(changes[changes["seed"] == 0]["step"]) == {0} and set(changes[changes["seed"] == 1]["step"]) == {0, 20}


def test_a_network_that_is_dead_from_the_beginning_is_named(data, script):
    spec = SPEC.model_copy(update={"network": SPEC.network.model_copy(update={"parameters": None, "base_width": 1})})
    spec = spec.model_copy(update={"layers": 12, "network": spec.network.model_copy(update={"pattern": 0.0})})
    with pytest.raises(UserError, match=r"beos_fig6: seed \d: layer \d+ has no active unit at initialisation"):
        script.Training(spec, data)


def test_data_with_fewer_images_than_a_batch_are_refused_in_one_line(data, script):
    few = ImageData(name="digits", facts=data.facts, x_train=data.x_train[:20], y_train=data.y_train[:20],
                    x_test=data.x_test, y_test=data.y_test)  # fmt: skip
    with pytest.raises(UserError, match="beos_fig6: digits: batch_size = 32: must be 1 to 20"):
        script.Training(SPEC, few)


def test_a_frozen_pattern_of_activation_is_the_networks_own_until_a_unit_crosses():
    net = HomogeneousMLP([4, 8, 8, 3], 3).double().initialise([0, 1, 2])
    x = inputs_of(torch.randn(3, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    batch = Minibatch.of(net, x, torch.zeros(3, 10, dtype=torch.int64), "none", OUTPUT_LOSSES["cross_entropy"])
    tiny, large = (torch.full((3,), step, dtype=torch.float64) for step in (1e-7, 1.0))
    assert torch.allclose(batch.change(tiny), batch.change(tiny, linear=True), rtol=1e-6)
    assert ((batch.change(large) - batch.change(large, linear=True)).abs() > 1e-6).any()


# --- the figure -------------------------------------------------------------------------------------------------------


def test_artefact_is_made_whatever_the_order_of_the_records(records, tmp_path):
    drawing = Drawing(beos_taylor_tables.tabulate_taylor, beos_taylor_draw.draw_taylor, (9.0, 6.0))
    making.make(drawing, (records,), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == (1800, 1200)
    write_csv(drawing.tabulate(records.sample(frac=1, random_state=1)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_table_holds_the_largest_error_of_every_scaling_and_the_units_of_the_edge(records):
    table = beos_taylor_tables.tabulate_taylor(records)
    rows = records[(records["series"] == "c3") & (records["scaling"] == "fsf")]
    own = table[(table["panel"] == "error | c3") & (table["series"] == "fsf")]
    assert own["y_high"].item() == rows["value"].max() and own["n"].item() == len(rows)
    lines = table[table["panel"] == "loss change | step 0"]
    first, second = (lines[lines["series"] == f"order {order}"].sort_values("x") for order in (1, 2))
    assert first["y"].to_numpy() == pytest.approx(-first["x"].to_numpy())
    x = second["x"].to_numpy()
    assert second["y"].to_numpy() == pytest.approx(x**2 - x, rel=1e-6, abs=1e-9)


def test_crossing_is_where_the_measured_loss_is_back_and_a_bound_where_it_never_is():
    sizes = np.array([0.1, 1.0, 2.0, 4.0])
    assert beos_taylor_tables._crossing(sizes, np.array([-0.1, -0.5, 0.5, 3.0])) == pytest.approx(1.5)
    assert beos_taylor_tables._crossing(sizes[::-1], np.array([3.0, 0.5, -0.5, -0.1])) == pytest.approx(1.5)
    assert math.isnan(beos_taylor_tables._crossing(sizes, np.array([-0.1, -0.5, -0.5, -0.2])))


def test_loss_that_never_comes_back_is_written_as_a_bound(records):
    never = records.copy()
    hit = (never["series"] == "measured") & (never["value"] > 0)
    never.loc[hit, "value"] = -1e-3
    table = beos_taylor_tables.tabulate_taylor(never)
    assert table[(table["series"] == "loss is back | step 0")]["flag"].item() == "grid edge"
    figure = new_figure(STYLE, 12, 8)
    beos_taylor_draw.draw_taylor(table, figure)
    assert any("loss is back at ≥ 4.00" in text.get_text() for ax in figure.axes for text in ax.texts)


def test_failed_runs_and_batches_without_an_edge_are_written(records):
    failed = frame([{**records.iloc[-1].to_dict(), "quantity": "diverged_step", "unit": "step", "value": 3.0}])
    table = beos_taylor_tables.tabulate_taylor(pd.concat([records, failed], ignore_index=True))
    table.loc[table["series"] == "no edge", "y"] = 3
    figure = new_figure(STYLE, 12, 8)
    beos_taylor_draw.draw_taylor(table, figure)
    texts = "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert "1 of 2 runs failed" in texts and "3 of 4 batches had no edge" in texts


def test_a_table_without_cases_or_predictions_is_refused(records):
    for kept in (records[records["case"] == "predicted"], records[records["case"] != "predicted"]):
        with pytest.raises(ValueError, match="holds nothing that this artefact draws"):
            beos_taylor_tables.tabulate_taylor(kept)
