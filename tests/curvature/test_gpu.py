"""Curvature on a GPU: the same numbers as on the CPU, TF32 with its correction. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.operators import GaussNewton, Hessian, NeuralTangentKernel, Residual
from featurespeed.curvature.tracking import Tracker
from featurespeed.machine.device import tf32
from featurespeed.randomness import generator
from featurespeed.training.curvature import objective_of
from tests.training.cases import initialised

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CONVNET = {"kind": "convnet", "depth": 2}
COLOUR = (3, 16, 16)


def operator(kind, device: str, dtype=torch.float64, width: int = 16, micro_batch: int | None = None):
    """Curvature of three ConvNets, of which two start equal, on one batch."""
    network = initialised(CONVNET, width=width, input_shape=COLOUR, seeds=[0, 1, 1], dtype=dtype).to(device)
    x = torch.randn(24, *COLOUR, generator=generator(0, "x"), dtype=torch.float64)
    y = torch.randint(5, (24,), generator=generator(0, "y"))
    batch = (x.to(device, dtype), y.to(device))
    return kind(objective_of(network, "cross_entropy", batch, micro_batch=micro_batch))


KINDS = [Hessian, GaussNewton, Residual, NeuralTangentKernel]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_products_on_a_gpu_equal_those_on_the_cpu(kind):
    cpu, gpu = operator(kind, "cpu"), operator(kind, "cuda")
    vectors = torch.randn(3, cpu.size, generator=generator(0, "v"), dtype=torch.float64)
    torch.testing.assert_close(gpu.matvec(vectors.cuda()).cpu(), cpu.matvec(vectors), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_micro_batches_on_a_gpu_leave_the_product_unchanged(kind):
    whole, parts = operator(kind, "cuda"), operator(kind, "cuda", micro_batch=7)
    vectors = torch.randn(3, whole.size, generator=generator(0, "v"), dtype=torch.float64).cuda()
    torch.testing.assert_close(parts.matvec(vectors), whole.matvec(vectors), rtol=1e-9, atol=1e-11)


def values(records) -> np.ndarray:
    return np.array([record.eigenvalue for record in records])


def test_eigenvalues_on_a_gpu_equal_those_on_the_cpu():
    found = [values(largest_eigenvalues(operator(Hessian, device), tol=1e-8)) for device in ("cpu", "cuda")]
    assert np.allclose(*found, rtol=1e-9)


def test_tf32_products_with_one_exact_rayleigh_quotient_are_exact_to_second_order():
    exact = values(largest_eigenvalues(operator(Hessian, "cuda", width=128), tol=1e-8))
    single = operator(Hessian, "cuda", torch.float32, width=128)
    with tf32(True):
        rounded = values(largest_eigenvalues(_Everywhere(single), tol=1e-3))
    records = largest_eigenvalues(single, tol=1e-3, allow_tf32=True)
    assert np.abs(values(records) / exact - 1).max() < 5e-5
    assert np.abs(values(records) / exact - 1).max() < np.abs(rounded / exact - 1).max()
    assert all(record.converged for record in records)


class _Everywhere:
    """An operator whose products may round to TF32 whatever the algorithm asks for."""

    def __init__(self, inner):
        self.inner = inner
        self.members, self.size, self.dtype, self.device = inner.members, inner.size, inner.dtype, inner.device

    def matvec(self, vectors):
        with tf32(True):
            return self.inner.matvec(vectors)


def test_a_tracker_with_tf32_checks_itself_in_full_precision():
    tracker = Tracker(tol=1e-3, cold_every=2, allow_tf32=True)
    single = operator(Hessian, "cuda", torch.float32, width=64)
    found = [tracker.measure(single) for _ in range(3)]
    assert [record.warm for record in found[1]] == [True] * 3
    assert all(record.disagreement < 1e-4 for record in found[2])


def test_the_precision_settings_are_left_as_they_were():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    largest_eigenvalues(operator(Hessian, "cuda", torch.float32), allow_tf32=True)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
