"""``featurespeed.sharpness``, ``hessian_trace`` and ``spectral_density`` on a user's module."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import featurespeed
from featurespeed import hessian_trace, sharpness, spectral_density
from featurespeed.curvature.objective import CurvatureError
from featurespeed.errors import UserError
from tests.curvature.cases import (
    CASES,
    Quadratic,
    dense,
    itself,
    largest,
    relative_error,
    seeded,
    symmetric,
    user_convnet,
    with_bulk,
)
from tests.probes.cases import DOUBLE, normal

SINGLE = [name for name, case in CASES.items() if case.members is None]
NOTHING = (torch.zeros(1), torch.zeros(1))
MEASURES = {
    "sharpness": lambda *arguments, **options: sharpness(*arguments, **options).eigenvalue,
    "trace": lambda *arguments, **options: hessian_trace(*arguments, **options).value,
    "density": lambda *arguments, **options: spectral_density(*arguments, 2, 5, **options).mean(),
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def linear(inputs=4, outputs=1, dtype=DOUBLE):
    """A linear model without bias."""
    return nn.Linear(inputs, outputs, bias=False, dtype=dtype)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_the_three_functions_on_a_users_module(name):
    case, hessian = CASES[name], dense(name).hessian
    result = sharpness(case.build(), case.loss, case.batch, k=3, tol=1e-10)
    assert relative_error(result.values, largest(hessian, 3)) < 1e-8
    assert result.converged is True and isinstance(result.products, int) and isinstance(result.eigenvalue, float)
    assert result.residual <= 1e-8 * result.eigenvalue and result.dtype == DOUBLE
    assert result.vectors.shape == (3, len(hessian))
    low = sharpness(case.build(), case.loss, case.batch, smallest=True, tol=1e-10)
    assert low.eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(hessian)[0]), rel=1e-8)
    found = hessian_trace(case.build(), case.loss, case.batch, 50)
    assert abs(found.value - float(hessian.trace())) < 4 * found.standard_error
    density = spectral_density(case.build(), case.loss, case.batch, 2, 30)
    assert float(density.nodes.max()) == pytest.approx(float(largest(hessian, 1)), rel=1e-3)


@pytest.mark.parametrize("matrix", ["gauss_newton", "residual"])
def test_other_matrices_on_a_users_module(matrix):
    case, wanted = CASES["attention"], getattr(dense("attention"), matrix)
    found = sharpness(case.build(), case.loss, case.batch, 2, 1e-10, matrix=matrix)
    assert relative_error(found.values, largest(wanted, 2)) < 1e-8


def test_sharpness_of_least_squares_is_that_of_the_inputs():
    """``mean (w^T x - y)^2`` has the Hessian ``2 X^T X / n``; the mean runs over the outputs, too."""
    x, y = normal(20, 4), normal(20, 3)
    model = linear(4, 3)
    top = torch.linalg.matrix_norm(x, 2) ** 2
    for matrix in ("hessian", "gauss_newton"):
        found = sharpness(model, functional.mse_loss, (x, y), tol=1e-10, matrix=matrix)
        assert found.eigenvalue == pytest.approx(float(2 * top / 60), rel=1e-10)
    assert sharpness(model, functional.mse_loss, (x, y), matrix="residual").eigenvalue == 0.0


def test_sharpness_of_logistic_regression():
    """``X^T diag(p (1 - p)) X / n``."""
    x, y, model = normal(20, 4), (normal(20, 1) > 0).double(), linear()
    p = torch.sigmoid(model(x)).detach()
    wanted = largest(x.T @ (p * (1 - p) * x) / 20, 2)
    found = sharpness(model, functional.binary_cross_entropy_with_logits, (x, y), 2, 1e-10)
    assert relative_error(found.values, wanted) < 1e-10


def test_sharpness_of_two_scalar_layers_is_closed_form():
    """``(a b x - y)^2`` has the Hessian ``[[2 b^2 x^2, c], [c, 2 a^2 x^2]]`` with ``c = 4 a b x^2 - 2 x y``."""
    model, (a, b, x, y) = nn.Sequential(linear(1), linear(1)), (0.7, -1.3, 2.0, 3.0)
    with torch.no_grad():
        model[0].weight.fill_(a)
        model[1].weight.fill_(b)
    c = 4 * a * b * x**2 - 2 * x * y
    wanted = torch.tensor([[2 * b**2 * x**2, c], [c, 2 * a**2 * x**2]], dtype=DOUBLE)
    batch = torch.full((1, 1), x, dtype=DOUBLE), torch.full((1, 1), y, dtype=DOUBLE)
    assert relative_error(sharpness(model, functional.mse_loss, batch, 2).values, largest(wanted, 2)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_sharpness_of_a_quadratic_ignores_a_dominant_negative_eigenvalue(dtype):
    model = Quadratic(symmetric(with_bulk(-40.0, 3.0)).to(dtype))
    result = sharpness(model, itself, NOTHING)
    assert result.eigenvalue == pytest.approx(3.0, rel=1e-3) and result.dtype == dtype
    assert sharpness(model, itself, NOTHING, smallest=True).eigenvalue == pytest.approx(-40.0, rel=1e-3)


@pytest.mark.parametrize("value", [2.5, 0.0, -2.5])
def test_a_single_parameter(value):
    model = Quadratic(torch.tensor([[value]], dtype=DOUBLE))
    result = sharpness(model, itself, NOTHING)
    assert result.eigenvalue == pytest.approx(value, rel=1e-12) and result.converged
    assert result.products == (1 if value else 2)  # 0 is tried again at another scale
    assert hessian_trace(model, itself, NOTHING).value == pytest.approx(value, rel=1e-12)
    assert spectral_density(model, itself, NOTHING).mean() == pytest.approx(value, rel=1e-12)


def test_a_loss_without_curvature_has_sharpness_zero():
    result = sharpness(linear(), lambda outputs, targets: (outputs * targets).mean(), (normal(5, 4), normal(5, 1)))
    assert result.eigenvalue == 0.0 and result.converged


def test_rates_put_the_eigenvalues_in_units_of_the_learning_rate():
    """Eigenvalues of ``D H``, with one factor a parameter, frozen ones left out."""
    case = CASES["attention"]
    model = case.build()
    factors = [0.5 + i % 3 for i, _ in enumerate(model.parameters())]
    d = torch.cat([torch.full((p.numel(),), f) for p, f in zip(model.parameters(), factors, strict=True)]).double()
    wanted = torch.linalg.eigvals(d[:, None] * dense("attention").hessian).real.max()
    found = sharpness(model, case.loss, case.batch, tol=1e-10, rates=factors)
    assert found.eigenvalue == pytest.approx(float(wanted), rel=1e-8)


def test_a_block_of_parameters():
    case = CASES["attention"]
    model = case.build()
    start = sum(p.numel() for p in list(model.parameters())[:3])
    block = dense("attention").hessian[start : start + model.mix.weight.numel()][:, start:][:, : 12 * 4]
    options = {"parameters": [model.mix.weight]}
    found = sharpness(model, case.loss, case.batch, 2, 1e-10, **options)
    assert relative_error(found.values, largest(block, 2)) < 1e-8
    estimate = hessian_trace(model, case.loss, case.batch, 100, **options)
    assert abs(estimate.value - float(block.trace())) < 4 * estimate.standard_error
    nodes = spectral_density(model, case.loss, case.batch, 1, 48, **options).nodes
    assert float(nodes.max()) == pytest.approx(float(largest(block, 1)), rel=1e-6)


# --- what must not matter ---------------------------------------------------------------------------------------------


@every_measure
@pytest.mark.parametrize("name", ["user's ConvNet", "attention"])
def test_batches_and_micro_batches_do_not_matter(measure, name):
    case = CASES[name]
    wanted = measure(case.build(), case.loss, case.batch)
    parts = list(zip(case.inputs.split([1, 3, len(case.inputs) - 4]), case.targets.split(
        [1, 3, len(case.targets) - 4]), strict=True))  # fmt: skip
    parts = [pair for pair in parts if len(pair[1])]
    for batch, options in ((parts, {}), (parts[:1] + parts[1:], {"micro_batch": 2}), (case.batch, {"micro_batch": 1})):
        assert measure(case.build(), case.loss, batch, **options) == pytest.approx(wanted, rel=1e-9)
    weighted = measure(case.build(), case.loss, parts, batch_weight=lambda targets: 7.0 * len(targets))
    assert weighted == pytest.approx(wanted, rel=1e-9)


@every_measure
def test_a_data_loader_may_stand_for_the_batches(measure):
    case = CASES["user's ConvNet"]
    data = torch.utils.data.TensorDataset(*case.batch)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    assert measure(case.build(), case.loss, loader) == pytest.approx(
        measure(case.build(), case.loss, case.batch), rel=1e-9
    )


@every_measure
def test_training_mode_does_not_matter(measure):
    case = CASES["user's ConvNet"]
    training, evaluating = case.build().train(), case.build().eval()
    found, wanted = (measure(model, case.loss, case.batch) for model in (training, evaluating))
    assert found == wanted
    assert training.training and not evaluating.training


@every_measure
def test_the_model_is_left_untouched(measure):
    """Weights, statistics, gradients, modes of every module, what requires a gradient, and the random numbers."""
    case, model = CASES["user's ConvNet"], seeded(user_convnet)
    model[1].eval()
    model[3].weight.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    measure(model, case.loss, case.batch)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert bool((model[0].weight.grad == 1).all())
    assert all(p.grad is None for name, p in model.named_parameters() if name != "0.weight")
    assert [p.requires_grad for p in model[3].parameters()] == [False]


@every_measure
def test_it_works_where_gradients_are_switched_off(measure):
    case = CASES["attention"]
    with torch.no_grad():
        found = measure(case.build(), case.loss, case.batch)
        assert not torch.is_grad_enabled()
    assert found == measure(case.build(), case.loss, case.batch)


def test_float32_agrees_with_float64():
    for name in ("user's ConvNet", "attention", "encoder layer"):
        case = CASES[name]
        inputs = case.inputs.float() if case.inputs.is_floating_point() else case.inputs
        found = sharpness(case.build().float(), case.loss, (inputs, case.targets), 2, 1e-6)
        assert found.dtype == torch.float32
        assert relative_error(found.values, largest(dense(name).hessian, 2)) < 1e-5


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton", "residual"])
def test_what_is_kept_between_products_is_never_rounded_to_tf32(matrix):
    """Else the Rayleigh quotient in full precision would be that of another matrix."""
    allowed = []

    class Recording(nn.Linear):
        def forward(self, x):
            allowed.append(torch.backends.cuda.matmul.allow_tf32)
            return super().forward(x)

    model = nn.Sequential(Recording(4, 3, dtype=DOUBLE), nn.Tanh(), linear(3))
    exact = sharpness(model, functional.mse_loss, BATCH, tol=1e-10, matrix=matrix)
    found = sharpness(model, functional.mse_loss, BATCH, tol=1e-10, matrix=matrix, allow_tf32=True)
    assert found.eigenvalue == pytest.approx(exact.eigenvalue, rel=1e-12)
    assert allowed and not any(allowed)


@pytest.mark.parametrize("k", [1, 4])
def test_a_warm_start_from_an_earlier_result(k):
    """Of several values it needs fewer products; of one, the search for another one takes them."""
    case = CASES["user's ConvNet"]
    model = case.build()
    cold = sharpness(model, case.loss, case.batch, k)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.001)
    warm, again = (sharpness(model, case.loss, case.batch, k, start=start) for start in (cold, None))
    assert warm.warm and not again.warm and warm.converged
    assert k == 1 or warm.products < again.products
    torch.testing.assert_close(warm.values, again.values, rtol=1e-3, atol=0)


# --- errors -----------------------------------------------------------------------------------------------------------


def _with_weight(value):
    model = nn.Sequential(linear(4, 3), linear(3, 1))
    model[1].weight.data[0, 1] = value
    return model


BATCH = normal(5, 4), normal(5, 1)
ERRORS = {
    "NaN weight": (
        lambda: sharpness(_with_weight(math.nan), functional.mse_loss, BATCH),
        "1.weight: 1 of 3 weights are NaN or infinite; the network has diverged",
    ),
    "infinite weight": (
        lambda: hessian_trace(_with_weight(-math.inf), functional.mse_loss, BATCH),
        "1.weight: 1 of 3 weights are NaN or infinite; the network has diverged",
    ),
    "empty batch": (
        lambda: sharpness(linear(), functional.mse_loss, (torch.zeros(0, 4), torch.zeros(0, 1))),
        "batch: 0 examples",
    ),
    "no batches": (
        lambda: spectral_density(linear(), functional.mse_loss, []),
        "batch: 0 examples",
    ),
    "not a pair": (
        lambda: sharpness(linear(), functional.mse_loss, [normal(5, 4)]),
        "batch: Tensor, allowed: (inputs, targets), or a list of such pairs",
    ),
    "k too large": (
        lambda: sharpness(linear(), functional.mse_loss, BATCH, k=5),
        "k = 5: allowed: 1 to the 4 dimensions of the operator",
    ),
    "k = 0": (
        lambda: sharpness(linear(), functional.mse_loss, BATCH, k=0),
        "k = 0: allowed: 1 to the 4 dimensions of the operator",
    ),
    "tol = 0": (lambda: sharpness(linear(), functional.mse_loss, BATCH, tol=0.0), "tol = 0.0: allowed: above 0"),
    "tol < 0": (lambda: sharpness(linear(), functional.mse_loss, BATCH, tol=-1.0), "tol = -1.0: allowed: above 0"),
    "frozen": (
        lambda: sharpness(linear().requires_grad_(False), functional.mse_loss, BATCH),
        "parameters: none of the model's requires a gradient, at least one must",
    ),
    "no parameters": (
        lambda: sharpness(nn.ReLU(), functional.mse_loss, BATCH),
        "parameters: none of the model's requires a gradient, at least one must",
    ),
    "another model's start": (
        lambda: sharpness(
            linear(), functional.mse_loss, BATCH, start=sharpness(Quadratic(symmetric([1.0, 2.0])), itself, NOTHING)
        ),
        "start: of 2 dimensions, allowed: 4",
    ),
    "not a scalar": (
        lambda: sharpness(linear(), lambda f, y: (f - y).square(), BATCH),
        "loss: returned 5 values, allowed: one a network, 1",
    ),
    "infinite loss": (
        lambda: sharpness(linear(), lambda f, y: (f - y).square().mean() / 0, BATCH),
        "loss: [inf] on this batch, finite values are needed",
    ),
    "NaN loss": (
        lambda: hessian_trace(linear(), lambda f, y: (f - y).mean() * math.nan, BATCH),
        "loss: [nan] on this batch, finite values are needed",
    ),
    "unknown matrix": (
        lambda: sharpness(linear(), functional.mse_loss, BATCH, matrix="fisher"),
        "matrix = 'fisher': allowed: hessian, gauss_newton, residual",
    ),
    "rates": (
        lambda: sharpness(linear(), functional.mse_loss, BATCH, rates=[1.0, 2.0]),
        "rates: 2 given, allowed: one a parameter, 1",
    ),
    "micro_batch": (
        lambda: sharpness(linear(), functional.mse_loss, BATCH, micro_batch=0),
        "micro_batch = 0: allowed: at least 1",
    ),
    "one vector": (
        lambda: hessian_trace(linear(), functional.mse_loss, BATCH, vectors=1),
        "vectors = 1: allowed: at least 2, for a standard error",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS)
def test_what_cannot_be_measured_is_one_clear_line(call, message):
    with pytest.raises(CurvatureError) as error:
        call()
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert isinstance(error.value, UserError) and isinstance(error.value, ValueError)


def test_derivatives_that_overflow_are_one_clear_line():
    """``|w|^1.5`` has a finite gradient but no second derivative at 0."""
    model = Quadratic(torch.eye(2, dtype=DOUBLE))
    with torch.no_grad():
        model.w.zero_()
    with pytest.raises(CurvatureError, match="^a product with the operator is .*: derivatives overflow"):
        sharpness(model, lambda outputs, targets: model.w.pow(1.5).sum() + 0 * outputs, NOTHING)


@pytest.mark.parametrize("matrix", ["gauss_newton", "residual"])
def test_a_model_without_one_output_has_no_gauss_newton_matrix(matrix):
    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    def loss(outputs, targets):
        return functional.mse_loss(outputs[0], targets)

    model = Pair(4, 1, bias=False, dtype=DOUBLE)
    assert sharpness(model, loss, BATCH).eigenvalue > 0
    with pytest.raises(CurvatureError, match="^model: returned tuple, allowed for this operator: one tensor$"):
        sharpness(model, loss, BATCH, matrix=matrix)


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton", "residual"])
def test_a_parameter_on_which_the_loss_does_not_depend_has_no_curvature(matrix):
    model = nn.Sequential(linear())
    model.register_parameter("unused", nn.Parameter(torch.ones(3, dtype=DOUBLE)))
    whole = sharpness(model, functional.mse_loss, BATCH, 7, matrix=matrix)
    assert whole.values.shape == (7,) and float(whole.values.abs().min()) < 1e-12
    alone = sharpness(model, functional.mse_loss, BATCH, matrix=matrix, parameters=[model.unused])
    assert alone.eigenvalue == 0.0 and alone.converged


def test_an_unconverged_result_is_returned_and_says_so():
    case = CASES["user's ConvNet"]
    result = sharpness(case.build(), case.loss, case.batch, tol=1e-10, max_products=11)
    assert not result.converged and result.products == 11


def test_the_public_names_are_those_of_the_package():
    assert {"sharpness", "hessian_trace", "spectral_density"} <= set(dir(featurespeed))
