"""Claims along training: the formula holds to rounding, fails between networks, and untrained ones are no evidence.

And the stage behind them: on real weights of transformers, under SGD and in the optimizer's form under Adam.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from featurespeed.data.prepare import obtain
from featurespeed.data.registry import DATASETS
from featurespeed.data.store import load_dataset, write_dataset
from featurespeed.errors import UserError
from featurespeed.ledger.engine import PREMISES, STATISTICS, Undecidable, Verdict, decide, ledger
from featurespeed.papers.feature_speed.along_training.claims import TRANSFORMERS
from featurespeed.papers.feature_speed.along_training.spec import AlongTrainingSpec
from featurespeed.pipeline.cost import config_of
from featurespeed.pipeline.stage import Task
from featurespeed.records import frame, write_table
from featurespeed.training.setup import make_job
from featurespeed.training.trainer import Trainer
from featurespeed.training.weights import save_weights
from tests.conftest import load_script
from tests.papers.cases import criteria_of
from tests.papers.feature_speed.cases import planted

CRITERIA = criteria_of("fsf_along_training")
BY_ID = {criterion.claim_id: criterion for criterion in CRITERIA}
CONVNET = BY_ID["fsf_thm21_convnet"]
CLAIM_OF = {
    f"{label} with {optimizer}": BY_ID[f"fsf_thm21_{key}{suffix}"]
    for key, label in (("vit", "ViT"), ("gpt", "GPT"), ("post_ln", "post-LN"))
    for suffix, optimizer in (("", "SGD"), ("_adam", "Adam"))
}
every_transformer = pytest.mark.parametrize("label", CLAIM_OF)


def trained_networks(speeds: tuple[float, ...], error: float, loss: float = 1.0) -> pd.DataFrame:
    """Two seeds of a residual ConvNet; the speeds of the second are twice those of the first, so are its decays."""
    rows = []
    for seed in (0, 1):
        net = {"seed": seed, "series": "residual ConvNet", "learning_rate": 0.1, "case": "along training"}
        rows.append(net | {"layer": 0, "quantity": "batch_loss", "value": loss})
        for layer, speed in enumerate(speeds, start=1):
            found = {"feature_speed": speed * 2**seed, "loss_decay": speed * 2**seed, "formula_error": error}
            found |= {"bfa": math.pi / 3, "backward_norm": 2.0}
            rows += [net | {"layer": layer, "quantity": name, "value": value} for name, value in found.items()]
    return planted(rows, estimator="jvp", output_dim=10)


def test_formula_along_training_is_confirmed_by_rounding_errors_and_failed_by_another_network():
    tables = {"fsf_training": trained_networks((1.0, 2.0, 5.0), 3e-16)}
    error = STATISTICS["formula error along training, ConvNet"](tables)
    assert (error.value, error.n) == (3e-16, 6)
    # cos = 1/2 and |b| = 2: the formula gives the loss decay; that of the next seed is twice or half the speed.
    control = STATISTICS["formula error along training against the next seed, ConvNet"](tables)
    assert sorted(control.sample) == pytest.approx([0.5] * 3 + [1.0] * 3)
    with pytest.raises(Undecidable, match="no MLP"):
        STATISTICS["formula error along training, MLP"](tables)


def test_formula_that_fails_at_one_node_is_contradicted():
    tables = {"fsf_training": trained_networks((1.0, 2.0), 1e-6)}
    assert decide(STATISTICS[CONVNET.compute](tables), CONVNET.threshold) is Verdict.CONTRADICTED


@pytest.mark.parametrize(("loss", "verdict"), [(2.2, Verdict.CONFIRMED), (2.4, Verdict.INCONCLUSIVE)])
def test_networks_at_the_loss_of_chance_say_nothing_of_training(loss, verdict):
    tables = {"fsf_training": trained_networks((1.0, 2.0), 3e-16, loss)}
    claims, _ = ledger([CONVNET], tables, "laptop")
    assert claims["verdict"].tolist() == [verdict]
    assert PREMISES[CONVNET.premise[0]](tables).holds == (verdict is Verdict.CONFIRMED)


# --- transformers -----------------------------------------------------------------------------------------------------


def transformers(label: str, error: float, loss: float = 2.0, entropy: float = 3.0) -> pd.DataFrame:
    """Three seeds of a transformer with two nodes; under Adam the loss decay at the second one is 0 and below."""
    rows, fall = [], -0.3 if label.endswith("Adam") else 0.3
    start = 0.0 if label.endswith("Adam") else 0.3
    for seed in range(3):
        for step, own in ((0, 9.0), (200, loss)):
            net = {"seed": seed, "series": label, "learning_rate": 0.1, "case": "along training", "step": step}
            rows.append(net | {"layer": 0, "quantity": "batch_loss", "value": own})
            rows.append(net | {"layer": 0, "quantity": "label_entropy", "value": entropy})
            speed, backward = 2.0 * (1 + seed), 3.0
            for layer, cos in ((1, (1 + seed) / 6), (2, (start + fall * seed) / 6)):
                found = {"feature_speed": speed, "backward_norm": backward, "bfa": math.acos(cos)}
                found["loss_decay"] = speed * cos * backward
                found |= {TRANSFORMERS[label]: error}
                rows += [net | {"layer": layer, "quantity": name, "value": value} for name, value in found.items()]
    return planted(rows, estimator="jvp", output_dim=103)


def verdict_of(label: str, table: pd.DataFrame) -> str:
    claims, _ = ledger([CLAIM_OF[label]], {"fsf_training": table}, "laptop")
    return claims["verdict"].item()


@every_transformer
def test_every_transformer_is_judged_by_its_own_rows(label):
    table = transformers(label, 3e-15)
    assert verdict_of(label, table) == Verdict.CONFIRMED
    assert verdict_of(label, transformers(label, 1e-9)) == Verdict.CONTRADICTED
    for other in (name for name in CLAIM_OF if name != label):
        with pytest.raises(Undecidable, match=f"no {other}|no rows with .* quantity = {TRANSFORMERS[other]}"):
            STATISTICS[CLAIM_OF[other].compute]({"fsf_training": table})


@every_transformer
def test_one_node_of_one_seed_contradicts(label):
    table = transformers(label, 3e-15)
    of_errors = table.index[table["quantity"] == TRANSFORMERS[label]]
    table.loc[of_errors[-1], "value"] = 2e-10
    assert verdict_of(label, table) == Verdict.CONTRADICTED


@every_transformer
def test_transformers_that_know_the_frequencies_alone_are_no_evidence(label):
    """Below chance is not enough of a text: ln 103 is 4.6. What counts is the loss at the end."""
    assert verdict_of(label, transformers(label, 3e-15, loss=3.1)) == Verdict.INCONCLUSIVE
    assert PREMISES[CLAIM_OF[label].premise[0]]({"fsf_training": transformers(label, 0.0, 2.9)}).holds


def test_the_control_under_adam_compares_cosines_with_those_of_the_next_seed():
    """cos = 1/6, 2/6, 3/6 at the first node and 0, -0.05, -0.1 at the second: a loss decay of 0 is no trouble."""
    tables = {"fsf_training": transformers("GPT with Adam", 3e-15)}
    control = STATISTICS[CLAIM_OF["GPT with Adam"].control.compute](tables)
    assert sorted(control.sample) == pytest.approx([0.05] * 4 + [0.1] * 2 + [1 / 6] * 4 + [1 / 3] * 2)


# --- the spec ---------------------------------------------------------------------------------------------------------


def settings(**changes) -> dict:
    """Those of scale smoke, with changes to all transformers."""
    found = config_of("smoke").params("fsf_training")
    for network in found["transformers"].values():
        network.update(changes)
    return found


def test_each_transformer_has_a_job_an_optimizer_on_its_own_data():
    spec = config_of("laptop").fsf_training
    runs = spec.training_runs
    assert list(runs) == [*spec.models, *CLAIM_OF] and spec.datasets == ["digits", "pydoc"]
    assert all(runs[label].keep_state == label.endswith("Adam") for label in runs)
    assert runs["post-LN with Adam"].run == "fsf_training_post_ln_with_adam"
    assert {label: runs[label].data.name for label in CLAIM_OF} == {
        label: "digits" if label.startswith("ViT") else "pydoc" for label in CLAIM_OF
    }
    assert runs["GPT with SGD"].optimizer.name == "sgd" and runs["GPT with SGD"].width == 32


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"parameterization": "RANDOM_FEATURES"},
            "transformers.ViT.parameterization = RANDOM_FEATURES: .* do not move",
        ),
        ({"batch_size": 10**6}, "transformers.ViT: batch_size = 1000000: larger than"),
        ({"learning_rates": {"sgd": [0.1, 0.1]}}, "must not repeat"),
        ({"learning_rates": {}}, "at least 1 item"),
        ({"learning_rates": {"lamb": [0.1]}}, "'sgd', 'adam' or 'adamw'"),
        ({"parameterization": "NTP", "learning_rates": {"adam": [0.1]}}, "transformers.ViT: optimizer = 'adam': NTP"),
    ],
)
def test_transformers_that_cannot_be_trained_are_refused(changes, named):
    with pytest.raises(ValidationError, match=named):
        AlongTrainingSpec.model_validate(settings(**changes))


def test_a_stage_reads_the_data_sets_that_its_spec_names():
    config = config_of("laptop")
    assert config.datasets("fsf_training") == ["digits", "pydoc"]
    assert config.datasets("sc_fig02") == ["digits"] and config.datasets("fsf_fig1a") == []


def test_two_networks_of_one_file_name_are_refused():
    found = settings()
    found["transformers"]["vit"] = found["transformers"]["ViT"]
    with pytest.raises(ValidationError, match="models = 'vit with SGD': .* fsf_training_vit_with_sgd"):
        AlongTrainingSpec.model_validate(found)


# --- the stage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> tuple[AlongTrainingSpec, dict, Task, pd.DataFrame]:
    """Three trained updates of the smallest transformers, measured by the script: spec, data, its files, its table."""
    folder = tmp_path_factory.mktemp("along_training")
    spec = AlongTrainingSpec.model_validate(settings() | {"steps": 3, "probe_steps": [0, 3], "images": 6})
    sets = {
        name: write_dataset(folder / name, DATASETS[name], *obtain(DATASETS[name], folder)) for name in spec.datasets
    }
    data = {name: load_dataset(path) for name, path in sets.items()}
    files = {"data": list(sets.values()), "records": [], "weights": []}
    for label, run in spec.training_runs.items():
        weights, records = folder / run.run, folder / f"{run.run}.parquet"
        train(run, data[run.data.name], weights)
        write_table(nothing_stopped(label), records, {})
        files["records"].append(records)
        files["weights"].append(weights)
    task = Task(files, {})
    return spec, data, task, load_script("along_training").main(spec, task)


def train(run, data, folder: Path) -> None:
    def keep(probe):
        for index, member in enumerate(probe.members):
            save_weights(folder, probe.network, index, member, probe.step, probe.kept)
        return []

    Trainer(make_job(run, data, torch.device("cpu")), on_probe=keep).run()


def nothing_stopped(label: str) -> pd.DataFrame:
    sizes = {"width": 4, "depth": 2, "input_dim": 1, "output_dim": 2, "seed": 0, "estimator": "training"}
    return frame([sizes | {"series": label, "quantity": "training_loss", "value": 1.0}])


def test_the_formula_holds_at_every_node_of_every_network(stage):
    spec, _, _, table = stage
    for label, run in spec.training_runs.items():
        error = TRANSFORMERS.get(label, "formula_error")
        rows = table[(table["series"] == label) & (table["quantity"] == error)]
        assert set(rows["layer"]) == set(range(1, (4 if label in TRANSFORMERS else 3) + 1))
        assert len(rows) == rows["layer"].nunique() * len(run.members) * 2
        assert rows["value"].max() < 1e-10
        others = {"formula_error", "cosine_error"} - {error}
        assert not table[(table["series"] == label) & table["quantity"].isin(others)].size


def test_entropies_are_those_of_the_labels_and_of_the_characters(stage):
    _, data, _, table = stage
    found = table[table["quantity"] == "label_entropy"].groupby("series")["value"].unique()
    shares = np.bincount(data["pydoc"].train) / len(data["pydoc"].train)
    text = -sum(share * math.log(share) for share in shares if share)
    assert found["GPT with SGD"].item() == found["post-LN with Adam"].item() == pytest.approx(text, rel=1e-12)
    assert found["ViT with Adam"].item() == found["MLP"].item() == pytest.approx(math.log(10), rel=1e-3)


def test_under_adam_the_weights_move_by_its_own_update(stage):
    """At the start ``-eta lr_scale g / (|g| + eps)`` of the first batch; its loss decay is that of the table."""
    spec, data, task, table = stage
    script = load_script("along_training")
    label, run = "GPT with Adam", spec.training_runs["GPT with Adam"]
    weights, text = task.by_name("weights", suffix="")[run.run], data["pydoc"]
    job = make_job(run, text, torch.device("cpu"))
    network = script.load_weights(weights, script.make_network(run, (8,), text.classes, 1), [0], 0).double()
    update = script.adam_update(job, weights, network, 0, 0)
    x, y = job.make_batches(job.seeds([0])).batch(0)
    layers = {name: layer.weight for name, layer in network.weighted.items()}
    loss = torch.nn.functional.cross_entropy(network(x).flatten(0, 2), y.flatten())
    for (name, layer), g in zip(
        network.weighted.items(), torch.autograd.grad(loss, list(layers.values())), strict=True
    ):
        size = g.abs() + 1e-8 * layer.rule.epsilon_scale
        torch.testing.assert_close(update[name], -0.01 * layer.rule.lr_scale * g / size, rtol=1e-6, atol=1e-14)
    rows = table[(table["series"] == label) & (table["seed"] == 0) & (table["step"] == 0)].set_index(
        ["quantity", "layer"]
    )
    batch = script.make_stream(text, run, torch.device("cpu")).fixed_batch(spec.images, run.seed)
    loss = torch.nn.functional.cross_entropy(network(batch[0][None]).flatten(0, 2), batch[1].flatten())
    gradients = torch.autograd.grad(loss, list(layers.values()))
    decay = -sum(float((update[name] * g).sum()) for name, g in zip(layers, gradients, strict=True))
    assert rows["value"]["loss_decay", 4] == pytest.approx(decay, rel=1e-10)
    assert rows["value"]["batch_loss", 0] == pytest.approx(float(loss.detach()), rel=1e-12)


def test_the_stage_says_which_data_it_lacks(stage):
    spec, _, task, _ = stage
    files = task.inputs | {"data": task.inputs["data"][:1]}
    with pytest.raises(UserError, match=r"^--input data=FOLDER/pydoc\.npz is needed$"):
        load_script("along_training").main(spec, Task(files, {}))
