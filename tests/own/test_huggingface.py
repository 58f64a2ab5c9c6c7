"""The monitor in the Trainer of transformers: real trainings of small GPT-2 and BERT."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featurespeed import measure
from featurespeed.own.huggingface import FeatureSpeedCallback, own_loss
from tests.own import networks
from tests.own.networks import bert, gpt2

networks.complete_torchvision()
CALLBACKS = pytest.importorskip("transformers").TrainerCallback


class Texts(torch.utils.data.Dataset):
    """Tokens, which are their own labels, or belong to one of three classes."""

    def __init__(self, classes: bool = False):
        self._classes = classes

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = torch.randint(20, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": tokens, "labels": tokens.sum() % 3 if self._classes else tokens}


def batch_of(classes: bool = False) -> dict[str, Tensor]:
    rows = [Texts(classes)[index] for index in range(6)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def trained(
    folder: Any, callbacks: list[Any], model: nn.Module | None = None, data: Any = None, **settings: Any
) -> Any:
    """A Trainer after its training, with callbacks that know it."""
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(0)
    given = {
        "max_steps": 5, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_steps": 2,
        "learning_rate": 1e-2, "report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no",
    }  # fmt: skip
    resume = settings.pop("resume", None)
    arguments = TrainingArguments(str(folder), **given | settings)
    made = model if model is not None else gpt2()
    trainer = Trainer(made, arguments, train_dataset=data or Texts(), callbacks=callbacks)
    for callback in callbacks:
        if hasattr(callback, "set_trainer"):
            callback.set_trainer(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


def own_logs(trainer: Any) -> list[dict[str, float]]:
    """What the training itself logged, without what the clock says."""
    logs = [log for log in trainer.state.log_history if not any(key.startswith("featurespeed/") for key in log)]
    return [{key: value for key, value in log.items() if key not in TIMES} for log in logs]


@pytest.mark.parametrize("settings", [{"bf16": True}, {"lr_scheduler_type": "cosine", "optim": "sgd"}])
def test_training_and_its_logs_are_the_same_to_the_last_bit(tmp_path, settings):
    callback = FeatureSpeedCallback(batch_of(), every=2)  # with dropout in the training
    watched, plain = trained(tmp_path, [callback], **settings), trained(tmp_path, [], **settings)
    assert own_logs(watched) == own_logs(plain)
    ours, theirs = watched.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert callback.table["step"].tolist() == [0, 2, 4] and callback.table["loss"].notna().all()
    assert callback.table["sharpness"].iloc[1:].gt(0).all()


class Reporter(CALLBACKS):  # type: ignore[misc, valid-type]
    """Like those of TensorBoard and W&B, which come before a user's callbacks."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.seen.append((state.global_step, dict(logs)))


def test_values_reach_the_history_and_all_that_the_trainer_reports_to(tmp_path):
    reporter, callback = Reporter(), FeatureSpeedCallback(batch_of(), every=2, sharpness=False)
    trainer = trained(tmp_path, [reporter, callback])
    logged = {log["step"]: log for log in trainer.state.log_history if "featurespeed/loss" in log}
    reported = {step: logs for step, logs in reporter.seen if "featurespeed/loss" in logs}
    assert list(logged) == list(reported) == [0, 2, 4]
    for _, row in callback.table.iterrows():
        step = int(row["step"])
        assert logged[step]["featurespeed/angle/lm_head"] == row["angle/lm_head"]
        assert reported[step]["featurespeed/loss"] == row["loss"]
    assert [step for step, logs in reporter.seen if "loss" in logs] == [2, 4]  # of the training


def test_without_the_trainer_values_reach_the_history(tmp_path):
    class Unknown(FeatureSpeedCallback):
        def set_trainer(self, trainer: Any) -> None:
            """As if it were not called."""

    given: list[int] = []
    callback = Unknown(batch_of(), every=5, log=lambda values, step: given.append(step))
    assert isinstance(callback, CALLBACKS)
    trainer = trained(tmp_path, [callback])
    found = [log for log in trainer.state.log_history if "featurespeed/edge" in log or "featurespeed/loss" in log]
    assert [log["step"] for log in found] == given == [0, 5] and found[1]["epoch"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("mixed", [False, True])
def test_values_are_those_of_the_trained_model_and_its_optimizer(tmp_path, mixed):
    """Also in bfloat16, where accelerate wraps the forward pass: measured without it."""
    callback = FeatureSpeedCallback(batch_of(True), every=5, nodes="bert.encoder.layer.*", sharpness=False)
    trainer = trained(tmp_path, [callback], bert(), Texts(True), bf16=mixed)
    model = bert()
    model.load_state_dict(trainer.model.state_dict())
    known = measure(model, own_loss, batch_of(True), nodes="bert.encoder.layer.*")
    last = callback.table.iloc[-1]
    assert last["loss"] == known.loss and last["feature_rms/bert.encoder.layer.1"] == float(known.speed.feature_rms[1])
    assert callback.monitor is not None and len(callback.plot().axes) == 3


def test_a_training_that_is_resumed(tmp_path):
    first = FeatureSpeedCallback(batch_of(), every=2, folder=tmp_path / "rows", sharpness=False)
    trained(tmp_path, [first], max_steps=3, save_strategy="steps", save_steps=3)
    again = FeatureSpeedCallback(batch_of(), every=2, folder=tmp_path / "rows", sharpness=False)
    trainer = trained(tmp_path, [again], max_steps=6, resume=str(tmp_path / "checkpoint-3"))
    assert again.table["step"].tolist() == [0, 2, 4, 6]
    assert [log["step"] for log in trainer.state.log_history if "featurespeed/loss" in log] == [0, 2, 4, 6]


def test_a_training_that_diverges_goes_on(tmp_path):
    callback = FeatureSpeedCallback(batch_of(), every=2, sharpness=False)
    with pytest.warns(RuntimeWarning, match="monitor, step .: feature_speed: "):
        trainer = trained(tmp_path, [callback], optim="sgd", learning_rate=1e30, max_grad_norm=0)
    assert trainer.state.global_step == 5 and math.isnan(callback.table["loss"].iloc[-1])


def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="every = 0: allowed: at least 1"):
        FeatureSpeedCallback(batch_of(), every=0)
    with pytest.raises(ValueError, match="monitor: no training has begun"):
        _ = FeatureSpeedCallback(batch_of()).table
    with pytest.raises(ValueError, match="batch: .*DataLoader, allowed: one fixed batch"):
        trained(tmp_path, [FeatureSpeedCallback(torch.utils.data.DataLoader(Texts()))])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="needs transformers: pip install transformers"):
        FeatureSpeedCallback(batch_of())
