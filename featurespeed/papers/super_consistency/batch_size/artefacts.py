"""Figures of this room that are still to come."""

from featurespeed.papers.entries import Planned

PLANNED = (
    Planned("sc_fig12", "Figure 12", "dynamics late in training"),
    Planned("sc_fig13", "Figure 13", "batch sizes, with or without augmentation"),
    Planned("sc_fig14", "Figure 14", "batch sizes, the other of the two"),
)
