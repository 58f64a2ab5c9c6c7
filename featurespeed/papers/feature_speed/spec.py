"""What the settings of Figures 1 and 2 of arXiv:2311.18718 share."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import field_validator

from featurespeed.values import (
    Count,
    Depths,
    Positive,
    Replicates,
    Seed,
    Spec,
    Width,
    branch_scale,
    distinct,
)


class NetworkSpec(Spec):
    """What the panels of Figures 1 and 2 share."""

    artefact: str
    width: Width
    depths: Depths
    input_dim: Count
    draws: Count
    sampler_seeds: Replicates
    sampler_depths: Depths
    finite_step: Positive
    seed: Seed

    _distinct_depths = field_validator("depths", "sampler_depths")(distinct)


def check_laws(laws: Mapping[str, str], depths: list[int]) -> None:
    for label, law in laws.items():
        for depth in depths:
            try:
                branch_scale(law, depth)
            except ValueError as error:
                raise ValueError(f"{label} = {law!r}: {error}") from None
