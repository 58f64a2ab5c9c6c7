"""What the figures of this paper need of runs over sizes: told before anything trains."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from featurespeed.parameterization import OptimizerName, Parameterization
from featurespeed.sweeps.spec import SweepSpec
from featurespeed.values import Spec, as_written, check_labels, did_you_mean

#: Labels of networks over the width, by which figures and claims of several rooms know them.
MUP, NTP = "muP", "NTP"
#: The sharpness of which the edge is that of Adam; all else along training stands beside 2/eta_0.
PRECONDITIONED = "preconditioned_sharpness"


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
    if PRECONDITIONED not in needed:
        check_edge(spec)
    for label, network in spec.networks.items():
        widths = network.widths or spec.widths
        if network.depth_count > 1 and len(widths) > 1:
            raise ValueError(
                f"networks.{label}.depths = {network.depths}: with widths = {widths}; a network varies in one of"
                " them, so give one width or leave depths out"
            )


def check_edge(spec: SweepSpec) -> None:
    """Raise if 2/eta_0, which figures and claims set beside the sharpness, is not the edge of a network's optimizer."""
    for label, network in spec.networks.items():
        key, optimizer = f"networks.{label}.optimizer", network.optimizer
        if optimizer.name != OptimizerName.SGD:
            raise ValueError(
                f"{key}.name = {optimizer.name}: must be sgd, whose edge of stability the figure shows, 2/eta_0;"
                " Figures 20 and 21 are those of Adam and AdamW"
            )
        if optimizer.momentum:
            raise ValueError(
                f"{key}.momentum = {optimizer.momentum:g}: must be 0, or 2/eta_0, which the figure shows, is not the"
                " edge of stability"
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
                f"networks.{label}.depths = {as_written(network.depths)}: the figure is over the depth, at least 2 are"
                " needed"
            )
    check_one_size(spec, *needed)


#: What networks of one figure are free to differ in: where they are trained, and where curvature is measured.
RATES = ("learning_rates", "measured")
LATE = 0.9  # of the steps: a curve along training ends there or later
FEWEST_PROBES = 2  # after the first step: one point shows no course


def check_along_training(spec: SweepSpec) -> None:
    """Raise if curvature is measured too rarely for a figure of its course: from step 0 on, and until the end."""
    for label in spec.networks:
        key, steps = spec.steps_of(label)
        probes = [step for step in spec.curvature.at(spec.probe_steps) if step <= steps]
        after = [step for step in probes if step > 0]
        given = f"{spec.measured_at}: with {key} = {steps}"
        if 0 not in probes:
            raise ValueError(f"{given}; must hold 0, where the figure begins")
        if len(after) < FEWEST_PROBES:
            raise ValueError(f"{given}; {len(after)} of them after step 0, at least {FEWEST_PROBES} are needed")
        if max(after) < LATE * steps:
            raise ValueError(f"{given}; the last is {max(after)}, must be in the last tenth of training")


def check_networks(spec: SweepSpec, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raise if a network is missing that the figure and its claims know by its label, or one has no place there."""
    missing = [label for label in needed if label not in spec.networks]
    if missing:
        raise ValueError(f"networks = {list(spec.networks)}: {missing[0]!r} is needed")
    check_places(spec, (*needed, *optional))


def check_places(spec: SweepSpec, known: Sequence[str]) -> None:
    """Raise if a network has no place in the figure, which knows networks by their labels."""
    for label in spec.networks:
        if label not in known:
            hint = did_you_mean(label, known)
            raise ValueError(f"networks.{label}: has no place in the figure, allowed: {'; '.join(known)}{hint}")


def check_setting(spec: SweepSpec, label: str, key: str, *allowed: Any) -> None:
    """Raise if a setting of a network is not what its label says.

    Args:
        spec: with the network ``label``.
        label: of the network.
        key: of the setting, with dots: ``optimizer.name``.
        allowed: values.
    """
    value = attrgetter(key)(spec.networks[label])
    if value not in allowed:
        texts = " or ".join(as_written(one) for one in allowed)
        raise ValueError(f"networks.{label}.{key} = {as_written(value)}: must be {texts}, as the label says")


def check_residual(spec: SweepSpec, label: str, layers: int, parameterization: Parameterization) -> None:
    """Raise if a network is no residual one of so many layers a block, with or without 1/sqrt(L)."""
    check_setting(spec, label, "parameterization", parameterization)
    check_setting(spec, label, "model.tau", 1)
    check_setting(spec, label, "model.alpha", None)
    check_setting(spec, label, "model.layers_per_block", layers)


def check_alike(spec: SweepSpec, first: str, second: str, *free: str) -> None:
    """Raise if two networks differ in more than the free settings (with dots), so that no difference has one cause."""
    check_same(f"networks.{first}", spec.networks[first], f"networks.{second}", spec.networks[second], *free)


def check_same(first: str, one: Spec, second: str, other: Spec, *free: str, reason: str = "") -> None:
    """Raise if two blocks of settings differ in more than the free ones (with dots).

    Args:
        first, second: their keys.
        one, other: what stands there; a fault is told of the second.
        reason: the end of the message.
    """
    given, found = (_flat(block) for block in (one, other))
    for key in {**given, **found}:
        if key not in free and given.get(key) != found.get(key):
            own, needed = (as_written(settings.get(key)) for settings in (found, given))
            raise ValueError(f"{second}.{key} = {own}: must be that of {first}, {needed}{reason}")


def _flat(settings: Spec, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Spec) else {prefix + key: value}
    return flat
