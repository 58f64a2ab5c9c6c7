"""Figures of this room that are still to come."""

from featurespeed.papers.entries import Planned

PLANNED = (
    Planned("sc_fig17", "Figure 17", "a ResNet on Tiny-ImageNet over the width"),
    Planned("sc_fig18", "Figure 18", "a ResNet on Tiny-ImageNet over the depth"),
    Planned("sc_fig19", "Figure 19", "a ResNet on ImageNet over the width"),
)
