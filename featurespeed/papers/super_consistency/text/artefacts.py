"""Figures of this room that are still to come."""

from featurespeed.papers.entries import Planned

PLANNED = (
    Planned("sc_fig15", "Figure 15", "GPT-2 under Depth-μP with Adam over the depth"),
    Planned("sc_fig16", "Figure 16", "a post-LN transformer under μP with Adam over the width"),
)
