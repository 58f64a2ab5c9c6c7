"""`autoscale`: what its schemes promise, checked by measurements and real steps; reversible, and nothing silent."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed import autoscale, measure
from tests.own.networks import TwoHeads, foreign, gpt2, next_word_loss


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.down(self.up(h).relu())


def mlp(width: int, depth: int = 3) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(6, width)]
    for _ in range(depth - 2):
        layers += [nn.ReLU(), nn.Linear(width, width)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, 3)).double()


def residual(width: int, depth: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), *(Block(width) for _ in range(depth)), nn.Linear(width, 3)).double()


def batch(n: int = 32) -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    return torch.randn(n, 6).double(), torch.randint(3, (n,))


LOSS = nn.CrossEntropyLoss()


# --- fsc --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "depth"), [(16, 3), (128, 3), (32, 12)])
def test_fsc_gives_signal_propagation_and_feature_learning_at_every_size(width, depth):
    torch.manual_seed(0)
    model = mlp(width, depth)
    scaled = autoscale(model, LOSS, batch())
    found = measure(model, LOSS, batch())
    assert torch.allclose(found.speed.feature_rms[:-1], torch.ones(depth - 1, dtype=torch.float64), rtol=1e-6)
    assert float(found.speed.feature_sensitivity[-2]) == pytest.approx(1, abs=0.011)  # Prop. 4.1
    assert scaled.notes == () and list(scaled.nodes["node"]) == list(found.nodes)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_fsc_rates_lower_the_loss_by_the_learning_rate_in_equal_shares(name):
    """One real step of the optimizer, so small that its first order counts."""
    torch.manual_seed(0)
    model, eta = mlp(64, 6), 1e-6
    scaled = autoscale(model, LOSS, batch())
    optimizer = torch.optim.SGD(scaled.groups(eta), momentum=0.9 if name == "momentum" else 0)
    shares = measure(model, LOSS, batch(), optimizer=optimizer).speed.contribution
    assert torch.allclose(shares, torch.full_like(shares, eta / 6), rtol=1e-6)
    before = LOSS(model(batch()[0]), batch()[1])
    before.backward()
    optimizer.step()
    assert float(before - LOSS(model(batch()[0]), batch()[1])) == pytest.approx(eta, rel=1e-3)


def test_fsc_rates_of_adam_lower_the_loss_by_the_learning_rate():
    torch.manual_seed(0)
    model, eta = mlp(64, 6), 1e-6
    scaled = autoscale(model, LOSS, batch())
    shares = measure(
        model, LOSS, batch(), optimizer=torch.optim.Adam(scaled.groups(eta, "adam"), eps=1e-14)
    ).speed.contribution
    assert torch.allclose(shares, torch.full_like(shares, eta / 6), rtol=1e-6)


@pytest.mark.parametrize("depth", [2, 8])
def test_residual_streams_grow_by_the_same_factor_at_any_depth(depth):
    """Branches of 1/sqrt(L): squares of independent branches add up to a factor (1 + 1/L)^L < e."""
    torch.manual_seed(0)
    model = residual(256, depth)
    autoscale(model, LOSS, batch())
    found = measure(model, LOSS, batch())
    last = float(found.speed.feature_rms[-2])
    assert last == pytest.approx((1 + 1 / depth) ** (depth / 2), rel=0.15)
    assert float(found.speed.feature_sensitivity[-2]) == pytest.approx(1, abs=0.011)


@pytest.mark.parametrize("name", ["bert", "vit", "resnet"])
def test_fsc_of_networks_of_others(name):
    case = foreign(name)
    autoscale(case.model, case.loss, case.batch)
    found = measure(case.model, case.loss, case.batch)
    assert float(found.speed.feature_sensitivity[-2]) == pytest.approx(1, abs=0.011)
    assert float(found.speed.feature_rms[:-1].min()) > 0.5 and float(found.speed.feature_rms[:-1].max()) < 2.5


def test_gpt2_untied_starts_with_the_usual_scales_whatever_its_own_were():
    """Linear layers end at about 1/sqrt(fan_in), though GPT-2 starts all of them at 0.02."""
    torch.manual_seed(0)
    tokens = torch.randint(20, (16, 8))
    model = gpt2(width=64, tied=False).double()
    scaled = autoscale(model, next_word_loss, (tokens, tokens)).table.set_index("name")
    for name in ("transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_fc.weight"):
        assert scaled.loc[name, "rms"] == pytest.approx(64**-0.5, rel=0.1)


def test_rates_that_follow_the_gradients_keep_the_shares_equal():
    torch.manual_seed(0)
    model, (x, y) = mlp(32, 4), batch()
    rates = autoscale(model, LOSS, (x, y)).balanced(torch.optim.SGD, 0.02)
    losses = []
    for _ in range(60):
        rates.zero_grad()
        loss = LOSS(model(x), y)
        loss.backward()
        losses.append(float(loss))
        rates.step()
    assert losses[-1] < losses[0] - 0.5
    first, kept = copy.deepcopy(rates.rates), rates.state_dict()
    other = autoscale(mlp(32, 4), LOSS, (x, y)).balanced(torch.optim.SGD, 0.02)
    other.load_state_dict(kept)
    assert other.rates == first
    with pytest.raises(ValueError, match="every = 0"):
        type(rates)(rates.optimizer, 0.1, every=0)


def test_rates_stay_bounded_where_gradients_vanish():
    weight = nn.Parameter(torch.ones(3))
    from featurespeed.own.rates import MOST, BalancedRates

    other = nn.Parameter(torch.ones(2))
    rates = BalancedRates(torch.optim.SGD([{"params": [weight]}, {"params": [other]}], 1.0), 0.1)
    for size in (1.0, *[1e-6] * 200):
        weight.grad = torch.full((3,), size)
        rates.step()
    assert rates.rates == [pytest.approx(MOST * 0.1 / 2 / 3), 0.0]
    weight.grad = torch.full((3,), math.inf)
    rates.step()  # such a step is the caller's to leave out
    assert rates.rates[0] == pytest.approx(MOST * 0.1 / 2 / 3)
    weight.grad = torch.zeros(3)
    rates.step()
    assert math.isfinite(rates.rates[0])


# --- by the rules of a parameterization -------------------------------------------------------------------------------


def test_mup_is_that_of_the_table():
    """Table 3 of arXiv:2203.03466 with a width four times that of the base."""
    torch.manual_seed(0)
    model, base = mlp(256), mlp(64)
    scaled = autoscale(model, LOSS, batch(), "mup", base).table.set_index("name")
    expected = {  # rms relative to the base's, SGD, Adam
        "0.weight": (1, 4, 1), "2.weight": (0.5, 1, 0.25), "4.weight": (0.25, 0.25, 0.25),
        "0.bias": (None, 4, 1), "2.bias": (None, 4, 1), "4.bias": (None, 1, 1),
    }  # fmt: skip
    for name, (size, sgd, adam) in expected.items():
        row = scaled.loc[name]
        assert (row["lr_sgd"], row["lr_adam"]) == pytest.approx((sgd, adam)), name
        if size:
            own = base.get_parameter(name).detach().square().mean().sqrt()
            assert row["rms"] == pytest.approx(float(own) * size)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_mup_moves_features_alike_at_every_width(kind):
    """Features of the last hidden layer move by the same amount, where under the model's own scales they move more."""
    moves = {}
    for scaled in (True, False):
        for width in (64, 1024):
            torch.manual_seed(1)
            base, model = mlp(64), mlp(width)
            groups = [{"params": list(model.parameters()), "lr": 0.01}]
            if scaled:
                groups = autoscale(model, LOSS, batch(), "mup", base).groups(0.01, kind)
            optimizer = torch.optim.SGD(groups) if kind == "sgd" else torch.optim.Adam(groups)
            found = measure(model, LOSS, batch(), optimizer=optimizer)
            moves[scaled, width] = float(found.speed.feature_speed[1] / found.speed.size[1].sqrt())
    assert 0.5 < moves[True, 1024] / moves[True, 64] < 2
    if kind == "adam":
        assert moves[False, 1024] / moves[False, 64] > 4


def test_a_deeper_plain_network_is_compared_layer_by_layer():
    torch.manual_seed(0)
    scaled = autoscale(mlp(256, 6), LOSS, batch(), "mup", mlp(64, 3)).table.set_index("name")
    assert list(scaled["role"]) == ["input", "vector", *["hidden", "vector"] * 4, "readout", "vector"]
    assert scaled.loc["8.weight", "lr_adam"] == pytest.approx(0.25)


def test_depth_mup_divides_branches_and_their_rates():
    torch.manual_seed(0)
    model, base = residual(64, 16), residual(64, 4)
    scaled = autoscale(model, LOSS, batch(), "depth_mup", base).table.set_index("name")
    up, down = scaled.loc["3.up.weight"], scaled.loc["3.down.weight"]
    own = base.get_parameter("3.down.weight").detach().square().mean().sqrt()
    assert down["rms"] == pytest.approx(float(own) / 2)
    assert (down["lr_sgd"], down["lr_adam"]) == pytest.approx((0.25, 0.25))
    assert (up["lr_sgd"], up["lr_adam"]) == pytest.approx((1, 0.5))
    assert scaled.loc["0.weight", "lr_adam"] == 1
    assert scaled.loc["17.weight", "lr_sgd"] == pytest.approx(1)
    assert scaled.loc["17.weight", "role"] == "hidden"  # the readout, of which nothing grows


def test_a_deeper_and_wider_model_is_compared_block_by_block():
    """Entries of a sequence have other numbers then: the readout is the sixth here, and the third in the base."""
    torch.manual_seed(0)
    model, base = residual(256, 4), residual(64, 1)
    scaled = autoscale(model, LOSS, batch(), "mup", base).table.set_index("name")
    assert list(scaled["role"]) == ["input", "vector", *["hidden", "vector"] * 8, "readout", "vector"]
    assert scaled.loc["5.weight", "lr_adam"] == pytest.approx(0.25)
    own = base.get_parameter("2.weight").detach().square().mean().sqrt()
    assert scaled.loc["5.weight", "rms"] == pytest.approx(float(own) / 4)


def test_ntp_has_rates_for_sgd_only():
    torch.manual_seed(0)
    scaled = autoscale(mlp(256), LOSS, batch(), "ntp", mlp(64))
    assert scaled.table.set_index("name").loc["2.weight", "lr_sgd"] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="kind = 'adam': ntp states no rates for it"):
        scaled.groups(0.1, "adam")


def test_attention_is_left_and_said():
    tokens = torch.randint(20, (4, 8))
    models = (gpt2(width=32, tied=False), gpt2(width=16, tied=False))
    scaled = autoscale(models[0], next_word_loss, (tokens, tokens), "mup", models[1])
    assert "d_head" in scaled.notes[0]


# --- reversible, all or nothing, refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["fsc", "mup"])
def test_undo_gives_every_bit_back_and_nothing_else_changes(scheme):
    torch.manual_seed(0)
    model = mlp(64)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    scaled = autoscale(model, LOSS, batch(), scheme, mlp(16) if scheme == "mup" else None)
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    scaled.undo()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    torch.set_rng_state(state)
    assert len(scaled.plot().axes) == 2


def test_a_failure_leaves_the_weights_as_they_were():
    torch.manual_seed(0)
    model = mlp(32)
    nn.init.zeros_(model[-1].weight)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="a readout that starts at 0 sends no gradient back"):
        autoscale(model, LOSS, batch())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_what_cannot_be_scaled_is_refused_in_one_line():
    tokens = torch.randint(20, (4, 8))
    cases = [
        (gpt2(), next_word_loss, (tokens, tokens), {}, "transformer.wte.weight and lm_head.weight are tied"),
        (mlp(8), LOSS, batch(), {"scheme": "sp"}, "scheme = 'sp': allowed: fsc, mup, depth_mup, ntp"),
        (mlp(8), LOSS, batch(), {"scheme": "mup"}, "base: NoneType, allowed with mup: the model of the size"),
        (mlp(8), LOSS, batch(), {"base": mlp(4)}, "base: Sequential, allowed with fsc: None"),
        (mlp(8), LOSS, batch(), {"scheme": "mup", "base": residual(4, 1)}, "base: 1 residual blocks, allowed: some"),
        (mlp(8), LOSS, batch(), {"scheme": "mup", "base": mlp(4, 2)}, "base: has no block like '2'"),
        (
            mlp(8),
            LOSS,
            batch(),
            {"scheme": "depth_mup", "base": mlp(4)},
            "no part of the model adds to its input, allowed: mup",
        ),
        (nn.Linear(6, 3).double(), LOSS, (batch()[0], batch()[1]), {}, None),
    ]
    for model, loss, data, given, message in cases:
        if message is None:  # one layer: nothing before it learns features
            assert "last node is no layer" in autoscale(model, loss, data, **given).notes[0]
            continue
        with pytest.raises(ValueError, match=message) as found:
            autoscale(model, loss, data, **given)
        assert "\n" not in str(found.value)


def test_losses_that_call_the_model_and_stand_alone_functions():
    torch.manual_seed(0)
    one, other = mlp(16), mlp(16)
    other.load_state_dict(one.state_dict())
    autoscale(one, functional.cross_entropy, batch())
    autoscale(other, lambda model, pair: functional.cross_entropy(model(pair[0]), pair[1]), batch())
    assert all(torch.allclose(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# --- networks of unusual making ---------------------------------------------------------------------------------------


class OwnLayer(nn.Module):
    """``x @ w`` with a matrix of one's own."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.w = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


def own_layers(width: int, first: bool) -> nn.Module:
    ends = (OwnLayer(6, width), OwnLayer(width, 3)) if first else (nn.Linear(6, width), nn.Linear(width, 3))
    return nn.Sequential(ends[0], nn.ReLU(), OwnLayer(width, width), nn.ReLU(), ends[1]).double()


def test_a_matrix_of_unknown_layout_is_hidden_if_both_sizes_grow_and_else_refused():
    torch.manual_seed(0)
    scaled = autoscale(own_layers(64, False), LOSS, batch(), "mup", own_layers(16, False)).table.set_index("name")
    assert scaled.loc["2.w", "role"] == "hidden" and scaled.loc["2.w", "lr_adam"] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="model: 0.w of OwnLayer: what it multiplies cannot be told"):
        autoscale(own_layers(64, True), LOSS, batch(), "mup", own_layers(16, True))


def test_transposed_convolutions_have_their_own_layout():
    def make(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (6, 1)), nn.ConvTranspose1d(6, width, 3), nn.ReLU(), nn.ConvTranspose1d(width, width, 3),
            nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 3),
        ).double()  # fmt: skip

    table = autoscale(make(64), LOSS, batch(), "mup", make(16)).table.set_index("name")
    assert [table.loc[f"{k}.weight", "role"] for k in (1, 3, 7)] == ["input", "hidden", "readout"]


class Tied(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.table, self.hidden = nn.Embedding(7, width), nn.Linear(width, width)
        self.readout = nn.Linear(width, 7, bias=False)
        self.readout.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(torch.relu(self.hidden(self.table(x))))


def test_tied_weights_are_refused_by_every_scheme():
    tokens = torch.randint(7, (16,)), torch.randint(7, (16,))
    for scheme, base in (("fsc", None), ("mup", Tied(8))):
        with pytest.raises(ValueError, match="table.weight and readout.weight are tied"):
            autoscale(Tied(32), LOSS, tokens, scheme, base)


class Attending(nn.Module):
    """A pre-normalised block with PyTorch's own attention, whose last matrix is no module that is called."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        x = self.norm(h)
        return h + self.attention(x, x, x, need_weights=False)[0]


def attending(depth: int, width: int = 16) -> nn.Module:
    blocks = (Attending(width) for _ in range(depth))
    return nn.Sequential(
        nn.Linear(6, width), nn.LayerNorm(width), *blocks, nn.Flatten(), nn.Linear(4 * width, 3)
    ).double()


def test_a_normalisation_before_the_blocks_hides_none_and_attention_of_torch_writes_too():
    torch.manual_seed(0)
    data = torch.randn(8, 4, 6).double(), torch.randint(3, (8,))
    scaled = autoscale(attending(8), LOSS, data, "depth_mup", attending(2)).table.set_index("name")
    for block in range(2, 10):
        assert scaled.loc[f"{block}.attention.out_proj.weight", "lr_adam"] == pytest.approx(0.25)
        assert scaled.loc[f"{block}.attention.in_proj_weight", "lr_adam"] == pytest.approx(0.5)
    model = attending(8)
    autoscale(model, LOSS, data)
    rms = measure(model, LOSS, data).speed.feature_rms
    assert float(rms[-2]) == pytest.approx((1 + 1 / 8) ** 4, rel=0.3)


def test_frozen_layers_stay_and_are_told():
    torch.manual_seed(0)
    for scheme, base in (("fsc", None), ("mup", mlp(16, 4))):
        model = mlp(32, 4)
        model[2].requires_grad_(False)
        before = model[2].weight.clone()
        scaled = autoscale(model, LOSS, batch(), scheme, base)
        assert torch.equal(model[2].weight, before)
        assert scheme == "mup" or "not scaled, because frozen: 2" in scaled.notes


def test_undo_takes_training_back_too():
    torch.manual_seed(0)
    model = mlp(16)
    before = copy.deepcopy(model.state_dict())
    scaled = autoscale(model, LOSS, batch())
    optimizer = torch.optim.SGD(scaled.groups(0.1))
    LOSS(model(batch()[0]), batch()[1]).backward()
    optimizer.step()
    scaled.undo()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_of_two_outputs_is_refused_by_fsc():
    with pytest.raises(ValueError, match="stand behind no cut node"):
        autoscale(TwoHeads(6).double(), lambda out, y: LOSS(out[0], y) + LOSS(out[1], y), batch())


def test_losses_of_numbers_settle():
    torch.manual_seed(0)
    model = mlp(64)
    x, _ = batch()
    scaled = autoscale(model, nn.MSELoss(), (x, 0.1 * torch.randn(len(x), 3).double()))
    assert scaled.notes == ()


def test_rates_that_follow_gradients_are_for_sgd_with_layers():
    scaled = autoscale(mlp(16), LOSS, batch())
    with pytest.raises(ValueError, match="optimizer: Adam with 3 groups, allowed: SGD"):
        scaled.balanced(torch.optim.Adam, 0.1)
    with pytest.raises(ValueError, match="options: momentumm, allowed: those of SGD"):
        scaled.balanced(torch.optim.SGD, 0.1, momentumm=0.9)
    with pytest.raises(ValueError, match="optimizer: SGD, allowed: a class"):
        scaled.balanced(torch.optim.SGD(mlp(4).parameters(), 0.1), 0.1)
