"""Transformers as ensembles: equality with plain PyTorch, what a token sees, derivatives, sizes and growth."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.operators import Hessian, Scaled
from featurespeed.models.plan import plan_network
from featurespeed.models.spec import ModelSpec
from featurespeed.models.transformers import SHORT, attend
from featurespeed.parameterization import LayerRole
from featurespeed.probes import measure_feature_speed
from featurespeed.randomness import generator
from featurespeed.training.curvature import layer_rates, objective_of
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.feature_speed import cut_rates, feature_speed_of
from featurespeed.training.operations import gradient_flop, layers_of
from featurespeed.training.optimizers import MemberOptimizer
from featurespeed.training.spec import OptimizerSpec, TrainingSpec
from tests.training.cases import CLASSES, DOUBLE, SHAPE, images, initialised

WIDTH, TOKENS, VOCABULARY, DEPTH = 16, 5, 7, 4
VIT, GPT = {"kind": "vit", "depth": DEPTH, "heads": 4}, {"kind": "gpt", "depth": DEPTH, "heads": 4, "hidden_ratio": 2.0}
KINDS = {
    "vit of the authors": VIT | {"convention": "authors"},
    "vit": VIT | {"hidden_ratio": 2.0},
    "gpt": GPT,
    "post_ln": {"kind": "post_ln", "depth": DEPTH},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def sizes(model, **changes):
    """Where the network of a kind is built: images of 2 x 8 x 8 pixels, four patches; or sequences of five tokens."""
    text = model["kind"] in ("gpt", "post_ln")
    shape = {"input_shape": (TOKENS,), "classes": VOCABULARY} if text else {"input_shape": SHAPE, "classes": CLASSES}
    return {"width": WIDTH} | shape | changes


def build(model, parameterization="MUP", spread=0.0, **changes):
    """An initialised network; ``spread`` is that of random numbers added to all its weights: gains other than 1."""
    network = initialised(model, parameterization, **sizes(model, **changes))
    stream = generator(0, "spread")
    with torch.no_grad():
        for layer in network.weighted.values():
            layer.weight.add_(spread * torch.randn(layer.weight.shape, generator=stream).to(layer.weight.dtype))
    return network


def batch(model, count=3, members=1, vocabulary=VOCABULARY, tokens=TOKENS):
    """Inputs and answers, others for every member: ``[members, count, ...]``."""
    if model["kind"] == "vit":
        x, y = images(count * members, "transformers")
        return x.unflatten(0, (members, count)), y.unflatten(0, (members, count))
    text = torch.randint(vocabulary, (members, count, tokens + 1), generator=generator(0, "text"))
    return text[..., :-1].contiguous(), text[..., 1:].contiguous()


def weights_of(network, member=0):
    return [layer.weight.detach()[member].clone() for layer in network.weighted.values()]


# --- an independent implementation ------------------------------------------------------------------------------------

SETTINGS = {  # heads, hidden units, patches through one more matrix behind the heads?
    "vit of the authors": (4, 16, False),
    "vit": (4, 32, True),
    "gpt": (4, 32, True),
    "post_ln": (2, 16, True),
}
#: Whether multipliers are those of muP, the multiplier of a branch at four branches, and whether attention divides by
#: d_head instead of its root.
RULES = {
    "SP": (False, 1.0, False),
    "MUP": (True, 1.0, True),
    "DEPTH_MUP": (True, 0.5, True),
    "COMPLETE_P": (True, 0.25, True),
}


def plain_torch(kind, parameterization, weights, x):
    """One network without anything of the package, one head, one patch after the other.

    ``weights`` in the order in which a sentence would name them: embedding, positions; of each branch the normalisation
    before it, its matrices and biases, the normalisation behind it; normalisation and matrix of the readout.
    """
    heads, hidden, projection = SETTINGS[kind]
    scaled, branch, by_head = RULES[parameterization]
    weights, d_head, post = list(weights), WIDTH // heads, kind == "post_ln"
    scale = 1 / d_head if by_head else 1 / math.sqrt(d_head)

    def take():
        return weights.pop(0)

    def hidden_layer(z):
        w = take()
        return functional.linear(z, w) / (math.sqrt(w.shape[1]) if scaled else 1.0)

    def norm(z):
        mean, variance = z.mean(-1, keepdim=True), z.var(-1, keepdim=True, unbiased=False)
        gain, bias = take(), take()
        return (z - mean) / torch.sqrt(variance + 1e-5) * gain + bias

    def attention(z):
        q, k, v = hidden_layer(z), hidden_layer(z), hidden_layer(z)
        joined = []
        for head in range(heads):
            own = slice(head * d_head, (head + 1) * d_head)
            products = scale * q[..., own] @ k[..., own].transpose(1, 2)
            if not kind.startswith("vit"):
                later = torch.ones(products.shape[-2:]).triu(1).bool()
                products = products.masked_fill(later, -math.inf)
            joined.append(products.softmax(-1) @ v[..., own])
        z = torch.cat(joined, -1)
        return hidden_layer(z) + take() if projection else z

    def perceptron(z):
        phi = functional.relu if post else functional.gelu
        inner = hidden_layer(z) + take()
        assert inner.shape[-1] == hidden
        return hidden_layer(phi(inner)) + take()

    if kind.startswith("vit"):
        patches = [x[:, :, i : i + 4, j : j + 4].flatten(1) for i in (0, 4) for j in (0, 4)]
        matrix = take()
        h = torch.stack(patches, 1) @ matrix.T
        if kind == "vit of the authors":
            h = h + take()
        elif scaled:
            h = h / math.sqrt(2 * 4 * 4)
        token, positions = take(), take()
        h = torch.cat([token.expand(len(x), 1, -1), h], 1) + positions
    else:
        table, positions = take(), take()
        h = table[x] + positions
    for index in range(DEPTH):
        body = perceptron if index % 2 else attention
        h = norm(h + branch * body(h)) if post else h + branch * body(norm(h))
    h = h[:, 0] if kind.startswith("vit") else h
    h = h if post else norm(h)
    outputs = functional.linear(h, take()) / (WIDTH if scaled else 1.0)
    assert not weights
    return outputs


@pytest.mark.parametrize("parameterization", RULES)
@every_kind
def test_outputs_and_gradients_are_those_of_plain_torch(kind, parameterization):
    network = build(KINDS[kind], parameterization, spread=0.3)
    x, y = batch(KINDS[kind])
    copies = [weight.requires_grad_() for weight in weights_of(network)]
    expected = plain_torch(kind, parameterization, copies, x[0])
    outputs = network(x)[0]
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-11)
    loss, wanted = (functional.cross_entropy(f.flatten(0, -2), y.flatten()) for f in (outputs, expected))
    for found, other in zip(
        torch.autograd.grad(loss, network.trained), torch.autograd.grad(wanted, copies), strict=True
    ):
        torch.testing.assert_close(found[0], other, rtol=1e-10, atol=1e-12)
        assert other.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_a_text_is_the_mean_over_its_tokens(loss):
    outputs = torch.randn(2, 3, TOKENS, VOCABULARY, generator=generator(0, "outputs"), dtype=DOUBLE)
    _, y = batch(GPT, members=2)
    for member in (0, 1):
        tokens = [(outputs[member, i, t], y[member, i, t]) for i in range(3) for t in range(TOKENS)]
        if loss == "cross_entropy":
            terms = [-float(z.log_softmax(0)[answer]) for z, answer in tokens]
        else:
            terms = [
                0.5 * float((z - torch.eye(VOCABULARY, dtype=DOUBLE)[answer]).square().sum()) for z, answer in tokens
            ]
        assert float(LOSSES[loss](outputs, y)[member]) == pytest.approx(sum(terms) / (3 * TOKENS), rel=1e-13)


# --- ensembles --------------------------------------------------------------------------------------------------------


@every_kind
def test_a_member_of_an_ensemble_is_the_network_alone(kind):
    """Outputs, and gradients of the loss summed over members, with weights and inputs of its own."""
    together = build(KINDS[kind], "DEPTH_MUP", spread=0.2, seeds=[3, 1, 4])
    x, y = batch(KINDS[kind], members=3)
    outputs = together(x)
    losses = LOSSES["cross_entropy"](outputs, y)
    gradients = torch.autograd.grad(losses.sum(), together.trained)
    for member in range(3):
        alone = together.take([member])
        own = alone(x[member : member + 1])
        torch.testing.assert_close(outputs[member], own[0], rtol=1e-12, atol=1e-13)
        loss = LOSSES["cross_entropy"](own, y[member : member + 1])
        for found, expected in zip(gradients, torch.autograd.grad(loss.sum(), alone.trained), strict=True):
            torch.testing.assert_close(found[member], expected[0], rtol=1e-11, atol=1e-14)


@every_kind
def test_members_of_one_seed_start_equal_whatever_else_is_in_the_ensemble(kind):
    alone = weights_of(build(KINDS[kind], seeds=[5]))
    crowd = build(KINDS[kind], seeds=[1, 5, 2])
    assert all(torch.equal(a, b) for a, b in zip(alone, weights_of(crowd, 1), strict=True))
    same = [torch.equal(a, b) for a, b in zip(alone, weights_of(crowd, 2), strict=True)]
    constant = [bool((weight == weight.flatten()[0]).all()) for weight in alone]
    assert same == constant and not all(constant)  # gains and biases are no random numbers


@every_kind
def test_members_with_one_seed_may_share_their_input(kind):
    network = build(KINDS[kind], spread=0.2, seeds=[0, 1, 2, 3])
    x, _ = batch(KINDS[kind], members=2)
    shared = network(x)
    torch.testing.assert_close(shared, network(x.repeat_interleave(2, 0)), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(shared, network(x.flip(0).repeat_interleave(2, 0)))


# --- what a token sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt", "post_ln"])
def test_a_token_changes_the_outputs_from_its_place_on_and_none_before(kind):
    network = build(KINDS[kind], spread=0.3)
    x, _ = batch(KINDS[kind])
    before = network(x)
    for place in range(TOKENS):
        changed = x.clone()
        changed[..., place] = (changed[..., place] + 1) % VOCABULARY
        moved = (network(changed) - before).abs().amax((0, 1, 3)) > 1e-9
        assert moved.tolist() == [False] * place + [True] * (TOKENS - place)


@pytest.mark.parametrize("kind", ["vit of the authors", "vit"])
def test_every_patch_changes_what_is_read_from_the_class_token(kind):
    network = build(KINDS[kind], spread=0.3)
    x, _ = batch(KINDS[kind])
    before = network(x)
    for i in (0, 4):
        for j in (0, 4):
            changed = x.clone()
            changed[..., i : i + 4, j : j + 4] += 1.0
            assert float((network(changed) - before).detach().abs().amax((0, 2)).min()) > 1e-9


@pytest.mark.parametrize("kind", ["gpt", "post_ln", "vit"])
def test_the_order_of_tokens_matters_through_their_positions_alone(kind):
    """Without embeddings of the positions the last token of a decoder, and the class token, see a set."""
    network = build(KINDS[kind], spread=0.3)
    x, _ = batch(KINDS[kind])
    if kind == "vit":
        other = torch.cat([x[..., 4:, :], x[..., :4, :]], -2)
    else:
        other = torch.cat([x[..., :-1].flip(-1), x[..., -1:]], -1)
        assert not torch.equal(other, x)

    def read(z):
        outputs = network(z)
        return outputs if kind == "vit" else outputs[:, :, -1]

    assert not torch.allclose(read(x), read(other), atol=1e-6)
    with torch.no_grad():
        network.weighted["0.positions"].weight.zero_()
    if kind != "vit":  # each token but the last sees a part of the set: one layer is needed
        network = shallow(network)
    torch.testing.assert_close(read(x), read(other), rtol=1e-11, atol=1e-12)


def shallow(network):
    """The embedding, the first branch and the readout."""
    entry, first, *_, readout = list(network)
    return torch.nn.Sequential(entry, first, readout)


# --- depth, weights, operations ---------------------------------------------------------------------------------------


@every_kind
def test_depth_counts_branches_of_attention_and_mlp_in_turn(kind):
    """Six branches are three layers: depth 6, a chain of eight modules."""
    network = build(KINDS[kind] | {"depth": 6})
    bodies = [type(module.body).__name__ for module in list(network)[1:-1]]
    assert len(list(network)) == 8 and bodies == ["Attention", "Perceptron"] * 3


def test_the_depth_that_branches_and_rates_know_counts_branches():
    """Adam at N = 16, L = 4: vectors and matrices in a branch carry ``1/sqrt(L)``, embeddings and readout do not."""
    network = build(GPT, "DEPTH_MUP", optimizer="adam")
    entry, attention, perceptron, *_, readout = list(network)
    assert attention.branch == perceptron.branch == 0.5

    def rates(module):
        return [layer.rule.lr_scale for layer in module.modules() if hasattr(layer, "rule")]

    hidden, outer = 0.5 * WIDTH**-0.5, 0.5 * (2 * WIDTH) ** -0.5
    assert rates(entry) == rates(readout)[:2] == pytest.approx([1, 1]) and rates(readout)[2] == pytest.approx(1)
    assert rates(attention) == pytest.approx([0.5, 0.5, hidden, hidden, hidden, hidden, 0.5], rel=1e-12)
    assert rates(perceptron) == pytest.approx([0.5, 0.5, hidden, 0.5, outer, 0.5], rel=1e-12)


def test_the_normalisation_behind_a_branch_is_not_in_it():
    network = build(KINDS["post_ln"], "DEPTH_MUP", optimizer="adam")
    assert [network.weighted[f"1.norm.{name}"].rule.lr_scale for name in ("gain", "bias")] == [1, 1]
    assert network.weighted["1.body.projection.1"].rule.lr_scale == pytest.approx(0.5)


@every_kind
def test_weights_and_operations_counted_beforehand_are_those_of_the_network(kind):
    """In the order of the layers; FLOP against PyTorch's own count, which leaves out what is no product of matrices."""
    model, options = KINDS[kind], sizes(KINDS[kind])
    layers = layers_of(ModelSpec.model_validate(model), WIDTH, options["input_shape"], options["classes"])
    network = build(model)
    assert [layer.weights for layer in layers] == [layer.weight[0].numel() for layer in network.weighted.values()]
    x, _ = batch(model, count=4)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(x).sum().backward()
    assert 4 * gradient_flop(layers) == counter.get_total_flops()


def test_operations_of_a_decoder_of_one_layer_by_hand():
    """Five tokens, width 16: queries with five keys, and as many values; MLP of 32; seven answers a token."""
    layers = layers_of(ModelSpec.model_validate(GPT | {"depth": 2}), WIDTH, (TOKENS,), VOCABULARY)
    matrices = [layer.multiply_adds for layer in layers if layer.multiply_adds]
    square, products = 16 * 16 * 5, 2 * 5 * 5 * 16
    assert matrices == [square + products, square, square, square, 16 * 32 * 5, 32 * 16 * 5, 16 * 7 * 5]
    tables = [(layer.weights, layer.forward) for layer in layers[:2]]
    assert tables == [(7 * 16, 0), (5 * 16, 0)]


def test_a_text_is_planned_by_its_length_and_vocabulary():
    plan = plan_network(ModelSpec.model_validate(GPT), WIDTH, (TOKENS,), VOCABULARY)
    assert {layer.role for layer in plan.layers} == set(LayerRole)
    assert plan.gamma_fan_in == WIDTH and len(plan.modules) == DEPTH + 2


# --- initialisation ---------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("parameterization", ["SP", "MUP"])
def test_gains_start_at_1_biases_at_0_and_all_else_with_its_standard_deviation(kind, parameterization):
    """Under SP 1/sqrt(fan_in), under muP 1; embeddings of tokens and positions 1 in both. The deviation of n numbers is
    known to 1/sqrt(2 n), of which four are allowed.
    """
    width = 128
    network = build(KINDS[kind], parameterization, width=width)
    authors, drawn = kind == "vit of the authors", {}
    for name, layer in network.weighted.items():
        weight, last = layer.weight.detach(), name.rpartition(".")[2]
        if last == "gain":
            assert (weight == 1).all()
        elif "bias" in last or name.endswith("projection.1"):
            assert (weight == 0).all() or (authors and name == "0.bias")
        else:
            fan_in = 1 if last in ("lookup", "positions", "token") else weight.shape[-1]
            unit = parameterization == "MUP" or fan_in == 1
            expected = (3 * fan_in) ** -0.5 if authors and name == "0.layer" else 1 if unit else fan_in**-0.5
            drawn.setdefault(expected, []).append(weight.flatten())
    assert len(drawn) > 1 or (parameterization == "MUP" and not authors)
    for expected, parts in drawn.items():
        together = torch.cat(parts)
        assert float(together.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(together)))


def test_the_patches_of_the_authors_are_embedded_as_pytorch_does_in_both_forms_alike():
    """Weights and biases with variance ``1/(3 D)``, D = 32, no multiplier, the learning rate of an input layer."""
    for form in ("multipliers", "rescaled"):
        for optimizer, rate in (("sgd", WIDTH), ("adam", 1)):
            network = build(KINDS["vit of the authors"], form=form, optimizer=optimizer)
            for name in ("0.layer", "0.bias"):
                rule = network.weighted[name].rule
                assert (rule.init_std, rule.multiplier, rule.lr_scale) == pytest.approx((96**-0.5, 1, rate), rel=1e-12)
    wide = build(KINDS["vit of the authors"], width=1024).weighted["0.bias"].weight
    assert float(wide.std()) == pytest.approx(96**-0.5, rel=0.1)


# --- derivatives ------------------------------------------------------------------------------------------------------

SMOOTH = {"vit": KINDS["vit"], "gpt": GPT, "post_ln": KINDS["post_ln"] | {"activation": "gelu"}}
SMALL = {
    "vit": VIT | {"depth": 2, "heads": 2, "hidden_ratio": 1.0},
    "gpt": GPT | {"depth": 2, "heads": 2, "hidden_ratio": 1.0},
}


@every_kind
@pytest.mark.parametrize("parameterization", ["SP", "MUP", "DEPTH_MUP"])
def test_the_feature_speed_formula_holds_at_every_cut_node(kind, parameterization):
    """arXiv:2311.18718, Thm 2.1, on the chain ``list(network)``, at its initialisation under SGD: if a later module saw
    anything else of the input, it would not hold.
    """
    network = build(KINDS[kind], parameterization)
    x, y = batch(KINDS[kind])
    found = feature_speed_of(network, "cross_entropy", (x[0], y[0]), 1.0)
    assert len(found.angle) == DEPTH + 2 and float(found.formula_error.max()) < 1e-10
    assert bool((found.feature_speed > 0).all())


def test_a_module_that_sees_more_than_the_last_feature_would_break_the_formula():
    """The same network cut inside of a skip connection: the normalised features are no cut node."""
    network = build(GPT)
    x, y = batch(GPT)
    entry, first, *rest = list(network)

    class Norm(torch.nn.Module):
        def forward(self, h):
            self.seen = h
            return first.norm(h)

    class Rest(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = first.body

        def forward(self, z):
            return norm.seen + first.branch * self.body(z)

    def loss(outputs, targets):
        return LOSSES["cross_entropy"](outputs, targets).sum()

    norm = Norm()
    norm.inside = first.norm
    whole = measure_feature_speed([entry, first, *rest], loss, (x, y), [1.0] * (DEPTH + 2))
    cut = measure_feature_speed([entry, norm, Rest(), *rest], loss, (x, y), [1.0] * (DEPTH + 3))
    assert float(whole.formula_error.max()) < 1e-10
    assert float(cut.formula_error[1]) > 1e-2


def test_layers_between_two_cut_nodes_may_have_rates_of_their_own():
    """Under Adam biases and matrices of a branch do, of random features the readout and its normalisation."""
    assert cut_rates(build(GPT)) == pytest.approx([WIDTH] * (DEPTH + 2))
    assert cut_rates(build(GPT, "RANDOM_FEATURES")) is None
    assert cut_rates(build(GPT, optimizer="adam")) is None


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("kind", SMOOTH)
def test_hessian_vector_products_are_differences_of_gradients(kind, micro_batch):
    """Two members; central differences have an error of O(dt^2) + rounding/dt."""
    network = build(SMOOTH[kind], spread=0.2, seeds=[0, 1])
    x, y = batch(SMOOTH[kind])
    objective = objective_of(network, "cross_entropy", (x[0], y[0]), micro_batch=micro_batch)
    vectors = torch.randn(2, objective.size, generator=generator(0, "direction"), dtype=DOUBLE)
    operator = Hessian(objective)
    with operator.measuring():
        product = operator.matvec(vectors)
    ends, dt = [], 1e-5
    for sign in (1, -2):
        with torch.no_grad():
            for weight, v in zip(network.trained, objective.unflatten(vectors), strict=True):
                weight.add_(v, alpha=sign * dt)
        ends.append(objective.gradient())
    torch.testing.assert_close(product, (ends[0] - ends[1]) / (2 * dt), rtol=1e-5, atol=1e-7)
    assert float(product.norm()) > 1e-2


@pytest.mark.parametrize("micro_batch", [None, 1])
@pytest.mark.parametrize("kind", SMALL)
def test_the_hessian_is_that_of_plain_torch(kind, micro_batch, monkeypatch):
    """All second derivatives of the independent implementation, at width 4."""
    monkeypatch.setattr(f"{__name__}.WIDTH", 4)
    monkeypatch.setattr(f"{__name__}.DEPTH", 2)
    monkeypatch.setitem(SETTINGS, kind, (2, 4, True))
    network = build(SMALL[kind], "DEPTH_MUP", spread=0.2)
    monkeypatch.setitem(RULES, "DEPTH_MUP", (True, 2**-0.5, True))
    x, y = batch(SMALL[kind], count=2)
    objective = objective_of(network, "cross_entropy", (x[0], y[0]), micro_batch=micro_batch)
    shapes = [weight.shape for weight in weights_of(network)]

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes])
        outputs = plain_torch(kind, "DEPTH_MUP", [p.view(s) for p, s in zip(parts, shapes, strict=True)], x[0])
        return functional.cross_entropy(outputs.flatten(0, -2), y[0].flatten())

    point = torch.cat([weight.flatten() for weight in weights_of(network)])
    exact = torch.func.hessian(loss)(point)
    operator = Hessian(objective)
    vectors = torch.randn(6, 1, objective.size, generator=generator(0, "directions"), dtype=DOUBLE)
    with operator.measuring():
        for v in vectors:
            torch.testing.assert_close(operator.matvec(v)[0], exact @ v[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["gpt", "vit"])
def test_the_sharpness_of_members_side_by_side_is_that_of_each_alone(kind):
    network = build(KINDS[kind], seeds=[0, 1, 2])
    x, y = batch(KINDS[kind])

    def sharpness(some):
        objective = objective_of(some, "cross_entropy", (x[0], y[0]))
        operator = Scaled(Hessian(objective), objective.fill(layer_rates(some)))
        return [found.eigenvalue for found in largest_eigenvalues(operator, tol=1e-8)]

    alone = [sharpness(network.take([member]))[0] for member in range(3)]
    assert sharpness(network) == pytest.approx(alone, rel=1e-6)
    assert max(alone) / min(alone) > 1.001


# --- what does not exist ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (GPT | {"depth": 3}, "depth = 3: branches of attention and MLP in turn, a multiple of 2"),
        (GPT | {"tau": 0}, "tau = 0: a transformer has skip connections, tau is 1"),
        (GPT | {"tau": 0.5}, "tau = 0.5: a transformer has skip connections, tau is 1"),
        (GPT | {"gain": 2.0}, "gain = 2.0: a transformer has no such choice; leave it out"),
        (GPT | {"layers_per_block": 2}, "layers_per_block = 2: a transformer has no such choice; leave it out"),
        (GPT | {"layers_per_block": 1, "gain": 2.0}, "gain = 2.0: a transformer has no such choice; leave it out"),
        (GPT | {"gain": 1.0, "layers_per_block": 2}, "layers_per_block = 2: a transformer has no such choice"),
        (GPT | {"strides": [2]}, r"strides = \[2\]: a transformer has no such choice; leave it out"),
        (GPT | {"patch": 4}, "patch = 4: only a vit has patches; leave it out"),
        (GPT | {"pool_every": 2}, "pool_every = 2: only a convnet is pooled by such a rule"),
        (GPT | {"convention": "authors"}, "there is none of theirs for gpt, only convnet or simple_convnet or vit"),
        (
            {"kind": "mlp", "depth": 2, "heads": 4},
            r"heads = 4: only transformers \(vit, gpt, post_ln\) have the choice",
        ),
        ({"kind": "convnet", "depth": 2, "patch": 4}, "patch = 4: only transformers"),
        ({"kind": "mlp", "depth": 2, "hidden_ratio": 2.0}, "hidden_ratio = 2.0: only transformers"),
    ],
)
def test_transformers_that_do_not_exist_are_refused_in_one_line(settings, message):
    with pytest.raises(ValidationError, match=message) as caught:
        ModelSpec.model_validate(settings)
    (fault,) = caught.value.errors()
    assert "\n" not in fault["msg"]


JOB = {
    "run": "job", "data": {"name": "pydoc", "length": 8}, "model": GPT, "width": WIDTH, "parameterization": "MUP",
    "learning_rates": [0.1], "seeds": 1, "batch_size": 4, "steps": 2, "seed": 0,
}  # fmt: skip
IMAGES = {"name": "cifar10"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 18}, "width = 18: a multiple of heads = 4 is needed"),
        ({"width": 16, "model": GPT | {"hidden_ratio": 0.01}}, "hidden_ratio = 0.01: .* at least 0.0625 is needed"),
        ({"data": IMAGES, "model": VIT | {"patch": 5}}, "patch = 5: must divide the image of 32 x 32"),
        ({"data": IMAGES}, "model.kind = 'gpt': reads a text, and the data are images"),
        ({"model": VIT}, "model.kind = 'vit': reads images, and the data are a text"),
        ({"model": {"kind": "mlp", "depth": 2}}, "model.kind = 'mlp': reads images, and the data are a text"),
        ({"model": {"kind": "convnet", "depth": 2}}, "model.kind = 'convnet': reads images, and the data are a text"),
        ({"batch_size": 10**6}, r"batch_size = 1000000: larger than the \d+ training sequences"),
    ],
)
def test_a_job_whose_model_does_not_fit_its_data_is_refused_in_one_line(changes, message):
    TrainingSpec.model_validate(JOB)
    with pytest.raises(ValidationError, match=message) as caught:
        TrainingSpec.model_validate(JOB | changes)
    (fault,) = caught.value.errors()
    assert "\n" not in fault["msg"]


def test_settings_of_other_networks_stay_as_they_were_before_there_were_transformers():
    """Runs are named by them."""
    known = ModelSpec(kind="mlp", depth=2).model_dump()
    assert not {"heads", "patch", "hidden_ratio"} & set(known)
    assert ModelSpec.model_validate(GPT).model_dump()["heads"] == 4


# --- growth with width and depth --------------------------------------------------------------------------------------

TEXT = {"kind": "gpt", "heads": 4}


def change_of_features(width, depth, parameterization, seed=0):
    """Root mean square by which one step of Adam, at eta_0 = 0.01, changes the last hidden features of a decoder."""
    spec = OptimizerSpec(name="adam", epsilon=0.0)
    options = {"width": width, "classes": 16, "input_shape": (8,), "optimizer": "adam", "dtype": torch.float32}
    network = initialised(TEXT | {"depth": depth}, parameterization, seeds=[seed], **options)
    x, y = batch(TEXT, count=4, vocabulary=16, tokens=8)
    *before, readout = list(network)

    def features():
        return readout.norm(torch.nn.Sequential(*before)(x)).detach()

    start = features()
    stepper = MemberOptimizer(network, spec, [0.01])
    stepper.prepare(0)
    stepper.step(torch.autograd.grad(LOSSES["cross_entropy"](network(x), y).sum(), stepper.weights))
    return float((features() - start).square().mean().sqrt())


def slope(sizes, values):
    """Of log value in log size, by least squares."""
    logs = torch.tensor(sizes).double().log()
    logs = logs - logs.mean()
    return float(logs @ torch.tensor(values).double().log() / (logs @ logs))


WIDTHS, DEPTHS = (64, 128, 256, 512), (4, 8, 16, 32)


@pytest.mark.parametrize("parameterization", ["MUP", "SP"])
def test_one_step_of_adam_moves_features_by_as_much_at_every_width_under_mup_and_not_under_sp(parameterization):
    found = slope(WIDTHS, [change_of_features(width, 2, parameterization) for width in WIDTHS])
    assert abs(found) < 0.1 if parameterization == "MUP" else found > 0.2


@pytest.mark.parametrize("parameterization", ["DEPTH_MUP", "COMPLETE_P", "MUP"])
def test_one_step_of_adam_moves_features_by_as_much_at_every_depth_where_branches_are_scaled(parameterization):
    found = slope(DEPTHS, [change_of_features(64, depth, parameterization) for depth in DEPTHS])
    assert found > 0.3 if parameterization == "MUP" else abs(found) < 0.15


# --- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 5, SHORT, SHORT + 1])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_the_formula_whether_it_is_short_or_fused(tokens, causal):
    q, k, v = (torch.randn(6, 2, tokens, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    found = attend(q, k, v, causal, 0.3)
    scores = 0.3 * torch.einsum("bhtd,bhsd->bhts", q, k)
    if causal:
        seen = torch.arange(tokens)[:, None] >= torch.arange(tokens)
        scores = torch.where(seen, scores, -math.inf)
    expected = torch.einsum("bhts,bhsd->bhtd", torch.softmax(scores, -1), v)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    direction = torch.randn_like(found)
    for mine, theirs in zip(*(torch.autograd.grad(z, (q, k, v), direction) for z in (found, expected)), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-13)
