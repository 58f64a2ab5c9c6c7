"""The infinite-width theory beside exact samples (ours, not in arXiv:2311.18718).

Cases: ``phi``, the limit angle of the ResNet with branch scale c/sqrt(L), ReLU and linear; ``finite width``, how the
cosine of the output angle depends on the width for the MLP and the ResNet with c = 1; ``tail``, the cosine for c >> 1,
where the paper conjectures c^-1/2 and the closed form gives c^-1;
``wide MLP``, the cosine through the layers of an MLP much wider than deep (not drawn; it feeds the exponent's claim).
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from featurespeed.machine.device import acquire_device
from featurespeed.papers.feature_speed.theory.spec import FiniteWidthSpec, PhiSpec, TheorySpec, WideMlpSpec
from featurespeed.pipeline.stage import progress, run_stage
from featurespeed.probes.sampler import Network, sample_networks
from featurespeed.randomness import derive_seed, generator
from featurespeed.records import frame
from featurespeed.theory import cos_bfa_recursion, phi_limit, sample_mlp_cos_bfa

CURVE_POINTS = 80
CHAIN_SAMPLES = 20_000
ACTIVATIONS = {"ReLU": "relu", "linear": "linear"}


def row(case: str, series: str, estimator: str, quantity: str, value: float, seed: int = 0, **sizes) -> dict:
    """One record; ``width = 0`` and ``depth = 0`` stand for the infinite limits."""
    keys = {"branch_scale": np.nan, "c": np.nan, "width": 0, "depth": 0, "input_dim": 1, "output_dim": 1} | sizes
    keys |= {"layer": max(keys["depth"] - 1, 0), "case": case, "series": series, "seed": seed}
    return keys | {"estimator": estimator, "quantity": quantity, "value": value}


def sampled_angles(spec: PhiSpec, case: str, series: str, seed: int, device, quantity: str) -> Iterator[dict]:
    """Output angles (or cosines) of sampled ResNets at each c, one row a seed."""
    for c in progress(spec.c.values(), f"{case} {series}"):
        beta = c / spec.depth**0.5
        stream = generator(seed, case, series, repr(c), device=device)
        networks = [Network(spec.depth, beta)] * spec.seeds
        samples = sample_networks(networks, spec.width, stream, activation=ACTIVATIONS[series])
        for index, sample in enumerate(samples):
            angle = float(sample.angle[-1])
            value = angle if quantity == "bfa" else float(np.cos(angle))
            sizes = {"branch_scale": beta, "c": c, "width": spec.width, "depth": spec.depth}
            yield row(case, series, "sampler", quantity, value, index, **sizes)


def closed_form(spec: PhiSpec, case: str, series: str, quantity: str) -> Iterator[dict]:
    """The closed form of phi(c) (infinite width and depth) on a fine grid."""
    for c in np.geomspace(spec.c.low, spec.c.high, CURVE_POINTS):
        angle = float(phi_limit(float(c), ACTIVATIONS[series]))
        yield row(case, series, "theory", quantity, angle if quantity == "bfa" else float(np.cos(angle)), c=float(c))


def finite_width(spec: FiniteWidthSpec, seed: int, device) -> Iterator[dict]:
    """Cosine of the output angle against the width: samples, the MLP's exact scalar chain, and the infinite width."""
    for series, beta in (("MLP", 1.0), ("ResNet c=1", spec.depth**-0.5)):
        sizes = {"branch_scale": beta, "c": beta * spec.depth**0.5, "depth": spec.depth}
        yield row("finite width", series, "theory", "cos_bfa", float(cos_bfa_recursion(spec.depth, beta)[-1]), **sizes)
        for width in spec.widths:
            stream = generator(seed, "finite width", series, width, device=device)
            samples = sample_networks([Network(spec.depth, beta)] * spec.seeds, width, stream)
            for index, sample in enumerate(samples):
                cosine = float(torch.cos(sample.angle[-1]))
                yield row("finite width", series, "sampler", "cos_bfa", cosine, index, width=width, **sizes)
            if series == "MLP":
                rng = np.random.default_rng(derive_seed(seed, "chain", width))
                chain = sample_mlp_cos_bfa(width, spec.depth, CHAIN_SAMPLES, rng)[:, -1]
                yield row("finite width", series, "theory", "cos_bfa", float(np.nanmean(chain)), width=width, **sizes)


def wide_mlp(spec: WideMlpSpec, seed: int, device) -> Iterator[dict]:
    """``cos theta_v`` at a dozen layers of a very wide MLP, ReLU and linear."""
    layers = sorted({int(v) for v in np.geomspace(min(20, spec.depth // 3), spec.depth - 1, 12)})
    for series, activation in ACTIVATIONS.items():
        stream = generator(seed, "wide MLP", series, device=device)
        networks = [Network(spec.depth, 1.0)] * spec.seeds
        samples = sample_networks(networks, spec.width, stream, activation=activation, layers="all")
        for index, sample in enumerate(samples):
            for layer in layers:
                sizes = {"branch_scale": 1.0, "c": spec.depth**0.5, "width": spec.width, "depth": spec.depth}
                cosine = float(torch.cos(sample.angle[layer - 1]))
                yield row("wide MLP", series, "sampler", "cos_bfa", cosine, index, **sizes) | {"layer": layer}


def all_rows(spec: TheorySpec, device) -> Iterator[dict]:
    """Every case."""
    for series in ACTIVATIONS:
        yield from closed_form(spec.phi, "phi", series, "bfa")
        yield from sampled_angles(spec.phi, "phi", series, spec.seed, device, "bfa")
    yield from finite_width(spec.finite_width, spec.seed, device)
    yield from wide_mlp(spec.wide_mlp, spec.seed, device)
    yield from closed_form(spec.tail, "tail", "ReLU", "cos_bfa")
    yield from sampled_angles(spec.tail, "tail", "ReLU", spec.seed, device, "cos_bfa")


def main(spec: TheorySpec) -> pd.DataFrame:
    """All cases as one long table."""
    with acquire_device() as device:
        return frame(all_rows(spec, device))


if __name__ == "__main__":
    run_stage(main, TheorySpec)
