"""Operators equal dense matrices, whatever the model, the loss and the way in which the batch is cut."""

import gc
import math
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.operators import (
    GaussNewton,
    Hessian,
    Negative,
    NeuralTangentKernel,
    Residual,
    Scaled,
)
from featurespeed.training.optimizers import MemberOptimizer
from featurespeed.training.spec import OptimizerSpec
from tests.curvature.cases import (
    CASES,
    CLASSES,
    IMAGE,
    NETWORKS,
    Attention,
    Case,
    Matrices,
    assert_same,
    dense,
    dense_of,
    encoder,
    network_case,
    relative_error,
    seeded,
    symmetric,
    token_cross_entropy,
    tokens,
    user_convnet,
)
from tests.probes.cases import DOUBLE, normal
from tests.training.cases import MLP, RESIDUAL_MLP, initialised

MATRICES = {"hessian": Hessian, "gauss_newton": GaussNewton, "residual": Residual}
every_case = pytest.mark.parametrize("name", CASES)
every_matrix = pytest.mark.parametrize("matrix", MATRICES)
splits = pytest.mark.parametrize(
    "sizes", [[1, 5], [2, 3, 1], [6]], ids=lambda sizes: "+".join(str(size) for size in sizes)
)


def products(operator, vectors):
    """Operator times vectors ``[count, E, size]``."""
    return torch.stack([operator.matvec(v) for v in vectors])


def full(operator):
    """All entries, ``[E, size, size]``."""
    basis = torch.eye(operator.size, dtype=operator.dtype).unsqueeze(1).expand(-1, operator.members, -1)
    return products(operator, basis).permute(1, 2, 0)


# --- against dense matrices -------------------------------------------------------------------------------------------


@every_matrix
@every_case
def test_products_are_those_with_the_dense_matrix(name, matrix):
    operator = MATRICES[matrix](CASES[name].objective())
    vectors = normal(3, operator.members, operator.size)
    found = products(operator, vectors)
    for member in range(operator.members):
        wanted = vectors[:, member] @ getattr(dense(name, member), matrix)
        assert_same(found[:, member], wanted)


@pytest.mark.parametrize("name", ["residual MLP, mse", "ConvNet, cross_entropy", "attention", "user's ConvNet"])
def test_the_kernel_is_j_d_jt_over_the_number_of_examples(name):
    case = CASES[name]
    examples = len(case.targets) if case.members is None else case.targets.shape[1]
    for rates in (1.0, 0.5, normal(1, case.objective().size).square()):
        operator = NeuralTangentKernel(case.objective(), rates)
        vectors = normal(2, operator.members, operator.size)
        for member in range(operator.members):
            j = dense(name, member).jacobian
            kernel = (j * rates) @ j.T / examples
            assert_same(products(operator, vectors)[:, member], vectors[:, member] @ kernel)


def test_eigenvalues_of_the_kernel_are_those_of_gauss_newton_for_half_the_squared_error():
    case = CASES["ConvNet, mse"]
    rates = normal(1, case.objective().size, seed=3).square()
    kernel = largest_eigenvalues(NeuralTangentKernel(case.objective(), rates), 4, tol=1e-10)
    matrix = largest_eigenvalues(Scaled(GaussNewton(case.objective()), rates), 4, tol=1e-10)
    for one, other in zip(kernel, matrix, strict=True):
        assert relative_error(one.values, other.values) < 1e-10


@pytest.mark.parametrize("name", ["two-layer linear, mse", "MLP, cross_entropy", "attention"])
def test_the_gauss_newton_matrix_has_no_negative_eigenvalues(name):
    found = largest_eigenvalues(Negative(GaussNewton(CASES[name].objective())), tol=1e-6)[0]
    top = largest_eigenvalues(GaussNewton(CASES[name].objective()))[0]
    assert found.eigenvalue == pytest.approx(0.0, abs=1e-12 * top.eigenvalue)


BLOCKS = {
    "attention": ("mix.weight", "norm.bias", "readout.weight"),
    "residual ConvNet, mse": ("0.layer.weight", "2.layers.0.weight"),
}


@every_matrix
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_that_of_the_dense_matrix(name, matrix):
    """By one layer's parameters only, on a user's module and in an ensemble."""
    case, start = CASES[name], 0
    model = case.build()
    whole = [getattr(dense(name, member), matrix) for member in range(case.members or 1)]
    scale = float(
        dense(name).hessian.abs().max()
    )  # the residual block of a layer on which outputs depend linearly is 0
    for parameter_name, parameter in model.named_parameters():
        stop = start + parameter.numel() // (case.members or 1)
        if parameter_name in BLOCKS[name]:
            operator = MATRICES[matrix](case.objective(model, parameters=[parameter]))
            wanted = torch.stack([m[start:stop, start:stop] for m in whole])
            assert_same(full(operator), wanted, rtol=1e-12, scale=scale)
        start = stop


def test_a_parameter_that_requires_no_gradient_is_a_constant():
    case = CASES["attention"]
    model = case.build()
    model.embed.requires_grad_(False)
    frozen = model.embed.weight.numel()
    assert_same(full(Hessian(case.objective(model)))[0], dense("attention").hessian[frozen:, frozen:])


def test_products_in_float32_are_off_by_rounding_only():
    for name in ("ConvNet, cross_entropy", "attention", "user's ConvNet"):
        case = CASES[name]
        inputs = case.inputs.float() if case.inputs.is_floating_point() else case.inputs
        objective = case.objective(case.build().float(), (inputs, case.targets))
        vectors = normal(2, objective.members, objective.size)
        for matrix, build in MATRICES.items():
            found = products(build(objective), vectors.float())
            assert found.dtype == torch.float32
            assert_same(found[:, 0].double(), vectors[:, 0] @ getattr(dense(name), matrix), rtol=1e-5)


# --- units of the learning rate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameterization", ["MUP", "DEPTH_MUP", "NTP"])
def test_in_units_of_the_learning_rate_the_hessian_is_gamma_squared_times_itself(parameterization):
    """gamma^2 = gamma_0^2 N for muP and Depth-muP, gamma_0^2 for NTP (arXiv:2402.17457, Sec. 2)."""
    gamma0, width = 0.5, 3
    options = {"width": width, "input_shape": IMAGE, "classes": CLASSES, "gamma0": gamma0}
    case = network_case(RESIDUAL_MLP, "cross_entropy", members=1)
    network = initialised(RESIDUAL_MLP, parameterization, **options)
    objective = case.objective(network, parameters=network.trained)
    rates = objective.fill([layer.rule.lr_scale for layer in network.weighted.values()])
    gamma2 = gamma0**2 * (1 if parameterization == "NTP" else width)
    v = normal(1, objective.size)
    assert_same(Scaled(Hessian(objective), rates).matvec(v), gamma2 * Hessian(objective).matvec(v), rtol=1e-12)


@pytest.mark.parametrize("parameterization", ["MUP", "DEPTH_MUP", "NTP"])
def test_both_forms_of_a_parameterization_have_the_same_sharpness(parameterization):
    """Weights are rescaled by layer, so only in units of each layer's learning rate is the curvature the same."""
    case, found, plain = network_case(RESIDUAL_MLP, "cross_entropy", members=1), [], []
    for form in ("multipliers", "rescaled"):
        options = {"width": 4, "input_shape": IMAGE, "classes": CLASSES, "form": form}
        network = initialised(RESIDUAL_MLP, parameterization, **options)
        objective = case.objective(network, parameters=network.trained)
        rates = objective.fill([layer.rule.lr_scale for layer in network.weighted.values()])
        found.append(largest_eigenvalues(Scaled(Hessian(objective), rates), 3, tol=1e-10)[0].values)
        plain.append(largest_eigenvalues(Hessian(objective), 1, tol=1e-10)[0].eigenvalue)
    assert relative_error(*found) < 1e-6  # the initial weights are float32 numbers times another constant
    assert plain[0] != pytest.approx(plain[1], rel=0.1)


def test_the_preconditioned_hessian_has_the_eigenvalues_of_d_p_inverse_h():
    """``P_t = (1 - b1^t) [diag sqrt(v_t / (1 - b2^t)) + eps]`` after some steps of Adam; not symmetric, unlike ours."""
    case = network_case(MLP, "cross_entropy", "MUP", members=1)
    options = {"width": 3, "input_shape": IMAGE, "classes": CLASSES, "optimizer": "adam"}
    network = initialised(MLP, "MUP", **options)
    spec = OptimizerSpec(name="adam", betas=(0.9, 0.99), epsilon=1e-6, epsilon_by_layer=False)
    optimizer, steps = MemberOptimizer(network, spec, [0.01]), 4
    for step in range(steps):
        gradients = torch.autograd.grad(case.loss(network(case.inputs), case.targets).sum(), network.trained)
        optimizer.prepare(step)
        optimizer.step(gradients)
    objective = case.objective(network, parameters=network.trained)
    second = objective.flatten(optimizer.state["second"])
    p = (1 - 0.9**steps) * ((second / (1 - 0.99**steps)).sqrt() + 1e-6)
    rates = objective.fill([layer.rule.lr_scale for layer in network.weighted.values()]) / p
    hessian = dense_of(Case(lambda: network, case.loss, *case.batch, members=1)).hessian
    wanted = torch.linalg.eigvals(rates[0][:, None] * hessian).real.sort(descending=True).values[:3]
    found = largest_eigenvalues(Scaled(Hessian(objective), rates), 3, tol=1e-10)[0]
    assert relative_error(found.values, wanted) < 1e-8


def test_rates_may_be_a_number_or_one_row_a_member_but_not_negative():
    inner = Matrices(torch.stack([symmetric([3.0, 1.0, -2.0]), symmetric([5.0, 1.0, 0.0])]))
    v = normal(2, 3)
    assert_same(Scaled(inner, 4.0).matvec(v), 4 * inner.matvec(v))
    rows = normal(2, 3, seed=1).square()
    assert_same(Scaled(inner, rows).matvec(v), rows.sqrt() * inner.matvec(rows.sqrt() * v))
    for bad in (-1.0, math.nan, torch.tensor([[1.0, math.inf, 1.0]])):
        with pytest.raises(CurvatureError, match="^rates: .* finite and not negative, allowed: at least 0$"):
            Scaled(inner, bad)


# --- invariance -------------------------------------------------------------------------------------------------------


@splits
@pytest.mark.parametrize("name", ["MLP, cross_entropy", "ConvNet, mse", "user's ConvNet", "encoder layer"])
def test_products_are_invariant_to_the_split_into_batches(name, sizes):
    """A mean over batches of their means is not the mean: batches count by their size."""
    case = CASES[name]
    dim = 0 if case.members is None else 1
    batches = list(zip(case.inputs.split(sizes, dim), case.targets.split(sizes, dim), strict=True))
    whole, parts = case.objective(), case.objective(batch=batches)
    v = normal(whole.members, whole.size)
    for build in MATRICES.values():
        assert_same(build(parts).matvec(v), build(whole).matvec(v), rtol=1e-12)
    assert_same(parts.gradient(), whole.gradient(), rtol=1e-12)
    kernel = NeuralTangentKernel(whole)
    assert largest_eigenvalues(NeuralTangentKernel(parts), tol=1e-10)[0].eigenvalue == pytest.approx(
        largest_eigenvalues(kernel, tol=1e-10)[0].eigenvalue, rel=1e-10
    )


@pytest.mark.parametrize("size", [1, 4, 6, 100])
@pytest.mark.parametrize("name", ["residual ConvNet, cross_entropy", "members on tokens", "attention"])
def test_products_are_invariant_to_micro_batches(name, size):
    case = CASES[name]
    whole, parts = case.objective(), case.objective(micro_batch=size)
    examples = case.targets.shape[0 if case.members is None else 1]
    assert len(parts.chunks) == math.ceil(examples / size)
    v = normal(whole.members, whole.size)
    for build in MATRICES.values():
        assert_same(build(parts).matvec(v), build(whole).matvec(v), rtol=1e-12)


def test_a_mean_over_tokens_counts_tokens_and_leaves_out_padding():
    model = seeded(Attention)
    x, y = tokens(4, 5), tokens(4, 5, seed=1)
    y[0, 1:], y[2] = -1, -1  # one token is left of the first sequence, none of the third
    whole = Objective(model, token_cross_entropy, (x, y))
    v = normal(1, whole.size)
    counted = Objective(
        model, token_cross_entropy, (x, y), micro_batch=1, batch_weight=lambda targets: (targets >= 0).sum()
    )
    assert_same(Hessian(counted).matvec(v), Hessian(whole).matvec(v), rtol=1e-12)


@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
def test_a_member_of_an_ensemble_has_the_products_of_the_network_alone(model):
    case = network_case(model, "cross_entropy", members=3)
    network = case.build()
    v = normal(3, case.objective(network).size)
    for build in MATRICES.values():
        together = build(case.objective(network)).matvec(v)
        for member in range(3):
            own = slice(member, member + 1)
            one = Objective(network.take([member]), case.loss, (case.inputs[own], case.targets[own]), members=1)
            assert_same(together[own], build(one).matvec(v[own]), rtol=1e-12)


def test_another_members_weights_do_not_matter():
    case = CASES["MLP, cross_entropy"]
    network = case.build()
    v = normal(2, case.objective(network).size)
    before = Hessian(case.objective(network)).matvec(v)
    with torch.no_grad():
        for weight in network.trained:
            weight[1] *= 1.5
    after = Hessian(case.objective(network)).matvec(v)
    assert_same(after[0], before[0], rtol=1e-12)
    assert not torch.allclose(after[1], before[1], rtol=1e-2)


@pytest.mark.parametrize("build", [user_convnet, encoder], ids=["BatchNorm and Dropout", "attention with Dropout"])
def test_training_mode_does_not_matter_and_is_kept(build):
    """Whichever mode each module is in, also after a failure."""
    model = seeded(build)
    name = "user's ConvNet" if build is user_convnet else "encoder layer"
    case, mixed = CASES[name], list(model.modules())[::2]
    for module in mixed:
        module.training = False
    modes = [module.training for module in model.modules()]
    assert True in modes and False in modes
    v = normal(1, case.objective(model).size)
    for matrix, operator in MATRICES.items():
        assert_same(operator(case.objective(model)).matvec(v)[0], getattr(dense(name), matrix) @ v[0])
    with pytest.raises(RuntimeError, match="halfway"), case.objective(model).differentiable():
        assert not any(module.training for module in model.modules())
        raise RuntimeError("halfway")
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("name", ["user's ConvNet", "attention"])
def test_the_vectors_of_a_product_are_left_alone_and_results_are_not_shared(name):
    operator = Hessian(CASES[name].objective())
    v = normal(1, operator.size)
    before, first = v.clone(), operator.matvec(v)
    kept = first.clone()
    operator.matvec(normal(1, operator.size, seed=1)).zero_()
    assert torch.equal(v, before) and torch.equal(first, kept)


def test_the_kernel_leaves_statistics_and_random_numbers_alone():
    """Its shape is found by a pass through the model: not in training mode, which would update BatchNorm."""
    model = seeded(user_convnet)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    NeuralTangentKernel(CASES["user's ConvNet"].objective(model))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_vectors_and_tensors_of_parameters_are_one_row_a_member():
    objective = CASES["MLP, mse"].objective()
    v = normal(2, objective.size)
    parts = objective.unflatten(v)
    assert [part.shape for part in parts] == [p.shape for p in objective.parameters]
    assert torch.equal(objective.flatten(parts), v)
    assert torch.equal(parts[0][1].flatten(), v[1, : parts[0][1].numel()])
    values = [i + 0.1 for i, _ in enumerate(objective.space.sizes)]  # not a float32 number
    wanted = torch.cat([torch.full((n,), v, dtype=DOUBLE) for v, n in zip(values, objective.space.sizes, strict=True)])
    assert torch.equal(objective.fill(values), wanted[None])


@pytest.mark.parametrize("kind", [Hessian, GaussNewton, Residual, NeuralTangentKernel], ids=lambda k: k.__name__)
def test_a_graph_goes_with_its_operator(kind):
    """Not when Python next collects cycles: on a GPU the graphs of a whole trajectory would pile up."""
    model = nn.Linear(3, 2)
    operator = kind(Objective(model, functional.cross_entropy, (torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))))
    operator.matvec(torch.randn(1, operator.size))
    gone = weakref.ref(operator)
    gc.disable()
    try:
        del operator
        assert gone() is None
    finally:
        gc.enable()
