"""The panels of Figures 1 and 2 (arXiv:2311.18718) as tables: every series, depth, draw and estimator.

A panel lists its series (a branch scale and a readout scale each), its law of the input and the target, and the
quantities it keeps. Dense networks give the paper's own draws (exact tangent and finite step; weights shared by all
series of a draw); the exact-law sampler gives independent networks for every series, from which all intervals come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurespeed.papers.feature_speed.spec import NetworkSpec
from featurespeed.probes.residual_mlp import DenseNetwork, OneStep, SeriesProbe, draw_dense_network
from featurespeed.probes.sampler import Network, Sample, sample_networks
from featurespeed.randomness import generator
from featurespeed.theory import cos_bfa_recursion

DrawInput = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Series:
    """One line of a panel at one depth."""

    label: str
    branch_scale: float
    readout_std: float
    scaling: str = ""


@dataclass(frozen=True)
class Panel:
    """What distinguishes the panels.

    Attributes:
        series: depth -> series at that depth.
        draw_input: (input dimension, generator) -> (input ``[d]``, target ``[1]``).
        quantities: names of the quantities kept, see :data:`_FROM_DENSE`.
        all_layers: keep every layer, else the last hidden one, ``L - 1``.
    """

    series: Callable[[int], Sequence[Series]]
    draw_input: DrawInput
    quantities: tuple[str, ...]
    all_layers: bool = False


_FROM_DENSE: dict[str, Callable[[OneStep], Tensor]] = {
    "bfa": lambda step: step.angle,
    "feature_sensitivity": lambda step: step.feature_sensitivity,
    "inverse_backward_norm": lambda step: step.inverse_backward_norm,
}
_FROM_SAMPLE: dict[str, Callable[[Sample, int], Tensor]] = {
    "bfa": lambda sample, width: sample.angle,
    "feature_sensitivity": lambda sample, width: sample.feature_sensitivity,
    "inverse_backward_norm": Sample.inverse_backward_norm,
}


def dense_networks(spec: NetworkSpec, device: torch.device | str) -> Iterator[tuple[int, int, DenseNetwork]]:
    """``(depth, draw, network)``: the paper's own draws; the weights' buffer is reused from one to the next."""
    buffer = torch.empty((max(spec.depths) - 2) * spec.width**2, device=device)
    for depth in spec.depths:
        for draw in range(spec.draws):
            stream = generator(spec.seed, "dense", depth, draw, device=device)
            yield depth, draw, draw_dense_network(spec.width, depth, spec.input_dim, stream, buffer=buffer)


def dense_panel(
    spec: NetworkSpec,
    panel: Panel,
    device: torch.device | str = "cpu",
    estimators: Sequence[str] = ("jvp", "finite step"),
) -> Iterator[pd.DataFrame]:
    """Tables of the dense draws, one a network and estimator."""
    for depth, draw, network in dense_networks(spec, device):
        x, y = panel.draw_input(spec.input_dim, generator(spec.seed, "input", depth, draw))
        series = panel.series(depth)
        probe = SeriesProbe(
            network, x.to(device), y.to(device), [s.branch_scale for s in series], [s.readout_std for s in series]
        )
        for estimator in estimators:
            step = probe.exact_tangent() if estimator == "jvp" else probe.finite_step(spec.finite_step)
            for quantity in panel.quantities:
                values = _FROM_DENSE[quantity](step).double().cpu().numpy()
                for column, one in enumerate(series):
                    layers = _layers(depth, panel)
                    yield _rows(spec, one, depth, layers, values[layers - 1, column], draw, estimator, quantity)


def sampled_panel(spec: NetworkSpec, panel: Panel, device: torch.device | str = "cpu") -> Iterator[pd.DataFrame]:
    """Tables of the exact-law samples: ``sampler_seeds`` independent networks for every series and depth."""
    keys = [(d, s, seed) for d in spec.sampler_depths for s in panel.series(d) for seed in range(spec.sampler_seeds)]
    inputs = generator(spec.seed, "sampler inputs")
    networks = []
    for depth, series, _ in keys:
        x, y = panel.draw_input(spec.input_dim, inputs)
        input_rms = float(x.norm()) / spec.input_dim**0.5
        networks.append(Network(depth, series.branch_scale, input_rms, series.readout_std, float(y)))
    stream = generator(spec.seed, "sampler", device=device)
    samples = sample_networks(networks, spec.width, stream, layers="all" if panel.all_layers else "last")
    for (depth, series, seed), sample in zip(keys, samples, strict=True):
        for quantity in panel.quantities:
            layers = _layers(depth, panel)
            values = _FROM_SAMPLE[quantity](sample, spec.width).numpy()[layers - 1]
            yield _rows(spec, series, depth, layers, values, seed, "sampler", quantity)


def theory_panel(spec: NetworkSpec, panel: Panel) -> Iterator[pd.DataFrame]:
    """Angles of the infinite-width recursion (ours) at the depths of the sampler, and at the paper's where these are
    few.
    """
    for depth in spec.sampler_depths:
        for series in panel.series(depth):
            angles = np.arccos(np.clip(cos_bfa_recursion(depth, series.branch_scale), -1.0, 1.0))  # v = 2..L-1
            layers = _layers(depth, panel)
            yield _rows(spec, series, depth, layers, angles[layers - 2], 0, "theory", "bfa")


def _layers(depth: int, panel: Panel) -> np.ndarray:
    # Layer 1 does not move: its weights are frozen and its angle is not defined.
    return np.arange(2, depth) if panel.all_layers else np.array([depth - 1])


def _rows(spec, series: Series, depth: int, layers, values, seed: int, estimator: str, quantity: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "series": series.label,
            "scaling": series.scaling,
            "branch_scale": series.branch_scale,
            "c": depth**0.5 * series.branch_scale,
            "width": spec.width,
            "depth": depth,
            "input_dim": spec.input_dim,
            "output_dim": 1,
            "layer": layers,
            "seed": seed,
            "estimator": estimator,
            "quantity": quantity,
            "value": values,
        }
    )
