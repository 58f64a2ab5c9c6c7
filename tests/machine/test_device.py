"""Which device a job gets: GPUs are shared out, and without one it is the CPU."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack

import pytest
import torch

from featurespeed.machine import device
from featurespeed.machine.device import acquire_device
from featurespeed.machine.locks import try_lock
from tests.conftest import REPOSITORY


def test_without_cuda_the_cpu_is_the_device(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with acquire_device(tmp_path) as chosen:
        assert chosen == torch.device("cpu")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def two_gpus(monkeypatch):
    class Properties:
        def __init__(self, index: int) -> None:
            self.uuid = f"GPU-{index}"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", Properties)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(device, "WAIT_SECONDS", 0.01)


def test_jobs_side_by_side_get_different_gpus_and_give_them_back(two_gpus, tmp_path):
    with acquire_device(tmp_path) as first:
        with acquire_device(tmp_path) as second:
            assert {first.index, second.index} == {0, 1}
        with acquire_device(tmp_path) as third:
            assert third == second


def test_jobs_share_a_gpu_if_they_may(two_gpus, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATURESPEED_JOBS_PER_GPU", "2")
    with ExitStack() as held:
        taken = [held.enter_context(acquire_device(tmp_path)).index for _ in range(4)]
    assert taken == [0, 1, 0, 1]


def test_a_job_waits_for_a_gpu(two_gpus, tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from featurespeed.machine.locks import try_lock
        held = [try_lock(Path(sys.argv[1]) / f"GPU-{index}.0.lock") for index in range(2)]
        print("held", flush=True)
        time.sleep(0.5)
        """
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    assert try_lock(tmp_path / "GPU-0.0.lock") is None
    start = time.monotonic()
    with acquire_device(tmp_path) as chosen:
        assert chosen.type == "cuda"
    assert time.monotonic() - start > 0.1
    other.wait()
