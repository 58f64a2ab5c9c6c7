"""Figures of this room that are still to come."""

from featurespeed.papers.entries import Planned

PLANNED = (
    Planned("sc_fig06", "Figure 6", "μP without 1/√L, with and without warm-up"),
    Planned("sc_fig07", "Figure 7", "the standard parameterization with three warm-ups"),
    Planned("sc_fig08", "Figure 8", "μP without skip connections over the depth"),
)
