"""`measure` on networks of others: real steps of real optimizers, the formula to rounding, what is refused and why."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from featurespeed import measure, measure_feature_speed
from featurespeed.measuring.context import evaluation
from tests.own.networks import FOREIGN, Case, Recurrent, TwoHeads, foreign, gpt2, next_word_loss

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.01),
    "momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 1e-3, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3),
}


def moving(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def loss_of(case: Case) -> Tensor:
    inputs, targets = case.batch
    outputs = case.model(*inputs) if isinstance(inputs, tuple) else case.model(inputs)
    return case.loss(outputs, targets)


def trained(case: Case, make, steps: int = 2) -> torch.optim.Optimizer:
    """An optimizer with a history, in evaluation mode, so that its next step can be made for real."""
    optimizer = make(moving(case.model))
    case.model.eval()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(case).backward()
        optimizer.step()
    optimizer.zero_grad()
    return optimizer


def real_update(case: Case, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What the next step really adds to the parameters that require a gradient; model and optimizer go back."""
    weights, state = [p.detach().clone() for p in moving(case.model)], copy.deepcopy(optimizer.state_dict())
    loss_of(case).backward()
    optimizer.step()
    found = [p.detach() - before for p, before in zip(moving(case.model), weights, strict=True)]
    with torch.no_grad():
        for p, before in zip(moving(case.model), weights, strict=True):
            p.copy_(before)
    optimizer.zero_grad()
    optimizer.load_state_dict(state)
    return found


def outputs_at(case: Case, names: tuple[str, ...], update: list[Tensor], share: float) -> dict[str, Tensor]:
    """Outputs of parts of the model with weights moved by a share of an update."""
    model, found = copy.deepcopy(case.model), {}
    with torch.no_grad():
        for p, change in zip(moving(model), update, strict=True):
            p.add_(change, alpha=share)
    for name, module in model.named_modules():
        if name in names:
            module.register_forward_hook(partial(_keep, found, name))
    with evaluation(model), torch.no_grad():
        loss_of(Case(model, case.loss, case.batch))
    return found


def _keep(found: dict[str, Tensor], name: str, _module: nn.Module, _args: tuple, output: Any) -> None:
    found[name] = output if isinstance(output, Tensor) else output[0]


@pytest.mark.parametrize("name", FOREIGN)
def test_formula_holds_to_rounding_in_the_motion_of_any_optimizer(name):
    case = foreign(name)
    for make in OPTIMIZERS.values():
        found = measure(case.model, case.loss, case.batch, optimizer=trained(case, make, steps=1))
        moves = found.speed.feature_speed > 0
        assert moves.any() and found.speed.cosine_error[moves].max() < 1e-12
    balanced = measure(case.model, case.loss, case.batch)
    own = balanced.speed.contribution
    assert balanced.formula_error[balanced.speed.feature_speed > 0].max() < 1e-11
    if name != "gpt2":  # where a tied weight moves at one rate, and adds to two layers
        assert torch.allclose(own[own > 0], torch.full_like(own[own > 0], 1 / len(own)), rtol=1e-9)


@pytest.mark.parametrize("name", FOREIGN)
def test_speed_is_that_of_a_small_real_step(name):
    """Central differences of the outputs of the parts along the step that the optimizer really makes."""
    case = foreign(name)
    optimizer = trained(case, OPTIMIZERS["adamw"])
    found = measure(case.model, case.loss, case.batch, optimizer=optimizer)
    update, share = real_update(case, optimizer), 1e-4
    ahead, behind = (outputs_at(case, found.nodes, update, sign * share) for sign in (1, -1))
    for k, node in enumerate(found.nodes):
        step = (ahead[node] - behind[node]) / (2 * share)
        assert float(step.norm()) == pytest.approx(float(found.speed.feature_speed[k]), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_contributions_are_those_of_the_real_step(name):
    case = foreign("gpt2")
    optimizer = trained(case, OPTIMIZERS[name])
    found = measure(case.model, case.loss, case.batch, optimizer=optimizer)
    gradients = torch.autograd.grad(loss_of(case), moving(case.model))
    update = real_update(case, optimizer)
    products = [-float((g * u).sum()) for g, u in zip(gradients, update, strict=True)]
    assert found.loss_decay == pytest.approx(math.fsum(products), rel=1e-9)
    by_name = dict(zip([n for n, _ in case.model.named_parameters()], products, strict=True))
    for _, row in found.parameters.iterrows():
        assert row["contribution"] == pytest.approx(by_name[row["name"]], rel=1e-6, abs=1e-12)
    sizes = dict(zip([n for n, _ in case.model.named_parameters()], update, strict=True))
    assert all(
        r["update_norm"] == pytest.approx(float(sizes[r["name"]].norm())) for _, r in found.parameters.iterrows()
    )


@pytest.mark.parametrize("name", ["gpt2", "lstm", "resnet"])
def test_nothing_of_the_user_changes(name):
    case = foreign(name)
    optimizer = trained(case, OPTIMIZERS["adam"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)  # puts a wrapper around step()
    for p in moving(case.model):
        p.grad = torch.ones_like(p)
    case.model.train()
    before = copy.deepcopy((case.model.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
    states = torch.get_rng_state()
    measure(case.model, case.loss, case.batch, optimizer=optimizer)
    after = (case.model.state_dict(), optimizer.state_dict(), scheduler.state_dict())
    assert str(before) == str(after)
    assert torch.equal(states, torch.get_rng_state())
    assert all(part.training for part in case.model.modules())
    assert all(bool((p.grad == 1).all()) for p in moving(case.model))


def test_chain_gives_what_the_chain_function_gives():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    batch = torch.randn(9, 5).double(), torch.randint(3, (9,))
    found = measure(net, nn.CrossEntropyLoss(), batch)
    chain = [net[0], nn.Sequential(net[1], net[2]), nn.Sequential(net[3], net[4])]
    known = measure_feature_speed(chain, nn.CrossEntropyLoss(), batch)
    assert found.nodes == ("0", "2", "4")
    for field in ("angle", "feature_speed", "backward_norm", "loss_decay", "gradient_norm", "contribution"):
        assert torch.allclose(getattr(found.speed, field), getattr(known, field), rtol=1e-12)


def test_expected_nodes():
    expected = {
        "gpt2": ("transformer.drop", "transformer.h.0", "transformer.h.1", "lm_head"),
        "vit": ("patch_embed.proj", "blocks.0", "blocks.1", "head"),
        "resnet": ("conv1.0", "conv1.3", "conv1.6", "layer1.0", "layer2.0", "layer3.0", "layer4.0", "fc"),
        "lstm": ("lstm", "head"),
    }
    for name, nodes in expected.items():
        case = foreign(name)
        assert measure(case.model, case.loss, case.batch).nodes == nodes


# --- the update of the function and the alignment ---------------------------------------------------------------------


def exact_function_updates(case: Case, update: dict[str, Tensor]) -> dict[str, float]:
    """Root mean square change of the outputs by each tensor's update alone, by central differences; float64."""
    found, share = {}, 1e-4
    for name, change in update.items():
        ends = []
        for sign in (1, -1):
            model = copy.deepcopy(case.model)
            with torch.no_grad():
                model.get_parameter(name).add_(change, alpha=sign * share)
                outputs = model(case.batch[0])
                ends.append(getattr(outputs, "logits", outputs))
        found[name] = float(((ends[0] - ends[1]) / (2 * share)).square().mean().sqrt())
    return found


@pytest.mark.parametrize("kind", ["mlp", "gpt2", "lstm", "convolutions"])
def test_function_update_of_a_tensor_is_the_change_of_the_outputs_by_it(kind):
    """Unbiased: over 60 seeds its mean square is the exact one, within four standard errors."""
    torch.manual_seed(1)
    case = foreign("gpt2") if kind == "gpt2" else _plain(kind)
    optimizer = trained(case, OPTIMIZERS["adam"])
    update = dict(zip([n for n, _ in case.model.named_parameters()], real_update(case, optimizer), strict=True))
    exact = exact_function_updates(case, update)
    draws = [measure(case.model, case.loss, case.batch, optimizer=optimizer, seed=k).parameters for k in range(60)]
    for name, value in exact.items():
        squares = torch.tensor([float(d.set_index("name").loc[name, "function_update"]) ** 2 for d in draws])
        ratio, error = squares.mean() / value**2, squares.std() / value**2 / math.sqrt(len(draws))
        assert abs(ratio - 1) < 4 * error, (name, float(ratio), float(error))


def _plain(kind: str) -> Case:
    if kind == "lstm":
        return Case(
            Recurrent().double(), functional.cross_entropy, (torch.randn(8, 5, 4).double(), torch.randint(3, (8,)))
        )
    if kind == "convolutions":
        net = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, bias=False),
            nn.Flatten(), nn.Linear(54, 3),
        )  # fmt: skip
        return Case(net.double(), functional.cross_entropy, (torch.randn(8, 2, 8, 8).double(), torch.randint(3, (8,))))
    net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).double()
    return Case(net, functional.cross_entropy, (torch.randn(12, 4).double(), torch.randint(3, (12,))))


def test_time_first_batches_are_told_from_examples():
    """As many steps as examples: the examples of a transformer that has them second are found all the same."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16)  # [time, examples, width]
    model = nn.Sequential(_Swap(), nn.TransformerEncoder(layer, 1), _Swap(), nn.Linear(8, 3)).double()
    case = Case(
        model,
        lambda out, y: functional.cross_entropy(out.mean(1), y),
        (torch.randn(5, 5, 8).double(), torch.randint(3, (5,))),
    )
    optimizer = trained(case, OPTIMIZERS["adam"])
    update = dict(zip([n for n, _ in model.named_parameters()], real_update(case, optimizer), strict=True))
    name = "1.layers.0.linear1.weight"
    exact = exact_function_updates(case, {name: update[name]})[name]
    draws = [
        measure(model, case.loss, case.batch, optimizer=optimizer, seed=k).parameters.set_index("name").loc[name]
        for k in range(80)
    ]
    squares = torch.tensor([float(d["function_update"]) ** 2 for d in draws]) / exact**2
    assert abs(float(squares.mean()) - 1) < 4 * float(squares.std()) / math.sqrt(len(draws))
    assert float(squares.std()) < 1.0  # four examples apart: 0.7, together 1.4


class _Swap(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


def test_alignment_is_the_cosine_with_the_average_gradient_outer_product():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4)).double()
    x, y = torch.randn(200, 6).double(), torch.randint(4, (200,))
    weight = net[0].weight.detach()
    jacobians = torch.func.vmap(torch.func.jacrev(net))(x).detach()  # [n, 4, 6]
    outer = torch.einsum("nki,nkj->ij", jacobians, jacobians)
    square = weight.T @ weight
    exact = float((square * outer).sum() / square.norm() / outer.norm())
    found = [
        measure(net, nn.CrossEntropyLoss(), (x, y), seed=k).parameters.set_index("name").loc["0.weight", "alignment"]
        for k in range(10)
    ]
    assert sum(found) / 10 == pytest.approx(exact, abs=0.03)
    assert all(-1 <= value <= 1 for value in found)


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "vit"])
def test_costs_at_most_three_passes_forward_and_backward(kind):
    """In operations of matrix products; the batch has more rows than the network is wide, as in training."""
    torch.manual_seed(0)
    if kind == "gpt2":
        tokens = torch.randint(20, (24, 8))
        case = Case(gpt2(layers=4, width=32), next_word_loss, (tokens, tokens))
    else:
        case = foreign("vit", torch.float32)
    optimizer = trained(case, OPTIMIZERS["adamw"])
    with FlopCounterMode(display=False) as one, evaluation(case.model):
        torch.autograd.grad(loss_of(case), moving(case.model))
    with FlopCounterMode(display=False) as all_of_it:
        measure(case.model, case.loss, case.batch, optimizer=optimizer)
    assert all_of_it.get_total_flops() <= 3.0 * one.get_total_flops()


# --- nodes that are asked for, and what cannot be measured ------------------------------------------------------------


class Residual(nn.Module):
    """Two residual blocks, an embedding and a readout; nothing is a module but the linear layers and the branches."""

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 3)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(inplace=inplace)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for branch in self.branches:
            h = h + branch(h)
        return self.head(h)


def batch_of(n: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(n, 4).to(dtype), torch.randint(3, (n,))


def refused(message: str, model: nn.Module, batch: Any = None, loss: Any = None, **given: Any) -> None:
    with pytest.raises(ValueError, match=message) as found:
        measure(model, loss or nn.CrossEntropyLoss(), batch_of() if batch is None else batch, **given)
    assert "\n" not in str(found.value)


def test_inside_of_a_branch_there_is_no_cut_node():
    model = Residual().double()
    assert measure(model, nn.CrossEntropyLoss(), batch_of()).nodes == ("embed", "head")
    refused(
        r"nodes: 'branches.1' is no cut node: (embed|branches.0.1).weight reaches",
        model,
        nodes="branches.1",
    )


def test_nodes_by_names_and_patterns():
    case = foreign("gpt2")
    found = measure(case.model, case.loss, case.batch, nodes=["transformer.h.*", "lm_head"])
    assert found.nodes == ("transformer.h.0", "transformer.h.1", "lm_head")
    assert found.speed.cosine_error.max() < 1e-12
    refused(r"nodes: 'h.9' fits no part", case.model, case.batch, case.loss, nodes=["h.9"])
    refused(r"nodes: int 3, allowed: names", case.model, case.batch, case.loss, nodes=3)


def test_tied_weights_count_where_they_are_used():
    """The embedding of GPT-2 is its readout, too: it adds to the first node as the one, to the last as the other."""
    case = foreign("gpt2")
    found = measure(case.model, case.loss, case.batch, optimizer=trained(case, OPTIMIZERS["sgd"]))
    assert found.speed.contribution[0] > 0 and found.speed.contribution[-1] > 0
    rows = found.parameters.set_index("name")
    assert "transformer.wte.weight" in rows.index and "lm_head.weight" not in rows.index
    whole = torch.autograd.grad(loss_of(case), case.model.transformer.wte.weight)[0]
    assert rows.loc["transformer.wte.weight", "gradient_norm"] == pytest.approx(float(whole.norm()))


class Twice(nn.Module):
    """One block that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(x)))


def test_a_part_that_is_called_twice_is_two_layers():
    model = Twice().double()
    found = measure(model, nn.CrossEntropyLoss(), batch_of())
    assert found.nodes == ("block.0", "block.0#2", "head")
    assert found.formula_error.max() < 1e-12
    assert (found.speed.contribution > 0).all()


def test_operations_in_place_change_nothing():
    torch.manual_seed(0)
    plain = Residual().double()
    in_place = Residual(inplace=True).double()
    in_place.load_state_dict(plain.state_dict())
    one, other = (measure(m, nn.CrossEntropyLoss(), batch_of()) for m in (plain, in_place))
    assert torch.allclose(one.speed.feature_speed, other.speed.feature_speed) and one.nodes == other.nodes


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.02)])
def test_other_precisions(dtype, error):
    torch.manual_seed(0)
    model = Residual().to(dtype)
    adam = torch.optim.AdamW(model.parameters(), 1e-3)
    found = measure(model, nn.CrossEntropyLoss(), batch_of(dtype=dtype), optimizer=adam)
    assert found.speed.cosine_error.max() < error
    known = measure(
        model.double(), nn.CrossEntropyLoss(), batch_of(), optimizer=torch.optim.AdamW(model.parameters(), 1e-3)
    )
    assert torch.allclose(found.speed.feature_speed, known.speed.feature_speed, rtol=3 * error)


def test_mixed_precision_around_is_measured_in_that_of_the_weights():
    model = Residual()
    plain = measure(model, nn.CrossEntropyLoss(), batch_of(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        found = measure(model, nn.CrossEntropyLoss(), batch_of(dtype=torch.float32))
    assert torch.equal(plain.speed.feature_speed, found.speed.feature_speed)


def test_several_inputs_keywords_and_a_loss_of_the_model():
    torch.manual_seed(0)
    model, (x, y) = _TwoInputs().double(), batch_of()
    spread = measure(model, nn.CrossEntropyLoss(), ((x, x.flip(0)), y))
    named = measure(model, nn.CrossEntropyLoss(), ({"left": x, "right": x.flip(0)}, y))
    whole = measure(
        model, lambda model, batch: functional.cross_entropy(model(*batch[0]), batch[1]), ((x, x.flip(0)), y)
    )
    assert spread.nodes == named.nodes == whole.nodes
    for other in (named, whole):
        assert torch.allclose(spread.speed.feature_speed, other.speed.feature_speed, rtol=1e-12)
    case = foreign("gpt2")
    tokens = case.batch[0]
    own_loss = measure(case.model, lambda model, batch: model(**batch).loss, {"input_ids": tokens, "labels": tokens})
    outside = measure(case.model, case.loss, case.batch)
    assert torch.allclose(
        own_loss.speed.feature_speed, outside.speed.feature_speed, rtol=1e-4
    )  # their loss is one of float32


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head((self.left(left) + self.right(right)).relu())


def test_frozen_parts_stand_still_and_some_parameters_without_a_rate_too():
    model = Residual().double()
    model.embed.requires_grad_(False)
    found = measure(model, nn.CrossEntropyLoss(), batch_of())
    assert found.speed.feature_speed[0] == 0 and math.isnan(found.angle[0])
    assert not any(name.startswith("embed") for name in found.parameters["name"])
    some = measure(model, nn.CrossEntropyLoss(), batch_of(), optimizer=torch.optim.SGD(model.head.parameters(), 0.1))
    assert some.parameters.set_index("name").loc["branches.0.1.weight", "update_norm"] == 0


def test_what_cannot_be_measured_is_refused_in_one_line():
    model = Residual().double()
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    refused(r"optimizer: the class Adam, allowed: a torch.optim optimizer", model, optimizer=torch.optim.Adam)
    refused(r"optimizer: LBFGS calls the loss", model, optimizer=torch.optim.LBFGS(model.parameters()))
    refused(r"optimizer: 12 of its parameters are not this model's", copy.deepcopy(model), optimizer=adam)
    refused(r"batch: 2 batches, allowed: one", model, [batch_of(), batch_of()])
    refused(r"loss: returns shape \(6,\)", model, loss=nn.CrossEntropyLoss(reduction="none"))
    refused(r"loss: no operation of PyTorch connects", model, loss=lambda out, _: out.detach().sum())
    refused(r"seed = -1", model, seed=-1)
    refused(r"model: function, allowed", lambda x: x)  # type: ignore[arg-type]
    frozen = Residual().requires_grad_(False)
    refused(r"model: no parameter requires a gradient", frozen, batch_of(dtype=torch.float32))
    noisy = nn.Sequential(nn.Linear(4, 8), _Noise(), nn.Linear(8, 3)).double()
    refused(r"model: two passes over the same batch differ", noisy)
    with pytest.raises(FloatingPointError, match="loss of the network is not finite"):
        measure(nn.Sequential(nn.Linear(4, 3)).double(), lambda out, _: out.sum() * math.inf, batch_of())


class _Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class _Conditioned(nn.Module):
    """What conditions every block reaches the loss around all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        c, h = self.condition(x), x
        for block in self.blocks:
            h = torch.tanh(block(h)) * c
        return h


def test_where_blocks_are_conditioned_the_condition_and_the_output_are_left():
    model = _Conditioned().double()
    found = measure(model, lambda out, _: out.square().sum(), batch_of())
    assert found.nodes == ("condition", "output") and found.formula_error.max() < 1e-12
    assert measure(model, lambda out, _: out.square().sum(), batch_of(), nodes="output").nodes == ("output",)


def test_table_and_plot():
    case = foreign("vit")
    found = measure(case.model, case.loss, case.batch, optimizer=trained(case, OPTIMIZERS["adamw"]))
    assert list(found.table["node"]) == list(found.nodes) and found.optimizer == "AdamW"
    assert found.table["contribution"].sum() == pytest.approx(found.loss_decay)
    assert len(found.plot().axes) == 3


class Optional(nn.Module):
    """A second argument that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.first(x).tanh()
        return self.second(h if mask is None else h * mask)


def test_arguments_that_may_be_left_out():
    """How the inputs are handed over is tried first; those calls are not among the measured ones."""
    model, (x, y) = Optional().double(), batch_of()
    found = measure(model, nn.CrossEntropyLoss(), ((x, torch.ones(len(x), 1).double()), y))
    assert found.nodes == ("first", "second")


def test_hooks_of_the_user_are_told_and_do_not_spoil_the_function_update():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    model[2].register_forward_hook(lambda _module, _args, output: output * 0.1)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    adam.register_step_pre_hook(lambda *_: None)
    x, y = batch_of(64)
    with pytest.warns(RuntimeWarning, match="hooks of the optimizer"):
        rows = [measure(model, nn.CrossEntropyLoss(), (x, y), adam, seed=k).parameters for k in range(60)]
    case = Case(model, functional.cross_entropy, (x, y))
    update = dict(zip([n for n, _ in model.named_parameters()], real_update(case, adam), strict=True))
    exact = exact_function_updates(case, {"2.weight": update["2.weight"]})["2.weight"]
    squares = torch.tensor([float(r.set_index("name").loc["2.weight", "function_update"]) ** 2 for r in rows])
    assert abs(float(squares.mean()) / exact**2 - 1) < 4 * float(squares.std()) / exact**2 / math.sqrt(60)
    assert rows[0].set_index("name").loc["2.weight"].isna()["function_update_error"]  # a single draw


class Clipped(torch.optim.SGD):
    """SGD that bounds every entry of a gradient by an attribute of its own."""

    def __init__(self, parameters: Any, lr: float, bound: float):
        super().__init__(parameters, lr)
        self.bound = bound

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.clamp_(-self.bound, self.bound)
        return super().step(closure)


def test_attributes_of_an_optimizer_of_one_s_own_are_kept():
    case = foreign("gpt2")
    optimizer = Clipped(moving(case.model), 0.1, 1e-3)
    found = measure(case.model, case.loss, case.batch, optimizer=optimizer)
    case.model.eval()
    gradients = torch.autograd.grad(loss_of(case), moving(case.model))
    expected = 0.1 * math.fsum(float((g * g.clamp(-1e-3, 1e-3)).sum()) for g in gradients)
    assert found.loss_decay == pytest.approx(expected, rel=1e-9)


def test_parameters_behind_no_node_are_named():
    def loss(outputs: tuple[Tensor, Tensor], classes: Tensor) -> Tensor:
        return sum(functional.cross_entropy(output, classes) for output in outputs)

    with pytest.warns(RuntimeWarning, match="a.weight, a.bias, b.weight, b.bias: behind no cut node"):
        found = measure(TwoHeads(4).double(), loss, batch_of())
    assert found.nodes == ("trunk",)
