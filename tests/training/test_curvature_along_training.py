"""The sharpness stage: what it measures at the weights that a job has kept, in the units of its learning rates."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from featurespeed.data import store
from featurespeed.data.store import load_dataset
from featurespeed.errors import UserError
from featurespeed.pipeline import provenance
from featurespeed.pipeline.stage import Task
from featurespeed.records import frame, read_table, write_table
from featurespeed.training import curvature
from featurespeed.training.curvature import adam_rates, curvature_rows, layer_rates, objective_of
from featurespeed.training.curvature_spec import CURVATURE_QUANTITIES, CurvatureSpec, SharpnessSpec
from featurespeed.training.feature_speed import feature_speed_of
from featurespeed.training.setup import input_shape, make_job, make_network, make_stream
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.trainer import Trainer
from featurespeed.training.weights import load_second_moments, load_weights, save_weights
from tests.conftest import load_script

CPU = torch.device("cpu")
RUN = {
    "run": "curved",
    "data": {"name": "digits", "downscale": 2, "crop": 1},
    "model": {"kind": "convnet", "depth": 2},
    "width": 4,
    "parameterization": "MUP",
    "learning_rates": [0.3, 1.0],
    "seeds": 2,
    "batch_size": 16,
    "steps": 20,
    "probe_steps": [0, 10, 20],
    "dtype": "float64",
    "seed": 3,
}
ALL = [name for name in CURVATURE_QUANTITIES if name != "preconditioned_sharpness"]
EVERYTHING = {"quantities": ALL, "images": 24, "eigenvalues": 2, "tol": 1e-8, "cold_every": 2, "trace_vectors": 3}


@pytest.fixture(scope="module")
def digits(smoke_run):
    return load_dataset(smoke_run.directory / "resources/data/digits/digits.npz")


def trained(data, folder: Path, **changes) -> tuple[TrainingSpec, pd.DataFrame]:
    """A job, its weights in ``folder``, and its records, which say what was frozen."""
    run = TrainingSpec.model_validate(RUN | changes)

    def keep(probe):
        for index, member in enumerate(probe.members):
            save_weights(folder, probe.network, index, member, probe.step, probe.kept)
        return []

    training = Trainer(make_job(run, data, CPU), on_probe=keep).run()
    stopped = [
        {"learning_rate": run.members[m][0], "seed": run.members[m][1], "step": step, "quantity": f"{what}_step"}
        for m, (what, step) in training.frozen.items()
    ]
    return run, pd.DataFrame(stopped, columns=["learning_rate", "seed", "step", "quantity"])


def measured(run: TrainingSpec, data, records: pd.DataFrame, folder: Path, **changes) -> pd.DataFrame:
    spec = CurvatureSpec.model_validate(EVERYTHING | changes)
    return pd.DataFrame([row for part in curvature_rows(run, spec, data, records, folder, CPU) for row in part.rows])


def dense(
    run: TrainingSpec, data, folder: Path, member: int, step: int, images: int = 24, augmented: bool = False
) -> tuple[Tensor, Tensor]:
    """Hessian ``[P, P]`` of one network on the fixed batch, and the layers' factors ``[P]``."""
    network = load_weights(
        folder, make_network(run, input_shape(data, run.data), data.classes, 1).double(), [member], step
    )
    x, y = make_stream(data, run, CPU).fixed_batch(images, run.seed, augmented)
    weights = network.trained
    loss = torch.nn.functional.cross_entropy(network(x[None])[0], y)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])
    rows = [torch.autograd.grad(entry, weights, retain_graph=True) for entry in flat]
    hessian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    factors = [torch.full((w.numel(),), rate) for w, rate in zip(weights, layer_rates(network), strict=True)]
    return hessian, torch.cat(factors).double()


@pytest.fixture(scope="module")
def job(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    run, records = trained(digits, folder)
    return run, records, folder, measured(run, digits, records, folder)


def overflow(folder: Path, run: TrainingSpec, member: int, step: int) -> None:
    """Make the kept weights of one network so large that its derivatives overflow."""
    network = load_weights(folder, make_network(run, (1, 4, 4), 10, 1), [member], step)
    for layer in network.weighted.values():
        layer.weight.data.mul_(1e25)
    save_weights(folder, network, 0, member, step)


def rows_of(table: pd.DataFrame, run: TrainingSpec, member: int, step: int, quantity: str) -> pd.DataFrame:
    rate, seed = run.members[member]
    keep = (table["learning_rate"] == rate) & (table["seed"] == seed) & (table["step"] == step)
    return table[keep & (table["quantity"] == quantity)]


def test_every_quantity_of_every_network_and_probe_step_is_measured(job):
    run, _, _, table = job
    counts = table.groupby("quantity").size()
    networks = len(run.members) * len(run.probe_steps)
    assert counts["sharpness"] == counts["ntk_eigenvalue"] == 2 * networks
    assert counts["layer_sharpness"] == 3 * networks
    for quantity in (
        "smallest_eigenvalue",
        "augmented_sharpness",
        "hessian_trace",
        "directional_sharpness",
        "residual_eigenvalue",
    ):
        assert counts[quantity] == networks
    assert table["converged"].dropna().all()


@pytest.mark.parametrize(("member", "step"), [(0, 0), (1, 20), (2, 10)])
def test_eigenvalues_are_those_of_gamma_squared_times_the_hessian(job, digits, member, step):
    run, _, folder, table = job
    hessian, factors = dense(run, digits, folder, member, step)
    assert factors.unique().tolist() == [run.width]  # gamma^2 = N, for all layers alike
    values = torch.linalg.eigvalsh(run.width * hessian)
    found = rows_of(table, run, member, step, "sharpness").sort_values("index")["value"].to_numpy()
    np.testing.assert_allclose(found, values.flip(0)[:2], rtol=1e-7)
    on_augmented = torch.linalg.eigvalsh(run.width * dense(run, digits, folder, member, step, augmented=True)[0])[-1]
    found = rows_of(table, run, member, step, "augmented_sharpness")["value"].item()
    assert found == pytest.approx(float(on_augmented), rel=1e-7)
    assert abs(found / float(values[-1]) - 1) > 1e-3
    lowest = rows_of(table, run, member, step, "smallest_eigenvalue")["value"].item()
    assert lowest == pytest.approx(float(values[0]), rel=1e-6)
    sizes = [36, 144, 4 * 4 * 10]
    blocks = list(torch.split(torch.arange(sum(sizes)), sizes))
    layers = rows_of(table, run, member, step, "layer_sharpness").sort_values("layer")["value"].to_numpy()
    expected = [float(torch.linalg.eigvalsh(run.width * hessian[b][:, b])[-1]) for b in blocks]
    np.testing.assert_allclose(layers, expected, rtol=1e-7)


def test_the_two_forms_of_a_parameterization_have_the_same_curvature(digits, tmp_path):
    """The units of each layer's own learning rate undo how the layer is parameterized."""
    found = {}
    for form in ("multipliers", "rescaled"):
        run, records = trained(digits, tmp_path / form, form=form, learning_rates=[0.3])
        found[form] = measured(run, digits, records, tmp_path / form)
    one, other = found.values()
    for quantity in ALL:
        a, b = (t.loc[t["quantity"] == quantity, "value"].to_numpy() for t in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_random_features_are_curved_along_the_readout_only(digits, tmp_path):
    run, records = trained(digits, tmp_path, parameterization="RANDOM_FEATURES", learning_rates=[0.1], seeds=1)
    table = measured(run, digits, records, tmp_path)
    assert set(table.loc[table["quantity"] == "layer_sharpness", "layer"]) == {1}
    assert (table.loc[table["quantity"] == "residual_eigenvalue", "value"].abs() < 1e-12).all()
    sharp, gauss_newton = (
        table.loc[(table["quantity"] == q) & (table["index"] == 1), "value"].to_numpy()
        for q in ("sharpness", "gauss_newton_eigenvalue")
    )
    np.testing.assert_allclose(sharp, gauss_newton, rtol=1e-6)


def test_a_frozen_network_is_measured_up_to_its_last_step(digits, tmp_path):
    run, records = trained(digits, tmp_path, learning_rates=[0.3, 1e160], seeds=1, model={"kind": "mlp", "depth": 2})
    assert list(records["quantity"]) == ["diverged_step"]
    table = measured(run, digits, records, tmp_path, quantities=["sharpness"])
    steps = table[table["index"] == 1].groupby("learning_rate")["step"].agg(list)
    assert steps[0.3] == [0, 10, 20]
    assert steps[1e160] == [0]


def test_members_side_by_side_equal_members_alone(digits, tmp_path, monkeypatch):
    run, records = trained(digits, tmp_path, model={"kind": "mlp", "depth": 2}, width=8)
    together = measured(run, digits, records, tmp_path)
    monkeypatch.setattr(curvature, "side_by_side", lambda *_: [[m] for m in range(4)])
    alone = measured(run, digits, records, tmp_path)
    keys = ["learning_rate", "seed", "step", "quantity", "layer", "index"]
    values = [t[t["estimator"] == "Lanczos"].set_index(keys)["value"].sort_index() for t in (together, alone)]
    values = [v[v.index.get_level_values("quantity") != "warm_start_disagreement"] for v in values]
    assert values[0].index.equals(values[1].index)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6, atol=1e-10)


def test_what_does_not_fit_goes_on_with_less(digits, tmp_path, monkeypatch):
    """Halves of a group, then micro-batches of one member; the results are those of the whole."""
    run, records = trained(digits, tmp_path, model={"kind": "mlp", "depth": 2}, width=8)
    keys, asked = ["learning_rate", "seed", "step", "quantity", "index"], []
    both = ["sharpness", "ntk_eigenvalue"]
    whole = measured(run, digits, records, tmp_path, quantities=both)
    real = curvature.objective_of

    def short_of_memory(network, loss, batch, parameters=None, micro_batch=None):
        asked.append((network.members, micro_batch))
        if network.members > 1 or (micro_batch or len(batch[1])) > 6:
            raise torch.cuda.OutOfMemoryError
        return real(network, loss, batch, parameters, micro_batch)

    monkeypatch.setattr(curvature, "objective_of", short_of_memory)
    less = measured(run, digits, records, tmp_path, quantities=both)
    assert {(4, None), (2, None), (1, None), (1, 12), (1, 6)} <= set(asked)
    a, b = (t[t["quantity"].isin(both)].set_index(keys)["value"].sort_index() for t in (whole, less))
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_derivatives_that_overflow_end_one_network_and_no_other(digits, tmp_path):
    run, records = trained(digits, tmp_path, model={"kind": "mlp", "depth": 2}, width=8, dtype="float32", seeds=1)
    overflow(tmp_path, run, member=1, step=10)
    table = measured(run, digits, records, tmp_path, quantities=["sharpness"], tol=1e-3)
    ended = table[table["quantity"] == "overflow_step"]
    assert ended[["learning_rate", "step", "value"]].values.tolist() == [[1.0, 10, 10.0]]
    steps = table[(table["quantity"] == "sharpness") & (table["index"] == 1)].groupby("learning_rate")["step"].agg(list)
    assert steps[0.3] == [0, 10, 20]
    assert steps[1.0] == [0]


#: Adam's rates -> the factors of input, hidden layer and readout, at N = 4 and L = 2.
ADAM_RATES = {
    "table": ({}, [1.0, 0.5, 1.0]),
    "common, with depth": ({"layer_rates": "common", "depth_rates": True}, [8**0.5] * 3),
}


@pytest.mark.parametrize("rates", ADAM_RATES)
def test_the_preconditioned_sharpness_is_that_of_adam(digits, tmp_path, rates):
    """The largest eigenvalue of ``D P^-1 H`` with P from the second moments, bias corrections and epsilon."""
    choice, stated = ADAM_RATES[rates]
    optimizer = {"name": "adam", "warmup_steps": 40} | choice
    run, records = trained(digits, tmp_path, optimizer=optimizer, learning_rates=[0.01], seeds=1)
    table = measured(run, digits, records, tmp_path, quantities=["preconditioned_sharpness"])
    assert sorted(table.loc[table["quantity"] == "preconditioned_sharpness", "step"]) == [10, 20]  # none before a step
    hessian, factors = dense(run, digits, tmp_path, 0, 20)
    network = make_network(run, (1, 4, 4), 10, 1).double()
    assert layer_rates(network) == pytest.approx(stated, rel=1e-12)
    second = load_second_moments(tmp_path, network, [0], 20)
    moment = torch.cat([second[name].flatten() for name in network.weighted])
    scales = torch.cat([torch.full((w.weight[0].numel(),), w.rule.epsilon_scale) for w in network.weighted.values()])
    size = (moment / (1 - 0.999**20)).sqrt() + 1e-8 * scales
    rates = 0.01 * 20 / 40 * factors / ((1 - 0.9**20) * size)
    expected = torch.linalg.eigvals(rates[:, None] * hessian).real.max()
    found = rows_of(table, run, 0, 20, "preconditioned_sharpness")["value"].item()
    assert found == pytest.approx(float(expected), rel=1e-6)


def test_the_gamma_sharpness_is_that_of_gamma_squared_times_the_hessian_whatever_adams_rates_are(digits, tmp_path):
    """gamma^2 = gamma_0^2 N = 1 for both forms, while the sharpness is in units of Adam's rates: N of the one form at
    common rates, ``N / sqrt(L)`` with the depth, and neither at those of the table."""
    found, quantities = {}, ["sharpness", "gamma_sharpness"]
    for name, form, choice in (
        ("table", "multipliers", {}),
        ("rescaled", "rescaled", {}),
        ("common", "multipliers", {"layer_rates": "common"}),
        ("depth", "multipliers", {"layer_rates": "common", "depth_rates": True}),
    ):
        optimizer, folder = {"name": "adam", **choice}, tmp_path / name
        once = {"learning_rates": [0.01], "seeds": 1, "steps": 1, "probe_steps": [0], "gamma0": 0.5, "form": form}
        run, records = trained(digits, folder, optimizer=optimizer, **once)
        table = measured(run, digits, records, folder, quantities=quantities, eigenvalues=1)
        found[name] = table.set_index("quantity")["value"][quantities].to_list()
        if name == "table":
            expected = float(torch.linalg.eigvalsh(0.25 * 4 * dense(run, digits, folder, 0, 0)[0])[-1])
    for _, gamma in found.values():
        assert gamma == pytest.approx(expected, rel=1e-7)
    assert found["common"][0] == pytest.approx(expected, rel=1e-7)
    assert found["depth"][0] == pytest.approx(expected / math.sqrt(2), rel=1e-7)
    assert abs(found["table"][0] / expected - 1) > 0.1


def test_weights_that_adam_has_never_moved_have_no_rate():
    """Without epsilon a second moment of 0 would make the rate infinite."""
    run = TrainingSpec.model_validate(RUN | {"optimizer": {"name": "adam", "epsilon": 0.0}})
    network = make_network(run, (1, 4, 4), 10, 2)
    second = {name: torch.ones_like(layer.weight) for name, layer in network.weighted.items()}
    next(iter(second.values()))[1, 0] = 0.0
    rates = adam_rates(run, network, second, [0.01, 0.02], 5)
    assert torch.isfinite(rates).all() and (rates[0] > 0).all()
    assert (rates[1] == 0).sum() == 9  # one channel of a 3x3 convolution


def test_the_preconditioner_comes_from_the_optimizer_that_trained(digits, tmp_path):
    """One more step of Adam with momentum 0 moves the weights by ``rates * gradient``."""
    optimizer = {"name": "adam", "betas": [0.0, 0.99]}
    run, _ = trained(digits, tmp_path, optimizer=optimizer, learning_rates=[0.01], seeds=1, probe_steps=[19, 20])
    network = make_network(run, (1, 4, 4), 10, 1).double()
    before = [w.clone() for w in load_weights(tmp_path, network, [0], 19).trained]
    second = load_second_moments(tmp_path, network, [0], 20)
    old = load_second_moments(tmp_path, network, [0], 19)
    after = load_weights(tmp_path, network, [0], 20).trained
    gradient = torch.cat([((second[n] - 0.99 * old[n]) / 0.01).clamp(min=0).sqrt().flatten() for n in second])
    moved = torch.cat([(b - a).abs().flatten() for a, b in zip(after, before, strict=True)])
    rates = adam_rates(run, network, second, [0.01], 20)[0]
    torch.testing.assert_close(moved, rates * gradient, rtol=1e-5, atol=1e-12)


def test_weights_of_sgd_have_no_second_moments(job):
    run, _, folder, _ = job
    network = make_network(run, (1, 4, 4), 10, 1)
    with pytest.raises(KeyError):
        load_second_moments(folder, network, [0], 0)


# --- the script -------------------------------------------------------------------------------------------------------

MLP = {"model": {"kind": "mlp", "depth": 2}, "width": 8, "dtype": "float32"}  # on a CPU all members side by side


class Killed(BaseException):
    """What stands for a kill: nothing in the package catches it."""


def script_inputs(digits, smoke_run, folder: Path, **changes) -> dict[str, Path]:
    """Files that the script reads: a data set, the weights of a job, and its records."""
    run, _ = trained(digits, folder / "weights", **changes)
    keys = {"series": "curved", "width": 4, "depth": 2, "input_dim": 16, "output_dim": 10, "seed": 0}
    table = frame([keys | {"estimator": "training", "quantity": "training_loss", "value": 1.0}])
    write_table(table, folder / "records.parquet", {})
    return {
        "data": smoke_run.directory / "resources/data/digits/digits.npz",
        "records": folder / "records.parquet",
        "weights": folder / "weights",
    }


def spec_of(changes: dict | None = None, **settings) -> SharpnessSpec:
    """``changes`` of the job, ``settings`` of the measurement."""
    training = RUN | (changes or {})
    return SharpnessSpec.model_validate({"training": training, "curvature": EVERYTHING | settings})


def run_script(
    monkeypatch, folder: Path, inputs: dict[str, Path], spec: SharpnessSpec, die_at: list[int] | None = None, minutes=0
) -> tuple[bytes | None, list[list[int]]]:
    """The table's bytes, and the members that were tried side by side, in order.

    The job is killed, and has no table, when it comes to the members ``die_at``; if there are none, at its end.
    """
    real, asked, table = curvature._rows_of_group, [], None

    def rows_of_group(measurement, members, *rest):
        if members == die_at:
            raise Killed
        asked.append(members)
        return real(measurement, members, *rest)

    def die(_):
        raise Killed

    task = Task(inputs=inputs, outputs={}, params={"checkpoints": folder / "checkpoints/job"})
    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(curvature, "_rows_of_group", rows_of_group)
        patch.setenv("FEATURESPEED_CHECKPOINT_MINUTES", str(minutes))
        if die_at == []:
            patch.setattr("featurespeed.records.frame", die)
        write_table(load_script("sharpness").main(spec, task), folder / "table.parquet", {})
        table = (folder / "table.parquet").read_bytes()
    task.at_end.close()  # gives the lock back, as the death of a process does
    return table, asked


def test_the_script_writes_one_table_with_the_evidence_of_every_value(digits, smoke_run, tmp_path, monkeypatch):
    inputs = script_inputs(digits, smoke_run, tmp_path, seeds=1)
    run_script(monkeypatch, tmp_path, inputs, spec_of({"seeds": 1}))
    found = read_table(tmp_path / "table.parquet")
    assert set(found["run_id"]) == {"curved"}
    eigenvalues = found[found["quantity"] == "sharpness"]
    assert (eigenvalues["products"] >= 4).all()
    assert np.isfinite(eigenvalues["residual"]).all()
    assert set(found["unit"]) == {"1/learning rate", "1", "1/time", "rad"}
    assert not (tmp_path / "checkpoints").exists()


def test_networks_that_failed_before_they_were_measured_give_a_table_without_rows(
    digits, smoke_run, tmp_path, monkeypatch
):
    """Adam has no preconditioner at step 0; all that could be measured later diverged at step 4."""
    adam = {"optimizer": {"name": "adam"}, "seeds": 1}
    inputs = script_inputs(digits, smoke_run, tmp_path, **adam)
    spec = spec_of(adam, quantities=["preconditioned_sharpness"])
    records = read_table(inputs["records"])
    stopped = {"quantity": "diverged_step", "step": 4, "value": 4.0, "unit": "step"}
    rows = [records.assign(learning_rate=rate, seed=seed, **stopped) for rate, seed in spec.training.members]
    write_table(frame(pd.concat(rows)), inputs["records"], {})
    run_script(monkeypatch, tmp_path, inputs, spec)
    found = read_table(tmp_path / "table.parquet")
    assert len(found) == 0 and list(found.columns) == list(records.columns)


@pytest.fixture
def one_by_one(monkeypatch):
    """As networks are measured that are not small."""
    monkeypatch.setattr(curvature, "side_by_side", lambda run, images, device, members: [[m] for m in members])


@pytest.mark.usefixtures("one_by_one")
def test_a_killed_measurement_goes_on_to_the_same_bytes(digits, smoke_run, tmp_path, monkeypatch):
    """Killed twice; no network that was done is measured again, and nothing is left behind."""
    inputs, spec = script_inputs(digits, smoke_run, tmp_path), spec_of(tol=1e-3)
    whole, asked = run_script(monkeypatch, tmp_path, inputs, spec)
    assert asked == [[0], [1], [2], [3]]
    assert run_script(monkeypatch, tmp_path, inputs, spec, die_at=[1]) == (None, [[0]])
    assert run_script(monkeypatch, tmp_path, inputs, spec, die_at=[3]) == (None, [[1], [2]])
    assert list((tmp_path / "checkpoints").rglob("*.pt"))
    assert run_script(monkeypatch, tmp_path, inputs, spec) == (whole, [[3]])
    table = read_table(tmp_path / "table.parquet")
    assert list(dict.fromkeys(zip(table["learning_rate"], table["seed"], strict=True))) == spec.training.members
    assert not (tmp_path / "checkpoints").exists()


def test_every_kind_of_row_survives_a_kill(digits, smoke_run, tmp_path, monkeypatch):
    """Those of Adam's preconditioner and of an overflow, too: killed when all networks were done, but not the table."""
    changes = MLP | {"optimizer": {"name": "adam"}, "learning_rates": [0.01, 0.02], "seeds": 1}
    inputs = script_inputs(digits, smoke_run, tmp_path, **changes)
    overflow(tmp_path / "weights", TrainingSpec.model_validate(RUN | changes), member=1, step=10)
    spec = spec_of(changes, quantities=list(CURVATURE_QUANTITIES), tol=1e-3)
    whole, asked = run_script(monkeypatch, tmp_path, inputs, spec)
    assert asked == [[0, 1], [0], [1]]
    assert {"preconditioned_sharpness", "overflow_step"} <= set(read_table(tmp_path / "table.parquet")["quantity"])
    assert run_script(monkeypatch, tmp_path, inputs, spec, die_at=[]) == (None, asked)
    assert run_script(monkeypatch, tmp_path, inputs, spec) == (whole, [])


def test_halves_of_a_group_go_on_as_halves_after_a_kill(digits, smoke_run, tmp_path, monkeypatch):
    """Four networks side by side, of which the second one overflows: the others are measured with whom they were."""
    inputs = script_inputs(digits, smoke_run, tmp_path, **MLP)
    overflow(tmp_path / "weights", TrainingSpec.model_validate(RUN | MLP), member=1, step=10)
    spec = spec_of(MLP, quantities=["sharpness"], tol=1e-3)
    whole, asked = run_script(monkeypatch, tmp_path, inputs, spec)
    assert asked == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]
    assert run_script(monkeypatch, tmp_path, inputs, spec, die_at=[1]) == (None, asked[:3])
    assert run_script(monkeypatch, tmp_path, inputs, spec, die_at=[2, 3]) == (None, [[1]])
    assert run_script(monkeypatch, tmp_path, inputs, spec) == (whole, [[2, 3]])


def other_records(patch, inputs):
    write_table(read_table(inputs["records"]), inputs["records"], {"trained": "again"})


def other_code(patch, inputs):
    patch.setattr(provenance, "code_hash", lambda script, modules=(): "other")


def other_data(patch, inputs):
    facts = load_dataset(inputs["data"]).facts | {"content_sha256": "other"}
    patch.setattr(store, "load_dataset", lambda path: replace(load_dataset(path), facts=facts))


OTHERS = {
    "settings": ({"images": 16}, lambda patch, inputs: None),
    "records": ({}, other_records),
    "code": ({}, other_code),
    "data": ({}, other_data),
}


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("other", OTHERS)
def test_the_checkpoint_of_another_measurement_is_not_used(digits, smoke_run, tmp_path, monkeypatch, other):
    few, (settings, change) = {"seeds": 1}, OTHERS[other]
    inputs, cheap = script_inputs(digits, smoke_run, tmp_path, **few), {"quantities": ["sharpness"], "tol": 1e-3}
    assert run_script(monkeypatch, tmp_path, inputs, spec_of(few, **cheap), die_at=[1]) == (None, [[0]])
    change(monkeypatch, inputs)
    found, asked = run_script(monkeypatch, tmp_path, inputs, spec_of(few, **cheap | settings))
    assert asked == [[0], [1]]
    assert (found, asked) == run_script(monkeypatch, tmp_path, inputs, spec_of(few, **cheap | settings))


@pytest.mark.usefixtures("one_by_one")
def test_nothing_is_saved_before_it_is_time(digits, smoke_run, tmp_path, monkeypatch):
    inputs, spec = script_inputs(digits, smoke_run, tmp_path, seeds=1), spec_of({"seeds": 1}, quantities=["sharpness"])
    run_script(monkeypatch, tmp_path, inputs, spec, die_at=[1], minutes=10)
    assert not list(tmp_path.rglob("*.pt"))


def test_the_smoke_run_gathers_records_and_curvature_of_all_jobs(smoke_run):
    table = read_table(smoke_run.directory / "results/smoke/stages/sc_sharpness.parquet")
    assert table.groupby("series")["width"].unique().map(sorted).to_dict() == {"muP": [4, 8], "NTP": [4, 8]}
    assert {"training_loss", "sharpness", "hessian_trace"} <= set(table["quantity"])
    checks = table[table["quantity"] == "warm_start_disagreement"]
    assert len(checks)
    assert (checks["value"] < 1e-2).all()


def test_residuals_are_softmax_minus_label(digits, tmp_path):
    run, records = trained(digits, tmp_path, seeds=1, learning_rates=[0.3])
    rows = measured(run, digits, records, tmp_path, quantities=["residual_norm"]).set_index("step")["value"]
    x, y = make_stream(digits, run, CPU).fixed_batch(24, run.seed)
    for step in run.probe_steps:
        network = make_network(run, input_shape(digits, run.data), digits.classes, 1).double()
        outputs = load_weights(tmp_path, network, [0], step)(x.double()[None])[0].detach()
        outputs.requires_grad_()
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(outputs, y, reduction="sum"), outputs)
        assert rows[step] == pytest.approx(float(gradient.square().sum(1).mean().sqrt()), rel=1e-12)


def test_feature_speed_is_that_of_the_first_paper_for_a_learning_rate_of_1(digits, tmp_path):
    run, records = trained(digits, tmp_path, seeds=1, learning_rates=[0.3])
    rows = measured(run, digits, records, tmp_path, quantities=["feature_speed"])
    x, y = make_stream(digits, run, CPU).fixed_batch(24, run.seed)
    network = make_network(run, input_shape(digits, run.data), digits.classes, 1).double()
    found = feature_speed_of(load_weights(tmp_path, network, [0], 20), "cross_entropy", (x.double(), y), 1.0)
    assert float(found.formula_error.max()) < 1e-12
    last = rows[rows["step"] == 20].set_index(["quantity", "layer"])["value"]
    expected = {"bfa": found.angle, "feature_sensitivity": found.feature_sensitivity, "loss_decay": found.loss_decay}
    for quantity, values in expected.items():
        assert last[quantity].tolist() == pytest.approx(values.tolist(), rel=1e-12)


def test_only_the_chosen_networks_are_measured(digits, tmp_path):
    run, records = trained(digits, tmp_path)
    spec = CurvatureSpec(quantities=["directional_sharpness"], images=24)
    parts = curvature_rows(run, spec, digits, records, tmp_path, CPU, [1, 3])
    rows = pd.DataFrame([row for part in parts for row in part.rows])
    assert set(zip(rows["learning_rate"], rows["seed"], strict=True)) == {run.members[1], run.members[3]}


def told(run: TrainingSpec, data, records: pd.DataFrame, folder: Path, **changes) -> list[int]:
    """What is told while networks are measured."""
    spec, found = CurvatureSpec.model_validate({"quantities": ["sharpness"], "images": 24} | changes), []
    for _ in curvature_rows(run, spec, data, records, folder, CPU, told=found.append):
        pass
    return found


def test_every_network_is_told_of_at_every_step(digits, job):
    run, records, folder, _ = job
    assert told(run, digits, records, folder) == [4, 4, 4, 0]
    stopped = {"learning_rate": 1.0, "seed": 1, "step": 10, "quantity": "diverged_step"}
    assert told(run, digits, pd.DataFrame([stopped]), folder) == [4, 4, 4, 0]
    assert told(run, digits, pd.DataFrame([stopped | {"seed": seed} for seed in (0, 1)]), folder, steps=[20]) == [4, 0]


def test_what_starts_again_in_halves_is_taken_back(digits, tmp_path):
    run, records = trained(digits, tmp_path, **MLP)
    overflow(tmp_path, run, member=1, step=20)
    found = told(run, digits, records, tmp_path)
    assert found[:3] == [4, 4, -8]
    assert sum(found) == 4 * 3


@pytest.mark.parametrize("steps", [[20, 0], [10]], ids=str)
def test_only_the_chosen_steps_are_measured_with_the_values_that_they_have_among_all(digits, job, steps):
    run, records, folder, whole = job
    quantities = ["sharpness", "ntk_eigenvalue", "directional_sharpness"]
    found = measured(run, digits, records, folder, quantities=quantities, steps=steps)
    same = whole[whole["quantity"].isin(quantities) & whole["step"].isin(steps)]
    keys = ["learning_rate", "seed", "step", "quantity", "index"]
    found, same = (table.sort_values(keys).reset_index(drop=True) for table in (found, same))
    assert sorted(set(found["step"])) == sorted(steps) and found[keys].equals(same[keys])
    np.testing.assert_allclose(found["value"], same["value"], rtol=1e-6, atol=1e-12)


def test_the_script_measures_at_the_chosen_steps(digits, smoke_run, tmp_path, monkeypatch):
    changes = {"seeds": 1, **MLP}
    inputs = script_inputs(digits, smoke_run, tmp_path, **changes)
    run_script(monkeypatch, tmp_path, inputs, spec_of(changes, quantities=["sharpness"], tol=1e-3, steps=[20, 0]))
    found = read_table(tmp_path / "table.parquet")
    assert list(dict.fromkeys(found["step"])) == [0, 20]
    assert found.groupby("learning_rate").size().to_dict() == {0.3: 4, 1.0: 4}  # two eigenvalues at either step


WRONG = {
    "a step that was not kept": ({"steps": [0, 15]}, "curvature.steps = 15: not one of probe_steps = [0, 10, 20]"),
    "an unknown quantity": ({"quantities": ["sharpnes"]}, "quantities.0"),
    "no quantity": ({"quantities": []}, "quantities"),
    "more images than there are": ({"images": 100_000}, "images = 100000"),
    "a tolerance of 0": ({"tol": 0}, "tol"),
    "a preconditioner of SGD": ({"quantities": ["preconditioned_sharpness"]}, "sgd has no preconditioner"),
}


def test_common_rates_of_a_parameterization_without_gamma_are_refused():
    sp = {"parameterization": "SP", "optimizer": {"name": "adam", "layer_rates": "common"}}
    with pytest.raises(ValidationError, match="layer_rates = 'common': .* SP has no gamma; use MUP or DEPTH_MUP"):
        TrainingSpec.model_validate(RUN | sp)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_measurement_is_refused_before_any_work(name):
    changes, message = WRONG[name]
    with pytest.raises(ValidationError) as error:
        SharpnessSpec.model_validate({"training": RUN, "curvature": EVERYTHING | changes})
    assert message in str(error.value)


def test_augmented_images_need_an_augmentation():
    with pytest.raises(ValidationError, match="quantities = augmented_sharpness: training augments nothing"):
        SharpnessSpec.model_validate({"training": RUN | {"data": {"name": "digits"}}, "curvature": EVERYTHING})


def test_a_job_without_probe_steps_cannot_be_measured():
    with pytest.raises(ValidationError, match="probe_steps = \\[\\]"):
        SharpnessSpec.model_validate({"training": RUN | {"probe_steps": []}, "curvature": EVERYTHING})


def test_missing_weights_name_the_file(digits, tmp_path):
    run = TrainingSpec.model_validate(RUN)
    with pytest.raises((FileNotFoundError, UserError)) as error:
        measured(run, digits, pd.DataFrame(columns=["quantity", "learning_rate", "seed", "step"]), tmp_path)
    assert "member_0000" in str(error.value)


def test_layer_rates_are_those_of_the_table(digits):
    run = TrainingSpec.model_validate(RUN | {"form": "rescaled"})
    network = make_network(run, (1, 4, 4), 10, 1)
    for weight in network.parameters():
        torch.nn.init.ones_(weight)
    rates = [layer.rule.lr_scale for layer in network.weighted.values()]
    assert layer_rates(network) == rates
    assert len(set(rates)) > 1
    x, y = make_stream(digits, run, CPU).fixed_batch(8, 0)
    objective = objective_of(network.double(), "cross_entropy", (x.double(), y))
    assert math.prod(objective.fill(rates).shape) == objective.size


def test_some_seeds_have_the_rows_that_they_have_among_all(digits, job):
    """But for the traces, whose random vectors are those of a group."""
    run, records, folder, whole = job
    quantities = ["sharpness", "ntk_eigenvalue"]
    settings = CurvatureSpec.model_validate(EVERYTHING | {"quantities": quantities})
    for seed in range(run.seeds):
        spec = SharpnessSpec(training=run, curvature=settings, seeds=[seed])
        parts = curvature_rows(run, settings, digits, records, folder, CPU, spec.members)
        own = pd.DataFrame([row for part in parts for row in part.rows])
        own, same = (table[table["quantity"].isin(quantities)] for table in (own, whole[whole["seed"] == seed]))
        keys = ["learning_rate", "step", "quantity", "index"]
        own, same = (table.sort_values(keys).reset_index(drop=True) for table in (own, same))
        assert own[keys].equals(same[keys]) and set(own["seed"]) == {seed}
        np.testing.assert_allclose(own["value"], same["value"], rtol=1e-6, atol=1e-12)
