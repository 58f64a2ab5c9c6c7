"""Where to compute: a GPU of one's own if there is one, else the CPU; and how precisely."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from featurespeed.machine.locks import WAIT_SECONDS, try_lock

LOCKS = Path(".snakemake") / "devices"


@contextmanager
def acquire_device(locks: Path = LOCKS) -> Iterator[torch.device]:
    """The CPU without CUDA; else a GPU that no other job of this run uses, waiting for one if all are taken.

    Counting GPUs as a workflow resource does not say which one a job gets: each job holds a kernel lock on its GPU
    instead, named by the GPU's UUID, so that renumbering by CUDA_VISIBLE_DEVICES cannot confuse two of them. The
    variable FEATURESPEED_JOBS_PER_GPU lets so many jobs share one: small networks leave most of it idle.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    index, descriptor = _take_gpu(locks)
    try:
        torch.cuda.set_device(index)
        yield torch.device("cuda", index)
    finally:
        os.close(descriptor)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether matrix products and convolutions on a GPU may round their factors to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if before == (allowed, allowed):  # as inside of another one, many times over
        yield
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _take_gpu(locks: Path) -> tuple[int, int]:
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    jobs = int(os.environ.get("FEATURESPEED_JOBS_PER_GPU", "1"))
    while True:
        for job in range(jobs):  # the second job of a GPU comes after the first one of every other
            for index, name in enumerate(names):
                descriptor = try_lock(locks / f"{name}.{job}.lock")
                if descriptor is not None:
                    return index, descriptor
        time.sleep(WAIT_SECONDS)
