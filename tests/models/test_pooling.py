"""Our pooling gives the numbers of PyTorch's own, values and derivatives, and is used where it is the faster one."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jvp
from torch.nn import functional

from featurespeed.models.pooling import FEW, AveragePool, MaxPool, max_pool

POOLS = {
    "average": (AveragePool.apply, lambda x: functional.avg_pool2d(x, 2)),
    "max": (lambda x: MaxPool.apply(x)[0], lambda x: functional.max_pool2d(x, 2)),
}
every_pool = pytest.mark.parametrize("pool", POOLS)
every_side = pytest.mark.parametrize("sides", [(4, 6), (5, 7), (2, 3)], ids=str)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Whole numbers from -2 to 2: among four pixels there are equal ones as a rule."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).double()


def assert_the_same(results, pool: str) -> None:
    for ours, theirs in zip(*map(results, POOLS[pool]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12 if pool == "average" else 0, atol=0)


@every_pool
@every_side
def test_values_and_derivatives_by_transforms(pool, sides):
    x, v = images(2, 3, *sides), images(2, 3, *sides, seed=1)

    def results(pooled):
        def energy(x):
            return (pooled(x) ** 3).sum()

        gradient = grad(energy)
        yield pooled(x)
        yield gradient(x)
        yield jvp(gradient, (x,), (v,))[1]  # Hessian-vector products, in both ways
        yield grad(lambda x: (gradient(x) * v).sum())(x)
        yield grad(lambda x: (grad(lambda x: (gradient(x) * v).sum())(x) * v).sum())(x)
        yield jvp(pooled, (x,), (v,))[1]
        yield torch.vmap(gradient)(torch.stack([x, v]))
        yield grad(lambda both: (torch.vmap(pooled)(both) ** 3).sum())(torch.stack([x, v]))

    assert_the_same(results, pool)


@every_pool
@every_side
def test_derivatives_by_the_graph_once_and_again(pool, sides):
    def results(pooled):
        x = images(2, 3, *sides).requires_grad_()
        loss = (pooled(x) ** 3).sum()
        yield torch.autograd.grad(loss, x, retain_graph=True)[0]
        (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        for seed in (1, 2):  # the second product finds what the first one left
            yield torch.autograd.grad((gradient * images(*x.shape, seed=seed)).sum(), x, retain_graph=True)[0]
        rows = images(5, *x.shape, seed=3)
        yield torch.autograd.grad(gradient, x, rows, is_grads_batched=True)[0]
        outputs = pooled(x)
        yield torch.autograd.grad(outputs, x, images(5, *outputs.shape), is_grads_batched=True)[0]
        with forward_ad.dual_level():
            moving = forward_ad.unpack_dual(pooled(forward_ad.make_dual(x, images(*x.shape, seed=4)))).tangent
        yield moving.detach()

    assert_the_same(results, pool)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_of_equal_pixels_the_first_one_has_the_gradient_in_every_layout(layout):
    x = torch.zeros(1, 2, 4, 4).to(memory_format=layout).requires_grad_()
    (found,) = torch.autograd.grad(POOLS["max"][0](x).sum(), x)
    assert found[0, 0].tolist() == [[1.0, 0.0, 1.0, 0.0], [0.0] * 4] * 2


@pytest.mark.parametrize(("channels", "ours"), [(FEW // 64, True), (FEW // 64 - 1, False)])
def test_many_pixels_are_pooled_by_ours_and_few_by_pytorch(channels, ours):
    x = images(1, channels, 8, 8).requires_grad_()
    found = max_pool(x)
    assert (type(found.grad_fn).__name__ == "MaxPoolBackward") == ours
    torch.testing.assert_close(found, functional.max_pool2d(x, 2), rtol=0, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so(bad):
    x = images(1, 1, 4, 4)
    x[0, 0, 1, 2] = bad
    ours, theirs = (pooled(x) for pooled in POOLS["max"])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
