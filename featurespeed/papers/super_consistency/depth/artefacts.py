"""Figures of this room that are still to come."""

from featurespeed.papers.entries import Planned

PLANNED = (
    Planned("sc_fig04", "Figure 4", "transfer and sharpness over the depth: one and two layers a block, ViT"),
    Planned("sc_fig22", "Figure 22", "convergence rates over the depth"),
    Planned("sc_fig25", "Figure 25", "eigenvalues of the Hessian and of the NTK over the depth"),
)
