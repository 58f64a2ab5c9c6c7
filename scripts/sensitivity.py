"""Output sensitivity at initialisation: Figures 2a and 2b of arXiv:2311.18718.

Input on the unit sphere, target 1, embedding and readout frozen, learning rates ``eta_l = dt/(L |grad_l|^2)``; the
series are output scalings (2a) or branch scales (2b). Output: the feature sensitivity ``S`` of ``f_{L-1}`` and
``1/(|b_{L-1}| sqrt(m))``, by exact tangent, by the paper's finite step, and by the exact-law sampler.
"""

import pandas as pd
import torch

from featurespeed.machine.device import acquire_device
from featurespeed.papers.feature_speed.panels import Panel, Series, dense_panel, sampled_panel
from featurespeed.papers.feature_speed.sensitivity.spec import SensitivitySpec
from featurespeed.pipeline.stage import progress, run_stage
from featurespeed.records import frame
from featurespeed.scalings import readout_std
from featurespeed.values import branch_scale


def sphere_input(target: float):
    """Input uniform on the unit sphere and the constant target (Fig. 2)."""

    def draw(input_dim: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(input_dim, generator=generator)
        return x / x.norm(), torch.full((1,), target)

    return draw


def series_at(spec: SensitivitySpec, depth: int) -> list[Series]:
    """One series a scaling (Fig. 2a) or a branch scale (Fig. 2b)."""
    return [
        Series(
            label=str(scaling) if len(spec.scalings) > 1 else label,
            branch_scale=branch_scale(law, depth),
            readout_std=readout_std(scaling, spec.width, depth),
            scaling=str(scaling),
        )
        for scaling in spec.scalings
        for label, law in spec.branch_scales.items()
    ]


def panel(spec: SensitivitySpec) -> Panel:
    """The panel that ``spec`` describes."""
    quantities = ("feature_sensitivity", "inverse_backward_norm")
    return Panel(lambda depth: series_at(spec, depth), sphere_input(spec.target), quantities)


def main(spec: SensitivitySpec) -> pd.DataFrame:
    """All estimators of one panel as one long table."""
    what = panel(spec)
    with acquire_device() as device:
        dense = list(progress(dense_panel(spec, what, device), f"{spec.artefact} dense networks"))
        sampled = list(progress(sampled_panel(spec, what, device), f"{spec.artefact} samples"))
    return frame(pd.concat([*dense, *sampled], ignore_index=True))


if __name__ == "__main__":
    run_stage(main, SensitivitySpec)
