"""A check that was stopped goes on: finished units are not trained again, what is running goes on bit by bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from featurespeed.own import resume
from tests.conftest import REPOSITORY
from tests.own.transfer_cases import check, net, task

STEPS = 30

#: The check of a process that is killed: slow, with a checkpoint at every step; how many were made goes to a file.
PROCESS = """
import sys, time
import torch
from torch import nn
from featurespeed.own import resume
from tests.own.transfer_cases import check
from tests.own.test_transfer_resume import arguments

torch.set_num_threads(1)
folder, way, pause = sys.argv[1], sys.argv[2] == "True", float(sys.argv[3])
resume.SECONDS = 0.0

def slow(outputs, targets):
    time.sleep(pause)
    return nn.functional.cross_entropy(outputs, targets)

found = check(folder=folder, progress=lambda line: print(line, flush=True), **arguments(way, slow))
found.table.to_pickle(folder + ".pkl")
"""


def dropped(width: int) -> nn.Module:
    """A network with random numbers and buffers of its own."""
    return nn.Sequential(nn.Linear(16, width), nn.BatchNorm1d(width), nn.Dropout(0.2), nn.ReLU(), nn.Linear(width, 4))


def arguments(side_by_side: bool, loss=nn.functional.cross_entropy) -> dict:
    """Of a check that goes side by side, and of one that goes one by one with all that has a state."""
    if side_by_side:
        return {"side_by_side": True, "steps": STEPS, "loss": loss, "seeds": 3, "sharpness_at": 2}
    loader = DataLoader(TensorDataset(*task(64)), batch_size=16, shuffle=True)
    return {
        "make_model": dropped,
        "side_by_side": False,
        "steps": STEPS,
        "loss": loss,
        "data": loader,
        "sharpness_at": 2,
    }


def start(folder: Path, way: bool, pause: float) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROCESS, str(folder), str(way), str(pause)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("way", [pytest.param(True, marks=pytest.mark.slow), False], ids=["side by side", "one by one"])
def test_a_killed_check_goes_on_and_gives_the_very_same_numbers(tmp_path, way):
    folder = tmp_path / "check"
    first = start(folder, way, 0.02)
    assert "size 8" in first.stdout.readline()  # a unit is finished
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.running.pt")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.1)  # some steps into the next one
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert list(folder.glob("*.running.pt")) and not Path(f"{folder}.pkl").exists()
    second = start(folder, way, 0.0)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0 and output.count("(from the folder)") >= len(finished)
    assert all(path.stat().st_mtime_ns == changed for path, changed in finished.items())
    assert not list(folder.glob("*.running.pt"))
    whole = check(**arguments(way))
    pd.testing.assert_frame_equal(pd.read_pickle(f"{folder}.pkl"), whole.table, check_exact=True)


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Checkpoints at every step, and the end of the check with the last of so many."""
    keep, made = resume.Folder.checkpoint, []

    def checkpoint(folder, name, state):
        keep(folder, name, state)
        made.append(name)
        if len(made) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(resume, "SECONDS", 0.0)
    monkeypatch.setattr(resume.Folder, "checkpoint", checkpoint)


@pytest.mark.parametrize("way", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_wherever_it_stops_losses_and_sharpness_are_those_of_one_go(tmp_path, monkeypatch, way, share):
    runs = 2 + 2 if way else 2 * 2 * 3 + 2  # those of the sharpness come last
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, round(share * runs * (STEPS - 1)))
        check(folder=tmp_path, **arguments(way))
    assert list(tmp_path.glob("*.running.pt"))
    found, whole = check(folder=tmp_path, **arguments(way)), check(**arguments(way))
    assert np.array_equal(found.losses, whole.losses, equal_nan=True)
    columns = ["size", "step", "eigenvalue"]
    pd.testing.assert_frame_equal(found.sharpness[columns], whole.sharpness[columns], check_exact=True)


def test_nothing_is_trained_twice(tmp_path):
    first = check(folder=tmp_path, sharpness_at=2)
    lines: list[str] = []
    again = check(folder=tmp_path, sharpness_at=2, progress=lines.append)
    assert all("(from the folder)" in line for line in lines) and len(lines) >= 2
    assert np.array_equal(first.losses, again.losses)
    pd.testing.assert_frame_equal(first.sharpness, again.sharpness)
    pd.testing.assert_frame_equal(first.ways, again.ways)


def other_activation(width: int) -> nn.Module:
    model = net(width)
    model[1] = nn.Tanh()
    return model


def other_weights(width: int) -> nn.Module:
    model = net(width)
    model[0].weight.data *= 1.01
    return model


INPUTS, CLASSES = task(128, torch.float64)


@pytest.mark.parametrize(
    "changes",
    [
        {"make_model": other_activation},
        {"make_model": other_weights},
        {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
        {"data": (INPUTS * 1.01, CLASSES), "batch_size": 32},
        {"data": (INPUTS, CLASSES), "batch_size": 16},
        {"steps": 13},
        {"optimizer": torch.optim.AdamW},
        {"optimizer": lambda m, rate: torch.optim.Adam(m.parameters(), rate, betas=(0.8, 0.99))},
        {"learning_rates": (0.01, 0.02, 0.11)},
        {"seeds": [0, 2]},
    ],
    ids=["activation", "weights", "loss", "data", "batch size", "steps", "optimizer", "options", "rates", "seeds"],
)
def test_what_has_changed_is_trained_anew(tmp_path, changes):
    check(folder=tmp_path, side_by_side=True)
    lines: list[str] = []
    found = check(folder=tmp_path, side_by_side=True, progress=lines.append, **changes)
    assert not any("from the folder" in line for line in lines)
    assert np.array_equal(found.losses, check(side_by_side=True, **changes).losses)


def test_a_wider_grid_keeps_the_runs_that_were_made_one_by_one(tmp_path):
    check(folder=tmp_path, side_by_side=False)
    lines: list[str] = []
    check(folder=tmp_path, side_by_side=False, learning_rates=(0.005, 0.01, 0.02, 0.1), seeds=3, progress=lines.append)
    assert sum("from the folder" in line for line in lines) == 2 * 2 * 3 and len(lines) == 2 * 3 * 4


def test_a_checkpoint_that_cannot_be_read_is_not_used(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 10)
        check(folder=tmp_path, **arguments(True))
    (running,) = tmp_path.glob("*.running.pt")
    running.write_bytes(b"nothing")
    found = check(folder=tmp_path, **arguments(True))
    assert np.array_equal(found.losses, check(**arguments(True)).losses)
