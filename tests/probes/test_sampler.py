"""The exact-law sampler against dense networks, the infinite-width recursion and the exact scalar chain.

Laws are compared by Kolmogorov-Smirnov tests with fixed seeds. Tests of one group share a false-alarm level of 1e-3:
each of its n comparisons rejects below 1e-3/n (Bonferroni). Fixed seeds make the outcome the same on every run.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor, nn

from featurespeed.models.mlp import Linear, ResidualBlock, hidden_std
from featurespeed.probes import measure_feature_speed, sampler
from featurespeed.probes.sampler import Network, sample_networks
from featurespeed.randomness import generator
from featurespeed.theory import cos_bfa_recursion, sample_mlp_cos_bfa
from tests.probes.cases import DOUBLE, quadratic

FALSE_ALARM = 1e-3
WIDTH, DEPTH, INPUTS, DRAWS = 20, 7, 5, 3000
TARGET, OUTPUT_GRADIENT, RATES = 0.7, 1.3, (0.4, 0.9)


# --- against dense networks -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One law: what is sampled and what is drawn weight by weight."""

    branch_scale: float
    activation: str
    loss: str
    trained: bool  # all hidden layers and the embedding with given rates, else balanced hidden layers

    def network(self, branch_scale: float | None = None) -> Network:
        return Network(
            depth=DEPTH,
            branch_scale=self.branch_scale if branch_scale is None else branch_scale,
            input_rms=1.2,
            input_square=INPUTS * 1.2**2,
            readout_std=0.3,
            target=TARGET,
            output_gradient=OUTPUT_GRADIENT if self.loss == "linear" else None,
            learning_rates=RATES if self.trained else None,
        )


SETTINGS = [
    Setting(*values)
    for values in itertools.product((0.3, 1.0), ("relu", "linear"), ("quadratic", "linear"), (False, True))
]
Laws = dict[str, Tensor]


def draw_weights(setting: Setting, draws: int, seed: int) -> list[Tensor]:
    """Weights of many networks, ``[draws, rows, columns]`` a layer; the input is ``1.2`` in every entry."""
    stream = generator(seed, "dense law", *map(str, (setting.branch_scale, setting.activation, setting.loss)))

    def draw(rows: int, columns: int, std: float) -> Tensor:
        return std * torch.randn(draws, rows, columns, generator=stream, dtype=DOUBLE)

    hidden = [draw(WIDTH, WIDTH, hidden_std(WIDTH, setting.activation)) for _ in range(DEPTH - 2)]
    return [draw(WIDTH, INPUTS, INPUTS**-0.5), *hidden, draw(1, WIDTH, 0.3)]


def dense_law(setting: Setting, weights: list[Tensor]) -> Laws:
    """The measured quantities, ``[draws, DEPTH - 1]`` each, from explicit weights: forward, backward, tangent."""
    beta, skip = setting.branch_scale, math.sqrt(1 - setting.branch_scale**2)
    relu = setting.activation == "relu"

    def slope(f: Tensor) -> Tensor:
        return (f > 0).to(DOUBLE) if relu else torch.ones_like(f)

    def times(weight: Tensor, vector: Tensor) -> Tensor:
        return (weight @ vector[..., None])[..., 0]

    features = [times(weights[0], torch.full((INPUTS,), 1.2, dtype=DOUBLE))]
    for weight in weights[1:-1]:
        f = features[-1]
        features.append(skip * f + beta * times(weight, slope(f) * f))
    readout = weights[-1][:, 0]
    error = (readout * features[-1]).sum(-1, keepdim=True) - TARGET
    backward = [readout * (OUTPUT_GRADIENT if setting.loss == "linear" else error)]
    for weight, f in zip(weights[-2:0:-1], features[-2::-1], strict=True):
        b = backward[0]
        backward.insert(0, skip * b + beta * slope(f) * times(weight.mT, b))
    inputs = [math.sqrt(INPUTS * 1.2**2)] + [beta * (slope(f) * f).norm(dim=-1) for f in features[:-1]]
    gradient = torch.stack([b.norm(dim=-1) * size for b, size in zip(backward, inputs, strict=True)], 1)
    if setting.trained:
        contribution = gradient.square() * torch.tensor([RATES[0]] + [RATES[1]] * (DEPTH - 2))
    else:
        contribution = torch.full_like(gradient, 1 / DEPTH)
        contribution[:, 0] = 0
    push = [c[:, None] * b / b.square().sum(-1, keepdim=True) for c, b in zip(contribution.T, backward, strict=True)]
    moves = [-push[0]]
    for index, weight in enumerate(weights[1:-1]):
        move = moves[-1]
        moves.append(skip * move + beta * times(weight, slope(features[index]) * move) - push[index + 1])
    f, b, u, decay = torch.stack(features, 1), torch.stack(backward, 1), torch.stack(moves, 1), contribution.cumsum(1)
    cos = -(u * b).sum(-1) / (u.norm(dim=-1) * b.norm(dim=-1))
    rms = f.norm(dim=-1) / WIDTH**0.5
    sensitivity = u.norm(dim=-1) / WIDTH**0.5 / decay
    return with_joint_laws(cos.clamp(-1, 1).acos(), sensitivity, rms, b.norm(dim=-1), gradient, decay)


def sampled_law(setting: Setting, seed: int, draws: int = DRAWS, branch_scale: float | None = None, width: int = WIDTH):
    """The same quantities from the sampler."""
    network = setting.network(branch_scale)
    stream = generator(seed, "sampled law", str(setting))
    samples = sample_networks(
        [network] * draws, width, stream, activation=setting.activation, layers="all", dtype=DOUBLE
    )

    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(sample, name) for sample in samples])

    gradient = network.branch_scale * stacked("backward_norm") * stacked("branch_input_norm")
    gradient[:, 0] = math.sqrt(network.input_square) * stacked("backward_norm")[:, 0]
    names = ("angle", "feature_sensitivity", "forward_rms", "backward_norm")
    return with_joint_laws(*map(stacked, names), gradient, stacked("loss_decay"))


def with_joint_laws(angle, sensitivity, rms, backward, gradient, decay) -> Laws:
    """Every quantity at the first, a middle and the last layer, and ratios and products that see the joint law."""
    laws = {}
    each = {"angle": angle, "sensitivity": sensitivity, "rms": rms, "backward": backward, "gradient": gradient}
    for name, values in each.items():
        for layer in (1, DEPTH // 2, DEPTH - 1):
            laws[f"{name} {layer}"] = values[:, layer - 1]
    laws |= {
        "decay": decay[:, -1],
        "angle ratio": angle[:, -1] / angle[:, -2],
        "rms ratio": rms[:, -1] / rms[:, 1],
        "backward ratio": backward[:, 0] / backward[:, -1],
        "rms times backward": rms[:, 2] * backward[:, 2],
        "angle times rms": angle[:, -1] * rms[:, -1],
        "sensitivity times backward": sensitivity[:, -1] * backward[:, 1],
    }
    return laws


def p_values(ours: Laws, theirs: Laws) -> dict[str, float]:
    """KS p-values of the laws that are no constants; dead or frozen layers (NaN) must be as rare in both."""
    result = {}
    for name in ours:
        a, b = (laws[name].numpy() for laws in (ours, theirs))
        alive = [x[np.isfinite(x)] for x in (a, b)]
        assert abs(len(alive[0]) / len(a) - len(alive[1]) / len(b)) < 0.003, name
        if all(len(x) and np.ptp(x) > 1e-6 for x in alive):
            result[name] = ks_2samp(*alive).pvalue
        elif all(len(x) for x in alive):
            # the arc cosine of the dense reference resolves an angle of 0 to 1e-7 only
            assert alive[0].mean() == pytest.approx(alive[1].mean(), rel=1e-9, abs=1e-6), name
    return result


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_samples_have_the_law_of_dense_networks(setting):
    """22 laws in 16 settings: each comparison rejects below 1e-3/352."""
    found = p_values(sampled_law(setting, 0), dense_law(setting, draw_weights(setting, DRAWS, 0)))
    assert len(found) >= 18
    level = FALSE_ALARM / (22 * len(SETTINGS))
    assert {name: p for name, p in found.items() if p < level} == {}


@pytest.mark.parametrize("change", [{"branch_scale": 0.36}, {"width": WIDTH - 4}], ids=str)
def test_the_comparison_tells_another_law_apart(change):
    """Negative control: a branch scale of 0.36 for 0.3, or width 16 for 20, is rejected at the same level."""
    setting = SETTINGS[0]
    found = p_values(sampled_law(setting, 0, **change), dense_law(setting, draw_weights(setting, DRAWS, 0)))
    assert min(found.values()) < FALSE_ALARM / (22 * len(SETTINGS)) / 100


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_dense_reference_equals_the_generic_probe(setting):
    """The reference of this file is itself pinned to the module probe, network by network."""
    weights = draw_weights(setting, 3, 1)
    laws = dense_law(setting, weights)
    for index in range(3):
        first, *hidden, last = (w[index].clone() for w in weights)
        blocks = [ResidualBlock(w, setting.branch_scale, setting.activation) for w in hidden]
        layers = nn.Sequential(Linear(first), *blocks, Linear(last).requires_grad_(False))
        layers[0].weight.requires_grad_(setting.trained)
        target = torch.full((1, 1), TARGET, dtype=DOUBLE)
        loss = quadratic if setting.loss == "quadratic" else lambda f, y: OUTPUT_GRADIENT * f.sum()
        rates = torch.tensor([RATES[0]] + [RATES[1]] * (DEPTH - 2) + [0.0]) if setting.trained else None
        x = torch.full((1, INPUTS), 1.2, dtype=DOUBLE)
        result = measure_feature_speed(layers, loss, (x, target), rates)
        for layer in (2, DEPTH // 2, DEPTH - 1):
            node = layer - 1
            expected = {
                "angle": result.angle[node],
                "sensitivity": result.feature_sensitivity[node],
                "rms": result.feature_rms[node],
                "backward": result.backward_norm[node],
                "gradient": result.gradient_norm[node],
            }
            for name, value in expected.items():
                if f"{name} {layer}" in laws:
                    assert float(laws[f"{name} {layer}"][index]) == pytest.approx(float(value), rel=1e-9, abs=1e-7)
        assert float(laws["decay"][index]) == pytest.approx(float(result.loss_decay[-2]), rel=1e-9)


# --- against theory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("branch_scale", [1.0, 0.3, 30**-0.5, 1 / 30])
def test_wide_samples_agree_with_the_infinite_width_recursion(branch_scale, activation):
    """Width 20000, depth 30, every layer: within 5 standard errors and the relative bias (2 + L/2)/m of 1/cos^2 - 1."""
    width, depth, seeds = 20_000, 30, 10
    stream = generator(0, "recursion", repr(branch_scale), activation)
    samples = sample_networks(
        [Network(depth, branch_scale)] * seeds, width, stream, activation=activation, layers="all"
    )
    excess = torch.stack([sample.angle[1:].tan().square() for sample in samples]).numpy()
    predicted = cos_bfa_recursion(depth, branch_scale, activation) ** -2 - 1
    error = np.abs(excess.mean(0) - predicted)
    standard_error = excess.std(0, ddof=1) / seeds**0.5
    assert np.all(error <= 5 * standard_error + (2 + depth / 2) / width * predicted + 1e-9)
    # resolution: the last layer's standard error is small, so that a wrong theory could not pass
    assert standard_error[-1] < 0.02 * predicted[-1]


def test_wide_samples_refute_the_theory_without_mask_correlations():
    """Negative control: linear theory for a ReLU net."""
    samples = sample_networks([Network(30, 0.3)] * 10, 20_000, generator(0, "control"))
    cos = np.array([float(sample.angle[-1].cos()) for sample in samples])
    wrong = cos_bfa_recursion(30, 0.3, "linear")[-1]
    assert abs(cos.mean() - wrong) > 20 * cos.std(ddof=1) / len(cos) ** 0.5


def test_samples_of_narrow_mlps_have_the_law_of_the_scalar_chain():
    """Width 5, depth 9: share of dead networks, the cosine at every layer, and ratios of neighbours (joint law)."""
    width, depth, draws = 5, 9, 6000
    stream = generator(0, "chain")
    samples = sample_networks([Network(depth, 1.0)] * draws, width, stream, layers="all", dtype=DOUBLE)
    sampled = torch.stack([sample.angle[1:].cos() for sample in samples]).numpy()
    chain = sample_mlp_cos_bfa(width, depth, draws, np.random.default_rng(0))
    alive = [~np.isnan(cos).any(axis=1) for cos in (sampled, chain)]
    share = (1 - 2.0**-width) ** (depth - 2)
    for some in alive:
        assert some.mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / draws))
    sampled, chain = sampled[alive[0]], chain[alive[1]]
    np.testing.assert_allclose(sampled[:, 0], 1.0, rtol=1e-12)
    pairs = [(sampled[:, v], chain[:, v]) for v in range(1, depth - 2)]
    pairs += [(sampled[:, v] / sampled[:, v - 1], chain[:, v] / chain[:, v - 1]) for v in range(2, depth - 2)]
    assert min(ks_2samp(*pair).pvalue for pair in pairs) > FALSE_ALARM / len(pairs)
    other = sample_mlp_cos_bfa(width + 2, depth, draws, np.random.default_rng(1))
    assert ks_2samp(sampled[:, -1], other[~np.isnan(other).any(axis=1), -1]).pvalue < 1e-6  # the test has power


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_branch_scale_zero_turns_nothing(activation):
    samples = sample_networks([Network(6, 0.0)] * 5, 30, generator(0, "zero"), activation=activation, dtype=DOUBLE)
    assert max(float(sample.angle[-1]) for sample in samples) < 1e-12


def test_the_formula_holds_in_every_sample():
    """Thm 2.1 in the sampler's terms, ``S = 1/(cos theta sqrt(m) |b|)``, at every layer of every network."""
    for setting in SETTINGS:
        stream = generator(0, "formula", str(setting))
        for sample in sample_networks(
            [setting.network()] * 20, 50, stream, activation=setting.activation, layers="all"
        ):
            ratio = sample.feature_sensitivity * sample.angle.cos() * 50**0.5 * sample.backward_norm
            first = 0 if setting.trained else 1
            assert float((ratio[first:] - 1).abs().max()) < 2e-5
            torch.testing.assert_close(sample.inverse_backward_norm(50), 50**-0.5 / sample.backward_norm)


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("branch_scale", [0.3, 1.0])
def test_features_and_backward_passes_satisfy_eulers_identity(monkeypatch, activation, branch_scale):
    """``<f_l, b_l>`` is the same at every layer of a homogeneous network: the backward pass knows the forward pass.

    This pins what no comparison of laws resolves: the projection that makes ``<h, W^T b> = <W h, b>`` exact.
    """
    seen = []

    class Spy(sampler._ChunkSampler):
        def run(self, *arguments):
            seen.append(self)
            return super().run(*arguments)

    monkeypatch.setattr(sampler, "_ChunkSampler", Spy)
    networks = [Network(9, branch_scale, target=0.5)] * 20
    sample_networks(networks, 15, generator(0, "Euler"), activation=activation, dtype=DOUBLE)
    (chunk,) = seen
    products = torch.stack([(f * b).sum(-1) for f, b in zip(chunk.features[:8], chunk.backwards[:8], strict=True)])
    torch.testing.assert_close(products, products[-1:].expand_as(products), rtol=1e-10, atol=1e-12)
    assert float(products[-1].std()) > 0.1


# --- the call: order, depths, memory, faults --------------------------------------------------------------------------

MIXED = [
    Network(depth, beta) for depth, beta in ((5, 1.0), (12, 0.3), (3, 0.7), (9, 1.0), (4, 0.2), (12, 1.0), (3, 1.0))
]


@pytest.mark.parametrize("layers", ["last", "all"])
def test_mixed_depths_come_back_in_order_with_nan_only_where_documented(layers):
    samples = sample_networks(MIXED, 40, generator(0, "mixed"), layers=layers)
    for network, sample in zip(MIXED, samples, strict=True):
        for name, values in vars(sample).items():
            assert values.shape == (network.depth - 1,) and values.dtype == DOUBLE and values.device.type == "cpu"
            measured = torch.ones(network.depth - 1, dtype=torch.bool)
            measured[:-1] = layers == "all"
            if name in ("angle", "feature_sensitivity", "branch_input_norm"):
                measured[0] = False  # layer 1 is frozen here and has no branch
            assert torch.equal(values.isfinite(), measured), name
        assert float(sample.loss_decay[-1]) == pytest.approx((network.depth - 2) / network.depth, rel=1e-6)


def test_the_layers_that_are_asked_for_do_not_change_the_sample():
    last, every = (sample_networks(MIXED, 40, generator(0, "mixed"), layers=layers) for layers in ("last", "all"))
    for a, b in zip(last, every, strict=True):
        for name in vars(a):
            torch.testing.assert_close(getattr(a, name)[-1], getattr(b, name)[-1], rtol=1e-6, atol=0, equal_nan=True)


def test_listing_networks_of_different_depths_in_another_order_changes_nothing():
    networks = [Network(depth, 0.5) for depth in (4, 11, 3, 7, 20)]
    order = [3, 0, 4, 2, 1]
    first = sample_networks(networks, 30, generator(0, "order"))
    second = sample_networks([networks[i] for i in order], 30, generator(0, "order"))
    for i, sample in zip(order, second, strict=True):
        assert float(sample.angle[-1]) == float(first[i].angle[-1])


def last_angles(networks: list[Network], wanted: Network, seed: str) -> np.ndarray:
    samples = sample_networks(networks, 20, generator(0, seed))
    return np.array([float(s.angle[-1]) for n, s in zip(networks, samples, strict=True) if n == wanted])


def test_the_law_of_a_network_does_not_depend_on_its_company():
    """Alone, first among deeper ones, or last: the same law, networks of equal depth included (KS, level 1e-3/3)."""
    wanted, equal, deep, flat = Network(6, 0.8), Network(6, 0.3), Network(15, 1.0), Network(3, 1.0)
    alone = last_angles([wanted] * 2000, wanted, "alone")
    for name, company in {
        "before": [wanted, equal, deep, flat] * 2000,
        "after": [flat, deep, equal, wanted] * 2000,
        "block": [wanted] * 2000 + [equal, deep] * 2000,
    }.items():
        assert ks_2samp(alone, last_angles(company, wanted, name)).pvalue > FALSE_ALARM / 3
    assert ks_2samp(alone, last_angles([equal] * 2000, equal, "other")).pvalue < 1e-9


def test_samples_are_independent():
    """Correlation of the angles of neighbours in one chunk is within 4/sqrt(n) of 0."""
    samples = sample_networks([Network(8, 1.0)] * 4000, 10, generator(0, "pairs"))
    angle = np.array([float(sample.angle[-1]) for sample in samples])
    angle = angle[: len(angle) // 2 * 2].reshape(-1, 2)
    angle = angle[np.isfinite(angle).all(axis=1)]
    assert abs(np.corrcoef(angle.T)[0, 1]) < 4 / len(angle) ** 0.5


def test_equal_streams_give_equal_samples_and_other_streams_others():
    first, second, other = (sample_networks(MIXED, 40, generator(seed, "seed")) for seed in (0, 0, 1))
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a.backward_norm[-1], b.backward_norm[-1])
        assert not torch.equal(a.backward_norm[-1], c.backward_norm[-1])


@pytest.fixture
def chunks(monkeypatch) -> Iterator[list[tuple[int, int]]]:
    """(networks, bytes of the pool) of every chunk that runs."""
    seen = []

    class Spy(sampler._ChunkSampler):
        def __init__(self, networks, *others):
            seen.append((len(networks), others[-1].numel() * others[-1].element_size()))
            super().__init__(networks, *others)

    monkeypatch.setattr(sampler, "_ChunkSampler", Spy)
    return seen


def test_memory_stays_below_the_chunk_size(monkeypatch, chunks):
    """Features and backward passes of one chunk, whatever the number of networks and the mix of depths."""
    networks = [Network(depth, 0.5) for depth in (40, 20, 3, 30) for _ in range(25)]
    sample_networks(networks, 100, generator(0, "chunks"))
    assert [count for count, _ in chunks] == [100]
    chunks.clear()
    monkeypatch.setattr(sampler, "CHUNK_BYTES", 300_000)
    samples = sample_networks(networks, 100, generator(0, "chunks"))
    assert sum(count for count, _ in chunks) == 100 and len(chunks) > 5
    assert max(size for _, size in chunks) <= 300_000
    assert [len(sample.angle) for sample in samples] == [network.depth - 1 for network in networks]
    assert all(math.isfinite(sample.angle[-1]) for sample in samples)


def test_a_network_larger_than_a_chunk_runs_alone(monkeypatch, chunks):
    monkeypatch.setattr(sampler, "CHUNK_BYTES", 1000)
    sample_networks([Network(10, 0.5)] * 3, 100, generator(0, "large"))
    assert [count for count, _ in chunks] == [1, 1, 1]
    assert max(size for _, size in chunks) == 2 * 9 * 100 * 4


def test_chunks_do_not_change_the_law(monkeypatch):
    """Rows of one chunk and rows that run alone (their inner products take another path): KS at level 1e-3."""
    networks = [Network(4, 0.8)] * 1500
    whole = last_angles(networks, networks[0], "whole")
    monkeypatch.setattr(sampler, "CHUNK_BYTES", 1)
    single = last_angles(networks, networks[0], "single")
    assert ks_2samp(whole, single).pvalue > FALSE_ALARM


def test_no_networks_give_no_samples():
    assert sample_networks([], 10, generator(0)) == []


@pytest.mark.parametrize(
    ("network", "width", "named"),
    [
        (Network(2, 0.5), 10, "depth=2"),
        (Network(5, 1.5), 10, "branch_scale=1.5"),
        (Network(5, -0.5), 10, "branch_scale=-0.5"),
        (Network(5, math.nan), 10, "branch_scale=nan"),
        (Network(5, 0.5), 1, "width 1"),
    ],
)
def test_bad_input_raises_one_line(network, width, named):
    with pytest.raises(ValueError, match=named) as raised:
        sample_networks([Network(5, 0.5), network], width, generator(0))
    assert "\n" not in str(raised.value) and "depth >= 3" in str(raised.value)


@pytest.mark.parametrize(("option", "value"), [("activation", "tanh"), ("layers", "first")])
def test_an_unknown_option_is_refused(option, value):
    with pytest.raises(ValueError, match=value):
        sample_networks([Network(5, 0.5)], 10, generator(0), **{option: value})
