"""Every number of the table of parameterizations, and what the table implies, measured on networks."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurespeed.parameterization import (
    Form,
    LayerRole,
    OptimizerName,
    Parameterization,
    ParameterizationError,
    attention_scale,
    branch_multiplier,
    covered_optimizers,
    scaling_rule,
    width_exponents,
)
from featurespeed.randomness import generator
from featurespeed.training.optimizers import MemberOptimizer
from featurespeed.training.spec import OptimizerSpec
from tests.training.cases import CLASSES, DOUBLE, images, initialised

# N = 100, L = 16, D = 4: every entry is a number that one can check by hand, with the formula beside it. Each row holds
# the standard deviation of the initialisation, the multiplier, SGD's and Adam's factor on the learning rate and the
# factor on Adam's epsilon, which stays as small beside the gradient as at N = L = D = 1.
N, L, D = 100, 16, 4
NO = None

# arXiv:2402.17457, Eq. 1 and Table 1: unit variances.
MULTIPLIERS = {
    # 1/sqrt(D), 1/sqrt(N), 1/sqrt(N); one learning rate
    ("SP", "input"): (0.5, 1, 1, 1, 1),
    ("SP", "hidden"): (0.1, 1, 1, 1, 1),
    ("SP", "readout"): (0.1, 1, 1, 1, 1),
    # multipliers 1/sqrt(D), 1/sqrt(N), 1/(gamma_0 sqrt(N)); eta_0 gamma_0^2
    ("NTP", "input"): (1, 0.5, 1, NO, NO),
    ("NTP", "hidden"): (1, 0.1, 1, NO, NO),
    ("NTP", "readout"): (1, 0.1, 1, NO, NO),
    # gamma = gamma_0 sqrt(N), eta_0 gamma^2; Adam eta_0, eta_0/sqrt(N), eta_0; gradients 1/(N sqrt(D)), 1/N^1.5, 1/N
    ("MUP", "input"): (1, 0.5, 100, 1, 0.005),
    ("MUP", "hidden"): (1, 0.1, 100, 0.1, 0.001),
    ("MUP", "readout"): (1, 0.01, 100, 1, 0.01),
    # muP but for Adam's hidden layers: eta_0/sqrt(N L), gradients 1/(N^1.5 sqrt(L))
    ("DEPTH_MUP", "input"): (1, 0.5, 100, 1, 0.005),
    ("DEPTH_MUP", "hidden"): (1, 0.1, 100, 0.025, 0.00025),
    ("DEPTH_MUP", "readout"): (1, 0.01, 100, 1, 0.01),
    # alpha = 1 (arXiv:2505.01618, Table 1): Adam's hidden layers eta_0/sqrt(N) at any depth, gradients 1/(N^1.5 L); SGD
    # eta_0 gamma^2 L makes up for the 1/L of a gradient behind a branch
    ("COMPLETE_P", "input"): (1, 0.5, 100, 1, 0.005),
    ("COMPLETE_P", "hidden"): (1, 0.1, 1600, 0.1, 0.001 / 16),
    ("COMPLETE_P", "readout"): (1, 0.01, 100, 1, 0.01),
    # arXiv:2407.17465, Table 2: embedding eta_0/sqrt(fan_out), hidden layers eta_0/sqrt(fan_in) and 1/sqrt(L), readout
    # eta_0; multipliers 1, 1/sqrt(fan_in), 1/fan_in
    ("U_MUP", "input"): (1, 0.5, NO, 0.1, 0.005),
    ("U_MUP", "hidden"): (1, 0.1, NO, 0.025, 0.00025),
    ("U_MUP", "readout"): (1, 0.01, NO, 1, 0.01),
    # NTP with gamma = 1, but nothing learns before the readout
    ("RANDOM_FEATURES", "input"): (1, 0.5, 0, NO, NO),
    ("RANDOM_FEATURES", "hidden"): (1, 0.1, 0, NO, NO),
    ("RANDOM_FEATURES", "readout"): (1, 0.1, 1, NO, NO),
}
# arXiv:2203.03466, Table 8: variances 1/fan_in, 1/fan_in, 1 and a readout multiplier of 1/fan_in; Adam's learning rates
# 1, 1/fan_in, 1 and SGD's fan_out, 1, fan_in hold up to the dimension of the input, which that table takes as constant.
RESCALED = {
    ("SP", "input"): (0.5, 1, 1, 1, 1),
    ("SP", "hidden"): (0.1, 1, 1, 1, 1),
    ("SP", "readout"): (0.1, 1, 1, 1, 1),
    # learning rates 1/D, 1/N, 1/N
    ("NTP", "input"): (0.5, 1, 1 / 4, NO, NO),
    ("NTP", "hidden"): (0.1, 1, 1 / 100, NO, NO),
    ("NTP", "readout"): (0.1, 1, 1 / 100, NO, NO),
    # SGD N/D, 1, N; Adam 1/sqrt(D), 1/N, 1; epsilon 1/N, 1/N, 1/N
    ("MUP", "input"): (0.5, 1, 100 / 4, 1 / 2, 0.01),
    ("MUP", "hidden"): (0.1, 1, 1, 1 / 100, 0.01),
    ("MUP", "readout"): (1, 0.01, 100, 1, 0.01),
    # Adam's hidden layers 1/(N sqrt(L)), epsilon the same
    ("DEPTH_MUP", "input"): (0.5, 1, 100 / 4, 1 / 2, 0.01),
    ("DEPTH_MUP", "hidden"): (0.1, 1, 1, 1 / 400, 0.0025),
    ("DEPTH_MUP", "readout"): (1, 0.01, 100, 1, 0.01),
    # hidden layers of Adam 1/N, their epsilon 1/(N L); SGD's rate L
    ("COMPLETE_P", "input"): (0.5, 1, 100 / 4, 1 / 2, 0.01),
    ("COMPLETE_P", "hidden"): (0.1, 1, 16, 1 / 100, 1 / 1600),
    ("COMPLETE_P", "readout"): (1, 0.01, 100, 1, 0.01),
    # input 1/sqrt(N D), hidden layers 1/(N sqrt(L))
    ("U_MUP", "input"): (0.5, 1, NO, 1 / 20, 0.01),
    ("U_MUP", "hidden"): (0.1, 1, NO, 1 / 400, 0.0025),
    ("U_MUP", "readout"): (1, 0.01, NO, 1, 0.01),
    ("RANDOM_FEATURES", "input"): (0.5, 1, 0, NO, NO),
    ("RANDOM_FEATURES", "hidden"): (0.1, 1, 0, NO, NO),
    ("RANDOM_FEATURES", "readout"): (0.1, 1, 1 / 100, NO, NO),
}
# What is no matrix, whatever its role and in both forms: a bias, a gain or an embedding in a residual branch (counted)
# and outside of all. The rates of a branch are those of arXiv:2505.01618, Table 1: L^(alpha - 1), alpha = 1/2 and 1.
VECTORS = {
    ("SP", True): (1, 1, 1, 1, 1),
    ("SP", False): (1, 1, 1, 1, 1),
    ("NTP", True): (1, 1, 1, NO, NO),
    ("NTP", False): (1, 1, 1, NO, NO),
    ("MUP", True): (1, 1, 100, 1, 0.01),
    ("MUP", False): (1, 1, 100, 1, 0.01),
    ("DEPTH_MUP", True): (1, 1, 100, 0.25, 0.0025),
    ("DEPTH_MUP", False): (1, 1, 100, 1, 0.01),
    ("COMPLETE_P", True): (1, 1, 1600, 1, 1 / 1600),
    ("COMPLETE_P", False): (1, 1, 100, 1, 0.01),
    ("U_MUP", True): (1, 1, NO, 0.025, 0.0025),
    ("U_MUP", False): (1, 1, NO, 0.1, 0.01),
    ("RANDOM_FEATURES", True): (1, 1, 0, NO, NO),
    ("RANDOM_FEATURES", False): (1, 1, 0, NO, NO),
}
CELLS = [(form, *cell) for form, table in (("multipliers", MULTIPLIERS), ("rescaled", RESCALED)) for cell in table]


def numbers(parameterization, role, optimizer, form="multipliers", **options):
    rule = scaling_rule(parameterization, role, N, L, input_dim=D, optimizer=optimizer, form=form, **options)
    return rule.init_std, rule.multiplier, rule.lr_scale, rule.epsilon_scale


@pytest.mark.parametrize(("form", "parameterization", "role"), CELLS)
def test_every_cell_of_the_table(form, parameterization, role):
    row = {"multipliers": MULTIPLIERS, "rescaled": RESCALED}[form][parameterization, role]
    assert_rules(row, parameterization, role, form)


def assert_rules(row, parameterization, role, form, **options):
    """That the rule of every optimizer that is covered has the numbers of a row."""
    std, multiplier, sgd, adam, epsilon = row
    wanted = {"sgd": (std, multiplier, sgd, 1), **dict.fromkeys(("adam", "adamw"), (std, multiplier, adam, epsilon))}
    for optimizer, expected in wanted.items():
        if expected[2] is not NO:
            found = numbers(parameterization, role, optimizer, form, **options)
            assert found == pytest.approx(expected, rel=1e-12), optimizer


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(("parameterization", "counted"), VECTORS)
def test_a_vector_is_an_input_layer_that_sees_one_number_and_knows_the_depth_in_a_branch(
    parameterization, counted, form
):
    for role in LayerRole:
        options = {"vector": True, "counted": counted, "fan_in": 900}
        assert_rules(VECTORS[parameterization, counted], parameterization, role, form, **options)


def test_the_tables_above_are_complete():
    cells = {(str(p), str(role)) for p in Parameterization for role in LayerRole}
    assert set(MULTIPLIERS) == set(RESCALED) == cells
    assert set(VECTORS) == {(str(p), counted) for p in Parameterization for counted in (True, False)}
    for p in Parameterization:
        adaptive = (OptimizerName.ADAM, OptimizerName.ADAMW)
        for table in (MULTIPLIERS, RESCALED):
            for role in LayerRole:
                sgd, adam = table[p, role][2:4]
                stated = (() if sgd is NO else (OptimizerName.SGD,)) + (() if adam is NO else adaptive)
                assert covered_optimizers(p) == stated


@pytest.mark.parametrize("parameterization", Parameterization)
@settings(derandomize=True, database=None, deadline=None, max_examples=30)
@given(sizes=st.tuples(st.integers(2, 10**5), st.integers(1, 500), st.integers(1, 10**4)))
def test_the_two_forms_are_one_network_rescaled(parameterization, sizes):
    """``a -> a s, b -> b/s``, SGD's rate ``-> c/s^2``, Adam's ``-> c/s``, epsilon ``-> s epsilon``, at every size."""
    width, depth, input_dim = sizes
    for role in LayerRole:
        for optimizer in covered_optimizers(parameterization):
            one, other = (
                scaling_rule(parameterization, role, width, depth, input_dim=input_dim, optimizer=optimizer, form=form)
                for form in Form
            )
            s = other.multiplier / one.multiplier
            sgd = optimizer == OptimizerName.SGD
            assert other.init_std == pytest.approx(one.init_std / s, rel=1e-12)
            assert other.lr_scale == pytest.approx(one.lr_scale / (s**2 if sgd else s), rel=1e-12)
            assert other.epsilon_scale == pytest.approx(one.epsilon_scale * (1 if sgd else s), rel=1e-12)


def test_residual_branches_are_multiplied_with_the_stated_power_of_the_depth():
    """``L^-alpha`` with alpha = 1/2 for Depth-muP and u-muP, 1 for CompleteP and 0 elsewhere."""
    found = {str(p): branch_multiplier(p, 16) for p in Parameterization}
    scaled = {"DEPTH_MUP": 1 / 4, "U_MUP": 1 / 4, "COMPLETE_P": 1 / 16}
    assert found == pytest.approx(dict.fromkeys(("SP", "NTP", "MUP", "RANDOM_FEATURES"), 1) | scaled)


def test_attention_is_scaled_by_the_head_where_features_learn_and_by_its_root_elsewhere():
    """arXiv:2203.03466, Sec. 4."""
    found = {str(p): attention_scale(p, 64) for p in Parameterization}
    aligned = ("MUP", "DEPTH_MUP", "COMPLETE_P", "U_MUP")
    usual = ("SP", "NTP", "RANDOM_FEATURES")
    assert found == pytest.approx(dict.fromkeys(aligned, 1 / 64) | dict.fromkeys(usual, 1 / 8), rel=1e-14)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("parameterization", ["NTP", "MUP", "DEPTH_MUP", "COMPLETE_P"])
def test_gamma0_divides_the_output_and_multiplies_the_rate_of_sgd_with_its_square(parameterization, form):
    """gamma_0 = 2: readout multiplier / 2, eta_0 gamma_0^2 at every layer; gradients, and so epsilon, shrink by 2."""
    for role in LayerRole:
        std, multiplier, sgd, _ = numbers(parameterization, role, "sgd", form)
        halved = multiplier / 2 if role == LayerRole.READOUT else multiplier
        assert numbers(parameterization, role, "sgd", form, gamma0=2.0) == pytest.approx((std, halved, 4 * sgd, 1))
        if parameterization != "NTP":
            _, _, adam, epsilon = numbers(parameterization, role, "adam", form)
            found = numbers(parameterization, role, "adam", form, gamma0=2.0)
            assert found == pytest.approx((std, halved, adam, epsilon / 2))


@pytest.mark.parametrize("parameterization", ["SP", "RANDOM_FEATURES"])
def test_gamma0_of_a_parameterization_that_has_none_raises_and_names_those_that_have(parameterization):
    known = "NTP, MUP, DEPTH_MUP, COMPLETE_P, U_MUP"
    with pytest.raises(ParameterizationError, match=rf"^gamma0 = 2.0: .*use {known} or leave gamma0 at 1$"):
        scaling_rule(parameterization, "readout", N, gamma0=2.0)


@pytest.mark.parametrize("parameterization", ["NTP", "RANDOM_FEATURES"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_an_optimizer_that_is_not_covered_raises_with_the_remedy(parameterization, optimizer):
    others = "SP, MUP, DEPTH_MUP, COMPLETE_P, U_MUP"
    remedy = rf"{parameterization} is stated for sgd only; use sgd, or one of {others} with {optimizer}$"
    for call in (
        lambda: scaling_rule(parameterization, "hidden", N, optimizer=optimizer),
        lambda: width_exponents(parameterization, optimizer, 3),
    ):
        with pytest.raises(ParameterizationError, match=remedy):
            call()


def test_u_mup_with_sgd_raises_with_the_remedy():
    remedy = (
        r"^optimizer = 'sgd': U_MUP is stated for adam and adamw only; use adam or adamw, or one of SP, NTP, MUP,"
        r" DEPTH_MUP, RANDOM_FEATURES, COMPLETE_P with sgd$"
    )
    with pytest.raises(ParameterizationError, match=remedy):
        scaling_rule("U_MUP", "hidden", N)


# Adam's factors under the choices of rates, in the form of unit variances: the table's, with 1/sqrt(L) = 1/4 at hidden
# layers or without; and those of the authors' code, gamma^2 = N for all layers, with 1/sqrt(L) at all or without.
CHOSEN_RATES = {
    ("MUP", "table", None): (1, 0.1, 1),
    ("MUP", "table", True): (1, 0.025, 1),
    ("MUP", "table", False): (1, 0.1, 1),
    ("DEPTH_MUP", "table", None): (1, 0.025, 1),
    ("DEPTH_MUP", "table", True): (1, 0.025, 1),
    ("DEPTH_MUP", "table", False): (1, 0.1, 1),
    ("SP", "table", True): (1, 0.25, 1),
    ("COMPLETE_P", "table", True): (1, 0.025, 1),
    ("COMPLETE_P", "table", False): (1, 0.1, 1),
    ("U_MUP", "table", None): (0.1, 0.025, 1),
    ("U_MUP", "table", False): (0.1, 0.1, 1),
    **{(name, "common", None): (100, 100, 100) for name in ("MUP", "DEPTH_MUP")},
    **{(name, "common", True): (25, 25, 25) for name in ("MUP", "DEPTH_MUP")},
    **{(name, "common", False): (100, 100, 100) for name in ("MUP", "DEPTH_MUP")},
}


@pytest.mark.parametrize(("parameterization", "layer_rates", "depth_rates"), CHOSEN_RATES)
def test_every_choice_of_adams_rates_and_that_nothing_else_depends_on_it(parameterization, layer_rates, depth_rates):
    """In the other form a rate is ``1/s`` of it; multiplier, initialisation and epsilon are those of the table."""
    choice = {"layer_rates": layer_rates, "depth_rates": depth_rates}
    for role, expected in zip(LayerRole, CHOSEN_RATES[parameterization, layer_rates, depth_rates], strict=True):
        for optimizer in ("adam", "adamw"):
            for form in Form:
                std, multiplier, _, epsilon = numbers(parameterization, role, optimizer, form)
                s = multiplier / numbers(parameterization, role, optimizer)[1]
                found = numbers(parameterization, role, optimizer, form, **choice)
                assert found == pytest.approx((std, multiplier, expected / s, epsilon), rel=1e-12)


def test_common_rates_hold_gamma0_and_count_what_gamma_counts():
    """gamma^2 = gamma_0^2 * (inputs of the readout), not the width."""
    options = {"gamma0": 0.5, "fan_in": 900, "gamma_fan_in": 1600, "layer_rates": "common"}
    for role in LayerRole:
        assert numbers("MUP", role, "adam", **options)[2] == pytest.approx(400, rel=1e-12)
        assert numbers("MUP", role, "adam", depth_rates=True, **options)[2] == pytest.approx(100, rel=1e-12)


def test_a_layer_that_the_depth_does_not_count_knows_it_from_common_rates_only():
    outside = {"counted": False, "depth_rates": True}
    assert numbers("DEPTH_MUP", "hidden", "adam", **outside)[2:] == pytest.approx((0.1, 0.001), rel=1e-12)
    assert numbers("DEPTH_MUP", "hidden", "adam", layer_rates="common", **outside)[2] == pytest.approx(25, rel=1e-12)


@pytest.mark.parametrize(
    ("parameterization", "optimizer", "choice", "message"),
    [
        (
            "SP",
            "adam",
            {"layer_rates": "common"},
            "^layer_rates = 'common': .*SP has no gamma; use MUP or DEPTH_MUP, or",
        ),
        (
            "COMPLETE_P",
            "adam",
            {"layer_rates": "common"},
            "^layer_rates = 'common': .*COMPLETE_P is not stated with it; use MUP or DEPTH_MUP, or",
        ),
        ("MUP", "sgd", {"layer_rates": "common"}, "^layer_rates = 'common': sgd has 'table' .*, or use adam or adamw$"),
        ("MUP", "sgd", {"depth_rates": False}, "^depth_rates = false: no rate of sgd .*, or use adam or adamw$"),
    ],
)
def test_choices_of_rates_that_do_not_exist_are_refused_with_the_remedy(parameterization, optimizer, choice, message):
    with pytest.raises(ParameterizationError, match=message):
        scaling_rule(parameterization, "hidden", N, optimizer=optimizer, **choice)


@pytest.mark.parametrize(("parameterization", "role"), [("MUPP", "input"), ("MUP", "middle")])
def test_unknown_names_raise(parameterization, role):
    with pytest.raises(ValueError, match="is not a valid"):
        scaling_rule(parameterization, role, N)


# --- exponents of the coordinate check --------------------------------------------------------------------------------

# Exponents in N of (activation, effective update, propagating update) for input, first and second hidden layer and
# readout, counted by hand. muP: every update is of order 1 although the readout starts at 1/sqrt(N). NTP: the output
# moves, the features do not. SP: the output blows up. Random features: only the readout moves.
EXPONENTS = {
    ("MUP", "sgd"): [(0, 0, NO), (0, 0, 0), (0, 0, 0), (-0.5, 0, 0)],
    ("MUP", "adam"): [(0, 0, NO), (0, 0, 0), (0, 0, 0), (-0.5, 0, 0)],
    ("NTP", "sgd"): [(0, -0.5, NO), (0, -0.5, -0.5), (0, -0.5, -0.5), (0, 0, 0)],
    ("SP", "sgd"): [(0, -0.5, NO), (0, 0.5, -0.5), (0, 0.5, 0.5), (0, 1, 1)],
    ("SP", "adam"): [(0, 0, NO), (0, 1, 0), (0, 1, 1), (0, 1, 1.5)],
    ("RANDOM_FEATURES", "sgd"): [(0, NO, NO), (0, NO, NO), (0, NO, NO), (0, 0, NO)],
}
WIDTHS = (64, 256, 1024)
SEEDS = range(3)


@pytest.mark.parametrize(("parameterization", "optimizer"), EXPONENTS)
def test_exponents_of_the_coordinate_check_are_those_counted_by_hand(parameterization, optimizer):
    found = width_exponents(parameterization, optimizer, 4)
    assert [layer.role for layer in found] == ["input", "hidden", "hidden", "readout"]
    rows = [(layer.activation, layer.effective_update, layer.propagating_update) for layer in found]
    assert rows == EXPONENTS[parameterization, optimizer]


def test_exponents_of_depth_mup_complete_p_and_adamw_are_those_of_mup_and_adam():
    for optimizer in OptimizerName:
        for other in ("DEPTH_MUP", "COMPLETE_P"):
            assert width_exponents(other, optimizer, 5) == width_exponents("MUP", optimizer, 5)
    assert width_exponents("SP", "adamw", 3) == width_exponents("SP", "adam", 3)


def test_exponents_of_u_mup_are_those_of_mup_but_for_an_input_layer_that_hardly_moves():
    found = width_exponents("U_MUP", "adam", 4)
    rows = [(layer.activation, layer.effective_update, layer.propagating_update) for layer in found]
    assert rows == [(0, -0.5, NO), (0, 0, -0.5), (0, 0, 0), (-0.5, 0, 0)]


def test_the_update_is_the_larger_of_its_two_parts():
    *_, readout = width_exponents("SP", "adam", 4)
    assert readout.update == 1.5
    assert width_exponents("RANDOM_FEATURES", "sgd", 2)[0].update is None


def test_exponents_of_a_chain_without_a_readout_raise():
    with pytest.raises(ValueError, match="^layers = 1: at least 2"):
        width_exponents("MUP", "sgd", 1)


def inputs_of_layers(network, x):
    """What goes into each weight layer, and the outputs."""
    seen = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].detach()))
        for layer in network.weighted.values()
    ]
    outputs = network(x)
    for hook in hooks:
        hook.remove()
    return seen, outputs


def one_step(network, optimizer, rate, x):
    """One step on ``<f, y>``, whose derivative by the outputs is the same at every width; features before and after."""
    y = torch.randn(1, 4, CLASSES, generator=generator(0, "outputs"), dtype=DOUBLE)
    before, outputs = inputs_of_layers(network, x[None])
    old = [layer.weight.detach().clone() for layer in network.weighted.values()]
    stepper = MemberOptimizer(network, optimizer, [rate])
    stepper.prepare(0)
    stepper.step(torch.autograd.grad((outputs * y).sum() / 4, stepper.weights))
    after, moved = inputs_of_layers(network, x[None])
    return before, after, old, outputs.detach(), moved.detach()


@cache
def measured_exponents(parameterization, optimizer, form):
    """Slopes of log rms in log N over the widths, mean over seeds; at a rate so small that a step is linear.

    ``[layers, 3]``; NaN where the rms is exactly 0. The input has 2 entries: SP moves the first layer in proportion to
    their number, and the others in proportion to N, which must be the larger one for the exponents to show.
    """

    def rms(z):
        size = float(z.square().mean().sqrt())
        return math.log(size) if size else math.nan

    spec = OptimizerSpec(name=optimizer, epsilon=0.0 if optimizer == "adam" else 1e-8)
    model = {"kind": "mlp", "depth": 3}
    x = torch.randn(4, 2, 1, 1, generator=generator(0, "inputs"), dtype=DOUBLE)
    table = []
    for width in WIDTHS:
        runs = []
        for seed in SEEDS:
            network = initialised(
                model,
                parameterization,
                width=width,
                seeds=[seed],
                optimizer=optimizer,
                form=form,
                input_shape=(2, 1, 1),
            )
            before, after, old, *_ = one_step(network, spec, 1e-6, x)
            runs.append(
                [
                    (
                        rms(layer.apply_weight(w, x0)),
                        rms(layer.apply_weight(layer.weight.detach() - w, x1)),
                        rms(layer.apply_weight(w, x1 - x0)),
                    )
                    for layer, w, x0, x1 in zip(network.weighted.values(), old, before, after, strict=True)
                ]
            )
        table.append(np.mean(runs, axis=0))
    logs = np.log(WIDTHS) - np.log(WIDTHS).mean()
    return np.tensordot(logs, table, 1) / (logs @ logs)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(("parameterization", "optimizer"), EXPONENTS)
def test_measured_exponents_are_the_stated_ones(parameterization, optimizer, form):
    """One step of an MLP of four layers at N = 64, 256, 1024. The exponents of different parameterizations differ by
    0.5 or more somewhere, so a tolerance of 0.15 tells them apart."""
    measured = measured_exponents(parameterization, optimizer, form)
    for index, (layer, row) in enumerate(zip(measured, EXPONENTS[parameterization, optimizer], strict=True)):
        for name, found, stated in zip(("activation", "effective", "propagating"), layer, row, strict=True):
            if stated is NO:
                assert math.isnan(found), (index, name)
            else:
                assert found == pytest.approx(stated, abs=0.15), (index, name)


FORM_CASES = [
    ("MUP", "sgd", {"kind": "mlp", "depth": 3}),
    ("MUP", "adam", {"kind": "convnet", "depth": 3}),
    ("NTP", "sgd", {"kind": "mlp", "depth": 3}),
    ("SP", "adam", {"kind": "mlp", "depth": 3}),
    ("RANDOM_FEATURES", "sgd", {"kind": "mlp", "depth": 3}),
    ("DEPTH_MUP", "sgd", {"kind": "mlp", "depth": 3, "tau": 1}),
    ("DEPTH_MUP", "adam", {"kind": "convnet", "depth": 3, "tau": 1, "layers_per_block": 2}),
    ("COMPLETE_P", "sgd", {"kind": "mlp", "depth": 3, "tau": 1}),
    ("COMPLETE_P", "adam", {"kind": "convnet", "depth": 3, "tau": 1, "layers_per_block": 2}),
    ("U_MUP", "adam", {"kind": "mlp", "depth": 3, "tau": 1}),
]


@pytest.mark.parametrize(("parameterization", "optimizer", "model"), FORM_CASES, ids=lambda value: str(value)[:40])
def test_both_forms_take_the_same_first_step(parameterization, optimizer, model):
    """Same numbers drawn, so the same function, the same outputs before and, to rounding, the same change of them."""
    x, _ = images(4, "one step")
    spec = OptimizerSpec(name=optimizer, **({} if optimizer == "sgd" else {"epsilon": 1e-3}))
    results = []
    for form in Form:
        network = initialised(model, parameterization, width=32, optimizer=optimizer, form=form)
        results.append(one_step(network, spec, 0.1, x))
    (*_, first, first_moved), (*_, second, second_moved) = results
    torch.testing.assert_close(second, first, rtol=1e-12, atol=1e-12 * float(first.abs().max()))
    change = first_moved - first
    assert float(change.abs().max()) > 1e-4
    torch.testing.assert_close(second_moved - second, change, rtol=0, atol=1e-12 * float(change.abs().max()))
