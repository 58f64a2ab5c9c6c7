"""The arena of scalings: its networks, what each scheme does to them, and one cell that is trained."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from featurespeed.data.batches import BatchStream
from featurespeed.own.measure import measure
from featurespeed.papers.feature_speed.arena.cells import Batches, Cell, Maker, adam, final, train_cell
from featurespeed.papers.feature_speed.arena.networks import NETWORKS, next_token_loss
from featurespeed.papers.feature_speed.arena.schemes import SCHEMES, Setting

IMAGES, WORDS = (1, 8, 8), (12,)
CLASSES = 10


def network(name: str, width: int = 32, depth: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return NETWORKS[name](WORDS if name == "gpt" else IMAGES, CLASSES, width, depth)


def batch(name: str, n: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    if name == "gpt":
        return torch.randint(CLASSES, (n, *WORDS)), torch.randint(CLASSES, (n, *WORDS))
    return torch.randn(n, *IMAGES), torch.randint(CLASSES, (n,))


def setting(name: str, base: nn.Module) -> Setting:
    return Setting(next_token_loss, batch(name), base, lambda: iter([batch(name)] * 40), 1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_formula_holds_on_every_network_of_the_arena(name):
    found = measure(network(name).double(), next_token_loss, _double(batch(name)))
    assert found.formula_error.max() < 1e-11
    assert len(found.nodes) == {"mlp": 4, "residual_mlp": 5, "convnet": 4, "vit": 5, "gpt": 5}[name]


def _double(pair):
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in pair)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "fsc"])
def test_at_the_base_every_scheme_but_fsc_leaves_all_as_it_is(name, scheme):
    if scheme == "depth_mup" and name in ("mlp", "convnet"):
        return  # no residual branches
    model = network(name)
    before = copy.deepcopy(model.state_dict())
    factors = SCHEMES[scheme](model, setting(name, network(name)))
    assert factors == pytest.approx({key: 1.0 for key, _ in model.named_parameters()})
    assert all(torch.allclose(value, before[key], rtol=1e-6) for key, value in model.state_dict().items())


def test_rates_of_the_schemes_over_the_width():
    """Of four times the width: hidden layers and the readout; the embedding, and vectors, are left."""
    expected = {"sp": 1.0, "ntp": 0.5, "sp_full_alignment": 0.25, "mup": 0.25}
    for scheme, factor in expected.items():
        found = SCHEMES[scheme](network("gpt", 128), setting("gpt", network("gpt", 32)))
        own = {name: value for name, value in found.items() if "mlp.0.weight" in name or name == "5.weight"}
        assert len(own) == 4 and list(own.values()) == pytest.approx([factor] * 4), scheme
        assert found["0.tokens.weight"] == found["1.norms.0.weight"] == pytest.approx(1.0)


def test_alignment_is_between_none_and_all_and_is_measured():
    found = SCHEMES["maxp"](network("mlp", 128), setting("mlp", network("mlp", 32)))
    exponents = [-math.log(found[f"{k}.weight"]) / math.log(4) for k in (3, 5, 7)]
    assert all(0.5 - 1e-9 <= value <= 1.0 + 1e-9 for value in exponents)
    assert len({round(value, 6) for value in exponents}) > 1


def test_flerm_makes_first_steps_change_the_function_as_those_of_the_base_do():
    """Of each tensor; what one layer of the base does is split over the two that stand for it."""
    model, base = network("residual_mlp", 32, 6), network("residual_mlp", 32, 3)
    own = setting("residual_mlp", base)
    factors = SCHEMES["flerm"](model, own)

    def updates(net: nn.Module, rates: dict[str, float]) -> dict[str, float]:
        groups = [{"params": [p], "lr": rates[n]} for n, p in net.named_parameters()]
        table = measure(net, own.loss, own.batch, optimizer=torch.optim.Adam(groups, lr=1.0)).parameters
        return dict(zip(table["name"], table["function_update"], strict=True))

    deep, shallow = updates(model, factors), updates(base, {n: 1.0 for n, _ in base.named_parameters()})
    assert deep["1.weight"] == pytest.approx(shallow["1.weight"], rel=1e-4)
    assert deep["8.weight"] == pytest.approx(shallow["5.weight"], rel=1e-4)
    assert deep["5.linear.weight"] == pytest.approx(shallow["2.linear.weight"] / 2, rel=1e-4)


def stream() -> BatchStream:
    torch.manual_seed(0)
    images = torch.randint(0, 16, (128, *IMAGES), dtype=torch.uint8)
    labels = (images.flatten(1)[:, :8].double().mean(1) > 7.5).to(torch.uint8)
    tests = (images[:8].numpy(), labels[:8].numpy())
    return BatchStream(
        images, labels, seeds=[0], batch_size=32, pixel_maximum=16, test=tests, device=torch.device("cpu")
    )


@pytest.mark.parametrize("scheme", ["mup", "fsc"])
def test_a_cell_trains_and_its_networks_side_by_side_have_rates_of_their_own(scheme):
    cell = Cell("mlp", scheme, "width", 2, (8, 16), (0.003, 0.01, 0.03), (0, 1), 25)
    trained = train_cell(cell, stream(), IMAGES, CLASSES, torch.device("cpu"), None)
    assert trained.losses.shape == (2, 2, 3, 25) and np.isfinite(trained.losses).all()
    assert (final(trained).min(-1) < trained.losses[..., 0].min(-1)).all()


def test_a_network_of_a_size_and_seed_is_scaled_once_and_the_same_again():
    cell = Cell("residual_mlp", "fsc", "depth", 16, (2, 4), (0.01, 0.02, 0.04), (0, 1), 5)
    make = Maker(cell, IMAGES, CLASSES, Batches(stream()), torch.device("cpu"))
    torch.manual_seed(7)
    first = make(4)
    torch.manual_seed(7)
    second = make(4)
    assert first is not second and first.factors == second.factors
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    groups = adam(first, 0.1).param_groups
    assert [group["lr"] for group in groups] == [0.1 * factor for factor in first.factors.values()]
