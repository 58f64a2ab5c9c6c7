"""What the figures of this paper need of runs over sizes: told before anything trains."""

from __future__ import annotations

from featurespeed.sweeps.spec import SweepSpec
from featurespeed.values import check_labels


def check_measured(spec: SweepSpec, *needed: str) -> None:
    """Raise if a quantity without which there is no figure is not measured."""
    quantities = spec.curvature.quantities
    missing = [name for name in needed if name not in quantities]
    if missing:
        raise ValueError(f"curvature.quantities = {quantities}: must hold {missing[0]}, which the figure shows")


def check_one_size(spec: SweepSpec, *needed: str) -> None:
    """Raise if a network varies in width and depth, of which a figure shows one; ``needed`` are quantities it shows."""
    check_labels("networks", spec.networks, "N=", "L=")
    check_measured(spec, *needed)
    for label, network in spec.networks.items():
        widths = network.widths or spec.widths
        if network.depth_count > 1 and len(widths) > 1:
            raise ValueError(
                f"networks.{label}.depths = {network.depths}: with widths = {widths}; a network varies in one of"
                " them, so give one width or leave depths out"
            )


def check_over_width(spec: SweepSpec, *needed: str) -> None:
    """Raise if a figure over the width cannot be drawn of these runs: it has one curve a width.

    Args:
        needed: quantities that it shows.
    """
    for label, network in spec.networks.items():
        if network.depth_count > 1:
            raise ValueError(
                f"networks.{label}.depths = {network.depths}: the figure is over the width, at one depth; leave depths"
                " out and set model.depth"
            )
    check_one_size(spec, *needed)


def check_over_depth(spec: SweepSpec, *needed: str) -> None:
    """Raise if a figure over the depth cannot be drawn of these runs: it has one curve a depth.

    Args:
        needed: quantities that it shows.
    """
    for label, network in spec.networks.items():
        if network.depth_count < 2:
            raise ValueError(
                f"networks.{label}.depths = {network.depths}: the figure is over the depth, at least 2 are needed"
            )
    check_one_size(spec, *needed)


def check_networks(spec: SweepSpec, *needed: str) -> None:
    """Raise if a network is missing that the figure or its claims know by its label."""
    missing = [label for label in needed if label not in spec.networks]
    if missing:
        raise ValueError(f"networks = {list(spec.networks)}: {missing[0]!r} is needed")
