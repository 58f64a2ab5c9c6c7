"""Figures of this room that are still to come."""

from featurespeed.papers.entries import Planned

PLANNED = (
    Planned("sc_fig20", "Figure 20", "Depth-μP with Adam, one and two layers a block"),
    Planned("sc_fig21", "Figure 21", "μP with Adam and AdamW over the width"),
)
