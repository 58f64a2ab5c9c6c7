"""What a folder of a transfer check must not give back, and what runs must not leave to each other."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.measuring.errors import MeasurementError
from featurespeed.own import resume
from featurespeed.own.training import is_told_by_state
from tests.own.transfer_cases import check, net, task


def test_targets_that_change_outside_of_the_first_batch_are_trained_anew(tmp_path):
    inputs, classes = task(128, torch.float64)
    first = check(data=(inputs, classes), batch_size=32, folder=tmp_path)
    other = classes.clone()
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    other[order[:64]] = (other[order[:64]] + 1) % 4
    again, alone = (check(data=(inputs, other), batch_size=32, folder=folder) for folder in (tmp_path, None))
    assert again.losses == pytest.approx(alone.losses) and not np.allclose(again.losses, first.losses)


def changed(batch: dict[str, Any], name: str) -> dict[str, Any]:
    return batch | {name: batch[name] * 2}


def weighted(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    outputs = model(torch.from_numpy(batch["inputs"]))
    return functional.cross_entropy(outputs, batch["classes"]) * batch["weight"]


@pytest.mark.parametrize("name", ["inputs", "weight"])
@pytest.mark.parametrize("place", range(4))
def test_arrays_and_numbers_that_change_in_any_batch_of_a_list_are_trained_anew(name, place, tmp_path):
    inputs, classes = task(128, torch.float64)
    batches = [
        {"inputs": x.numpy(), "classes": y, "weight": 1.0}
        for x, y in zip(inputs.split(32), classes.split(32), strict=True)
    ]
    others = [changed(batch, name) if at == place else batch for at, batch in enumerate(batches)]
    settings = {"loss": weighted, "sizes": (8, 16), "learning_rates": (0.01, 0.02, 0.04), "steps": 8}
    check(data=batches, folder=tmp_path, **settings)
    again, alone = (check(data=others, folder=folder, **settings) for folder in (tmp_path, None))
    assert np.array_equal(again.losses, alone.losses)


def test_checkpoints_of_the_optimizers_of_pytorch_hold_all_that_moves():
    weight = nn.Parameter(torch.ones(2, 2))
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.Muon):
        assert is_told_by_state(kind([weight], lr=0.1))
    assert is_told_by_state(torch.optim.AdamW([weight], lr=0.1, fused=True))
    own = torch.optim.SGD([weight], lr=0.1)
    own.made = 0  # type: ignore[attr-defined]
    assert not is_told_by_state(own)


def scheduled(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """SGD whose schedule goes on after every step: its counter is not in the optimizer's own state."""
    optimizer = torch.optim.SGD(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return optimizer


class Counting(torch.optim.SGD):
    """Smaller steps the more it has made; how many is an attribute of its own."""

    made = 0

    def step(self, closure: Any = None) -> Any:
        self.made += 1
        for group in self.param_groups:
            group["lr"] = group["start"] / self.made
        return super().step(closure)


def counting(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return Counting([{"params": list(model.parameters()), "start": rate}], rate)


class Warming(nn.Sequential):
    """A network whose outputs grow with the number of its calls, which is no buffer."""

    calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls = self.calls + 1 if self.training else self.calls
        return super().forward(inputs) * self.calls**0.5


def warming(width: int) -> nn.Module:
    return Warming(net(width))


class Halving(nn.Module):
    """A loss whose weight falls from call to call."""

    calls = 0

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return functional.cross_entropy(outputs, targets) * (1 + 1 / self.calls)


class Weighted(nn.Module):
    """A loss with a buffer that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, self.weights)


#: What is trained, and whether a run of it that was stopped goes on where it was.
STOPPED: dict[str, tuple[dict[str, Any], bool]] = {
    "adam": ({}, True),
    "adam side by side": ({"side_by_side": True}, True),
    "a loss with a buffer that stays": ({"loss": Weighted()}, True),
    "a schedule": ({"optimizer": scheduled}, False),
    "an optimizer that counts": ({"optimizer": counting}, False),
    "a model that counts": ({"make_model": warming}, False),
    "a model that counts, side by side": ({"make_model": warming, "side_by_side": True}, False),
    "a loss that counts": ({"loss": Halving()}, False),
}


def stop(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """A checkpoint at every step where one can be made, and the end after so many steps, in place of a kill."""
    made = iter(range(steps - 1))

    def is_due(_: resume.Folder) -> bool:
        if next(made, None) is None:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(resume.Folder, "is_due", property(is_due))


@pytest.mark.parametrize(("changes", "goes_on"), STOPPED.values(), ids=STOPPED)
def test_a_stopped_run_gives_the_numbers_of_one_go_and_resumes_only_what_its_checkpoint_holds(
    changes, goes_on, tmp_path, monkeypatch
):
    settings = {"side_by_side": False} | changes
    whole = check(**settings)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop(patch, 7 if settings["side_by_side"] else 12 + 7)
        check(**settings, folder=tmp_path)
    assert bool(list(tmp_path.glob("*.running.pt"))) == goes_on
    assert len(list(tmp_path.glob("*.npy"))) == (0 if settings["side_by_side"] else 1)
    assert np.array_equal(check(**settings, folder=tmp_path).losses, whole.losses)


class Remembering(nn.Module):
    """A loss that divides by the mean of all losses so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones((), dtype=torch.float64))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = functional.cross_entropy(outputs, targets)
        self.mean.lerp_(value.detach(), 0.1)
        return value / self.mean.detach().clone()


class Unsaved(Remembering):
    """The same with a buffer that ``state_dict`` leaves out, and another tensor in its place at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", self.mean, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = functional.cross_entropy(outputs, targets)
        self.mean = 0.9 * self.mean + 0.1 * value.detach()
        return value / self.mean


@pytest.mark.parametrize("kind", [Remembering, Unsaved, Halving])
@pytest.mark.parametrize("way", [None, False])
def test_every_run_begins_with_the_loss_as_it_was_given_and_so_it_is_afterwards(kind, way):
    sizes, loss = (8, 16, 32), kind()
    whole = check(loss=loss, sizes=sizes, side_by_side=way)
    assert not whole.ways["side_by_side"].any()
    part = check(loss=kind(), sizes=sizes[1:], side_by_side=way)
    assert np.array_equal(whole.losses[:, 1:], part.losses)
    assert vars(loss).get("calls", 0) == 0 and all(buffer == 1 for buffer in loss.buffers())


@pytest.mark.parametrize("kind", [Remembering, Unsaved])
def test_runs_of_the_sharpness_see_a_loss_that_looking_did_not_change(kind):
    often, once = (check(loss=kind(), sharpness_at=count, side_by_side=False).sharpness for count in (4, 1))
    last = often[often["step"] == 12]
    assert list(last["size"]) == list(once["size"])
    assert last["eigenvalue"].to_numpy() == pytest.approx(once["eigenvalue"].to_numpy(), rel=1e-6)


LOSSES: dict[str, Any] = {
    "mse": functional.mse_loss,
    "smooth l1": functional.smooth_l1_loss,
    "huber": functional.huber_loss,
    "l1": functional.l1_loss,
    "cross entropy": functional.cross_entropy,
    "mse of shares": lambda outputs, targets: functional.mse_loss(outputs.softmax(1), targets),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seeds", [2, 3])
def test_losses_of_several_seeds_are_trained_side_by_side(name, seeds):
    inputs, classes = task(128, torch.float64)
    settings = {"data": (inputs, functional.one_hot(classes, 4).double()), "batch_size": 32, "loss": LOSSES[name]}
    both = [check(**settings, side_by_side=way, steps=8, seeds=seeds) for way in (True, False)]
    assert both[0].ways["side_by_side"].all() and (both[0].ways["seeds"] == seeds).all()
    assert both[0].losses == pytest.approx(both[1].losses, rel=1e-9)


def of_another_shape() -> bytes:
    """A sound file with other numbers."""
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "text", [b"", b"damaged", b"PK\x03\x04", b"{}", b"[]", b"null", b"\xff\xfe", of_another_shape()]
)
def test_damaged_files_are_trained_anew(text, tmp_path):
    first = check(folder=tmp_path, sharpness_at=1)
    for path in tmp_path.iterdir():
        path.write_bytes(text)
    again = check(folder=tmp_path, sharpness_at=1)
    assert again.losses == pytest.approx(first.losses, rel=1e-9)
    assert again.sharpness["eigenvalue"].to_numpy() == pytest.approx(first.sharpness["eigenvalue"].to_numpy(), rel=1e-5)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder that nobody can write to")
@pytest.mark.parametrize("folder", ["/proc/none", "/proc"])
def test_a_folder_that_cannot_be_written_to_is_named(folder):
    with pytest.raises(MeasurementError, match=f"^folder: {folder}, allowed: one to write to"):
        check(folder=folder)
