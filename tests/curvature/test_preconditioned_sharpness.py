"""``sharpness`` in the units of an optimizer, of blocks by name, and its thresholds by the optimizers of PyTorch."""

import copy

import matplotlib
import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed import hessian_trace, sharpness, spectral_density
from featurespeed.curvature.lanczos import Eigenvalues
from featurespeed.curvature.stability import Sharpness
from featurespeed.measuring.names import fits, layers
from tests.curvature.cases import Quadratic, itself
from tests.measuring.cases import BATCH, X, Y, cross_entropy, hessian, network, refused, seeded, spectrum
from tests.own.networks import foreign
from tests.probes.cases import DOUBLE, normal

matplotlib.use("Agg")
NOTHING = (torch.zeros(1), torch.zeros(1))
ADAM = torch.optim.Adam
SGD = torch.optim.SGD


def groups(net, *settings):
    """One group a layer, with its own settings."""
    return [{"params": list(layer.parameters()), **own} for layer, own in zip((net[0], net[2]), settings, strict=True)]


def trained(net, optimizer, steps=4, batch=BATCH):
    for step in range(steps):
        optimizer.zero_grad()
        cross_entropy(net(batch[0] + 0.1 * step), batch[1]).backward()
        optimizer.step()
    return optimizer


def preconditioner(optimizer, group, parameter):
    """``P_t`` read off one step of a copy: with a gradient of 0 its update is ``lr m / P``, whatever the formula.

    Its state is set back by a step, so that what it divides by is that of the last step.
    """
    other = copy.deepcopy(optimizer, {id(parameter): (clone := parameter.detach().clone().requires_grad_())})
    state, (first, second) = other.state[clone], group["betas"]
    name = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
    state["step"] -= 1
    state["exp_avg"].fill_(1 / first)
    state["exp_avg_sq"].copy_(state[name] / second)
    own = next(g for g in other.param_groups if any(p is clone for p in g["params"]))
    for each in other.param_groups:
        each["params"] = [clone] if each is own else []
    own["weight_decay"] = 0.0
    clone.grad = torch.zeros_like(clone)
    before = clone.detach().clone()
    type(other).step(other)
    return float(own["lr"]) / (before - clone.detach())


def dense(optimizer, net, parameters=None, batch=BATCH, loss=cross_entropy):
    """Eigenvalues of ``diag(lr_i / lr) P^-1 (H + weight decay)``, largest first, of the dense matrix."""
    parameters = list(net.parameters()) if parameters is None else parameters
    matrix = hessian(lambda: loss(net(batch[0]), batch[1]), parameters)
    reference = next(float(g["lr"]) for g in optimizer.param_groups if float(g["lr"]) > 0)
    rates, decays = [], []
    for parameter in parameters:
        group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
        size = preconditioner(optimizer, group, parameter) if "betas" in group else torch.ones_like(parameter)
        rates.append(float(group["lr"]) / reference / size.reshape(-1))
        decoupled = isinstance(optimizer, torch.optim.AdamW)
        decays.append(torch.full((parameter.numel(),), 0.0 if decoupled else group["weight_decay"], dtype=DOUBLE))
    rate = torch.cat(rates).detach()
    values = torch.linalg.eigvals(rate[:, None] * (matrix + torch.diag(torch.cat(decays))))
    assert values.imag.abs().max() < 1e-8 * values.real.abs().max()
    return values.real.sort(descending=True).values


# --- against dense matrices -------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": (lambda net: SGD(net.parameters(), lr=0.2), 2 / 0.2),
    "SGD with groups": (lambda net: SGD(groups(net, {"lr": 0.2}, {"lr": 0.05})), 2 / 0.2),
    "momentum": (lambda net: SGD(net.parameters(), lr=0.2, momentum=0.9), 3.8 / 0.2),
    "dampening": (lambda net: SGD(net.parameters(), lr=0.2, momentum=0.9, dampening=0.5), 3.8 / 0.1),
    "Nesterov": (lambda net: SGD(net.parameters(), lr=0.2, momentum=0.9, nesterov=True), 3.8 / 2.8 / 0.2),
    "dampening alone": (lambda net: SGD(net.parameters(), lr=0.2, dampening=0.5), 2 / 0.2),
    "SGD, weight decay": (
        lambda net: SGD(groups(net, {"weight_decay": 0.3}, {"weight_decay": 0.0, "lr": 0.1}), lr=0.2), 2 / 0.2,
    ),
    "Adam": (lambda net: ADAM(net.parameters(), lr=1e-2), 38 / 1e-2),
    "Adam, groups": (lambda net: ADAM(groups(net, {"lr": 2e-2}, {"lr": 5e-3, "eps": 1e-3})), 38 / 2e-2),
    "Adam, other betas": (lambda net: ADAM(net.parameters(), lr=1e-2, betas=(0.5, 0.9)), 6 / 1e-2),
    "Adam, first decay 0": (lambda net: ADAM(net.parameters(), lr=1e-2, betas=(1e-9, 0.9)), 2 / 1e-2),
    "Adam, weight decay": (lambda net: ADAM(net.parameters(), lr=1e-2, weight_decay=0.1), 38 / 1e-2),
    "amsgrad": (lambda net: ADAM(net.parameters(), lr=1e-2, amsgrad=True, betas=(0.9, 0.5)), 38 / 1e-2),
    "AdamW": (lambda net: torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.3), 38 / 1e-2),
    "AdamW, amsgrad": (lambda net: torch.optim.AdamW(net.parameters(), lr=1e-2, amsgrad=True), 38 / 1e-2),
    "a rate that is a tensor": (lambda net: ADAM(net.parameters(), lr=torch.tensor(1e-2, dtype=DOUBLE)), 38 / 1e-2),
}  # fmt: skip


@pytest.mark.parametrize(("make", "threshold"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_eigenvalues_are_those_of_the_dense_preconditioned_matrix(make, threshold):
    net = network()
    optimizer = trained(net, make(net))
    wanted = dense(optimizer, net)
    found = sharpness(net, cross_entropy, BATCH, 3, 1e-9, optimizer=optimizer)
    torch.testing.assert_close(found.values, wanted[:3], rtol=1e-7, atol=0)
    low = sharpness(net, cross_entropy, BATCH, tol=1e-9, smallest=True, optimizer=optimizer, micro_batch=5)
    assert low.eigenvalue == pytest.approx(float(wanted[-1]), rel=1e-6, abs=1e-9 * found.eigenvalue)
    assert found.threshold == pytest.approx(threshold, rel=1e-8) and found.optimizer == type(optimizer).__name__
    assert found.edge == found.eigenvalue / found.threshold
    assert found.residual <= 1e-4 * found.eigenvalue and found.converged


@pytest.mark.parametrize("make", [OPTIMIZERS["SGD, weight decay"][0], OPTIMIZERS["Adam, weight decay"][0]])
def test_blocks_are_the_diagonal_blocks_of_the_dense_matrix(make):
    net = network()
    optimizer = trained(net, make(net))
    own = {"first": [net[0].weight, net[2].bias], "second": "2.*"}
    found = sharpness(net, cross_entropy, BATCH, tol=1e-9, optimizer=optimizer, blocks=own)
    wanted = {"first": own["first"], "second": list(net[2].parameters())}
    assert list(found.blocks) == ["first", "second"]
    for name, parameters in wanted.items():
        value = float(dense(optimizer, net, parameters)[0])
        assert found.blocks[name].eigenvalue == pytest.approx(value, rel=1e-7)
        assert found.blocks[name].threshold == found.threshold
        alone = sharpness(net, cross_entropy, BATCH, tol=1e-9, optimizer=optimizer, parameters=parameters)
        assert alone.eigenvalue == pytest.approx(value, rel=1e-7)
        assert value <= found.eigenvalue * (1 + 1e-9)


def test_gauss_newton_has_the_weight_decay_and_the_residual_has_not():
    net = network()
    optimizer = SGD(net.parameters(), lr=0.1, weight_decay=0.7)
    for matrix, added in (("gauss_newton", 0.7), ("residual", 0.0)):
        without = sharpness(net, cross_entropy, BATCH, tol=1e-9, matrix=matrix)
        found = sharpness(net, cross_entropy, BATCH, tol=1e-9, matrix=matrix, optimizer=optimizer)
        assert found.eigenvalue == pytest.approx(without.eigenvalue + added, rel=1e-7)


def test_rates_of_groups_are_the_rates_of_the_argument():
    net = network()
    optimizer = SGD(groups(net, {"lr": 0.1}, {"lr": 0.025}))
    by_hand = sharpness(net, cross_entropy, BATCH, rates=[1.0, 1.0, 0.25, 0.25], tol=1e-8)
    found = sharpness(net, cross_entropy, BATCH, optimizer=optimizer, tol=1e-8)
    assert found.eigenvalue == pytest.approx(by_hand.eigenvalue, rel=1e-9)
    assert by_hand.optimizer is None and by_hand.threshold != by_hand.threshold


def test_single_and_half_precision_agree_with_double():
    net = network()
    optimizer = trained(net, torch.optim.AdamW(net.parameters(), lr=1e-2))
    wanted = sharpness(net, cross_entropy, BATCH, optimizer=optimizer).eigenvalue
    for dtype, allowed in ((torch.float32, 3e-3), (torch.bfloat16, 0.15)):
        other = copy.deepcopy(net).to(dtype)
        same = torch.optim.AdamW(other.parameters(), lr=1e-2)
        same.load_state_dict(optimizer.state_dict())
        found = sharpness(other, cross_entropy, (X.to(dtype), Y), optimizer=same)
        assert found.eigenvalue == pytest.approx(wanted, rel=allowed)


# --- what stands still ------------------------------------------------------------------------------------------------


def test_what_stands_still_is_the_constant_part_of_a_block():
    net = network()
    kept = sharpness(net, cross_entropy, BATCH, tol=1e-9, parameters="0").eigenvalue
    for optimizer in (SGD(net[0].parameters(), lr=0.1), SGD(groups(net, {"lr": 0.1}, {"lr": 0.0, "momentum": 0.9}))):
        found = sharpness(net, cross_entropy, BATCH, tol=1e-9, optimizer=optimizer, blocks=["2"])
        assert found.eigenvalue == pytest.approx(kept, rel=1e-8)
        assert found.blocks["2"].eigenvalue == 0.0 and found.blocks["2"].edge == 0.0
    later = SGD(groups(net, {"lr": 0.0}, {"lr": 0.1}))
    assert sharpness(net, cross_entropy, BATCH, optimizer=later).learning_rate == 0.1


def test_weights_without_a_gradient_so_far_stand_still_under_adam():
    model = seeded(lambda: nn.Sequential(nn.Embedding(6, 3), nn.Flatten(), nn.Linear(6, 3)))
    seen, tokens = torch.tensor([[0, 1], [2, 3], [1, 0]]), torch.tensor([[0, 5], [4, 3], [1, 2]])
    labels = torch.tensor([0, 1, 2])
    optimizer = ADAM(model.parameters(), lr=1e-2)
    cross_entropy(model(seen), labels).backward()
    optimizer.step()
    table = model[0].weight
    matrix = hessian(lambda: cross_entropy(model(tokens), labels), model.parameters())
    size = torch.cat([preconditioner(optimizer, optimizer.param_groups[0], p).reshape(-1) for p in model.parameters()])
    rates = 1 / size.detach()
    rates[: table.numel()].view_as(table)[4:] = 0.0  # words that have not come
    wanted = float(spectrum(rates.sqrt()[:, None] * matrix * rates.sqrt())[0])
    found = sharpness(model, cross_entropy, (tokens, labels), tol=1e-9, optimizer=optimizer)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-7)


# --- thresholds by real steps -----------------------------------------------------------------------------------------


def grows(make, curvature, steps=3000, far=1e3):
    """Whether an optimizer of PyTorch leaves the minimum of ``curvature x^2 / 2``: which way it is far, first."""
    start = 1e-8  # squares of gradients leave the preconditioner where it is
    x = torch.full((1,), start, dtype=DOUBLE, requires_grad=True)
    optimizer, sizes = make([x]), []
    for step in range(steps):
        x.grad = curvature * x.detach()
        optimizer.step()
        sizes.append(abs(float(x.detach())) / start)
        size = max(sizes[-10:])  # it may pass the minimum
        if step >= 10 and not 1 / far < size < far:
            return size > 1
    raise AssertionError(f"after {steps} steps it is {size} times as far away")


def fixed_adam(kind, **settings):
    """Adam whose preconditioner stays: so many steps have been made that one more changes nothing."""

    def make(parameters):
        parameters = list(parameters)
        optimizer = kind(parameters, **{"lr": 0.02, "betas": (0.9, 1 - 1e-15), "foreach": False} | settings)
        for p in parameters:
            state = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.full_like(p, 9.0)}
            optimizer.state[p] = {"step": torch.tensor(1e18, dtype=DOUBLE)} | state
            if settings.get("amsgrad"):
                optimizer.state[p]["max_exp_avg_sq"] = torch.full_like(p, 16.0)
        return optimizer

    return make


STABLE_UP_TO = {
    "SGD": lambda p: SGD(p, lr=0.02),
    "dampening without momentum": lambda p: SGD(p, lr=0.02, dampening=0.5),
    "momentum 0.9": lambda p: SGD(p, lr=0.02, momentum=0.9),
    "momentum 0.5": lambda p: SGD(p, lr=0.02, momentum=0.5),
    "dampening": lambda p: SGD(p, lr=0.02, momentum=0.8, dampening=0.6),
    "Nesterov 0.9": lambda p: SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "Nesterov 0.3": lambda p: SGD(p, lr=0.02, momentum=0.3, nesterov=True),
    "weight decay": lambda p: SGD(p, lr=0.02, momentum=0.9, weight_decay=20.0),
    "Nesterov, weight decay": lambda p: SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=20.0),
    "Adam": fixed_adam(ADAM),
    "Adam, first decay 0.5": fixed_adam(ADAM, betas=(0.5, 1 - 1e-15), eps=1.0),
    "Adam, weight decay": fixed_adam(ADAM, weight_decay=1000.0),
    "amsgrad": fixed_adam(ADAM, amsgrad=True),
    "AdamW": fixed_adam(torch.optim.AdamW, weight_decay=0.01),
}


@pytest.mark.parametrize("make", STABLE_UP_TO.values(), ids=STABLE_UP_TO)
def test_the_optimizer_diverges_where_the_edge_is_one(make):
    """On a quadratic the edge is linear in the curvature: at 0.99 all dies out, at 1.01 it grows."""

    def edge(curvature):
        model = Quadratic(torch.tensor([[curvature]], dtype=DOUBLE))
        return sharpness(model, itself, NOTHING, optimizer=make(model.parameters())).edge

    low, high = edge(1.0), edge(2.0)
    at = {wanted: 1.0 + (wanted - low) / (high - low) for wanted in (0.99, 1.01)}
    for wanted, curvature in at.items():
        assert edge(curvature) == pytest.approx(wanted, rel=1e-9)
        assert grows(make, curvature) is (wanted > 1)


def test_decoupled_decay_lowers_the_threshold_as_documented():
    """By ``lr weight_decay / 2`` of itself, here 5%."""
    make = fixed_adam(torch.optim.AdamW, weight_decay=5.0)
    threshold = 38 / 0.02 * 3.0  # of the curvature, with P = 3
    assert not grows(make, 0.94 * threshold) and grows(make, 0.96 * threshold)


TARGETS = normal(12, 3) * 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_full_batch_training_of_a_network_leaves_a_minimum_beyond_the_edge(momentum):
    net = network(hidden=10)
    fit = torch.optim.LBFGS(net.parameters(), lr=1, max_iter=400, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        fit.zero_grad()
        loss = functional.mse_loss(net(X), TARGETS)
        loss.backward()
        return loss

    fit.step(closure)
    top = sharpness(net, functional.mse_loss, (X, TARGETS), tol=1e-6)
    for wanted in (0.8, 1.25):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            parts = top.vectors[0].split([p.numel() for p in moved.parameters()])
            for p, part in zip(moved.parameters(), parts, strict=True):
                p += 1e-4 * part.view_as(p)
        optimizer = SGD(moved.parameters(), lr=1.0, momentum=momentum)
        optimizer.param_groups[0]["lr"] = wanted * (2 + 2 * momentum) / top.eigenvalue
        found = sharpness(moved, functional.mse_loss, (X, TARGETS), optimizer=optimizer)
        assert found.edge == pytest.approx(wanted, rel=0.01)
        before = float(functional.mse_loss(moved(X), TARGETS).detach())
        excess = before - float(functional.mse_loss(net(X), TARGETS).detach())
        for _ in range(60):
            optimizer.zero_grad()
            functional.mse_loss(moved(X), TARGETS).backward()
            optimizer.step()
        change = (float(functional.mse_loss(moved(X), TARGETS).detach()) - before) / excess
        assert change > 10 if wanted > 1 else change < 0


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern", "fit"),
    [
        ("h.0", "h.*", True), ("h.0.attn", "h.*", False), ("h.0.attn", "h.*.attn", True), ("h.0", "h.0", True),
        ("h.0.attn", "h.[01].a*", True), ("h.2.attn", "h.[01].a*", False), ("a.b.bias", "**.bias", True),
        ("bias", "**.bias", True), ("a.b", "a.**", True), ("a", "a.**", True), ("a.b.c", "a.**.c", True),
        ("h", "h.*", False), ("H.0", "h.*", False),
    ],
)  # fmt: skip
def test_patterns_fit_part_by_part(name, pattern, fit):
    assert fits(name, pattern) is fit


CHOSEN = {
    "a part": ("0", lambda net: net[0].parameters()),
    "a parameter": ("2.bias", lambda net: [net[2].bias]),
    "a pattern": ("*.weight", lambda net: [net[0].weight, net[2].weight]),
    "a pattern of parts": ("*", lambda net: net.parameters()),
    "at any depth": ("**.bias", lambda net: [net[0].bias, net[2].bias]),
    "names": (["2.bias", "0.weight"], lambda net: [net[2].bias, net[0].weight]),
    "one twice": (["0", "0.weight"], lambda net: net[0].parameters()),
}


@pytest.mark.parametrize(("given", "meant"), CHOSEN.values(), ids=CHOSEN)
def test_names_and_patterns_stand_for_parameters(given, meant):
    net = network()
    for measure in (sharpness, hessian_trace, spectral_density):
        found, wanted = (measure(net, cross_entropy, BATCH, parameters=each) for each in (given, list(meant(net))))
        for field in ("values", "value", "nodes"):
            torch.testing.assert_close(getattr(found, field, 0.0), getattr(wanted, field, 0.0), rtol=0, atol=0)
    mixed = sharpness(net, cross_entropy, BATCH, parameters=[net[0].weight, "2.bias"])
    both = sharpness(net, cross_entropy, BATCH, parameters=[net[0].weight, net[2].bias])
    assert mixed.eigenvalue == both.eigenvalue


def test_blocks_by_names_and_layers():
    net = network()
    found = sharpness(net, cross_entropy, BATCH, tol=1e-8, blocks=["*", "0.bias", "*.weight"])
    assert list(found.blocks) == ["0", "2", "0.bias", "0.weight", "2.weight"]
    every = sharpness(net, cross_entropy, BATCH, tol=1e-8, blocks="layers")
    assert list(every.blocks) == ["0", "2"]
    for name, record in found.blocks.items():
        wanted = sharpness(net, cross_entropy, BATCH, tol=1e-8, parameters=name)
        assert record.eigenvalue == pytest.approx(wanted.eigenvalue, rel=1e-7) and isinstance(record, Sharpness)
    within = sharpness(net, cross_entropy, BATCH, parameters=["0.weight", "2"], blocks="layers")
    assert within.blocks["0"].vectors.shape[1] == net[0].weight.numel()


def test_blocks_with_several_batches_from_a_generator_and_rates():
    net = network()
    halves = ((X[k::2], Y[k::2]) for k in range(2))
    rates = [1.0, 2.0, 0.5, 3.0]
    found = sharpness(net, cross_entropy, halves, tol=1e-8, blocks="layers", rates=rates)
    wanted = sharpness(net, cross_entropy, BATCH, tol=1e-8, parameters="2", rates=rates[2:])
    assert found.blocks["2"].eigenvalue == pytest.approx(wanted.eigenvalue, rel=1e-7)


def test_layers_of_parametrized_tied_and_single_modules():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    nn.utils.parametrizations.weight_norm(net[0])
    net[1].weight = net[0].parametrizations.weight.original1
    assert {name: len(own) for name, own in layers(net).items()} == {"0": 3, "1": 1}
    assert list(layers(nn.Linear(2, 2))) == ["Linear"]
    assert list(layers(nn.DataParallel(nn.Sequential(nn.Linear(2, 2))))) == ["0"]


def test_a_model_inside_data_parallel_is_called_by_its_own_names():
    net = network()
    wrapped = nn.DataParallel(net)
    wanted = sharpness(net, cross_entropy, BATCH, parameters="2").eigenvalue
    optimizer = SGD(wrapped.parameters(), lr=0.1)
    found = sharpness(wrapped, cross_entropy, BATCH, parameters="2", blocks=["2"], optimizer=optimizer)
    assert found.eigenvalue == pytest.approx(wanted, rel=1e-9) and list(found.blocks) == ["2"]


# --- networks of others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "lora"])
def test_networks_of_transformers_and_peft(name):
    case = foreign(name)
    optimizer = torch.optim.AdamW(case.model.parameters(), lr=1e-3)
    case.loss(case.model(case.batch[0]), case.batch[1]).backward()
    optimizer.step()
    pattern = "**.h.*.attn"
    found = sharpness(case.model, case.loss, case.batch, tol=1e-6, optimizer=optimizer, blocks=[pattern])
    assert len(found.blocks) == 2 and found.converged and found.edge > 0
    assert all(name.endswith("attn") and record.edge <= found.edge for name, record in found.blocks.items())
    module = case.model.get_submodule(next(iter(found.blocks)))
    chosen = [p for p in module.parameters() if p.requires_grad]
    case.model.eval()
    matrix = hessian(lambda: case.loss(case.model(case.batch[0]), case.batch[1]), chosen[:1])
    rate = 1 / preconditioner(optimizer, optimizer.param_groups[0], chosen[0]).reshape(-1)
    wanted = float(spectrum(rate.sqrt()[:, None] * matrix * rate.sqrt())[0])
    alone = sharpness(case.model, case.loss, case.batch, tol=1e-8, optimizer=optimizer, parameters=[chosen[0]])
    assert alone.eigenvalue == pytest.approx(wanted, rel=1e-6)


# --- the record -------------------------------------------------------------------------------------------------------


def test_without_new_arguments_the_result_is_that_of_before():
    net = network()
    found = sharpness(net, cross_entropy, BATCH, 2, tol=1e-8)
    torch.testing.assert_close(
        found.values, spectrum(hessian(lambda: cross_entropy(net(X), Y), net.parameters()))[:2], rtol=1e-7, atol=0
    )
    assert isinstance(found, Eigenvalues) and found.blocks == {} and found.optimizer is None
    assert all(value != value for value in (found.edge, found.threshold, found.learning_rate))


def test_table_plot_and_warm_start():
    net = network()
    optimizer = trained(net, torch.optim.AdamW(net.parameters(), lr=1e-2))
    found = sharpness(net, cross_entropy, BATCH, optimizer=optimizer, blocks="layers")
    columns = ["name", "eigenvalue", "residual", "converged", "products", "threshold", "edge"]
    assert list(found.table) == columns and list(found.table["name"]) == ["all", "0", "2"]
    assert found.table["edge"].tolist() == [found.edge, *(record.edge for record in found.blocks.values())]
    assert len(found.plot().axes[0].lines) == 4  # three values and the threshold
    plain = sharpness(net, cross_entropy, BATCH, blocks="layers")
    assert plain.table["threshold"].isna().all() and len(plain.plot().axes[0].lines) == 3
    again = sharpness(net, cross_entropy, BATCH, optimizer=optimizer, start=found)
    assert again.warm and again.eigenvalue == pytest.approx(found.eigenvalue, rel=1e-3)


def test_model_and_optimizer_are_left_alone():
    net = network()
    optimizer = trained(net, ADAM(net.parameters(), lr=1e-2, amsgrad=True))
    before = copy.deepcopy((net.state_dict(), optimizer.state_dict(), [p.grad for p in net.parameters()]))
    sharpness(net, cross_entropy, BATCH, optimizer=optimizer, blocks="layers")
    after = (net.state_dict(), optimizer.state_dict(), [p.grad for p in net.parameters()])
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert len(ADAM(net.parameters()).state) == 0


def test_schedulers_and_subclasses_with_the_same_step():
    class Named(SGD):
        pass

    net = network()
    optimizer = Named(net.parameters(), lr=0.4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    optimizer.step()
    schedule.step()
    found = sharpness(net, cross_entropy, BATCH, optimizer=optimizer)
    assert found.threshold == 2 / 0.2 and found.optimizer == "Named"


class ComplexLayer(nn.Module):
    """Absolute values of a complex linear map, and a real bias."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.complex(normal(3, 4), normal(3, 4).flip(0)))
        self.bias = nn.Parameter(normal(3))

    def forward(self, x):
        return (x.to(torch.complex128) @ self.weight.T).abs() + self.bias


def test_real_and_imaginary_parts_have_preconditioners_of_their_own():
    model = ComplexLayer()
    optimizer = trained(model, ADAM(model.parameters(), lr=1e-2), steps=3)
    second = [optimizer.state[p]["exp_avg_sq"] for p in model.parameters()]
    second = torch.cat([torch.view_as_real(second[0]).flatten(), second[1].flatten()])
    root = ((1 - 0.9**3) * ((second / (1 - 0.999**3)).sqrt() + 1e-8)).rsqrt()
    matrix = hessian(lambda: cross_entropy(model(X), Y), model.parameters())
    found = sharpness(model, cross_entropy, BATCH, tol=1e-9, optimizer=optimizer)
    assert found.eigenvalue == pytest.approx(float(spectrum(root[:, None] * matrix * root)[0]), rel=1e-7)


def test_the_wrapper_of_accelerate():
    accelerate = pytest.importorskip("accelerate")
    net = network()
    plain = SGD(net.parameters(), lr=0.1)
    wrapped = accelerate.Accelerator(cpu=True).prepare(plain)
    assert type(wrapped) is not SGD
    found = sharpness(net, cross_entropy, BATCH, optimizer=wrapped)
    assert found.optimizer == "SGD" and found.threshold == 20.0


# --- what is refused --------------------------------------------------------------------------------------------------


class OwnStep(SGD):
    """Another rule under a known base class."""

    def step(self, closure=None):
        return super().step(closure)


def changed(optimizer, **settings):
    for group in optimizer.param_groups:
        group.update(settings)
    return optimizer


def without_numbers(optimizer):
    for state in optimizer.state.values():
        state["exp_avg_sq"][..., 0] = float("nan")
    return optimizer


WRONG = {
    "a class": (lambda net: SGD, "optimizer: the class SGD, allowed: a torch.optim optimizer"),
    "a number": (lambda net: 0.1, "optimizer: float 0.1"),
    "of another model": (lambda net: SGD(network().parameters(), lr=0.1), "optimizer: 4 of its parameters"),
    "LBFGS": (lambda net: torch.optim.LBFGS(net.parameters()), "optimizer: LBFGS"),
    "NAdam": (lambda net: torch.optim.NAdam(net.parameters()), "optimizer: NAdam, allowed: torch.optim.SGD, Adam"),
    "RMSprop": (lambda net: torch.optim.RMSprop(net.parameters()), "optimizer: RMSprop, allowed"),
    "a step of its own": (lambda net: OwnStep(net.parameters(), lr=0.1), "optimizer: OwnStep, allowed"),
    "maximize": (lambda net: SGD(net.parameters(), lr=0.1, maximize=True), "optimizer: maximize = True, allowed"),
    "no rate": (lambda net: SGD(net.parameters(), lr=0.0), "optimizer: lr = 0.0, allowed: above 0"),
    "negative": (lambda net: changed(SGD(net.parameters(), lr=1.0), lr=-0.1), "optimizer: lr = -0.1, allowed"),
    "NaN": (lambda net: changed(SGD(net.parameters(), lr=1.0), lr=float("nan")), "optimizer: lr = nan, allowed"),
    "momentum 1": (lambda net: SGD(net.parameters(), lr=0.1, momentum=1.0), "optimizer: momentum = 1.0, allowed"),
    "dampening 1": (
        lambda net: SGD(net.parameters(), lr=0.1, momentum=0.5, dampening=1.0), "optimizer: dampening = 1.0, allowed",
    ),
    "other momentum": (
        lambda net: SGD(groups(net, {"momentum": 0.9}, {"momentum": 0.0}), lr=0.1),
        "optimizer: momentum = 0.9, 0.0 in its groups, allowed: the same",
    ),
    "other betas": (
        lambda net: trained(net, ADAM(groups(net, {"betas": (0.9, 0.99)}, {"betas": (0.8, 0.99)}), lr=0.1)),
        "optimizer: betas = (0.9, 0.99), (0.8, 0.99) in its groups, allowed: the same",
    ),
    "before its first step": (
        lambda net: torch.optim.AdamW(net.parameters()),
        "optimizer: AdamW has no second moments yet, allowed: after its first step",
    ),
    "NaN moments": (lambda net: without_numbers(trained(net, ADAM(net.parameters()))), "optimizer: its second moments"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_optimizers_that_are_refused(make, message):
    net = network()
    optimizer = make(net)
    refused(lambda: sharpness(net, cross_entropy, BATCH, optimizer=optimizer), message, "allowed")


WRONG_BLOCKS = {
    "no such name": (["3"], "blocks: '3' fits no parameter and no part of the model, allowed: names"),
    "one of two": (["0", "x.*"], "blocks: 'x.*' fits no"),
    "a name": ("first", "blocks: 'first' fits no"),
    "empty": ([], "blocks: list"),
    "empty mapping": ({}, "blocks: dict"),
    "numbers": ([0, 1], "blocks: list"),
    "a number": (2, "blocks: int 2, allowed: 'layers'"),
    "a flag": (True, "blocks: bool True"),
    "tensors": ([torch.ones(2)], "blocks: list"),
    "a part without parameters": (["1"], "blocks: '1' has no parameter that is measured"),
    "a foreign parameter": ({"own": [nn.Parameter(torch.ones(2))]}, "blocks['own']: entry 1"),
    "a wrong name in a mapping": ({"own": "nothing"}, "blocks['own']: 'nothing' fits no"),
    "numbers in a mapping": ({0: "0"}, "blocks: dict"),
}


@pytest.mark.parametrize(("blocks", "message"), WRONG_BLOCKS.values(), ids=WRONG_BLOCKS)
def test_blocks_that_are_refused(blocks, message):
    net = network()
    refused(lambda: sharpness(net, cross_entropy, BATCH, blocks=blocks), message, "allowed")


def test_other_refusals():
    net = network()
    optimizer = SGD(net.parameters(), lr=0.1)
    refused(lambda: sharpness(net, cross_entropy, BATCH, optimizer=optimizer, rates=[1.0] * 4), "rates: given beside")
    refused(lambda: sharpness(net, cross_entropy, BATCH, parameters="0", blocks=["2"]), "blocks: '2' has no parameter")
    net[2].requires_grad_(False)
    refused(lambda: sharpness(net, cross_entropy, BATCH, blocks=["2"]), "blocks: '2' has no parameter")
    refused(lambda: sharpness(net, cross_entropy, BATCH, parameters="2"), "parameters: none of the model's requires")
    assert list(sharpness(net, cross_entropy, BATCH, blocks=["*", "2.**", "0"][:1]).blocks) == ["0"]
