"""Taylor coefficients and soft ranks of anyone's network: what may be given, and what is refused in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed.homogeneous.losses import OUTPUT_LOSSES
from featurespeed.homogeneous.measure import TaylorError, soft_ranks, taylor_coefficients
from featurespeed.homogeneous.network import HomogeneousMLP, backward_pass
from featurespeed.homogeneous.taylor import TaylorCoefficients
from featurespeed.randomness import generator

WITHOUT_EXTRAS = """
import sys
sys.modules["pydantic"] = None  # importing it fails
import torch
from featurespeed import soft_ranks, taylor_coefficients
print(taylor_coefficients([torch.ones(2, 3)], torch.ones(4, 3), torch.zeros(4, 2), loss="mse", scaling="fsf").c0.item())
print(soft_ranks(torch.eye(5)).stable_rank.item())
"""


def small(bias: bool = False) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(3)
    layers = nn.Linear(4, 9, bias=bias), nn.ReLU(), nn.Linear(9, 7, bias=bias), nn.ReLU(), nn.Linear(7, 3, bias=bias)
    return nn.Sequential(*layers).double(), torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 2, 1, 0])


def values(found: TaylorCoefficients) -> Tensor:
    return torch.stack([found.c0, found.c1, found.c2, found.c3])


def test_modules_matrices_and_ensembles_give_the_same():
    net, x, y = small()
    matrices = [part.weight for part in net if isinstance(part, nn.Linear)]
    ours = HomogeneousMLP([4, 9, 7, 3]).double()
    for mine, weight in zip(ours.matrices, matrices, strict=True):
        mine.data[0] = weight.data
    wanted = values(taylor_coefficients(net, x, y, scaling="rel1"))
    assert float(wanted[0]) == pytest.approx(functional.cross_entropy(net(x), y).item())
    several = [torch.stack([weight, weight]) for weight in matrices]
    for weights in (matrices, ours, nn.Sequential(nn.Flatten(), *net), several):
        assert torch.allclose(values(taylor_coefficients(weights, x, y, scaling="rel1")), wanted, rtol=1e-12)
    own = taylor_coefficients(several, torch.stack([x, 2 * x]), torch.stack([y, y]), scaling="rel1")
    assert values(own)[:, 0].tolist() == pytest.approx(wanted[:, 0].tolist(), rel=1e-12) and own.c1[0] != own.c1[1]


def test_inputs_are_taken_as_they_are_and_may_be_images():
    net, x, y = small()
    once, twice = (values(taylor_coefficients(net, factor * x, y, loss="mse")) for factor in (1, 2))
    assert not torch.allclose(once, twice)
    assert torch.equal(values(taylor_coefficients(net, x.view(6, 1, 2, 2), y, loss="mse")), once)


def test_a_loss_of_the_users_own_gives_what_the_named_one_gives():
    net, x, y = small()

    def squares(outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs - functional.one_hot(targets, 3)).square().sum(1).mean()

    for function, name in ((nn.CrossEntropyLoss(), "cross_entropy"), (squares, "mse")):
        own, named = (values(taylor_coefficients(net, x, y, loss=loss, scaling="fsf")) for loss in (function, name))
        assert torch.allclose(own, named, rtol=1e-11)
    numbers = functional.one_hot(y, 3).double()
    assert torch.equal(
        values(taylor_coefficients(net, x, numbers, loss="mse")), values(taylor_coefficients(net, x, y, loss="mse"))
    )


def test_orders_that_were_not_asked_for_are_nan():
    net, x, y = small()
    full = values(taylor_coefficients(net, x, y))
    for order in (1, 2):
        found = values(taylor_coefficients(net, x, y, order=order))
        assert torch.equal(found[: order + 1], full[: order + 1]) and found[order + 1 :].isnan().all()


def test_error_of_each_order_is_of_the_next_one():
    """A deep linear network: there is no kink to cross."""
    net, x, y = small()
    matrices, linear = [part.weight.detach()[None] for part in net[::2]], (1.0, 0.0)
    found = taylor_coefficients(matrices, x, y, activation=linear)
    gradients = backward_pass(x[None], y[None], matrices, OUTPUT_LOSSES["cross_entropy"], linear).gradients()

    def errors(step: float) -> list[float]:
        moved = [w - step * g for w, g in zip(matrices, gradients, strict=True)]
        measured = taylor_coefficients(moved, x, y, activation=linear, order=1).c0 - found.c0
        return [abs(float(found.change(step, order) - measured)) for order in (1, 2, 3)]

    ratios = [twice / once for once, twice in zip(errors(0.01), errors(0.02), strict=True)]
    assert ratios == pytest.approx([4, 8, 16], rel=0.1)


NET, X, Y = small()
DEAD = small()[0]
DEAD[2].weight.data.fill_(-1.0)
MATRICES = [part.weight.detach() for part in NET[::2]]


@pytest.mark.parametrize(
    ("weights", "changes", "message"),
    [
        (NET, {"scaling": "rel3"}, "scaling = 'rel3': allowed: none, norm1, rel1, norm2, rel2, gradn, fsf"),
        (NET, {"loss": "hinge"}, "loss = 'hinge': allowed: cross_entropy, mse, or a function of outputs and targets"),
        (NET, {"order": 4}, "order = 4: allowed: 1, 2, 3"),
        (small(bias=True)[0], {}, "layer 1 has a bias, allowed: nn.Linear(..., bias=False)"),
        (
            nn.Sequential(NET[0], nn.Tanh(), NET[2]),
            {},
            "Tanh at place 2 of the chain, allowed: an nn.Sequential of nn.Li",
        ),
        (nn.Sequential(NET[0], nn.ReLU()), {}, "ReLU at place 2 of the chain"),
        (nn.Linear(4, 3), {}, "weights: Linear, allowed: an nn.Sequential"),
        (nn.Sequential(), {}, "weights: none given, at least one matrix is needed"),
        (NET, {"activation": (0.0, 1.0)}, "activation = (0.0, 1.0): a module brings its own"),
        ([MATRICES[0], MATRICES[2]], {}, "layer 2 takes 7 inputs, allowed: 9"),
        ([MATRICES[0], MATRICES[1][0]], {}, "layer 2 has float64 [9], allowed: real numbers"),
        ([MATRICES[0] / 0, *MATRICES[1:]], {}, "layer 1 holds NaN or infinity"),
        (NET, {"inputs": X[:, :3]}, "inputs: of shape [6, 3], allowed: [n, 4], as layer 1 takes 4 inputs"),
        (NET, {"inputs": X[:0], "targets": Y[:0]}, "inputs: an empty batch"),
        (NET, {"inputs": X / 0}, "inputs: NaN or infinite"),
        (NET, {"targets": Y[:5]}, "targets: of shape [5], allowed: [6]"),
        (NET, {"targets": Y + 1}, "targets: classes 1 to 3, allowed: 0 to 2"),
        (NET, {"targets": Y.double()}, "targets: float64, allowed for cross_entropy: classes, int64"),
        (NET, {"loss": lambda z, y: z}, "loss: returns shape [6, 3], allowed: a scalar tensor"),
        (NET, {"loss": lambda z, y: z.detach().sum()}, "loss: its value cannot be differentiated by the outputs"),
        (
            [w.expand(2, -1, -1) for w in MATRICES],
            {"loss": nn.CrossEntropyLoss()},
            "loss: a function is for one network, 2",
        ),
        (DEAD, {"scaling": "norm1"}, "layer 2: no unit is active on this batch, so its scaling norm1 is not finite"),
        (
            MATRICES[:1],
            {"inputs": 0 * X, "scaling": "norm1"},
            "layer 1: its gradient is 0 on this batch, so its scaling",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(weights, changes, message):
    inputs, targets = changes.pop("inputs", X), changes.pop("targets", Y)
    with pytest.raises(TaylorError) as error:
        taylor_coefficients(weights, inputs, targets, **changes)
    assert message in str(error.value) and "\n" not in str(error.value) and isinstance(error.value, ValueError)


def test_a_dead_layer_without_a_scaling_has_coefficients():
    found = taylor_coefficients(DEAD, X, Y)
    assert values(found)[1:].abs().max() == 0 and found.edge.isinf().all()


def test_public_soft_ranks_take_one_network_or_several():
    features = torch.randn(6, 9, generator=generator(0, "features"))
    one, several = soft_ranks(features), soft_ranks(torch.stack([features, 3 * features]))
    assert one.participation_ratio.shape == (1,)
    assert several.entropy_rank.tolist() == pytest.approx([float(one.entropy_rank)] * 2)
    with pytest.raises(TaylorError, match=r"features: of shape \[9\], allowed: \[n, m\] or \[E, n, m\]"):
        soft_ranks(features[0, :])
    with pytest.raises(TaylorError, match="NaN or infinite"):
        soft_ranks(features / 0)


def test_both_need_the_base_installation_only():
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["9.0", "5.0"]
