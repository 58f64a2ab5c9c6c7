"""The monitor in the Trainer of Lightning: real trainings, with both names of the package."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed import measure
from featurespeed.own.lightning import FeatureSpeedCallback
from tests.own import networks

networks.complete_torchvision()
L = pytest.importorskip("lightning.pytorch")

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, about loggers and workers


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    )


class Classifier(L.LightningModule):  # type: ignore[misc, name-defined]
    """Logs in its step, and counts its calls."""

    def __init__(self, optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW):
        super().__init__()
        self.net, self.optimizer, self.calls = network(), optimizer, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self.calls += 1
        loss = functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        self.log_dict({"twice": 2 * loss}, on_step=True, on_epoch=True)
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        made = self.optimizer(self.parameters(), 0.05)
        return [made], [{"scheduler": torch.optim.lr_scheduler.StepLR(made, 2), "interval": "step"}]


class Adversaries(L.LightningModule):  # type: ignore[misc, name-defined]
    """Two optimizers, with steps of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.automatic_optimization = network(), False

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(functional.cross_entropy(self(batch[0]), batch[1]))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.net[0].parameters(), 0.1, momentum=0.9),
            torch.optim.Adam(self.net[4:].parameters(), 1e-2),
        ]


def batch_of(n: int = 10) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(n, 4), torch.randint(3, (n,))


def trained(folder: Path, callbacks: list[Any], model: Any = None, **settings: Any) -> tuple[Any, Any]:
    """The trainer and its module after 3 epochs of 4 steps, each of 2 accumulated batches."""
    L.seed_everything(0, verbose=False)
    module = (model or Classifier)()
    data = torch.utils.data.TensorDataset(torch.randn(32, 4), torch.randint(3, (32,)))
    given = {
        "max_epochs": 3, "accelerator": "cpu", "logger": L.loggers.CSVLogger(str(folder), version=0),
        "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
        "log_every_n_steps": 1, "accumulate_grad_batches": 2, "callbacks": callbacks,
    }  # fmt: skip
    path = settings.pop("resume", None)
    trainer = L.Trainer(**given | settings)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4, shuffle=True), ckpt_path=path)
    return trainer, module


def logged(folder: Path) -> list[dict[str, str]]:
    with (folder / "lightning_logs" / "version_0" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_is_the_same_to_the_last_bit(tmp_path, precision):
    callback = FeatureSpeedCallback(batch_of(), every=5)
    watched, ours = trained(tmp_path / "watched", [callback], precision=precision)
    plain, theirs = trained(tmp_path / "plain", [], precision=precision)
    assert watched.global_step == plain.global_step == 12
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert ours.calls == theirs.calls and "log" not in vars(ours)
    known = [row["train_loss"] for row in logged(tmp_path / "plain") if row["train_loss"]]
    assert [row["train_loss"] for row in logged(tmp_path / "watched") if row.get("train_loss")] == known
    assert {key: float(value) for key, value in watched.callback_metrics.items()} == {
        key: float(value) for key, value in plain.callback_metrics.items()
    }
    assert callback.table["step"].tolist() == [0, 5, 10]


def test_values_reach_the_logger_at_steps_of_the_optimizer(tmp_path):
    given: list[int] = []
    callback = FeatureSpeedCallback(batch_of(), every=5, log=lambda values, step: given.append(step))
    trained(tmp_path, [callback])
    rows = {int(row["step"]): row for row in logged(tmp_path) if row["featurespeed/loss"]}
    assert list(rows) == given == [0, 5, 10]
    for _, row in callback.table.iterrows():
        assert float(rows[int(row["step"])]["featurespeed/angle/net.6"]) == pytest.approx(row["angle/net.6"])
    assert callback.table["sharpness"].iloc[1:].gt(0).all() and len(callback.plot().axes) == 3


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()])
def test_values_are_those_of_the_trained_module(tmp_path, loss):
    """By its own training step, or by a loss of the outputs."""
    callback = FeatureSpeedCallback(batch_of(), loss, every=12, sharpness=False)
    _, module = trained(tmp_path, [callback], lambda: Classifier(torch.optim.SGD))
    known = measure(module, nn.CrossEntropyLoss(), batch_of())
    last = callback.table.iloc[-1]
    assert last["step"] == 12 and last["loss"] == pytest.approx(known.loss, rel=1e-6)
    assert last["feature_rms/net.6"] == pytest.approx(float(known.speed.feature_rms[-1]), rel=1e-6)


def test_of_several_optimizers_one_is_chosen(tmp_path):
    with pytest.raises(ValueError, match="loss: None, allowed with manual optimization: a function"):
        trained(tmp_path, [FeatureSpeedCallback(batch_of())], Adversaries, accumulate_grad_batches=1)
    with pytest.raises(ValueError, match="optimizer: None, with 2 optimizers, allowed: from 0 to 1"):
        trained(
            tmp_path, [FeatureSpeedCallback(batch_of(), nn.CrossEntropyLoss())], Adversaries, accumulate_grad_batches=1
        )
    with pytest.raises(ValueError, match="optimizer: int 2, allowed: from 0 to 1"):
        callback = FeatureSpeedCallback(batch_of(), nn.CrossEntropyLoss(), optimizer=2)
        trained(tmp_path, [callback], Adversaries, accumulate_grad_batches=1)
    both = [
        FeatureSpeedCallback(batch_of(), nn.CrossEntropyLoss(), every=15, optimizer=k, sharpness=False) for k in (0, 1)
    ]
    watched, ours = trained(tmp_path, both, Adversaries, accumulate_grad_batches=1)
    _, theirs = trained(tmp_path / "plain", [], Adversaries, accumulate_grad_batches=1)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    assert watched.global_step == 48
    for callback in both:
        assert callback.table["step"].tolist() == [0, 16, 30, 46]  # two at a time
    first, second = (callback.table.iloc[-1] for callback in both)
    assert first["feature_speed/net.0"] > 0 and second["feature_speed/net.0"] == 0


def test_a_training_that_is_resumed(tmp_path):
    keep = L.callbacks.ModelCheckpoint(tmp_path, filename="kept")
    first = FeatureSpeedCallback(batch_of(), every=4, folder=tmp_path / "rows")
    trained(tmp_path, [first, keep], max_epochs=2, enable_checkpointing=True)
    again = FeatureSpeedCallback(batch_of(), every=4, folder=tmp_path / "rows")
    trained(tmp_path, [again], max_epochs=4, resume=tmp_path / "kept.ckpt")
    assert again.table["step"].tolist() == [0, 4, 8, 12, 16]


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    with pytest.raises(ValueError, match="tol = -1"):
        FeatureSpeedCallback(batch_of(), tol=-1)
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="needs Lightning: pip install lightning"):
        FeatureSpeedCallback(batch_of())


def test_a_callback_belongs_to_all_of_lightning_that_is_imported(monkeypatch):
    other = SimpleNamespace(Callback=type("Callback", (), {}))
    monkeypatch.setitem(sys.modules, "pytorch_lightning", other)
    both = FeatureSpeedCallback(batch_of())
    assert isinstance(both, L.Callback) and isinstance(both, other.Callback)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    one = FeatureSpeedCallback(batch_of())
    assert not isinstance(one, L.Callback) and isinstance(one, other.Callback)


OTHER_NAME = """
from tests.own import networks
networks.complete_torchvision()
import sys, torch, pytorch_lightning as L
from featurespeed.own.lightning import FeatureSpeedCallback

class Linear(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

batch = torch.randn(8, 4), torch.randint(3, (8,))
callback = FeatureSpeedCallback(batch, every=2)
assert isinstance(callback, L.Callback) and isinstance(callback, FeatureSpeedCallback)
quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
trainer = L.Trainer(max_steps=4, accelerator="cpu", callbacks=[callback], **quiet)
trainer.fit(Linear(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch), batch_size=2))
assert callback.table["step"].tolist() == [0, 2, 4] and (callback.table["edge"] > 0).all()
assert "lightning.pytorch" not in sys.modules
"""


@pytest.mark.slow  # of the import
def test_the_other_name_of_lightning():
    pytest.importorskip("pytorch_lightning")
    subprocess.run([sys.executable, "-c", OTHER_NAME], check=True, capture_output=True, text=True, timeout=300)
