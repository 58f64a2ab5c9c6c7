"""The theorems and the known discrepancies of arXiv:2311.18718, tested directly.

Every case is a small experiment with its own control where one is needed; the ledger's criteria say which numbers must
come out. Identities run in float64; each row is one seed.
"""

import math
from collections.abc import Callable, Iterator

import pandas as pd
import torch
from torch import Tensor, nn

from featurespeed.models.mlp import Linear, build_residual_mlp, hidden_std
from featurespeed.papers.feature_speed.theorems.spec import TheoremsSpec
from featurespeed.pipeline.stage import progress, run_stage
from featurespeed.probes import measure_feature_speed
from featurespeed.probes.backward_speed import measure_backward_speed
from featurespeed.probes.chain import Chain, descent_velocity
from featurespeed.probes.kernel import backward_feature_kernel, cos_bfa_of_kernel, summarize_kernel
from featurespeed.probes.residual_mlp import DenseNetwork, SeriesProbe, draw_dense_network
from featurespeed.probes.sampler import Network, sample_networks
from featurespeed.randomness import generator
from featurespeed.records import frame
from featurespeed.training.layerwise import train_layerwise

Rows = Iterator[dict]
BRANCH_LAWS: dict[str, Callable[[int], float]] = {"MLP": lambda depth: 1.0, "ResNet": lambda depth: depth**-0.5}


def quadratic(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of ``|f - y|^2 / 2``."""
    return (outputs - targets).square().sum() / (2 * len(outputs))


def linear_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """``<f, y>``: its gradient is the constant y."""
    return (outputs * targets).sum()


def row(spec: TheoremsSpec, case: str, series: str, quantity: str, value, seed: int, **keys) -> dict:
    """One record of this stage; ``depth`` defaults to the smallest."""
    keys = {"width": spec.width, "depth": min(spec.depths), "estimator": "jvp", "branch_scale": math.nan} | keys
    keys |= {"c": keys["branch_scale"] * keys["depth"] ** 0.5, "layer": keys.get("layer", keys["depth"] - 1)}
    keys |= {"input_dim": spec.input_dim, "output_dim": keys.get("output_dim", 1), "case": case, "series": series}
    return keys | {"quantity": quantity, "value": float(value), "seed": seed}


def network(
    spec: TheoremsSpec, case: str, seed: int, depth: int, beta: float, *, frozen_ends: bool = True, **options
) -> nn.Sequential:
    """One float64 network of a case; the figures' setting freezes embedding and readout."""
    options = {"width": spec.width, "input_dim": spec.input_dim, "dtype": torch.float64} | options
    stream = generator(spec.seed, case, "weights", depth, seed)
    layers = build_residual_mlp(depth=depth, branch_scale=beta, generator=stream, **options)
    if frozen_ends:
        layers[0].weight.requires_grad_(False)
        layers[-1].weight.requires_grad_(False)
    return layers


def batch(spec: TheoremsSpec, case: str, seed: int, n_inputs: int) -> tuple[Tensor, Tensor]:
    """Gaussian inputs of norm about 1 and Gaussian targets, ``[n, d]`` and ``[n, 1]``."""
    stream = generator(spec.seed, case, "batch", seed)
    x = torch.randn(n_inputs, spec.input_dim, generator=stream, dtype=torch.float64) / spec.input_dim**0.5
    return x, torch.randn(n_inputs, 1, generator=stream, dtype=torch.float64)


# --- Theorem 2.1 ------------------------------------------------------------------------------------------------------


def formula_along_training(spec: TheoremsSpec, seed: int) -> Rows:
    """Largest error of the formula over the cut nodes at every step of training; control: speeds of shuffled layers."""
    case = "formula"
    for series, law in BRANCH_LAWS.items():
        depth = min(spec.depths)
        layers = network(spec, case, seed, depth, law(depth), frozen_ends=False)
        data = batch(spec, case, seed, spec.n_inputs)
        for step in range(spec.training_steps + 1):
            result = measure_feature_speed(layers, quadratic, data)
            keys = {"step": step, "n_inputs": spec.n_inputs, "depth": depth}
            yield row(spec, case, series, "formula_error", result.formula_error.max(), seed, **keys)
            shuffled = result.feature_speed.roll(1) * result.cos * result.backward_norm / result.loss_decay
            yield row(spec, f"{case}, shuffled", series, "formula_error", (shuffled - 1).abs().max(), seed, **keys)
            with torch.no_grad():
                loss = float(quadratic(layers(data[0]), data[1]))
            descend(layers, 0.1 * loss * result.learning_rate, data)


def descend(layers: nn.Sequential, learning_rates: Tensor, data: tuple[Tensor, Tensor]) -> None:
    """One layer-wise gradient step in place."""
    chain = Chain(layers)
    _, _, gradients = chain.backward(chain.parameters, *data, quadratic)
    with torch.no_grad():
        for layer, velocity in zip(layers, descent_velocity(gradients, learning_rates), strict=True):
            for name, parameter in layer.named_parameters():
                if name in velocity:
                    parameter += velocity[name]


def loss_velocity(spec: TheoremsSpec, seed: int) -> Rows:
    """``dLoss/dt`` over the sum of ``eta_l |grad_l|^2``: the sign of Sec. 2's loss decay."""
    case, depth = "loss velocity", min(spec.depths)
    layers = network(spec, case, seed, depth, 1.0, frozen_ends=False)
    x, y = batch(spec, case, seed, spec.n_inputs)
    result = measure_feature_speed(layers, quadratic, (x, y))
    chain = Chain(layers)
    features, backwards, gradients = chain.backward(chain.parameters, x, y, quadratic)
    velocity = chain.velocity(chain.parameters, x, descent_velocity(gradients, result.learning_rate))
    ratio = (velocity[-1] * backwards[-1]).sum() / result.loss_decay[-1]
    yield row(spec, case, "MLP", "velocity_ratio", ratio, seed, n_inputs=spec.n_inputs)


# --- Theorem 3.2 ------------------------------------------------------------------------------------------------------


def kernel_spectrum(spec: TheoremsSpec, seed: int) -> Rows:
    """Cosine, M1/sqrt(M2) and condition number of the kernel at ``f_{L-1}``; control: b in the top eigenspace."""
    case, depth = "kernel", min(spec.depths)
    for series, law in BRANCH_LAWS.items():
        layers = network(spec, case, seed, depth, law(depth), width=spec.kernel_width)
        x, y = batch(spec, case, seed, 1)
        result = measure_feature_speed(layers, quadratic, (x, y))
        kernel = backward_feature_kernel(layers[:-1], x, result.learning_rate[:-1])
        summary = summarize_kernel(kernel)
        top = torch.linalg.eigh(kernel).eigenvectors[:, -1]
        keys = {"width": spec.kernel_width, "depth": depth}
        yield row(spec, case, series, "cos_bfa", result.cos[-2], seed, **keys)
        yield row(spec, case, series, "kernel_ratio", summary.ratio, seed, **keys)
        yield row(spec, case, series, "kernel_condition", summary.condition, seed, **keys)
        yield row(spec, f"{case}, top eigenvector", series, "cos_bfa", cos_bfa_of_kernel(kernel, top), seed, **keys)


# --- Section 5: a batch of inputs; Section 4: automatic scaling -------------------------------------------------------


def angle_of_a_batch(spec: TheoremsSpec, seed: int) -> Rows:
    """Output angle of the ResNet with beta = 1/L against depth, for one input and for a batch."""
    for depth in spec.depths:
        for n_inputs in (1, spec.n_inputs):
            case = "batch"
            layers = network(spec, case, seed, depth, 1.0 / depth)
            result = measure_feature_speed(layers, quadratic, batch(spec, case, seed, n_inputs))
            keys = {"depth": depth, "n_inputs": n_inputs, "branch_scale": 1.0 / depth}
            yield row(spec, case, f"n={n_inputs}", "bfa", result.angle[-2], seed, **keys)


def automatic_scaling(spec: TheoremsSpec, seed: int) -> Rows:
    """Feature speed a unit of loss decay with ``rms(b_{L-1}) = 1/(m cos theta)`` (Prop. 4.1), or 1/m."""
    case = "automatic scaling"
    for depth in spec.depths:
        for series, law in BRANCH_LAWS.items():
            layers = network(spec, case, seed, depth, law(depth))
            data = batch(spec, case, seed, 1)
            data = data[0], torch.ones_like(data[1])
            plain = measure_feature_speed(layers, linear_loss, data)
            wanted = 1.0 / float(plain.cos[-2])
            backward = float(plain.backward_norm[-2]) * spec.width**0.5  # m rms(b)
            for name, multiplier in ((series, wanted / backward), (f"{series}, readout 1/m", 1.0 / backward)):
                scaled = rescaled_readout(layers, multiplier)
                speed = measure_feature_speed(scaled, linear_loss, data)
                yield row(spec, case, name, "feature_sensitivity", speed.feature_sensitivity[-2], seed, depth=depth)


def rescaled_readout(layers: nn.Sequential, multiplier: float) -> nn.Sequential:
    """The network with its readout multiplied; the other layers are shared."""
    readout = Linear(layers[-1].weight.detach() * multiplier).requires_grad_(False)
    return nn.Sequential(*layers[:-1], readout)


# --- Section 6 --------------------------------------------------------------------------------------------------------


def backward_speed(spec: TheoremsSpec, seed: int) -> Rows:
    """Prop. 6.1: the identity with a linear loss, the angle with a quadratic one, and its decay with ``L - v``."""
    depth = max(spec.depths)
    for series, law in BRANCH_LAWS.items():
        layers = network(spec, "backward speed", seed, depth, law(depth))
        x, y = batch(spec, "backward speed", seed, 1)
        with torch.no_grad():
            near = 1.5 * layers(x)  # 1 + f_L/(f_L - y) = -1 there: the output's gradient outruns the layers
        for name, loss, target in (("linear", linear_loss, y), ("quadratic", quadratic, near)):
            result = measure_backward_speed(layers, loss, (x, target))
            case = f"backward speed, {name} loss"
            error = result.formula_error[:-1].max()
            yield row(spec, case, series, "formula_error", error, seed, depth=depth)
            yield row(spec, case, series, "alignment_sign", torch.sign(result.alignment[0]), seed, depth=depth)
            for layer in range(1, depth - 1):
                angle = result.angle[layer - 1]
                yield row(spec, case, series, "backward_speed_angle", angle, seed, depth=depth, layer=layer)


def invariance(spec: TheoremsSpec, seed: int) -> Rows:
    """Prop. 6.2 and App. C: outputs after many steps under rescaled layers and under another parameterization."""
    depth, case = min(spec.depths), "invariance"
    layers = network(spec, case, seed, depth, 1.0, readout_std=spec.width**-0.5)
    weights = [layer.weight.detach() for layer in layers]
    data = batch(spec, case, seed, spec.n_inputs)
    stream = generator(spec.seed, case, "scales", seed)
    logs = torch.randn(depth, generator=stream, dtype=torch.float64) * 0.5
    balanced = torch.exp(logs - logs.mean())  # product 1: the same function, other weights
    rescaled = [s * weight for s, weight in zip(balanced, weights, strict=True)]
    for p in (0.0, 1.0, 2.0, 3.0):
        options = {"steps": spec.invariance_steps, "homogeneity": p, "base_rate": _base_rate(weights, data, p, spec)}
        reference = train_layerwise(weights, data, **options)
        runs = {
            "rescaled layers": train_layerwise(rescaled, data, **options),
            "reparameterized": train_layerwise(weights, data, multipliers=logs.exp().tolist(), **options),
        }
        for name, outputs in runs.items():
            difference = (outputs[-1] - reference[-1]).norm() / (reference[-1] - reference[0]).norm()
            finite = difference if torch.isfinite(difference) else math.inf
            series = f"homogeneity -{p:.0f}"
            # a run that leaves the range of floats differs by more than everything
            yield row(spec, f"{case}, {name}", series, "relative_difference", min(finite, 1e6), seed)


def _base_rate(weights: list[Tensor], data: tuple[Tensor, Tensor], p: float, spec: TheoremsSpec) -> float:
    """A rate at which the first step takes ``1/steps`` of the loss to first order, whatever the homogeneity."""
    chain = Chain(_relu_chain(weights))
    _, _, gradients = chain.backward(chain.parameters, *data, quadratic)
    norms = torch.stack([g["weight"].norm() for g in gradients if g])
    loss = float(quadratic(chain.features(chain.parameters, data[0])[-1], data[1]))
    return 0.5 * loss * len(weights) / spec.invariance_steps / float(norms.pow(2.0 - p).sum())


def _relu_chain(weights: list[Tensor]) -> list[nn.Module]:
    layers: list[nn.Module] = [Linear(weights[0])]
    for weight in weights[1:]:
        layers += [nn.ReLU(), Linear(weight)]
    return layers


def forward_growth(spec: TheoremsSpec, seed: int) -> Rows:
    """Growth of ``log2 rms(f_l)`` a layer for hidden stds sqrt(2/m) and 2/sqrt(m) (proof of Thm 6.3)."""
    depth = max(spec.depths)
    layers = network(spec, "forward growth", seed, depth, 1.0)
    for series, factor in (("sqrt(2/m)", 1.0), ("2/sqrt(m)", 2.0 * spec.width**-0.5 / hidden_std(spec.width))):
        with torch.no_grad():
            f = first = layers[0](batch(spec, "forward growth", seed, 1)[0])
            for block in layers[1:-1]:
                f = factor * block(f)
        growth = torch.log2(f.norm() / first.norm()) / (depth - 2)
        yield row(spec, "forward growth", series, "log2_growth", growth, seed, depth=depth)


# --- Appendix B -------------------------------------------------------------------------------------------------------


def zero_readout(spec: TheoremsSpec, seed: int) -> Rows:
    """App. B: after one step of a readout that starts at 0, angle and sensitivity against depth.

    The readout reads ``g_{L-1} = phi(f_{L-1})``; its first rate is ``1/(m |b_L|^2)``, with and without a factor
    sqrt(L).
    """
    width = 4 * spec.width  # the effect is one of depth: keep L/m small
    for depth in spec.depths:
        base = network(spec, "zero readout", seed, depth, 1.0, width=width, dtype=torch.float32)
        x = batch(spec, "zero readout", seed, 1)[0].float()
        with torch.no_grad():
            x = x * width**0.5 / base[:-1](x).norm()  # the net is homogeneous: now rms(f_{L-1}) = 1 (SP)
            g = torch.relu(base[:-1](x))
        keys = {"depth": depth, "width": width}
        for series, factor in (("1/(m |b|^2)", 1.0), ("sqrt(L)/(m |b|^2)", depth**0.5)):
            layers = nn.Sequential(*base[:-1], nn.ReLU(), Linear(-factor / width * g).requires_grad_(False))
            result = measure_feature_speed(layers, linear_loss, (x, torch.ones(1, 1)))  # |b_L| = 1
            sensitivity = result.feature_sensitivity[-3]
            yield row(spec, "zero readout", series, "feature_sensitivity", sensitivity, seed, **keys)
        for node, index in (("f", -3), ("g", -2)):
            yield row(spec, "zero readout", node, "cos_bfa", result.cos[index], seed, **keys)


# --- discrepancies of the published code and captions -----------------------------------------------------------------


def notebook_variants(spec: TheoremsSpec, seed: int) -> Rows:
    """What the notebook's slips change: a missing factor beta in the gradient, and more than one output."""
    depth, width = max(spec.depths), spec.kernel_width
    beta = depth**-0.5
    layers = network(spec, "missing beta", seed, depth, beta)
    data = batch(spec, "missing beta", seed, 1)
    right = measure_feature_speed(layers, quadratic, data)
    every_layer, every_other = torch.full((depth,), beta), torch.ones(depth)
    every_other[::2] = beta
    for case, factor in (("missing beta", every_layer), ("missing beta, every other layer", every_other)):
        wrong = measure_feature_speed(layers, quadratic, data, factor.double() * right.learning_rate)
        difference = (wrong.angle - right.angle)[1:-1].abs().max()
        yield row(spec, case, "ResNet", "angle_difference", difference, seed, depth=depth)
    for outputs in range(1, 6):
        stream = generator(spec.seed, "outputs", outputs, seed)
        dense = draw_dense_network(width, depth, spec.input_dim, stream, outputs)
        x = torch.randn(spec.input_dim, generator=stream) / spec.input_dim**0.5
        y = torch.randn(outputs, generator=stream)
        angle = SeriesProbe(dense, x, y, [beta], [1.0 / width]).exact_tangent().angle[-1, 0]
        keys = {"depth": depth, "width": width, "output_dim": outputs, "branch_scale": beta}
        yield row(spec, "outputs", f"k={outputs}", "bfa", angle, seed, **keys)


def finite_step_causes(spec: TheoremsSpec, seed: int) -> Rows:
    """Error of the paper's finite step (dt = 0.001) in the deep MLP: in float32, in float64, and with ReLUs held."""
    depth, width = max(spec.depths), spec.kernel_width
    stream = generator(spec.seed, "finite step", seed)
    single = draw_dense_network(width, depth, spec.input_dim, stream)
    double = DenseNetwork(single.input_weight.double(), single.hidden.double(), single.readout.double())
    x = torch.randn(spec.input_dim, generator=stream) / spec.input_dim**0.5
    y = torch.randn(1, generator=stream)
    probe = SeriesProbe(double, x.double(), y.double(), [1.0], [1.0 / width])
    exact = probe.exact_tangent().angle[-1, 0]
    steps = {
        "float32": SeriesProbe(single, x, y, [1.0], [1.0 / width]).finite_step(1e-3),
        "float64": probe.finite_step(1e-3),
        "float64, ReLUs held": probe.finite_step(1e-3, hold_relus=True),
    }
    for series, step in steps.items():
        error = (step.angle[-1, 0].double() - exact).abs()
        keys = {"depth": depth, "width": width, "branch_scale": 1.0, "estimator": "finite step"}
        yield row(spec, "finite step", series, "angle_difference", error, seed, **keys)


def node_of_figure_2a(spec: TheoremsSpec, seed: int) -> Rows:
    """Sensitivity of ``f_{L-1}`` and of ``g_{L-1} = phi(f_{L-1})`` in the network that the paper plots.

    There the readout reads f, and g is no cut node; a third row has a readout that reads g.
    """
    depth = max(spec.depths)
    layers = network(spec, "node", seed, depth, 1.0)
    x, y = batch(spec, "node", seed, 1)
    chain = Chain(layers)
    features, _, gradients = chain.backward(chain.parameters, x, y, linear_loss)
    result = measure_feature_speed(layers, linear_loss, (x, y))
    velocity = chain.velocity(chain.parameters, x, descent_velocity(gradients, result.learning_rate))[-2]
    for node, speed in (("f", velocity), ("g", velocity * (features[-2] > 0))):
        sensitivity = speed.norm() / spec.width**0.5 / result.loss_decay[-2]
        yield row(spec, "node", node, "feature_sensitivity", sensitivity, seed, depth=depth)
    reads_g = measure_feature_speed([*layers[:-1], nn.ReLU(), layers[-1]], linear_loss, (x, y))
    at_g = reads_g.feature_sensitivity[-2]
    yield row(spec, "node", "g, readout on g", "feature_sensitivity", at_g, seed, depth=depth)


def width_of_figure_1c(spec: TheoremsSpec) -> Rows:
    """Output angle of the MLP at L = 500 for the two widths that caption and notebook give."""
    for width in (200, 500):
        stream = generator(spec.seed, "width of figure 1c", width)
        for seed, sample in enumerate(sample_networks([Network(500, 1.0)] * 8 * spec.seeds, width, stream)):
            keys = {"depth": 500, "width": width, "branch_scale": 1.0, "estimator": "sampler"}
            yield row(spec, "width of figure 1c", f"m={width}", "bfa", sample.angle[-1], seed, **keys)


EXPERIMENTS: tuple[Callable[[TheoremsSpec, int], Rows], ...] = (
    formula_along_training,
    loss_velocity,
    kernel_spectrum,
    angle_of_a_batch,
    automatic_scaling,
    backward_speed,
    invariance,
    forward_growth,
    zero_readout,
    notebook_variants,
    finite_step_causes,
    node_of_figure_2a,
)


def main(spec: TheoremsSpec) -> pd.DataFrame:
    """All experiments as one long table."""
    jobs = [(experiment, seed) for experiment in EXPERIMENTS for seed in range(spec.seeds)]
    records = [record for experiment, seed in progress(jobs, spec.artefact) for record in experiment(spec, seed)]
    return frame([*records, *width_of_figure_1c(spec)])


if __name__ == "__main__":
    run_stage(main, TheoremsSpec)
