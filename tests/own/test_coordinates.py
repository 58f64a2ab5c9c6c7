"""The coordinate check against the exponents of theory, against a loop of one's own, and on what cannot be checked."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from featurespeed.measuring.errors import MeasurementError
from featurespeed.own.coordinates import CoordinateCheck, coordinate_check

WIDTHS = [64, 128, 256, 512]
INPUTS = torch.randn(32, 12, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(32) % 4
BATCH = (INPUTS, CLASSES)
ADAM, SGD = torch.optim.Adam, torch.optim.SGD
loss = functional.cross_entropy


class Scaled(nn.Linear):
    """``multiplier * W h`` without bias, entries of W normal with a standard deviation."""

    def __init__(self, before: int, after: int, std: float, multiplier: float = 1.0):
        super().__init__(before, after, bias=False)
        nn.init.normal_(self.weight, std=std)
        self.multiplier = multiplier

    def forward(self, h: Tensor) -> Tensor:
        return self.multiplier * super().forward(h)


def mlp(width: int, hidden: tuple[float, float], readout: tuple[float, float], d: int = 12) -> nn.Sequential:
    """12 -> width -> width -> 4 with tanh: (standard deviation, multiplier) of the hidden matrix and of the readout."""
    return nn.Sequential(
        Scaled(d, width, d**-0.5), nn.Tanh(), Scaled(width, width, *hidden), nn.Tanh(), Scaled(width, 4, *readout)
    )


def sp(width: int) -> nn.Sequential:
    return mlp(width, (width**-0.5, 1.0), (width**-0.5, 1.0))


def mup(width: int) -> nn.Sequential:
    return mlp(width, (width**-0.5, 1.0), (1 / width, 1.0))


def ntp(width: int) -> nn.Sequential:
    return mlp(width, (1.0, width**-0.5), (1.0, width**-0.5))


def mup_adam(model: nn.Sequential, rate: float) -> torch.optim.Optimizer:
    """Rates over the fan-in of every layer but the first (arXiv:2203.03466, Table 3)."""
    width = model[0].out_features
    groups = [{"params": model[0].parameters()}, {"params": model[2:].parameters(), "lr": rate / width}]
    return torch.optim.Adam(groups, lr=rate)


def column(check: CoordinateCheck, name: str) -> dict[str, float]:
    return dict(zip(check.table["node"], check.table[name], strict=True))


# --- exponents of theory ----------------------------------------------------------------------------------------------


def test_updates_of_the_standard_parameterization_grow_with_the_width_under_adam():
    """A step of Adam moves all weights by the rate with the sign of their gradient: sums over the width, exponent 1.

    Nothing at the first layer grows, and activations of the initialisation do not.
    """
    check = coordinate_check(sp, WIDTHS, loss, [BATCH], ADAM, learning_rate=1e-4)
    slopes, verdicts = column(check, "update_slope"), column(check, "verdict")
    assert abs(slopes["0"]) < 0.1 and verdicts["0"] == "stable"
    assert abs(slopes["2"] - 1) < 0.15 and verdicts["2"] == "grows"
    assert slopes["4"] > 0.9 and verdicts["4"] == "grows"
    assert abs(column(check, "activation_slope")["2"]) < 0.1
    assert check.verdict == "grows"
    assert check.sentence.startswith("grows: from width 64 to 512, after 1 step, of 4 nodes 3 grow, 1 is stable; most")
    assert str(check) == check.sentence


def test_updates_of_the_maximal_update_parameterization_keep_their_size():
    check = coordinate_check(mup, WIDTHS, loss, [BATCH] * 3, mup_adam, learning_rate=3e-2, seeds=4)
    assert check.verdict == "stable", check.table.to_string()
    assert max(abs(slope) for slope in column(check, "update_slope").values()) < 0.15
    assert check.sentence.startswith(
        "stable: from width 64 to 512, after 3 steps, updates of all nodes keep their size"
    )


def test_hidden_updates_of_the_ntk_parameterization_vanish_with_the_width_under_gradient_descent():
    """Features move by 1/sqrt(width), the function by O(1): arXiv:1806.07572."""
    check = coordinate_check(ntp, WIDTHS, loss, [BATCH] * 2, SGD, learning_rate=0.5, seeds=4)
    slopes, verdicts = column(check, "update_slope"), column(check, "verdict")
    assert abs(slopes["0"] + 0.5) < 0.1 and abs(slopes["2"] + 0.5) < 0.1
    assert verdicts["0"] == verdicts["2"] == "vanishes"
    assert abs(slopes["4"]) < 0.1
    assert check.verdict == "vanishes"


def test_activations_that_grow_are_told_also_where_updates_do_not():
    def make(width):
        return nn.Sequential(Scaled(12, width, width**0.5), nn.LayerNorm(width), Scaled(width, 4, 1 / width))

    def readout_alone(model):
        return SGD(model[2].parameters(), lr=1e-3)

    check = coordinate_check(make, WIDTHS, loss, [BATCH], readout_alone, nodes=["0", "2"])
    assert abs(column(check, "activation_slope")["0"] - 0.5) < 0.1
    assert column(check, "verdict")["0"] == "grows"


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_a_loop_of_ones_own():
    made = {}

    def make(width):
        model = nn.Sequential(nn.Linear(12, width), nn.Dropout(0.0), nn.ReLU(inplace=True), nn.Linear(width, 4))
        made[width, len([w for w, _ in made if w == width])] = copy.deepcopy(model)
        return model.double()

    batches = [(INPUTS[k::3].double(), CLASSES[k::3]) for k in range(3)]
    check = coordinate_check(make, [8, 16, 32], loss, batches, lambda model: SGD(model.parameters(), lr=0.1), seeds=2)
    assert len(check.rows) == 3 * 2 * 4 * 3
    for (width, seed), model in made.items():
        model = model.double()
        optimizer = SGD(model.parameters(), lr=0.1)
        x = batches[0][0]
        starts = [model[0](x).detach(), model(x).detach()]
        for step in range(4):
            now = [model[0](x).detach(), model(x).detach()]
            here = check.rows.query(f"width == {width} and seed == {seed} and step == {step}").set_index("node")
            for node, value, start in zip(("0", "3"), now, starts, strict=True):
                assert np.isclose(here.loc[node, "activation"], float(value.square().mean().sqrt()), rtol=1e-12)
                assert np.isclose(here.loc[node, "update"], float((value - start).square().mean().sqrt()), atol=1e-13)
            assert here.loc["output", "update"] == here.loc["3", "update"]
            if step < 3:
                optimizer.zero_grad()
                loss(model(batches[step][0]), batches[step][1]).backward()
                optimizer.step()


def test_slopes_are_those_of_numpy_and_the_interval_that_of_student():
    from scipy import stats

    check = coordinate_check(sp, [16, 32, 64], loss, [BATCH] * 2, ADAM, learning_rate=1e-3)
    last = check.rows[(check.rows["node"] == "2") & (check.rows["step"] == 2)]
    fits = [np.polyfit(np.log(own["width"]), np.log(own["update"]), 1)[0] for _, own in last.groupby("seed")]
    low, high = stats.t.interval(0.95, 2, np.mean(fits), stats.sem(fits))
    row = check.table.set_index("node").loc["2"]
    assert np.allclose(row[["update_slope", "update_low", "update_high"]].astype(float), [np.mean(fits), low, high])


# --- models, batches and optimizers as people have them ---------------------------------------------------------------


class Noisy(nn.Module):
    """Dropout, batch normalisation, a shared layer, an output that is no tensor."""

    def __init__(self, width: int):
        super().__init__()
        self.embed, self.shared = nn.Linear(12, width), nn.Linear(width, width)
        self.norm, self.dropout, self.head = nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.embed(x)
        for _ in range(2):
            h = self.dropout(torch.tanh(self.shared(h)))
        return {"logits": self.head(self.norm(h))}


def test_shared_modules_dropout_and_outputs_that_are_no_tensors():
    seen = []

    def own_loss(model, batch):
        seen.append(model.training)
        return loss(model(batch[0])["logits"], batch[1])

    by_outputs = coordinate_check(
        Noisy, [8, 16, 32], lambda out, y: loss(out["logits"], y), [BATCH] * 2, ADAM, learning_rate=0.1, seeds=2
    )
    by_model = coordinate_check(Noisy, [8, 16, 32], own_loss, [BATCH] * 2, ADAM, learning_rate=0.1, seeds=2)
    assert list(by_outputs.table["node"]) == ["embed", "shared", "shared#2", "norm", "head"]
    assert by_outputs.rows.equals(by_model.rows)  # the same dropout, too
    assert seen[:5] == [False, True, False, True, False]  # looks and steps


def test_a_dataloader_is_shuffled_by_the_seed_alike_for_all_widths_and_left_as_it_was():
    seen = []

    class Recording(nn.Sequential):
        def forward(self, x):
            seen.append((self[0].out_features, self.training, float(x.sum())))
            return super().forward(x)

    own = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(INPUTS, CLASSES), batch_size=8, shuffle=True, generator=own)
    state, ours = own.get_state(), torch.get_rng_state()
    make = lambda width: Recording(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 4))  # noqa: E731
    check = coordinate_check(make, [8, 16, 32], loss, loader, SGD, learning_rate=0.1, seeds=[3, 4])
    assert torch.equal(own.get_state(), state) and torch.equal(torch.get_rng_state(), ours)
    assert check.step == 4 and sorted(check.rows["seed"].unique()) == [3, 4]
    steps = [total for width, training, total in seen if training]
    assert steps[:4] == steps[4:8] == steps[8:12] and steps[:4] != steps[12:16]
    again = coordinate_check(make, [8, 16, 32], loss, loader, SGD, learning_rate=0.1, seeds=[3, 4])
    assert again.rows.equals(check.rows)


def test_batches_may_be_one_a_generator_or_a_function_of_the_seed():
    def run(batches):
        return coordinate_check(sp, [8, 16, 32], loss, batches, SGD, learning_rate=0.1, seeds=2)

    assert run(BATCH).step == 1
    assert run(BATCH for _ in range(2)).rows.equals(run([BATCH, BATCH]).rows)
    by_seed = run(lambda seed: [(INPUTS + seed, CLASSES)])
    first = by_seed.rows.query("width == 8 and step == 0 and node == '0'").set_index("seed")["activation"]
    assert first[1] > 1.1 * first[0]


def test_optimizers_made_from_a_model_a_rate_or_with_a_closure():
    def run(optimizer, rate=None):
        return coordinate_check(sp, [8, 16, 32], loss, [BATCH], optimizer, learning_rate=rate, seeds=2).rows

    expected = run(SGD, 0.1)
    assert run(lambda model: SGD(model.parameters(), lr=0.1)).equals(expected)
    assert run(lambda model, rate: SGD(model.parameters(), lr=rate), 0.1).equals(expected)
    assert run(lambda model, rate=0.1: SGD(model.parameters(), lr=rate)).equals(expected)
    assert run(torch.optim.LBFGS, 0.1)["update"].max() > 0


def test_nodes_by_name_and_by_pattern():
    def run(nodes):
        return list(
            coordinate_check(sp, [8, 16, 32], loss, [BATCH], SGD, learning_rate=0.1, seeds=2, nodes=nodes).table["node"]
        )

    assert run("2") == ["2"] and run(["output", "[13]"]) == ["1", "3", "output"]  # activation functions, too
    assert run("*") == ["0", "1", "2", "3", "4", "output"]


def test_nothing_of_the_callers_changes():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with torch.no_grad():
        coordinate_check(Noisy, [8, 16, 32], lambda out, y: loss(out["logits"], y), [BATCH], ADAM, learning_rate=0.1)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_parametrized_weights_are_no_nodes_and_compiled_models_are_looked_at_as_written():
    def make(width):
        normed = nn.utils.parametrizations.weight_norm(nn.Linear(12, width, bias=False))
        return torch.compile(nn.Sequential(normed, nn.ReLU(), nn.Linear(width, 4)), backend="eager")

    check = coordinate_check(make, [8, 16, 32], loss, [BATCH], ADAM, learning_rate=1e-3, seeds=2)
    assert list(check.table["node"]) == ["0", "2", "output"]


def test_half_precision_gives_the_exponents_of_full_precision():
    def make(width):
        return sp(width).bfloat16()

    check = coordinate_check(
        make, WIDTHS, lambda out, y: loss(out.float(), y), [(INPUTS.bfloat16(), CLASSES)], ADAM, learning_rate=1e-2
    )
    assert abs(column(check, "update_slope")["2"] - 1) < 0.25


def test_a_vision_transformer_of_timm(torchvision_loads):
    from timm.models.vision_transformer import VisionTransformer

    def make(width):
        return VisionTransformer(
            img_size=8, patch_size=4, num_classes=4, embed_dim=width, depth=2, num_heads=2, drop_rate=0.1
        )

    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    check = coordinate_check(make, [16, 32, 64], loss, [(images, CLASSES[:8])] * 2, ADAM, learning_rate=1e-3, seeds=2)
    nodes = list(check.table["node"])
    assert nodes[0] == "patch_embed.proj" and nodes[-2:] == ["head", "output"] and "blocks.1.mlp.fc2" in nodes
    assert check.table["update_slope"].notna().all()


def test_gpt2_of_transformers_with_tied_embeddings(torchvision_loads):
    from transformers import GPT2Config, GPT2LMHeadModel

    def make(width):
        return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=width, n_layer=2, n_head=2))

    tokens = torch.randint(20, (4, 8), generator=torch.Generator().manual_seed(3))
    batch = {"input_ids": tokens, "labels": tokens}
    check = coordinate_check(
        make, [16, 32, 64], lambda out, _: out.loss, [batch] * 2, torch.optim.AdamW, learning_rate=1e-3, seeds=2
    )
    nodes = list(check.table["node"])
    assert nodes[:2] == ["transformer.wte", "transformer.wpe"] and nodes[-1] == "lm_head"
    assert check.table["update_slope"].notna().all()


def test_a_transformer_encoder_has_all_its_nodes_also_in_evaluation_mode():
    """PyTorch has a fused path for it, in which no submodule is called."""

    def make(width):
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True)
        return nn.Sequential(nn.Linear(12, width), nn.TransformerEncoder(layer, 1), nn.Linear(width, 4))

    batch = (INPUTS.reshape(4, 8, 12), CLASSES[:4])
    check = coordinate_check(
        make, [16, 32, 64], lambda out, y: loss(out.mean(1), y), [batch], ADAM, learning_rate=1e-3, seeds=2
    )
    assert {"1.layers.0.self_attn", "1.layers.0.linear1", "1.layers.0.norm2"} <= set(check.table["node"])


# --- zeros, frozen layers, divergence ---------------------------------------------------------------------------------


def zero_readout(width: int) -> nn.Sequential:
    return mlp(width, (width**-0.5, 1.0), (0.0, 1.0))


def test_a_readout_that_starts_at_zero_is_judged_by_its_update():
    """In the first step hidden layers have no gradient: what learns and did not move yet is not called stable."""
    one = coordinate_check(zero_readout, WIDTHS, loss, [BATCH], mup_adam, learning_rate=1e-2)
    assert column(one, "verdict") == {"0": "undecided", "2": "undecided", "4": "stable", "output": "stable"}
    assert one.verdict == "undecided" and math.isnan(column(one, "update_slope")["0"])
    two = coordinate_check(zero_readout, WIDTHS, loss, [BATCH] * 2, mup_adam, learning_rate=1e-2, seeds=4)
    assert two.verdict == "stable", two.table.to_string()
    two.plot()


def test_an_activation_that_stays_zero_has_no_exponent():
    def make(width):
        model = nn.Sequential(Scaled(12, width, 0.3), Scaled(width, 3, 0.0), Scaled(3, 4, 0.5), nn.Linear(4, 4))
        model[1].requires_grad_(False)
        return model

    check = coordinate_check(make, [8, 16, 32], loss, [BATCH], lambda m: SGD(m[3:].parameters(), lr=0.1), seeds=2)
    assert math.isnan(column(check, "activation_slope")["1"])


def test_frozen_layers_stand_still_and_do_not_disturb_the_verdict():
    def make(width):
        model = mup(width)
        model[0].requires_grad_(False)
        return model

    def adam(model, rate):
        return ADAM(model[2:].parameters(), lr=rate / model[0].out_features)

    check = coordinate_check(make, WIDTHS, loss, [BATCH] * 2, adam, learning_rate=3e-2, seeds=4)
    first = check.table.iloc[0]
    assert first["verdict"] == "stable" and math.isnan(first["update_slope"])
    assert check.verdict == "stable", check.table.to_string()


def test_exponents_of_networks_that_diverge_are_those_of_the_last_step_at_which_all_are_finite():
    def make(width):
        return nn.Sequential(Scaled(12, width, 1.0), Scaled(width, 4, 1.0))

    def square(outputs, _):
        return outputs.square().sum(1).square().mean()

    check = coordinate_check(make, [16, 32, 64], square, [BATCH] * 6, SGD, learning_rate=1e3, seeds=2)
    assert check.diverged and 1 <= check.step < 6
    assert check.verdict != "stable" and "diverged later, first width 16, seed 0, step" in check.sentence
    last = check.rows[check.rows["step"] == check.rows["step"].max()]
    assert np.isinf(last["update"]).any() and not check.rows["update"].isna().any()
    counts = check.rows.groupby("step").size()
    assert counts.nunique() == 1
    check.plot()


def test_networks_that_diverge_at_once_decide_nothing():
    check = coordinate_check(sp, [8, 16, 32], lambda out, y: loss(out, y) * math.inf, [BATCH], SGD, learning_rate=1.0)
    assert check.step == 0 and check.verdict == "undecided" and len(check.diverged) == 9
    check.plot()


# --- the figure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 28])
def test_every_node_is_a_line_and_a_name(layers):
    def make(width):
        middle = [nn.Linear(width, width) for _ in range(2 * layers)]
        return nn.Sequential(nn.Linear(12, width), *middle, nn.Linear(width, 4))

    check = coordinate_check(make, [4, 8, 16], loss, [BATCH], ADAM, learning_rate=1e-3, seeds=2)
    figure = check.plot()
    moved = check.rows[(check.rows["step"] == 1) & (check.rows["update"] > 0)]["node"].nunique()  # not all, of 58
    assert [len(ax.lines) for ax in figure.axes[:2]] == [2 * layers + 3, moved]
    names = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert names == list(check.table["node"])
    figure.canvas.draw()
    height = figure.axes[2].get_window_extent().height / len(names) * 72 / figure.dpi
    assert height > figure.axes[2].get_yticklabels()[0].get_fontsize()  # names do not overlap


# --- what is refused --------------------------------------------------------------------------------------------------


def other_names(width: int) -> nn.Sequential:
    extra = [nn.Linear(4, 4)] if width > 8 else []
    return nn.Sequential(nn.Linear(12, width), nn.Linear(width, 4), *extra)


def kept(cache: dict[int, nn.Module]):
    return lambda width: cache.setdefault(width, sp(width))


def endless(_seed):
    while True:
        yield BATCH


BAD = {
    "a model in place of a function": ({"make_model": nn.Linear(2, 2)}, "make_model: Linear, allowed"),
    "two widths": ({"widths": [8, 16]}, "widths: 2 of them, allowed: at least 3"),
    "descending widths": ({"widths": [16, 8, 4]}, "widths: .* ascending"),
    "one seed": ({"seeds": 1}, "seeds: .* at least 2"),
    "the width is not used": ({"make_model": lambda width: sp(8)}, "make_model: .* parameters at width 8 and at 16"),
    "the same model again": ({"make_model": kept({})}, "make_model.8.: returned the model of an earlier call"),
    "other nodes": ({"make_model": other_names}, r"make_model: node 3 differs \(output, 2\) between width 8 and"),
    "no rate": ({"learning_rate": None}, "learning_rate: None with the optimizer the class SGD"),
    "a rate too much": (
        {"optimizer": lambda model: SGD(model.parameters(), lr=0.1)}, "learning_rate: 0.1, allowed: None",
    ),
    "an optimizer itself": ({"optimizer": SGD(sp(8).parameters(), lr=0.1)}, "optimizer: SGD, allowed"),
    "the optimizer of another": ({"optimizer": lambda m, lr: SGD(sp(8).parameters(), lr=lr)}, "optimizer: it holds"),
    "a step that fails": ({"optimizer": lambda m, lr: Failing(m.parameters(), {"lr": lr})}, "optimizer: its step"),
    "no such node": ({"nodes": ["0", "layer*"]}, r"nodes: 'layer\*' fits no module that is called, allowed: such as 0"),
    "nodes that are no names": ({"nodes": [1]}, "nodes: list"),
    "a data set": ({"batches": TensorDataset(INPUTS, CLASSES)}, "batch: the data set"),
    "endless batches": ({"batches": endless}, "batches: more than 1000"),
    "no batch": ({"batches": []}, "batch: 0 examples"),
    "a function that fails": ({"batches": lambda seed: 1 / 0}, r"batches\(0\): it raised ZeroDivisionError"),
    "inputs that do not fit": ({"batches": [(INPUTS[:, :3], CLASSES)]}, r"model: called with a tensor \[32, 3\]"),
    "a loss that is no scalar": ({"loss": lambda out, y: out}, "loss: returns shape"),
    "a loss without a derivative": ({"loss": lambda out, y: out.detach().mean()}, "loss: its value does not depend"),
    "a rate of 0": ({"learning_rate": 0.0}, "learning_rate = 0.0: allowed: above 0"),
    "nothing moves": ({"loss": lambda out, y: 0 * out.mean()}, "optimizer: no node moved in 1 step"),
}  # fmt: skip


class Failing(torch.optim.Optimizer):
    def step(self, closure=None):
        raise KeyError("state")


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_checked_is_refused_in_one_line(changed, message):
    given = {
        "make_model": sp, "widths": [8, 16, 32], "loss": loss, "batches": [BATCH], "optimizer": SGD,
        "learning_rate": 0.1, "seeds": 2,
    }  # fmt: skip
    with pytest.raises(MeasurementError, match=message) as error:
        coordinate_check(**given | changed)
    assert "\n" not in str(error.value)
