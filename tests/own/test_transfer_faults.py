"""What a folder of a transfer check must not give back, and what runs must not leave to each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.measuring.errors import MeasurementError
from featurespeed.own import resume
from tests.own.transfer_cases import check, task


def test_targets_that_change_outside_of_the_first_batch_are_trained_anew(tmp_path):
    inputs, classes = task(128, torch.float64)
    first = check(data=(inputs, classes), batch_size=32, folder=tmp_path)
    other = classes.clone()
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    other[order[:64]] = (other[order[:64]] + 1) % 4
    again, alone = (check(data=(inputs, other), batch_size=32, folder=folder) for folder in (tmp_path, None))
    assert again.losses == pytest.approx(alone.losses) and not np.allclose(again.losses, first.losses)


def scheduled(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """SGD whose schedule goes on after every step: its counter is not in the optimizer's own state."""
    optimizer = torch.optim.SGD(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return optimizer


class Stopped(Exception):
    """In place of a kill."""


def test_a_run_with_a_schedule_that_was_stopped_begins_anew(tmp_path, monkeypatch):
    whole = check(optimizer=scheduled)
    monkeypatch.setattr(resume, "SECONDS", 0.0)
    calls = iter(range(10**6))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if next(calls) == 60:
            raise Stopped
        return functional.cross_entropy(outputs, targets)

    with pytest.raises(MeasurementError, match="Stopped"):
        check(optimizer=scheduled, loss=loss, folder=tmp_path)
    found = check(optimizer=scheduled, loss=loss, folder=tmp_path)
    assert np.array_equal(found.losses, whole.losses)


class Remembering(nn.Module):
    """A loss that divides by the mean of all losses so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones((), dtype=torch.float64))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = functional.cross_entropy(outputs, targets)
        self.mean.lerp_(value.detach(), 0.1)
        return value / self.mean.detach().clone()


def test_every_run_begins_with_the_loss_as_it_was_given():
    sizes = (8, 16, 32)
    whole = check(loss=Remembering(), sizes=sizes)
    part = check(loss=Remembering(), sizes=sizes[1:])
    assert np.array_equal(whole.losses[:, 1:], part.losses)


LOSSES: dict[str, Any] = {
    "mse": functional.mse_loss,
    "smooth l1": functional.smooth_l1_loss,
    "huber": functional.huber_loss,
    "l1": functional.l1_loss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_numbers_are_trained_side_by_side(name):
    inputs, classes = task(128, torch.float64)
    targets = functional.one_hot(classes, 4).double()
    both = [
        check(data=(inputs, targets), batch_size=32, loss=LOSSES[name], side_by_side=way, steps=8)
        for way in (True, False)
    ]
    assert both[0].ways["side_by_side"].all()
    assert both[0].losses == pytest.approx(both[1].losses, rel=1e-9)


def test_damaged_files_are_trained_anew_and_a_folder_that_cannot_be_made_is_named(tmp_path):
    first = check(folder=tmp_path)
    for path in [*tmp_path.glob("*.npy"), *tmp_path.glob("*.json")]:
        path.write_text("damaged")
    assert check(folder=tmp_path).losses == pytest.approx(first.losses, rel=1e-9)
    with pytest.raises(MeasurementError, match="folder: /proc/none, allowed: one that can be made"):
        check(folder="/proc/none")
