"""Which members train side by side: all that is fast together and fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from featurespeed.models.plan import is_strided_chain, plan_network
from featurespeed.training.operations import layers_of_job
from featurespeed.training.spec import TrainingSpec

MEMORY_SHARE = 0.4  # of a GPU's free memory: looks at the losses and probes run beside a graph that keeps its own
# On a CPU a batched product beats one network after the other while a layer has so little to do that the cost of
# calling it dominates: weights x batch up to this (benchmarks/training.py). All else runs one by one.
CPU_BATCHED_WORK = 2**23
# The same for grouped convolutions, in FLOP forward on the batch, of the layer that has most to do: deep networks are
# slow layer by layer, whatever the sum. Training and products of the Hessian alike, ten and six networks on images of
# 8 x 8 pixels: 9 MFLOP are 2.3 to 2.7 times as fast side by side at depth 3 and at depth 12, 21 MFLOP 1.5 times, five
# networks of 23 to 75 MFLOP 0.6 to 0.9 times.
CPU_GROUPED_WORK = 2.2e7
# The same for transformers, in multiply-adds forward on the batch, of the layer that has most to do: all of its tokens
# are one product. Training steps and products of the Hessian, five networks of four branches on one thread: 0.1 million
# are 3.5 and 3.3 times as fast side by side, 0.5 million 2.3 and 2.5 times, 2 million 1.5 and 1.3 times (a ViT of 65
# tokens: 1.3 and 0.7), 8 million 1.3 and 1.0 times, 33 million 1.1 and 1.0 times, or, where it is the readout of 2000
# tokens, 0.9 and 0.7 times.
CPU_TRANSFORMER_WORK = 2**22
# On a GPU one grouped convolution for all networks beats one network after the other while these leave it idle. With
# 128 images of CIFAR-10 five networks of width 64 (2 GFLOP) are measured 2.1 times as fast side by side, of width 128
# (10) 1.1 times, of width 256 (39) 0.9 times, of width 512 (155) 0.8 times as fast on an H200.
GPU_GROUPED_WORK = 1.2e10

OutOfMemory = torch.cuda.OutOfMemoryError


def chunks(members: Sequence[int], size: int) -> Iterator[list[int]]:
    """Consecutive groups of at most ``size`` members, as even as possible."""
    count = -(-len(members) // size)
    bounds = [round(index * len(members) / count) for index in range(count + 1)]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        yield list(members[start:stop])


def plan_groups(spec: TrainingSpec, device: torch.device, bytes_per_member: Callable[[], int]) -> list[list[int]]:
    """The members of the job in groups that train side by side, in order.

    Args:
        spec: the job.
        device: where it runs.
        bytes_per_member: measures the memory of one member's step; called on a GPU only.
    """
    if device.type == "cpu":
        return side_by_side(spec, spec.batch_size or spec.data.available, device, range(len(spec.members)))
    members = list(range(len(spec.members)))
    free = torch.cuda.mem_get_info(device)[0]
    size = max(1, int(MEMORY_SHARE * free / max(bytes_per_member(), 1)))
    return list(chunks(members, size))


def side_by_side(spec: TrainingSpec, examples: int, device: torch.device, members: Sequence[int]) -> list[list[int]]:
    """Members of a job in groups that are fast together on ``examples`` at a time, whatever memory that takes."""
    cpu = device.type == "cpu"
    if not cpu and is_strided_chain(plan_network(spec.model, spec.width, spec.data.shape, classes=1)):
        together = True
    elif spec.model.convolutional:
        largest = examples * max(layer.forward for layer in layers_of_job(spec))
        together = largest <= (CPU_GROUPED_WORK if cpu else GPU_GROUPED_WORK)
    elif spec.model.transformer is not None:
        largest = examples * max(layer.multiply_adds for layer in layers_of_job(spec))
        together = not cpu or largest <= CPU_TRANSFORMER_WORK
    else:
        together = not cpu or spec.width**2 * examples <= CPU_BATCHED_WORK
    return [list(members)] if together else [[member] for member in members]
