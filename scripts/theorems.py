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
from featurespeed.probes import FeatureSpeed, backward_feature_angle, measure_feature_speed
from featurespeed.probes.backward_speed import measure_backward_speed
from featurespeed.probes.chain import Chain, descent_velocity
from featurespeed.probes.kernel import backward_feature_kernel, summarize_kernel
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
    """Largest error of the formula over the cut nodes at every step of training.

    Control: each speed against what the formula gives for the network one step before.
    """
    case = "formula"
    for series, law in BRANCH_LAWS.items():
        depth = min(spec.depths)
        layers = network(spec, case, seed, depth, law(depth), frozen_ends=False)
        data = batch(spec, case, seed, spec.n_inputs)
        before = None
        for step in range(spec.training_steps + 1):
            result = measure_feature_speed(layers, quadratic, data)
            keys = {"step": step, "n_inputs": spec.n_inputs, "depth": depth}
            yield row(spec, case, series, "formula_error", result.formula_error.max(), seed, **keys)
            if before is not None:
                error = (result.feature_speed * before.cos * before.backward_norm / before.loss_decay - 1).abs()
                yield row(spec, f"{case}, the step before", series, "formula_error", error.max(), seed, **keys)
            before = result
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
    """``dLoss/dt`` over the sum of ``eta_l |grad_l|^2``: the sign of Sec. 2's loss decay.

    Control: the weights move as those of another network do.
    """
    case, depth = "loss velocity", min(spec.depths)
    x, y = batch(spec, case, seed, spec.n_inputs)
    layers = network(spec, case, seed, depth, 1.0, frozen_ends=False)
    chain, decay = Chain(layers), measure_feature_speed(layers, quadratic, (x, y)).loss_decay[-1]
    _, backwards, _ = chain.backward(chain.parameters, x, y, quadratic)
    other = network(spec, f"{case}, another network", seed, depth, 1.0, frozen_ends=False)
    for name, descending in ((case, layers), (f"{case}, another network", other)):
        own = Chain(descending)
        rates = measure_feature_speed(descending, quadratic, (x, y)).learning_rate
        _, _, gradients = own.backward(own.parameters, x, y, quadratic)
        velocity = chain.velocity(chain.parameters, x, descent_velocity(gradients, rates))
        ratio = (velocity[-1] * backwards[-1]).sum() / decay
        yield row(spec, name, "MLP", "velocity_ratio", ratio, seed, n_inputs=spec.n_inputs)


# --- Theorem 3.2 ------------------------------------------------------------------------------------------------------


def kernel_spectrum(spec: TheoremsSpec, seed: int) -> Rows:
    """Cosine, M1/sqrt(M2) and condition number of the kernel at ``f_{L-1}``.

    Control: the cosine between its feature velocity and the backward pass of another network.
    """
    case, depth = "kernel", min(spec.depths)
    another = f"{case}, another network"
    for series, law in BRANCH_LAWS.items():
        layers, other = (network(spec, c, seed, depth, law(depth), width=spec.kernel_width) for c in (case, another))
        x, y = batch(spec, case, seed, 1)
        result = measure_feature_speed(layers, quadratic, (x, y))
        kernel = backward_feature_kernel(layers[:-1], x, result.learning_rate[:-1])
        summary = summarize_kernel(kernel)
        own, others = (Chain(net).backward(Chain(net).parameters, x, y, quadratic)[1][-2] for net in (layers, other))
        angle = backward_feature_angle(-kernel @ own.flatten(), others.flatten())
        keys = {"width": spec.kernel_width, "depth": depth}
        yield row(spec, another, series, "cos_bfa", angle.cos(), seed, **keys)
        yield row(spec, case, series, "cos_bfa", result.cos[-2], seed, **keys)
        yield row(spec, case, series, "kernel_ratio", summary.ratio, seed, **keys)
        yield row(spec, case, series, "kernel_condition", summary.condition, seed, **keys)


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
    """Prop. 6.1: the identity with a linear loss, the angle with a quadratic one, and its decay with ``L - v``.

    The quadratic loss has two targets: a Gaussian one, and one just beyond the output, which turns the angle.
    """
    depth = max(spec.depths)
    for series, law in BRANCH_LAWS.items():
        layers = network(spec, "backward speed", seed, depth, law(depth))
        x, y = batch(spec, "backward speed", seed, 1)
        with torch.no_grad():
            near = 1.5 * layers(x)  # 1 + f_L/(f_L - y) = -1 there: the output's gradient outruns the layers
        losses = {
            "linear loss": (linear_loss, y),
            "quadratic loss": (quadratic, y),
            "quadratic loss, near target": (quadratic, near),
        }
        for name, (loss, target) in losses.items():
            result = measure_backward_speed(layers, loss, (x, target))
            case = f"backward speed, {name}"
            error = result.formula_error[:-1].max()
            yield row(spec, case, series, "formula_error", error, seed, depth=depth)
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
    """Growth of ``log2 rms(f_l)`` a layer for hidden stds sqrt(2/m) and 2/sqrt(m) (proof of Thm 6.3).

    Each std has networks of its own: with the same weights the two would differ by 1/2 exactly.
    """
    depth = max(spec.depths)
    for series, factor in (("sqrt(2/m)", 1.0), ("2/sqrt(m)", 2.0 * spec.width**-0.5 / hidden_std(spec.width))):
        layers = network(spec, f"forward growth, {series}", seed, depth, 1.0)
        with torch.no_grad():
            f = first = layers[0](batch(spec, "forward growth", seed, 1)[0])
            for block in layers[1:-1]:
                f = factor * block(f)
        growth = torch.log2(f.norm() / first.norm()) / (depth - 2)
        yield row(spec, "forward growth", series, "log2_growth", growth, seed, depth=depth)


# --- Appendix B -------------------------------------------------------------------------------------------------------


def zero_readout(spec: TheoremsSpec, seed: int) -> Rows:
    """App. B: after one step of a readout that starts at 0, angle and sensitivity against depth.

    The readout reads ``g_{L-1} = phi(f_{L-1})``; its first rate is ``1/(m |b_L|^2)``, or that of the paper with a
    factor sqrt(L), which has networks of its own.
    """
    for depth in spec.depths:
        for series, factor in (("1/(m |b|^2)", 1.0), ("sqrt(L)/(m |b|^2)", depth**0.5)):
            result = after_first_step(spec, f"zero readout, {series}", seed, depth, factor)
            found = {"feature_sensitivity": result.feature_sensitivity[-3], "cos_bfa": result.cos[-3]}
            for quantity, value in found.items():
                yield row(spec, "zero readout", series, quantity, value, seed, depth=depth, width=4 * spec.width)


def after_first_step(spec: TheoremsSpec, case: str, seed: int, depth: int, factor: float) -> FeatureSpeed:
    """An MLP whose readout has made its first step from 0, at the rate ``factor/(m |b_L|^2)``, with ``|b_L| = 1``."""
    width = 4 * spec.width  # the effect is one of depth: keep L/m small
    base = network(spec, case, seed, depth, 1.0, width=width, dtype=torch.float32)
    x = batch(spec, "zero readout", seed, 1)[0].float()
    with torch.no_grad():
        x = x * width**0.5 / base[:-1](x).norm()  # the net is homogeneous: now rms(f_{L-1}) = 1 (SP)
        g = torch.relu(base[:-1](x))
    layers = nn.Sequential(*base[:-1], nn.ReLU(), Linear(-factor / width * g).requires_grad_(False))
    return measure_feature_speed(layers, linear_loss, (x, torch.ones(1, 1)))


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

    There the readout reads f, and g is no cut node; another row has a readout that reads g. Control: the node before.
    """
    depth = max(spec.depths)
    layers = network(spec, "node", seed, depth, 1.0)
    x, y = batch(spec, "node", seed, 1)
    chain = Chain(layers)
    features, _, gradients = chain.backward(chain.parameters, x, y, linear_loss)
    result = measure_feature_speed(layers, linear_loss, (x, y))
    velocity = chain.velocity(chain.parameters, x, descent_velocity(gradients, result.learning_rate))[-2]
    masked = (velocity * (features[-2] > 0)).norm() / spec.width**0.5 / result.loss_decay[-2]
    before, last = result.feature_sensitivity[-3:-1]
    for node, sensitivity in (("f", last), ("g", masked), ("f, layer before", before)):
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
    seeds = {kernel_spectrum: spec.more_seeds, node_of_figure_2a: spec.more_seeds}
    jobs = [(experiment, seed) for experiment in EXPERIMENTS for seed in range(seeds.get(experiment, spec.seeds))]
    records = [record for experiment, seed in progress(jobs, spec.artefact) for record in experiment(spec, seed)]
    return frame([*records, *width_of_figure_1c(spec)])


if __name__ == "__main__":
    run_stage(main, TheoremsSpec)
