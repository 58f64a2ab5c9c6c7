"""Curvature of the two-layer linear network along gradient descent on random data (arXiv:2402.17457, Figure 5).

Full-batch gradient descent on the mean squared error of n Gaussian inputs, whose labels are a linear teacher and noise;
muP and NTP, one base learning rate each, over the width. A seed fixes the data and the weights.

Rows, by parameterization, width, seed and probe step: ``training_loss`` and the largest eigenvalues of gamma^2 H
(``sharpness``), of its Gauss-Newton part and of its residual part, to rounding.
"""

from collections.abc import Iterator

import pandas as pd
import torch

from featurespeed.papers.super_consistency.two_layer.spec import TwoLayerRunsSpec
from featurespeed.parameterization import Parameterization
from featurespeed.pipeline.stage import progress, run_stage
from featurespeed.randomness import generator
from featurespeed.records import frame
from featurespeed.theory.two_layer import (
    EXACT,
    Quadratic,
    State,
    TwoLayerNet,
    compressed,
    gradient_step,
    initial_weights,
    regression,
    state_of,
    two_layer_net,
)
from featurespeed.theory.two_layer_curvature import gauss_newton_eigenvalue, residual_bound, sharpness

DIVERGED = 1e6  # times the loss at the start
Row = dict[str, object]


def random_data(spec: TwoLayerRunsSpec, seed: int) -> Quadratic:
    """Mean squared error (halved) on the data of one seed."""
    stream = generator(spec.seed, "data", seed)
    inputs = torch.randn(spec.samples, spec.input_dim, dtype=EXACT, generator=stream)
    noise = torch.randn(spec.samples, dtype=EXACT, generator=stream)
    return regression(inputs, inputs.sum(dim=1) + spec.noise * noise)


def eigenvalue_rows(net: TwoLayerNet, state: State, loss: Quadratic) -> Iterator[Row]:
    """Loss and largest eigenvalues of one network."""
    yield {"quantity": "training_loss", "value": float(loss.loss(state.w)), "estimator": "training"}
    values = {
        "sharpness": sharpness(net, state, loss),
        "gauss_newton_eigenvalue": gauss_newton_eigenvalue(state, loss),
        "residual_eigenvalue": residual_bound(net, state, loss),
    }
    for quantity, value in values.items():
        yield {"quantity": quantity, "value": value, "estimator": "theory", "index": 1}


def train(spec: TwoLayerRunsSpec, name: Parameterization, width: int, seed: int) -> Iterator[Row]:
    """Rows of one network; one that diverges ends with its ``diverged_step``."""
    net, loss = two_layer_net(name, width, spec.input_dim), random_data(spec, seed)
    weights = compressed(initial_weights(net, generator(spec.seed, name, width, seed)))
    keys = {
        "parameterization": str(name), "optimizer": "sgd", "learning_rate": spec.learning_rates[name], "width": width,
        "depth": 1, "input_dim": spec.input_dim, "output_dim": 1, "n_inputs": spec.samples, "seed": seed,
        "case": "along training",
    }  # fmt: skip
    blown = DIVERGED * float(loss.loss(state_of(net, weights).w))
    for step in range(spec.probe_steps[-1] + 1):
        if step in spec.probe_steps:
            state = state_of(net, weights)
            if not loss.loss(state.w) <= blown:
                found = {"quantity": "diverged_step", "value": float(step), "estimator": "training"}
                yield keys | {"step": step} | found
                return
            yield from (keys | {"step": step} | row for row in eigenvalue_rows(net, state, loss))
        weights = gradient_step(net, weights, loss, spec.learning_rates[name])


def main(spec: TwoLayerRunsSpec) -> pd.DataFrame:
    """All parameterizations, widths and seeds as a long table."""
    jobs = [(name, width, seed) for name in spec.learning_rates for width in spec.widths for seed in range(spec.seeds)]
    return frame([row for job in progress(jobs, spec.artefact) for row in train(spec, *job)])


if __name__ == "__main__":
    run_stage(main, TwoLayerRunsSpec)
