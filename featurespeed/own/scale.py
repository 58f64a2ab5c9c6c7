"""Initial scales and layer-wise learning rates for any model: measured, or by the rules of a parameterization.

scaled = autoscale(model, loss, batch)                       # "fsc": no smaller model is needed
optimizer = torch.optim.SGD(scaled.groups(learning_rate=0.1))
scaled.table, scaled.undo()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from featurespeed.measuring.arguments import positive
from featurespeed.measuring.context import undisturbed
from featurespeed.measuring.errors import MeasurementError, kind_of, reported_as
from featurespeed.measuring.figures import named_ticks, new_figure
from featurespeed.measuring.model import checked_loss, checked_model
from featurespeed.measuring.names import without_wrapper
from featurespeed.measuring.norms import rms
from featurespeed.own.forward import Structure, rescale_forward, structure_of
from featurespeed.own.measure import Measurement, measure
from featurespeed.own.rates import BalancedRates
from featurespeed.own.rules import PARAMETERIZATIONS, rows_by_rule
from featurespeed.own.tracing import part_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scheme = Literal["fsc", "mup", "depth_mup", "ntp"]
Kind = Literal["sgd", "adam"]
SCHEMES = ("fsc", *PARAMETERIZATIONS)
SETTLED = 0.01  # change of the log of the readout's factor below which it is found
MOST_ROUNDS = 16


@dataclass(frozen=True, eq=False)
class Scaling:
    """What :func:`autoscale` has done to a model, and the learning rates that belong to it.

    Attributes:
        scheme: its name.
        table: one row a parameter: ``name``; ``node``, the first that it stands behind (``fsc``); ``role``, ``width``
            and ``base_width`` (the others); ``factor``, what its values were multiplied with; ``rms_before``, ``rms``;
            ``lr_sgd`` and ``lr_adam``, factors on the learning rate (NaN where none is stated).
        nodes: one row a node of ``fsc``, before and after: ``rms``, ``angle``, ``sensitivity``; empty for the others.
        notes: what the scheme asks for and was not done, in words.
    """

    scheme: str
    table: pd.DataFrame
    nodes: pd.DataFrame
    notes: tuple[str, ...]
    _parameters: Mapping[str, nn.Parameter] = field(repr=False)
    _before: Mapping[str, Tensor] = field(repr=False)

    @property
    def sentence(self) -> str:
        """What was done, in a line."""
        changed = self.table[self.table["factor"] != 1.0]
        text = f"{self.scheme}: {len(changed)} of {len(self.table)} parameters were scaled"
        if len(changed):
            text += f", by {changed['factor'].min():.3g} to {changed['factor'].max():.3g}"
        rates = self.table[["lr_sgd", "lr_adam"]].agg(["min", "max"])
        for kind, name in (("lr_sgd", "SGD"), ("lr_adam", "Adam")):
            if rates[kind].notna().all():
                text += f"; factors on the rates of {name}: {rates[kind]['min']:.3g} to {rates[kind]['max']:.3g}"
        return "; ".join((text, *self.notes))

    def __str__(self) -> str:
        return self.sentence

    def groups(self, learning_rate: float, kind: Kind = "sgd") -> list[dict[str, Any]]:
        """Parameter groups for an optimizer of ``torch.optim``, one for each learning rate that differs.

        Under ``fsc`` the learning rate ``eta_0`` is by how much one step lowers the loss, to first order, and the rates
        of the layers are ``eta_0/(L |grad|^2)`` (for Adam the norm over entries in the place of the square); under the
        other schemes it is the one that was tuned on the smaller model.

        Args:
            learning_rate: ``eta_0``.
            kind: of which optimizer: SGD (with or without momentum), or Adam and AdamW.

        Raises:
            ValueError: the scheme states no rates for this optimizer.
        """
        with reported_as(ValueError):
            rate = positive("learning_rate", learning_rate)
            if kind not in ("sgd", "adam"):
                raise MeasurementError(f"kind = {kind!r}: allowed: sgd, adam")
            factors = self.table.set_index("name")[f"lr_{kind}"]
            if factors.isna().any():
                raise MeasurementError(f"kind = {kind!r}: {self.scheme} states no rates for it, allowed: sgd")
            by_rate: dict[float, list[nn.Parameter]] = {}
            for name, factor in factors.items():
                by_rate.setdefault(rate * float(factor), []).append(self._parameters[str(name)])
            return [{"params": own, "lr": lr} for lr, own in by_rate.items()]

    def balanced(self, optimizer: type[torch.optim.Optimizer], learning_rate: float, **options: Any) -> BalancedRates:
        """SGD whose layer-wise rates follow the gradients while it trains (:class:`BalancedRates`); ``fsc`` only.

        Args:
            optimizer: ``torch.optim.SGD``, or a class like it.
            learning_rate: ``eta_0``, by how much one step lowers the loss, to first order.
            options: of the optimizer, such as ``momentum``.
        """
        with reported_as(ValueError):
            if self.scheme != "fsc":
                raise MeasurementError(f"scheme = {self.scheme!r}: its rates do not follow gradients, allowed: fsc")
            if not isinstance(optimizer, type) or not issubclass(optimizer, torch.optim.Optimizer):
                raise MeasurementError(f"optimizer: {kind_of(optimizer)}, allowed: a class such as torch.optim.SGD")
            try:
                made = optimizer(self.groups(learning_rate), **options)
            except TypeError as error:
                raise MeasurementError(
                    f"options: {', '.join(options)}, allowed: those of {optimizer.__name__}"
                ) from error
            return BalancedRates(made, learning_rate)

    def undo(self) -> None:
        """Give all weights back the values that they had, bit by bit; training since then is lost."""
        with torch.no_grad():
            for name, values in self._before.items():
                self._parameters[name].copy_(values)

    def plot(self) -> Figure:
        """Factors on the weights and on the learning rates, parameter by parameter."""
        figure, (weights, rates) = new_figure(2, width=5.0)
        places = range(len(self.table))
        weights.plot(places, self.table["factor"], "o", markersize=4)
        weights.set(yscale="log", ylabel="factor on the weights")
        for kind, marker in (("sgd", "o"), ("adam", "s")):
            rates.plot(
                places, self.table[f"lr_{kind}"], marker, markersize=4, label=kind.upper() if kind == "sgd" else "Adam"
            )
        rates.set(yscale="log", ylabel="factor on the learning rate")
        rates.legend()
        for ax in (weights, rates):
            named_ticks(ax, list(self.table["name"]))
        return figure


def autoscale(
    model: nn.Module,
    loss: Callable[..., Any],
    batch: Any,
    scheme: Scheme = "fsc",
    base: nn.Module | None = None,
) -> Scaling:
    """Scale the initial weights of a model in place, and say which learning rates its layers should have.

    ``fsc`` measures (arXiv:2311.18718, Sec. 4), layer by layer on the batch: initial weights so that outputs of layers
    have root mean square 1, and residual branches ``1/sqrt(branches)`` of their stream (signal propagation); the
    readout so that features of the last hidden node move by 1 while the loss falls by 1 (feature learning: Prop. 4.1
    with the measured angle); rates ``eta_0/(L |grad_l|^2)``, by which every layer lowers the loss alike (balanced
    contributions, loss decay). It needs no smaller model. How residual branches and Adam are treated is ours.

    ``mup``, ``depth_mup`` and ``ntp`` compare the model with a smaller one of the same kind, on which the learning rate
    was tuned: weights get the size that those of the smaller model have, times what the parameterization says
    (:mod:`featurespeed.parameterization`), and rates the factors that go with it; multipliers are within the weights.

    The model changes in place; nothing else does. :meth:`Scaling.undo` takes it back.

    Args:
        model: at initialisation.
        loss, batch: as in :func:`featurespeed.measure`.
        scheme: ``fsc``, ``mup``, ``depth_mup`` or ``ntp``.
        base: the smaller model, as its author initialises it; for all but ``fsc``.

    Returns:
        :class:`Scaling`.

    Raises:
        ValueError: one line: tied weights that would have to be scaled apart, no smaller model, ...

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> batch = torch.randn(16, 3), torch.randint(2, (16,))
        >>> scaled = autoscale(net, nn.CrossEntropyLoss(), batch)
        >>> bool((scaled.nodes["rms"][:2] - 1).abs().max() < 1e-3)
        True
        >>> optimizer = torch.optim.SGD(scaled.groups(learning_rate=0.1))
        >>> scaled.undo()
    """
    with reported_as(ValueError):
        if scheme not in SCHEMES:
            raise MeasurementError(f"scheme = {scheme!r}: allowed: {', '.join(SCHEMES)}")
        model, loss = without_wrapper(checked_model(model)), checked_loss(loss)
        smaller = _checked_base(scheme, base)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        try:
            with undisturbed(model, loss):
                if smaller is None:
                    return _by_measuring(model, loss, batch, before)
                return _by_rule(model, smaller, loss, batch, scheme, before)
        except BaseException:  # all or nothing
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(before[name])
            raise


def _checked_base(scheme: str, base: Any) -> nn.Module | None:
    if scheme == "fsc":
        if base is not None:
            raise MeasurementError(f"base: {kind_of(base)}, allowed with fsc: None, it measures the model itself")
        return None
    if not isinstance(base, nn.Module):
        raise MeasurementError(
            f"base: {kind_of(base)}, allowed with {scheme}: the model of the size at which the learning rate was tuned"
        )
    return checked_model(base)


def _by_rule(
    model: nn.Module, base: nn.Module, loss: Any, batch: Any, scheme: str, before: Mapping[str, Tensor]
) -> Scaling:
    """Sizes of weights and rates as a parameterization has them, relative to a smaller model."""
    rows, notes = rows_by_rule(model, base, scheme, *(structure_of(each, loss, batch) for each in (model, base)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.mul_(rows[name]["factor"])
    return _scaling(scheme, model, before, rows, pd.DataFrame(), notes)


def _by_measuring(model: nn.Module, loss: Any, batch: Any, before: Mapping[str, Tensor]) -> Scaling:
    """Forward, backward and rates from measurements on the batch."""
    first, structure = measure(model, loss, batch), structure_of(model, loss, batch)
    notes = rescale_forward(model, loss, batch, structure)
    last, backward = _with_feature_learning(model, loss, batch, structure)
    parameters = dict(model.named_parameters())
    _check_covered(parameters, last)
    own = last.parameters.assign(square=last.parameters["gradient_norm"] ** 2)
    sums = own.groupby("node")[["square", "gradient_l1"]].sum() * len(last.nodes)
    rows = {}
    for name, node in zip(own["name"], own["node"], strict=True):
        square, absolute = (float(value) for value in sums.loc[node])
        rows[name] = {
            "node": node,
            "factor": _factor(parameters[name], before[name]),
            "lr_sgd": 1 / square if square else 0.0,
            "lr_adam": 1 / absolute if absolute else 0.0,
        }
    return _scaling("fsc", model, before, rows, _before_and_after(first, last), (*notes, *backward))


def _check_covered(parameters: Mapping[str, nn.Parameter], found: Measurement) -> None:
    """Raise where a parameter that learns stands behind no node, so that it would get no rate."""
    known = set(found.parameters["name"])
    missing = [name for name, parameter in parameters.items() if parameter.requires_grad and name not in known]
    if missing:
        raise MeasurementError(
            f"model: {', '.join(missing[:3])} stand{'s' if len(missing) == 1 else ''} behind no cut node (several"
            " outputs, or a part that the loss does not see), allowed with fsc: a model with one output"
        )


def _with_feature_learning(
    model: nn.Module, loss: Any, batch: Any, structure: Structure
) -> tuple[Measurement, tuple[str, ...]]:
    """The readout's weights times a factor by which the last hidden features have sensitivity 1 (Prop. 4.1).

    The backward pass is proportional to them, but for the loss's own derivative, which they change a little: so some
    rounds are needed.
    """
    found = measure(model, loss, batch)
    readout = structure.readout
    if readout is None or len(found.nodes) < 2:
        return found, ("features learn as they do: the last node is no layer of its own whose weights could be scaled",)
    weight = part_of(model, readout).get_parameter("weight")
    for round_ in range(MOST_ROUNDS):
        sensitivity = float(found.speed.feature_sensitivity[-2])
        if not math.isfinite(sensitivity) or sensitivity <= 0:
            raise MeasurementError(
                f"model: the sensitivity of {found.nodes[-2]!r} is {sensitivity:g}, allowed: above 0 (a readout that"
                " starts at 0 sends no gradient back: give it random values first)"
            )
        if abs(math.log(sensitivity)) < SETTLED:
            return found, ()
        with torch.no_grad():  # a root, where outputs larger than their targets would make it swing
            weight.mul_(sensitivity if round_ < 2 else math.sqrt(sensitivity))
        found = measure(model, loss, batch)
    return found, (f"the sensitivity of {found.nodes[-2]!r} did not settle at 1 in {MOST_ROUNDS} rounds",)


def _before_and_after(first: Measurement, last: Measurement) -> pd.DataFrame:
    """Of the nodes, by measurements before and after."""
    found = {"node": list(first.nodes)}
    for name, quantity in (("rms", "feature_rms"), ("angle", "angle"), ("sensitivity", "feature_sensitivity")):
        found[f"{name}_before"] = getattr(first.speed, quantity).tolist()
        found[name] = getattr(last.speed, quantity).tolist()
    return pd.DataFrame(found)


def _scaling(
    scheme: str,
    model: nn.Module,
    before: Mapping[str, Tensor],
    rows: Mapping[str, Mapping[str, Any]],
    nodes: pd.DataFrame,
    notes: tuple[str, ...],
) -> Scaling:
    parameters = {name: p for name, p in model.named_parameters() if name in rows and p.requires_grad}
    table = pd.DataFrame(
        [
            {"name": name, **rows[name], "rms_before": rms(before[name]), "rms": rms(parameter.detach())}
            for name, parameter in parameters.items()
        ]
    )
    held = {name: model.get_parameter(name) for name in before}
    return Scaling(scheme, table, nodes, notes, held, before)


def _factor(parameter: Tensor, before: Tensor) -> float:
    size = rms(before)
    return rms(parameter.detach()) / size if size else 1.0
