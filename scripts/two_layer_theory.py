"""The two-layer linear theory tested on small networks in float64 (arXiv:2402.17457, Sec. 5, App. C and D).

White inputs, target w* = 1. Cases of the rows:

- ``laws``: error of the evolution laws of (w, e, v) against gradient descent on the weights, relative to the new value,
  the largest of the three: one step from where gradient descent is, all steps from the start, and one step of the
  first-order part only (Thm 5.1);
- ``other laws``: one step of the laws of the other parameterization, whose coupling differs by a factor N, from the
  same states;
- ``bound``: gap between the largest eigenvalues of H and G, and that of R, over the bound of Lemma 5.2; the bound;
- ``dense``: the same on networks small enough for automatic differentiation, with the errors of our closed forms and of
  H = G + R under both signs of the residual; and those of the parts and the state of the next seed's network;
- ``edge``: runs up to and far beyond the edge of stability (Prop. 5.3), those that converge and those that do not, and
  errors of two Jacobians;
- ``initialisation`` and ``limit``: distances from infinite width (Prop. C.1, App. C.3, Cor. 5.4);
- ``uniform initialisation``: v of networks whose weights are not Gaussian (App. C);
- ``softmax``: the Hessian of the cross-entropy by the outputs (App. D), against the margin (in the column ``step``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pandas as pd
import torch
from torch import Tensor
from torch.func import jacrev

from featurespeed.papers.super_consistency.two_layer.spec import (
    COMPARED,
    EdgeSpec,
    LawsSpec,
    LimitSpec,
    SoftmaxSpec,
    TwoLayerTheorySpec,
)
from featurespeed.parameterization import Parameterization
from featurespeed.pipeline.stage import progress, run_stage
from featurespeed.randomness import generator
from featurespeed.records import frame
from featurespeed.theory.two_layer import (
    EXACT,
    Quadratic,
    State,
    TwoLayerNet,
    Weights,
    compressed,
    gradient_step,
    infinite_width,
    initial_weights,
    law_step,
    least_sharpness,
    map_jacobian,
    population,
    printed_correction,
    printed_jacobian,
    state_of,
    two_layer_net,
    uniform_weights,
)
from featurespeed.theory.two_layer_curvature import (
    dense_hessian,
    dense_parts,
    gauss_newton_eigenvalue,
    residual_bound,
    sharpness,
)

# Below this share of the sharpness the bound is lost in the rounding of the gap, which is a difference.
RESOLVED = 1e-3
GAPS_EVERY = 2  # steps between two eigenvalues of one run
INFINITE = 10**12  # a width at which a network is its limit to rounding
Row = dict[str, object]


def white(input_dim: int) -> Quadratic:
    """The loss of all cases: white inputs, ``w* = 1``."""
    return population(torch.ones(input_dim, dtype=EXACT))


def keys(case: str, name: str, net: TwoLayerNet, seed: int, rate: float = float("nan")) -> Row:
    """What identifies one network."""
    sizes = {"width": net.width, "depth": 1, "input_dim": net.input_dim, "output_dim": 1}
    run = {"parameterization": str(name), "optimizer": "sgd", "learning_rate": rate, "seed": seed}
    return {"case": case, "estimator": "training"} | sizes | run


def distance(first: State, second: State) -> float:
    """Largest of the three differences, each relative to the norm of ``second``."""
    pairs = ((first.w, second.w), (first.e, second.e), (first.v, second.v))
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


# --- Theorem 5.1 and Lemma 5.2 ----------------------------------------------------------------------------------------


def law_rows(spec: LawsSpec, root: int, seeds: int) -> Iterator[Row]:
    """Every size, ``gamma_0`` and parameterization; the labels of the runs say which."""
    for name, input_dim, width, gamma in product(COMPARED, spec.input_dims, spec.widths, spec.gammas):
        net = two_layer_net(name, width, input_dim, gamma)
        other = next(two_layer_net(n, width, input_dim, gamma) for n in COMPARED if n is not name)
        for seed in range(seeds):
            weights = initial_weights(net, generator(root, "laws", name, input_dim, width, seed))
            base = keys("laws", name, net, seed) | {"run_id": f"gamma_0 = {gamma:g}"}
            yield from one_run(spec, base, net, other, weights)


def edge_rate(net: TwoLayerNet, state: State, loss: Quadratic) -> float:
    """``2 / sharpness``, at initialisation or at the flattest minimiser, whichever is sharper."""
    return 2.0 / max(gauss_newton_eigenvalue(state, loss), least_sharpness(net, loss.minimiser))


def one_run(spec: LawsSpec, base: Row, net: TwoLayerNet, other: TwoLayerNet, weights: Weights) -> Iterator[Row]:
    """Errors of the laws at every step, and curvature against its bound at some."""
    loss = white(net.input_dim)
    state = free = state_of(net, weights)
    rate = spec.edge_share * edge_rate(net, state, loss)
    base = base | {"learning_rate": rate}
    for step in range(1, spec.steps + 1):
        if (step - 1) % GAPS_EVERY == 0:
            yield from gap_rows(base | {"case": "bound", "step": step - 1}, net, state, loss)
        weights = gradient_step(net, weights, loss, rate)
        now = state_of(net, weights)
        free = law_step(net.coupling, free, loss, rate)
        errors = {
            ("laws", "one step"): distance(law_step(net.coupling, state, loss, rate), now),
            ("laws", "free running"): distance(free, now),
            ("laws", "one step, first order only"): distance(law_step(net.coupling, state, loss, rate, False), now),
            ("other laws", "one step"): distance(law_step(other.coupling, state, loss, rate), now),
        }
        for (case, series), value in errors.items():
            row = {"case": case, "step": step, "series": series, "quantity": "relative_error", "value": value}
            yield base | row
        state = now


def gap_rows(base: Row, net: TwoLayerNet, state: State, loss: Quadratic) -> Iterator[Row]:
    """Gap over bound, from the closed forms, and the bound."""
    bound, top = residual_bound(net, state, loss), sharpness(net, state, loss)
    if bound > RESOLVED * top:
        gap = abs(top - gauss_newton_eigenvalue(state, loss))
        yield base | {"series": "gap over bound", "quantity": "curvature_ratio", "value": gap / bound}
        yield base | {"series": "bound", "quantity": "residual_eigenvalue", "value": bound}


@dataclass(frozen=True)
class Dense:
    """One network at one step: its state, ``gamma^2`` times H, G and R as matrices, and its learning rate."""

    state: State
    full: Tensor
    gauss_newton: Tensor
    residual: Tensor
    rate: float


def dense_rows(spec: LawsSpec, root: int, seeds: int) -> Iterator[Row]:
    """All matrices by automatic differentiation, on the smallest input dimension."""
    input_dim = min(spec.input_dims)
    for name, width in product(COMPARED, spec.dense_widths):
        net = two_layer_net(name, width, input_dim)
        starts = [initial_weights(net, generator(root, "dense", name, width, seed)) for seed in range(seeds)]
        runs = [dense_run(spec, net, weights) for weights in starts]
        for seed, run in enumerate(runs):
            following = runs[(seed + 1) % seeds]
            for step, now in run.items():
                base = keys("dense", name, net, seed, now.rate) | {"step": step}
                yield from matrix_rows(base, net, now, following[step])


def dense_run(spec: LawsSpec, net: TwoLayerNet, weights: Weights) -> dict[int, Dense]:
    """One run of gradient descent, at every few steps."""
    loss = white(net.input_dim)
    rate, found = spec.edge_share * edge_rate(net, state_of(net, weights), loss), {}
    for step in range(spec.steps + 1):
        if step % (2 * GAPS_EVERY) == 0:
            matrices = (dense_hessian(net, weights, loss), *dense_parts(net, weights, loss))
            found[step] = Dense(state_of(net, weights), *matrices, rate)
        weights = gradient_step(net, weights, loss, rate)
    return found


def matrix_rows(base: Row, net: TwoLayerNet, now: Dense, following: Dense) -> Iterator[Row]:
    """Eigenvalues of dense matrices against the bound and our closed forms, and the errors of H = G + R.

    ``following`` is the network of the next seed, whose state and parts must not fit.
    """
    loss = white(net.input_dim)
    top, top_g, top_r = (float(torch.linalg.eigvalsh(m)[-1]) for m in (now.full, now.gauss_newton, now.residual))
    bound = residual_bound(net, now.state, loss)
    if bound <= RESOLVED * top:
        return
    ratios = {"gap over bound": abs(top - top_g) / bound, "residual part over bound": top_r / bound}
    for series, value in ratios.items():
        yield base | {"series": series, "quantity": "curvature_ratio", "value": value}
    yield base | {"series": "bound", "quantity": "residual_eigenvalue", "value": bound}
    left = now.full - now.gauss_newton
    other = now.full - following.gauss_newton - following.residual
    errors = {
        "sharpness from (w, e, v)": abs(sharpness(net, now.state, loss) / top - 1),
        "sharpness from (w, e, v) of the next network": abs(sharpness(net, following.state, loss) / top - 1),
        "H = G + R, residual f - y": float((left - now.residual).norm() / now.full.norm()),
        "H = G + R, residual y - f": float((left + now.residual).norm() / now.full.norm()),
        "H = G + R of the next network": float(other.norm() / now.full.norm()),
    }
    for series, value in errors.items():
        yield base | {"series": series, "quantity": "relative_error", "value": value}


# --- Proposition 5.3 --------------------------------------------------------------------------------------------------


def edge_rows(spec: EdgeSpec, root: int, seeds: int) -> Iterator[Row]:
    """Runs over a grid of learning rates, all of them and all seeds of a width as one batch."""
    loss = white(spec.input_dim)
    for name in COMPARED:
        for width in spec.widths:
            net = two_layer_net(name, width, spec.input_dim)
            grid = torch.linspace(spec.lowest, spec.highest, spec.shares, dtype=EXACT)
            streams = [generator(root, "edge", name, width, seed) for seed in range(seeds)]
            start = [compressed(initial_weights(net, stream)) for stream in streams]
            every = torch.cat([grid * edge_rate(net, state_of(net, weights), loss) for weights in start])
            hidden = torch.stack([w.hidden for w in start]).repeat_interleave(spec.shares, dim=0)
            readout = torch.stack([w.readout for w in start]).repeat_interleave(spec.shares, dim=0)
            weights = Weights(hidden, readout)
            for _ in range(spec.steps):
                weights = gradient_step(net, weights, loss, every)
            for run, rate in enumerate(every.tolist()):
                base = keys("edge", name, net, run // spec.shares, rate) | {"index": run % spec.shares + 1}
                state = state_of(net, Weights(weights.hidden[run], weights.readout[run]))
                yield from edge_run_rows(base | {"step": spec.steps}, net, state, rate, spec.tolerance)


def edge_run_rows(base: Row, net: TwoLayerNet, state: State, rate: float, tolerance: float) -> Iterator[Row]:
    """One run at its last step: whether it has converged, its sharpness and the edges that it had to respect.

    A run that has diverged has no sharpness; errors of the Jacobians, and the ratio to the least sharpness, belong to
    minimisers.
    """
    loss = white(net.input_dim)
    converged = bool((state.w - loss.minimiser).norm() <= tolerance * loss.minimiser.norm())
    least = least_sharpness(net, loss.minimiser)
    ratios = {
        "run": float(converged),
        "least sharpness over 2/learning rate": least * rate / 2,
        "printed edge over 2/learning rate": 1 + printed_correction(net.coupling, loss.minimiser, rate),
    }
    if all(torch.isfinite(part).all() for part in (state.w, state.e, state.v)):
        top = sharpness(net, state, loss)
        ratios["sharpness over 2/learning rate"] = top * rate / 2
        if converged:
            ratios["sharpness over its least"] = top / least
    for series, value in ratios.items():
        yield base | {"quantity": "curvature_ratio", "series": series, "value": value}
    if converged:
        yield from jacobian_rows(base, net, state, rate)


def jacobian_rows(base: Row, net: TwoLayerNet, state: State, rate: float) -> Iterator[Row]:
    """Jacobian of the map at the minimiser: exact and as printed, against automatic differentiation of the law."""
    loss = white(net.input_dim)
    there = State(loss.minimiser, state.e, state.v)
    truth = jacrev(lambda w: law_step(net.coupling, State(w, there.e, there.v), loss, rate).w)(there.w)
    found = {"Jacobian": map_jacobian, "Jacobian as printed": printed_jacobian}
    for series, function in found.items():
        error = float((function(net.coupling, there, loss, rate) - truth).norm() / truth.norm())
        yield base | {"series": series, "quantity": "relative_error", "value": error}


# --- large widths -----------------------------------------------------------------------------------------------------


def initialisation_rows(spec: TwoLayerTheorySpec) -> Iterator[Row]:
    """(w, e, v) of many networks against what they concentrate on."""
    sizes = spec.initialisation
    for name in (*COMPARED, Parameterization.SP):
        for width in sizes.widths:
            net = two_layer_net(name, width, sizes.input_dim)
            limit = infinite_width(net)
            for draw in range(sizes.draws):
                state = state_of(net, initial_weights(net, generator(spec.seed, "init", name, width, draw)))
                base = keys("initialisation", name, net, draw)
                values = {
                    "e from its limit": ("relative_distance", (state.e - limit.e).norm() / limit.e.norm()),
                    "v from its limit": ("relative_distance", (state.v / limit.v - 1).abs()),
                    "mean eigenvalue of e": ("curvature_ratio", state.e.diagonal().mean()),
                    "v": ("readout_norm", state.v),
                    "w": ("effective_map_norm", state.w.norm()),
                }
                for series, (quantity, value) in values.items():
                    yield base | {"series": series, "quantity": quantity, "value": float(value)}


def uniform_rows(spec: TwoLayerTheorySpec) -> Iterator[Row]:
    """v of networks with uniform weights, under the parameterizations whose variance of v is stated."""
    sizes = spec.initialisation
    for name, width in product((Parameterization.MUP, Parameterization.SP), sizes.widths):
        net = two_layer_net(name, width, sizes.input_dim)
        for draw in range(sizes.draws):
            state = state_of(net, uniform_weights(net, generator(spec.seed, "uniform", name, width, draw)))
            base = keys("uniform initialisation", name, net, draw)
            yield base | {"series": "v", "quantity": "readout_norm", "value": float(state.v)}


def limit_rows(spec: LimitSpec, root: int, seeds: int) -> Iterator[Row]:
    """Largest distance of (e, v) along training from trajectories of infinite width, and from its own start."""
    loss, rate = white(spec.input_dim), spec.learning_rate
    for name, width, seed in product(COMPARED, spec.widths, range(seeds)):
        net = two_layer_net(name, width, spec.input_dim)
        weights = compressed(initial_weights(net, generator(root, "limit", name, width, seed)))
        first = state_of(net, weights)
        limits = infinitely_wide(name, first)
        furthest = dict.fromkeys(("from initialisation", *limits), 0.0)
        for _ in range(spec.steps):
            weights = gradient_step(net, weights, loss, rate)
            limits = {series: (k, law_step(k, ideal, loss, rate)) for series, (k, ideal) in limits.items()}
            state = state_of(net, weights)
            for series, (_, reference) in ({"from initialisation": (0.0, first)} | limits).items():
                furthest[series] = max(furthest[series], kernel_distance(state, reference))
        base = keys("limit", name, net, seed, rate) | {"quantity": "relative_distance", "step": spec.steps}
        yield from (base | {"series": series, "value": value} for series, value in furthest.items())


def infinitely_wide(name: Parameterization, first: State) -> dict[str, tuple[float, State]]:
    """Coupling and start of the trajectories of infinite width with which one network is compared.

    The limit of muP starts at w = 0; under NTP the start of w stays random, so it is taken over. Under NTP the limit of
    muP, too, is compared, from which its networks must stay away.
    """
    nets = {n: two_layer_net(n, INFINITE, len(first.w)) for n in COMPARED}
    limits = {n: (net.coupling, infinite_width(net)) for n, net in nets.items()}
    mup = limits[Parameterization.MUP]
    if name is Parameterization.MUP:
        return {"from infinite width": mup}
    coupling, ideal = limits[name]
    own = (coupling, State(first.w, ideal.e, ideal.v))
    return {"from infinite width": own, "from infinite width of muP": mup}


def kernel_distance(state: State, reference: State) -> float:
    """Distance of ``e + v``, which decides on the curvature at the minimum, relative to the reference."""
    identity = torch.eye(len(state.w), dtype=EXACT)
    return float((state.e - reference.e + (state.v - reference.v) * identity).norm() / (
        reference.e + reference.v * identity
    ).norm())  # fmt: skip


# --- softmax ----------------------------------------------------------------------------------------------------------


def softmax_rows(spec: SoftmaxSpec, root: int, seeds: int) -> Iterator[Row]:
    """Largest eigenvalue of ``diag(p) - p p^T``; the true class leads Gaussian outputs by the margin."""
    for seed in range(seeds):
        logits = torch.randn(spec.classes, dtype=EXACT, generator=generator(root, "softmax", seed))
        others = logits[1:].max()
        for margin in spec.margins:
            leading = torch.cat([(others + margin).reshape(1), logits[1:]])
            p = torch.softmax(leading, dim=0)
            value = float(torch.linalg.eigvalsh(torch.diag(p) - torch.outer(p, p))[-1])
            sizes = {"width": 0, "depth": 1, "input_dim": 1, "output_dim": spec.classes}
            row = {"case": "softmax", "series": "cross-entropy", "step": margin, "seed": seed, "estimator": "theory"}
            yield row | sizes | {"quantity": "softmax_eigenvalue", "value": max(value, 0.0)}


def all_rows(spec: TwoLayerTheorySpec) -> Iterator[Row]:
    """Every case."""
    yield from law_rows(spec.laws, spec.seed, spec.seeds)
    yield from dense_rows(spec.laws, spec.seed, spec.seeds)
    yield from edge_rows(spec.edge, spec.seed, spec.seeds)
    yield from initialisation_rows(spec)
    yield from uniform_rows(spec)
    yield from limit_rows(spec.limit, spec.seed, spec.seeds)
    yield from softmax_rows(spec.softmax, spec.seed, spec.seeds)


def main(spec: TwoLayerTheorySpec) -> pd.DataFrame:
    """All cases as one long table."""
    return frame(list(progress(all_rows(spec), spec.artefact)))


if __name__ == "__main__":
    run_stage(main, TwoLayerTheorySpec)
