"""Parameters and parts of a model by their names, or by shell patterns."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from featurespeed.measuring.errors import MeasurementError

NAMES = "allowed: names as in model.named_modules() and named_parameters(), or patterns such as 'h.*' and '**.bias'"
SHOWN = 6  # names that are repeated where none fits
PARAMETRIZED = "parametrizations."


def fits(name: str, pattern: str) -> bool:
    """Whether a pattern fits a name part by part: ``h.*`` are the entries of ``h``, and not what is inside of them.

    ``**`` is any number of parts: ``**.bias`` are all biases. Inside of a part as in a shell (``fnmatch``).
    """
    return name == pattern or _fit(name.split("."), pattern.split("."))


def _fit(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted or not parts:
        return not parts and all(each == "**" for each in wanted)
    if wanted[0] == "**":
        return _fit(parts, wanted[1:]) or _fit(parts[1:], wanted)
    return fnmatchcase(parts[0], wanted[0]) and _fit(parts[1:], wanted[1:])


def named(model: nn.Module, pattern: str, argument: str) -> dict[str, list[Tensor]]:
    """The parts and parameters whose names fit, each with its parameters; names are those inside of ``DataParallel``.

    Raises:
        MeasurementError: ``argument`` names what is not there.
    """
    model = without_wrapper(model)
    parts = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    found = {name: list(module.parameters()) for name, module in parts.items() if fits(name, pattern)}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if fits(name, pattern):
            found[name] = [parameter]
    if not found:
        some = [*parts, *(name for name, _ in model.named_parameters())][:SHOWN]
        raise MeasurementError(
            f"{argument}: {pattern!r} fits no parameter and no part of the model, {NAMES}; here {', '.join(some)}, ..."
        )
    return found


def layers(model: nn.Module) -> dict[str, list[Tensor]]:
    """Every part that holds parameters itself, with these; one that several hold counts for the first of them.

    What a parametrization keeps in the place of a weight belongs to the layer of this weight. The model itself is
    called by the name of its class.
    """
    model = without_wrapper(model)
    found: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        place = name.find(PARAMETRIZED)
        holder = name.rpartition(".")[0] if place < 0 else name[:place].rstrip(".")
        found.setdefault(holder or type(model).__name__, []).append(parameter)
    return found


def without_wrapper(model: nn.Module) -> nn.Module:
    """A model without what spreads it over devices."""
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    return model
