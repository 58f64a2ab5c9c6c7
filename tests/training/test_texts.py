"""Training on texts: both forms of a parameterization, members, groups, test scores, and what is measured meanwhile."""

from __future__ import annotations

import math
import re
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
import torch

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.operators import GaussNewton, Scaled
from featurespeed.data.prepare import prepare
from featurespeed.data.store import TextData, load_dataset
from featurespeed.pipeline.stage import Task
from featurespeed.randomness import generator
from featurespeed.records import read_table, write_table
from featurespeed.training import curvature, evaluate, progress
from featurespeed.training.curvature import curvature_rows, gamma_squared, layer_rates, objective_of
from featurespeed.training.curvature_spec import CurvatureSpec, SharpnessSpec
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.evaluate import batch_of, scores_on_test_set
from featurespeed.training.groups import CPU_TRANSFORMER_WORK, plan_groups, side_by_side
from featurespeed.training.operations import layers_of_job
from featurespeed.training.progress import perplexity
from featurespeed.training.setup import make_job, make_stream
from featurespeed.training.spec import TrainingSpec
from featurespeed.training.trainer import Trainer
from featurespeed.training.weights import save_weights
from tests.conftest import load_script
from tests.training import cases
from tests.training.cases import DOUBLE, all_together, force_groups, relative_difference, weights_of_members

CPU = torch.device("cpu")
LENGTH, VOCABULARY, WIDTH = 6, 5, 8
GPT = {"kind": "gpt", "depth": 4, "heads": 2, "hidden_ratio": 2.0}
POST_LN = {"kind": "post_ln", "depth": 2, "heads": 2}
JOB = {
    "run": "text", "data": {"name": "pydoc", "length": LENGTH}, "model": GPT, "width": WIDTH,
    "parameterization": "MUP", "learning_rates": [0.03], "seeds": 1, "batch_size": 8, "steps": 30, "seed": 1,
    "dtype": "float64",
}  # fmt: skip


def chain_of_tokens(count: int, name: str) -> np.ndarray:
    """A text in which each of five tokens is mostly followed by the next one, and which an embedding can learn."""
    jumps = torch.randint(VOCABULARY, (count,), generator=generator(0, "jumps", name))
    rare = torch.rand(count, generator=generator(0, "rare", name)) < 0.2
    return (torch.where(rare, jumps, torch.ones_like(jumps)).cumsum(0) % VOCABULARY).to(torch.int32).numpy()


TEXT = TextData("pydoc", chain_of_tokens(301, "train"), chain_of_tokens(62, "test"), tuple("abcde"), {})


def spec(**changes) -> TrainingSpec:
    return TrainingSpec.model_validate(JOB | changes)


def train(job: TrainingSpec, **options):
    return Trainer(make_job(job, TEXT, CPU), **options).run()


# --- the two forms of a parameterization ------------------------------------------------------------------------------

ADAM = {"name": "adam", "epsilon": 1e-3}
BARE = ADAM | {"epsilon": 0.0}
SAME_CURVE = {
    "muP, SGD": ("MUP", GPT, {}),
    "Depth-muP, SGD": ("DEPTH_MUP", GPT, {}),
    "CompleteP, SGD": ("COMPLETE_P", GPT, {}),
    "NTP, SGD": ("NTP", GPT, {}),
    "muP, Adam, eps = 0": ("MUP", GPT, BARE),
    "muP, Adam, eps by layer": ("MUP", GPT, ADAM),
    "Depth-muP, Adam, eps = 0": ("DEPTH_MUP", GPT, BARE),
    "Depth-muP, Adam, eps by layer": ("DEPTH_MUP", GPT, ADAM),
    "CompleteP, Adam, eps = 0": ("COMPLETE_P", GPT, BARE),
    "CompleteP, Adam, eps by layer": ("COMPLETE_P", GPT, ADAM),
    "u-muP, Adam, eps by layer": ("U_MUP", GPT, ADAM),
    "muP, Adam, post-LN": ("MUP", POST_LN, ADAM),
    "CompleteP, AdamW, post-LN": ("COMPLETE_P", POST_LN, ADAM | {"name": "adamw", "weight_decay": 0.1}),
}


def both_forms(parameterization, model, optimizer):
    """A job under either form, at a rate at which the loss falls."""
    rates = [0.1 if parameterization == "U_MUP" else 0.03] if optimizer else [0.3]
    rest = {"parameterization": parameterization, "model": model, "optimizer": optimizer, "learning_rates": rates}
    return [train(spec(form=form, **rest)) for form in ("multipliers", "rescaled")]


def effective_weights(training):
    """What every layer multiplies its input with or adds to it, ``a W``, of the only member."""
    ((_, network),) = training.final
    return {name: layer.weight.detach() * layer.rule.multiplier for name, layer in network.weighted.items()}


@pytest.mark.parametrize("case", SAME_CURVE)
def test_both_forms_of_a_decoder_train_alike_and_end_at_the_same_weights(case):
    """Matrices, gains, biases and embeddings, after 30 steps in float64; vectors have moved, too."""
    one, other = both_forms(*SAME_CURVE[case])
    assert relative_difference(one.losses, other.losses) < 1e-9
    assert one.losses[0, -5:].mean() < 0.9 * one.losses[0, :3].mean()
    found = effective_weights(other)
    for name, weight in effective_weights(one).items():
        torch.testing.assert_close(found[name], weight, rtol=1e-8, atol=1e-9)
        if name.endswith("gain"):
            assert float((weight - 1).abs().max()) > 1e-4
        elif "bias" in name or name.endswith("projection.1"):
            assert float(weight.abs().max()) > 1e-4


@pytest.mark.parametrize("parameterization", ["MUP", "COMPLETE_P"])
def test_the_forms_of_a_decoder_differ_under_one_epsilon_for_all_layers(parameterization):
    one, other = both_forms(parameterization, GPT, ADAM | {"epsilon_by_layer": False})
    assert one.losses[0, 0] == pytest.approx(other.losses[0, 0], rel=1e-12)
    assert relative_difference(one.losses, other.losses) > 1e-4


@pytest.mark.parametrize("convention", ["ours", "authors"])
@pytest.mark.parametrize("optimizer", [{}, ADAM], ids=["SGD", "Adam"])
def test_both_forms_of_a_vit_train_alike(convention, optimizer):
    model = {"kind": "vit", "depth": 2, "heads": 2, "convention": convention}
    rates = [0.03] if optimizer else [0.2]
    rest = {"model": model, "seeds": 1, "steps": 30, "optimizer": optimizer, "learning_rates": rates}
    one, other = (cases.train(cases.make_spec(form=form, **rest)).losses for form in ("multipliers", "rescaled"))
    assert relative_difference(one, other) < 1e-9
    assert one[0, -5:].mean() < 0.9 * one[0, :3].mean()


# --- members and groups -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [{}, ADAM], ids=["SGD", "Adam"])
def test_members_train_side_by_side_as_they_do_one_by_one(optimizer, monkeypatch):
    """Two learning rates and two seeds; the seeds have batches of their own, the rates share them."""
    job = spec(optimizer=optimizer, learning_rates=[0.02, 0.05], seeds=2)
    force_groups(monkeypatch, [[0], [1], [2], [3]])
    alone = train(job)
    all_together(monkeypatch, job)
    together = train(job)
    assert relative_difference(together.losses, alone.losses) < 1e-10
    found, expected = weights_of_members(together), weights_of_members(alone)
    for member in range(4):
        torch.testing.assert_close(found[member], expected[member], rtol=1e-8, atol=1e-10)
    assert alone.losses[0, 0] == alone.losses[1, 0] != alone.losses[2, 0]


def test_on_a_cpu_transformers_are_side_by_side_while_their_largest_layer_has_little_to_do():
    """Its multiply-adds count, tokens and vocabulary included, and neither depth nor width alone."""
    members, together, alone = [0, 2, 3], [[0, 2, 3]], [[0], [2], [3]]
    model = {"kind": "gpt", "depth": 4}

    def groups(examples, **changes):
        return side_by_side(spec(**{"model": model, "width": 32} | changes), examples, CPU, members)

    largest = max(layer.multiply_adds for layer in layers_of_job(spec(model=model, width=32)))
    assert largest == LENGTH * 32 * 128  # of the MLP
    most = CPU_TRANSFORMER_WORK // largest
    assert groups(most) == together and groups(most + 1) == alone
    assert groups(most, model=model | {"depth": 64}) == together
    assert groups(most, data={"name": "pydoc", "length": LENGTH + 1}) == alone
    assert groups(most, data={"name": "wikitext2", "length": LENGTH}) == alone  # a readout of 33278 tokens
    assert groups(10**5, width=512) == alone
    assert side_by_side(spec(model=model, width=512), 10**5, torch.device("cuda"), members) == together


def test_training_takes_the_same_groups(monkeypatch):
    many = spec(learning_rates=[0.02, 0.05])
    assert plan_groups(many, CPU, lambda: 1 / 0) == [[0, 1]]
    assert plan_groups(spec(learning_rates=[0.02, 0.05], width=512, batch_size=64), CPU, lambda: 1 / 0) == [[0], [1]]


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_tells_sequences_a_second_and_perplexity(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    training = train(spec(steps=20, learning_rates=[0.02, 0.05]))
    line, last = capsys.readouterr().err.splitlines()
    pattern = r".* ([\d,]+) sequences/s, loss (\S+) to (\S+) \(perplexity (\S+) to (\S+)\), .* left"
    *_, lowest, highest = re.fullmatch(pattern, line).groups()
    expected = np.exp([training.losses[:, -1].min(), training.losses[:, -1].max()])
    assert [lowest, highest] == [f"{value:,.1f}" for value in expected]
    assert last.endswith("sequences/s")


def test_perplexity_is_the_exponential_of_the_loss_and_infinite_beyond_all_numbers():
    assert perplexity(0.0) == 1.0 and perplexity(math.log(7.0)) == pytest.approx(7.0)
    assert perplexity(1e4) == math.inf and math.isnan(perplexity(math.nan))


# --- scores on the test set -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    return train(spec(learning_rates=[0.02, 0.05], seeds=2))


def test_scores_of_a_text_are_means_over_all_tokens_of_its_test_set(trained):
    stream = make_stream(TEXT, spec(), CPU)
    test, scores = stream.test_set(), scores_on_test_set(trained.final, stream, "cross_entropy")
    assert set(scores) == {0, 1, 2, 3}
    for members, network in trained.final:
        for index, member in enumerate(members):
            outputs = network.take([index])(test[0][None])[0].detach()
            losses = [
                -float(z.log_softmax(0)[answer])
                for z, answer in zip(outputs.flatten(0, 1), test[1].flatten(), strict=True)
            ]
            hits = [
                int(z.argmax()) == int(answer)
                for z, answer in zip(outputs.flatten(0, 1), test[1].flatten(), strict=True)
            ]
            assert len(losses) == 10 * LENGTH
            found = scores[member]
            assert found["test_loss"] == pytest.approx(np.mean(losses), rel=1e-12)
            assert found["test_accuracy"] == np.mean(hits)
            assert found["test_perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-12)
    assert scores[0]["test_accuracy"] > 1.5 / VOCABULARY


@pytest.mark.parametrize(("most", "size"), [(10**9, 4), (4 * LENGTH * VOCABULARY * 3, 3), (1, 1)])
def test_scores_do_not_depend_on_how_many_sequences_are_taken_at_a_time(trained, monkeypatch, most, size):
    """Ten sequences in fours, in threes and one by one, whose outputs are as many numbers as are allowed."""
    stream = make_stream(TEXT, spec(), CPU)
    expected = scores_on_test_set(trained.final, stream, "cross_entropy")
    monkeypatch.setattr(evaluate, "TEST_BATCH", 4)
    monkeypatch.setattr(evaluate, "MOST_OUTPUTS", most)
    assert len(trained.final) == 1 and batch_of(trained.final, stream) == size
    found = scores_on_test_set(trained.final, stream, "cross_entropy")
    for member, scores in expected.items():
        assert found[member] == pytest.approx(scores, rel=1e-13)


@pytest.mark.parametrize(("most", "taken"), [(7, 7), (8, 8), (1, 1), (10, 10), (99, 10), (None, 10)])
def test_scores_are_those_of_the_first_sequences(trained, monkeypatch, most, taken):
    """In fours, of which the last may be cut; there are ten."""
    monkeypatch.setattr(evaluate, "TEST_BATCH", 4)
    stream = make_stream(TEXT, spec(), CPU)
    x, y = (part[:taken] for part in stream.test_set())
    ((members, network),) = trained.final
    losses = LOSSES["cross_entropy"](
        network(x.expand(len(members), *x.shape)), y.expand(len(members), *y.shape)
    ).tolist()
    scores = scores_on_test_set(trained.final, stream, "cross_entropy", most)
    assert [scores[member]["test_loss"] for member in members] == pytest.approx(losses, rel=1e-12)


def test_a_loss_whose_perplexity_is_no_number_has_none(trained):
    """And the other scores all the same: a table holds finite numbers."""
    ((members, network),) = trained.final
    wild = network.take([0])
    with torch.no_grad():
        list(wild.weighted.values())[-1].weight.mul_(1e6)
    scores = scores_on_test_set([([0], wild)], make_stream(TEXT, spec(), CPU), "cross_entropy")
    assert set(scores[0]) == {"test_loss", "test_accuracy"} and scores[0]["test_loss"] > 1e3


# --- measurements along training --------------------------------------------------------------------------------------

MEASURED = ["sharpness", "gamma_sharpness", "smallest_eigenvalue", "residual_norm", "ntk_eigenvalue", "hessian_trace"]
MEASURED += ["gauss_newton_eigenvalue", "directional_sharpness", "feature_speed"]


def keeping(folder, job):
    def keep(probe):
        for index, member in enumerate(probe.members):
            save_weights(folder, probe.network, index, member, probe.step, probe.kept)
        return []

    return train(job, on_probe=keep)


NOTHING = pd.DataFrame(columns=["learning_rate", "seed", "step", "quantity"])


def rows_of(job, settings, folder):
    settings = CurvatureSpec.model_validate({"images": 6, "tol": 1e-8, "eigenvalues": 1} | settings)
    return pd.DataFrame(
        [row for part in curvature_rows(job, settings, TEXT, NOTHING, folder, CPU) for row in part.rows]
    )


def test_every_quantity_of_a_text_is_one_number_side_by_side_and_one_by_one(tmp_path, monkeypatch):
    job = spec(learning_rates=[0.1, 0.3], seeds=2, steps=10, probe_steps=[0, 10])
    keeping(tmp_path, job)
    together = rows_of(job, {"quantities": MEASURED, "trace_vectors": 2}, tmp_path)
    monkeypatch.setattr(curvature, "side_by_side", lambda job, examples, device, members: [[m] for m in members])
    alone = rows_of(job, {"quantities": MEASURED, "trace_vectors": 2}, tmp_path)
    keys = ["learning_rate", "seed", "step", "quantity", "layer", "index"]
    others = ("feature_speed", "hessian_trace")  # several quantities; random vectors that are drawn for all members
    kept = [name for name in MEASURED if name not in others] + ["bfa", "loss_decay"]
    one, other = (
        table[table["quantity"].isin(kept)].fillna({"layer": 0, "index": 0}).set_index(keys)["value"].sort_index()
        for table in (together, alone)
    )
    assert set(one.index.get_level_values("quantity")) == set(kept)
    assert together["value"].map(lambda value: isinstance(value, float)).all()
    assert (together["quantity"] == "hessian_trace").sum() == 4 * 2
    pd.testing.assert_series_equal(one, other, rtol=1e-5, atol=1e-8)


def test_residuals_and_kernel_are_means_over_the_tokens_of_all_examples(tmp_path):
    """Root mean square of softmax minus answer; and for half the squared error the kernel has the Gauss-Newton
    matrix's eigenvalues.
    """
    job = spec(steps=1, probe_steps=[0], loss="mse")
    keeping(tmp_path, job)
    found = rows_of(job, {"quantities": ["residual_norm", "ntk_eigenvalue"]}, tmp_path).set_index("quantity")["value"]
    network = make_job(job, TEXT, CPU).make_network(1).initialise(make_job(job, TEXT, CPU).seeds([0]))
    x, y = make_stream(TEXT, job, CPU).fixed_batch(6, job.seed)
    outputs = network(x[None])[0].detach()
    one_hot = torch.eye(VOCABULARY, dtype=DOUBLE)
    squares = [float((outputs[i, t] - one_hot[y[i, t]]).square().sum()) for i in range(6) for t in range(LENGTH)]
    assert found["residual_norm"] == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-12)
    objective = objective_of(network, "mse", (x, y))
    operator = Scaled(GaussNewton(objective), objective.fill(layer_rates(network)))
    assert found["ntk_eigenvalue"] == pytest.approx(largest_eigenvalues(operator, tol=1e-9)[0].eigenvalue, rel=1e-6)


@pytest.mark.parametrize("parameterization", ["MUP", "DEPTH_MUP", "COMPLETE_P", "U_MUP"])
def test_gamma_squared_is_the_width_whatever_optimizer_and_parameterization(parameterization):
    job = spec(parameterization=parameterization, optimizer=ADAM, gamma0=0.5)
    found = gamma_squared(job, (LENGTH,))
    assert found == pytest.approx([0.25 * WIDTH] * len(found), rel=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parameterization": "COMPLETE_P"},
        {"optimizer": ADAM},
        {"form": "rescaled"},
        {"model": POST_LN},
        {"model": POST_LN, "parameterization": "COMPLETE_P"},
    ],
)
def test_feature_speed_is_measured_also_where_layers_between_two_cut_nodes_have_rates_of_their_own(changes, tmp_path):
    job = spec(steps=1, probe_steps=[0], **changes)
    settings = {"quantities": ["feature_speed"], "images": 6}
    SharpnessSpec.model_validate({"training": job, "curvature": settings})
    keeping(tmp_path, job)
    assert (rows_of(job, settings, tmp_path)["value"] > 0).all()


# --- the scripts ------------------------------------------------------------------------------------------------------


def test_the_scripts_train_on_the_manual_and_measure(tmp_path, monkeypatch):
    """From the text to the tables: losses, scores on the test set, sharpness."""
    monkeypatch.chdir(tmp_path)
    text = prepare("pydoc", tmp_path / "pydoc")
    data = {"name": "pydoc", "length": 16, "tokens": 2000}
    job = spec(data=data, steps=4, probe_steps=[4], batch_size=4, optimizer=ADAM, dtype="float32")
    with ExitStack() as at_end:
        task = Task({"data": text}, {"weights": tmp_path / "weights"}, {}, at_end)
        write_table(load_script("train").main(job, task), tmp_path / "records.parquet", {})
    found = read_table(tmp_path / "records.parquet").set_index("quantity")
    assert set(found.index) == {"training_loss", "test_loss", "test_accuracy", "test_perplexity"}
    assert set(found["input_dim"]) == {16} and set(found["output_dim"]) == {load_dataset(text).classes}
    assert found["value"]["test_perplexity"] == pytest.approx(math.exp(found["value"]["test_loss"]))
    measured = SharpnessSpec(training=job, curvature=CurvatureSpec(quantities=["sharpness"], images=4))
    with ExitStack() as at_end:
        inputs = {"data": text, "records": tmp_path / "records.parquet", "weights": tmp_path / "weights"}
        table = load_script("sharpness").main(measured, Task(inputs, {}, {}, at_end))
    assert set(table["quantity"]) == {"sharpness"} and set(table["n_inputs"]) == {4}
    assert (table["value"] > 0).all()
