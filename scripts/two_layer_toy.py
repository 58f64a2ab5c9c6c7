"""Exact gradient descent on the two-layer linear toy (arXiv:2402.17457, Figure 10).

White inputs of dimension D, target w* = 1, so the loss is |w - w*|^2 / 2; muP and NTP, each on its own grid of base
learning rates, over the width. All learning rates and seeds of a width are trained as one batch.

Rows, by parameterization, width, learning rate and seed: at the last step the ``sharpness`` of gamma^2 H, converged or
not (``case`` terminal; ``converged`` says which), or the ``diverged_step``; at the learning rates that are shown, loss
and sharpness against the step (``case`` curve).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurespeed.papers.super_consistency.two_layer.spec import ToySpec
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
    initial_weights,
    population,
    state_of,
    two_layer_net,
)
from featurespeed.theory.two_layer_curvature import gauss_newton_eigenvalue, residual_bound, sharpness

DIVERGED = 1e6  # times the loss at the start: past this no run comes back, and numbers overflow soon after
Row = dict[str, object]


@dataclass
class Batch:
    """All seeds and learning rates of one width: tensors [seeds, rates, ...]."""

    net: TwoLayerNet
    loss: Quadratic
    rates: Tensor
    weights: Weights

    def step(self, active: Tensor) -> None:
        """One update of the active runs; the others stay where they are."""
        hidden, readout = self.weights.hidden, self.weights.readout
        new = gradient_step(self.net, Weights(hidden[active], readout[active]), self.loss, self.rates[active])
        hidden[active], readout[active] = new.hidden, new.readout

    def map(self) -> Tensor:
        """``w`` of all runs, [seeds, rates, D]."""
        product = self.weights.readout.unsqueeze(-2) @ self.weights.hidden
        return product.squeeze(-2) * (self.net.scale / self.net.gamma)

    def run(self, seed: int, rate: int) -> State:
        """(w, e, v) of one run."""
        return state_of(self.net, Weights(self.weights.hidden[seed, rate], self.weights.readout[seed, rate]))


def make_batch(spec: ToySpec, name: Parameterization, width: int) -> Batch:
    """Initial weights, the same at every learning rate."""
    net = two_layer_net(name, width, spec.input_dim)
    start = [compressed(initial_weights(net, generator(spec.seed, name, width, seed))) for seed in range(spec.seeds)]
    rates = torch.tensor(spec.learning_rates[name], dtype=EXACT).expand(spec.seeds, -1)
    count = rates.shape[1]
    hidden = torch.stack([weights.hidden for weights in start]).unsqueeze(1).repeat(1, count, 1, 1)
    readout = torch.stack([weights.readout for weights in start]).unsqueeze(1).repeat(1, count, 1)
    return Batch(net, population(torch.ones(spec.input_dim, dtype=EXACT)), rates, Weights(hidden, readout))


def train(spec: ToySpec, name: Parameterization, width: int) -> Iterator[Row]:
    """Rows of one width."""
    batch = make_batch(spec, name, width)
    probes = {int(step) for step in np.linspace(0, spec.shown_steps, spec.probes)}
    limit = 0.5 * (spec.tolerance**2) * spec.input_dim
    first = batch.loss.loss(batch.map())
    active = torch.ones_like(batch.rates, dtype=torch.bool)
    ended = torch.full_like(batch.rates, spec.steps)
    for step in range(spec.steps + 1):
        losses = batch.loss.loss(batch.map())
        if step <= spec.shown_steps:
            yield from curve_rows(spec, batch, name, step, losses, step in probes, losses < DIVERGED * first)
        stopping = active & ((losses <= limit) | (losses > DIVERGED * first))
        ended[stopping] = step
        active &= ~stopping
        if not active.any() or step == spec.steps:
            break
        batch.step(active)
    yield from terminal_rows(spec, batch, name, ended, losses, limit, DIVERGED * first)


def keys(spec: ToySpec, batch: Batch, name: Parameterization, seed: int, rate: int) -> Row:
    """Identity of one run."""
    return {
        "parameterization": str(name), "optimizer": "sgd", "learning_rate": float(batch.rates[seed, rate]),
        "width": batch.net.width, "depth": 1, "input_dim": spec.input_dim, "output_dim": 1, "seed": seed,
        "estimator": "training",
    }  # fmt: skip


def curve_rows(
    spec: ToySpec, batch: Batch, name: Parameterization, step: int, losses: Tensor, probe: bool, finite: Tensor
) -> Iterator[Row]:
    """Loss and, at a probe step, sharpness of the runs that are shown."""
    for index, rate in enumerate(spec.learning_rates[name]):
        for seed in range(spec.seeds if rate in spec.shown[name] else 0):
            if not finite[seed, index]:
                continue
            base = keys(spec, batch, name, seed, index) | {"case": "curve", "step": step}
            yield base | {"quantity": "training_loss", "value": float(losses[seed, index])}
            if probe:
                value = sharpness(batch.net, batch.run(seed, index), batch.loss)
                yield base | {"quantity": "sharpness", "value": value}


def terminal_rows(
    spec: ToySpec, batch: Batch, name: Parameterization, ended: Tensor, losses: Tensor, limit: float, blown: Tensor
) -> Iterator[Row]:
    """Where every run has come to."""
    for seed in range(spec.seeds):
        for index in range(batch.rates.shape[1]):
            base = keys(spec, batch, name, seed, index) | {"case": "terminal", "step": int(ended[seed, index])}
            base["converged"] = bool(losses[seed, index] <= limit)
            if losses[seed, index] > blown[seed, index]:
                yield base | {"quantity": "diverged_step", "value": float(ended[seed, index])}
                continue
            state = batch.run(seed, index)
            yield base | {"quantity": "sharpness", "value": sharpness(batch.net, state, batch.loss)}
            yield base | {"quantity": "gauss_newton_eigenvalue", "value": gauss_newton_eigenvalue(state, batch.loss)}
            residual = residual_bound(batch.net, state, batch.loss)
            yield base | {"quantity": "residual_eigenvalue", "value": residual}


def main(spec: ToySpec) -> pd.DataFrame:
    """All parameterizations and widths as a long table."""
    jobs = [(name, width) for name in spec.learning_rates for width in spec.widths]
    return frame([row for name, width in progress(jobs, spec.artefact) for row in train(spec, name, width)])


if __name__ == "__main__":
    run_stage(main, ToySpec)
