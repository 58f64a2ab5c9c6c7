"""Settings of the theorems of arXiv:2311.18718 tested directly."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from featurespeed.values import (
    Count,
    Depths,
    Replicates,
    Seed,
    Spec,
    Width,
)


class TheoremsSpec(Spec):
    """Direct tests of the paper's theorems on small float64 networks (stage table ``fsf_theorems``).

    ``more_seeds`` are those of the experiments whose numbers differ most between seeds: spectrum of the kernel, and
    node of Figure 2a.
    """

    artefact: str
    width: Width
    depths: Annotated[Depths, Field(min_length=3)]
    kernel_width: Width
    input_dim: Count
    n_inputs: Replicates
    seeds: Replicates
    more_seeds: Replicates
    training_steps: Annotated[int, Field(ge=2, strict=True)]
    invariance_steps: Annotated[int, Field(ge=2, strict=True)]
    seed: Seed
