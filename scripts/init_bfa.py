"""Backward-feature angles at initialisation: Figures 1a, 1b and 1c of arXiv:2311.18718.

One network of width m and depth L, one Gaussian input, embedding and readout frozen, learning rates ``eta_l = dt/(L
|grad_l|^2)``. Output: the angle by exact tangent and by the paper's finite step (dense networks), by the exact-law
sampler, and by our infinite-width recursion.
"""

import pandas as pd
import torch

from featurespeed.machine.device import acquire_device
from featurespeed.papers.feature_speed.angles.spec import InitSpec
from featurespeed.papers.feature_speed.panels import Panel, Series, dense_panel, sampled_panel, theory_panel
from featurespeed.pipeline.stage import progress, run_stage
from featurespeed.records import frame
from featurespeed.values import branch_scale


def gaussian_input(input_dim: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ``randn(d)/sqrt(d)`` and target ``randn`` (Fig. 1)."""
    x = torch.randn(input_dim, generator=generator) / input_dim**0.5
    return x, torch.randn(1, generator=generator)


def series_at(spec: InitSpec, depth: int) -> list[Series]:
    """Series of a panel: its branch scales, or (Fig. 1c) a grid of branch scales whose series is the depth."""
    readout_std = 1.0 / spec.width
    if spec.branch_scale_grid is not None:
        return [Series(f"L={depth}", beta, readout_std) for beta in spec.branch_scale_grid.values()]
    laws = spec.branch_scales.items()
    return [Series(label, branch_scale(law, depth), readout_std) for label, law in laws]


def panel(spec: InitSpec) -> Panel:
    """The panel that ``spec`` describes."""
    return Panel(lambda depth: series_at(spec, depth), gaussian_input, ("bfa",), spec.layers == "all")


def main(spec: InitSpec) -> pd.DataFrame:
    """All estimators of one panel as one long table."""
    what = panel(spec)
    with acquire_device() as device:
        dense = list(progress(dense_panel(spec, what, device), f"{spec.artefact} dense networks"))
        sampled = list(progress(sampled_panel(spec, what, device), f"{spec.artefact} samples"))
    return frame(pd.concat([*dense, *sampled, *theory_panel(spec, what)], ignore_index=True))


if __name__ == "__main__":
    run_stage(main, InitSpec)
