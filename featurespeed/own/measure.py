"""Feature speed of any module at its cut nodes, in the motion that its own optimizer gives it.

result = measure(model, torch.nn.functional.cross_entropy, (inputs, targets), optimizer=optimizer)
result.table, result.parameters, result.plot()
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from featurespeed.measuring.arguments import whole_number
from featurespeed.measuring.batches import parts_of
from featurespeed.measuring.context import evaluation, undisturbed
from featurespeed.measuring.errors import MeasurementError, reported_as
from featurespeed.measuring.figures import named_ticks, new_figure
from featurespeed.measuring.model import checked_loss, checked_model, device_of, takes_batch
from featurespeed.measuring.names import without_wrapper
from featurespeed.measuring.norms import inner, norm
from featurespeed.measuring.optimizers import checked_optimizer
from featurespeed.own.motion import Motion, motion_of
from featurespeed.own.nodes import Node
from featurespeed.own.passes import Passes
from featurespeed.own.tensors import moved_outputs, node_columns, parameter_table
from featurespeed.probes.descent import LOSS_SCALES
from featurespeed.probes.feature_speed import FeatureSpeed, speeds_of
from featurespeed.randomness import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What `Measurement.table` shows of a `FeatureSpeed`, in this order.
COLUMNS = (
    "angle", "cos", "feature_speed", "feature_rms", "backward_norm", "loss_decay", "contribution",
    "feature_sensitivity", "inverse_backward_norm", "gradient_norm", "learning_rate", "formula_error", "cosine_error",
    "size",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one step of descent, or of an optimizer, does to the features of a model.

    Attributes:
        nodes: names of the cut nodes, from input to output.
        speed: the quantities of the formula at the nodes (:class:`FeatureSpeed`), float64 ``[nodes]``. Time counts
            steps of the optimizer; without one, it is that of gradient descent at rates that let every layer contribute
            the same.
        loss: the loss of the batch.
        optimizer: name of its class; None for layer-wise descent.
        parameters: one row a parameter that moves: ``name``; ``node``, the first it stands behind; ``size``, entries;
            ``gradient_norm``, ``gradient_l1`` (sum of absolute entries), ``update_norm`` and ``weight_norm``;
            ``contribution``, ``-<gradient, update>``; ``function_update``, root mean square of the change of the
            outputs by this update alone, to first order, with ``function_update_error``, its standard error;
            ``alignment``, of a linear layer's matrix.
        by_node: ``function_update``, its error, and the mean ``alignment``, of all that belongs to a node.
    """

    nodes: tuple[str, ...]
    speed: FeatureSpeed
    loss: float
    optimizer: str | None
    parameters: pd.DataFrame
    by_node: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """One row a node: ``node``, the quantities of :class:`FeatureSpeed`, and the columns of ``by_node``."""
        found = {name: getattr(self.speed, name).tolist() for name in COLUMNS}
        return pd.concat([pd.DataFrame({"node": self.nodes, **found}), self.by_node], axis=1)

    @property
    def sentence(self) -> str:
        """What one step does, in a line."""
        step = "layer-wise descent lowers" if self.optimizer is None else f"a step of {self.optimizer} lowers"
        angles = self.angle[~self.angle.isnan()]
        between = f"{float(angles.min()):.3g} to {float(angles.max()):.3g}" if len(angles) else "none"
        error = float(self.speed.cosine_error.nan_to_num(0.0).max())
        return (
            f"{step} the loss, {self.loss:.4g}, by {self.loss_decay:.3g} to first order; backward-feature angles at"
            f" {len(self.nodes)} cut nodes: {between} rad; the formula holds to {error:.1g}"
        )

    def __str__(self) -> str:
        return self.sentence

    @property
    def angle(self) -> Tensor:
        """Backward-feature angle at every node, radians ``[nodes]``."""
        return self.speed.angle

    @property
    def formula_error(self) -> Tensor:
        """Relative error of ``feature_speed cos(angle) backward_norm = loss_decay`` at every node, ``[nodes]``."""
        return self.speed.formula_error

    @property
    def loss_decay(self) -> float:
        """By how much the loss falls in one unit of time, to first order: ``-sum <gradient, update>`` over the weights
        behind the last node; a warning names others.
        """
        return float(self.speed.loss_decay[-1])

    def plot(self) -> Figure:
        """Angle, shares of the decay of the loss, and how far updates move the features and the outputs."""
        table = self.table
        figure, (angles, shares, moves) = new_figure(3)
        places = range(len(table))
        angles.plot(places, table["angle"], marker="o")
        angles.axhline(math.pi / 2, color="0.45", linestyle="--", linewidth=0.9)
        angles.set(ylim=(0, None), ylabel="backward-feature angle (rad)")
        shares.bar(places, table["contribution"] / self.loss_decay)
        shares.set(ylabel="share of the loss decay")
        moves.plot(places, table["feature_speed"] / table["size"] ** 0.5, marker="o", label="features of the node")
        moves.errorbar(
            places, table["function_update"], table["function_update_error"], marker="s", label="outputs, by this layer"
        )
        moves.set(yscale="log", ylabel="rms change in one unit of time")
        moves.legend()
        for ax in (angles, shares, moves):
            named_ticks(ax, self.nodes)
        return figure


def measure(
    model: nn.Module,
    loss: Callable[..., Any],
    batch: Any,
    optimizer: torch.optim.Optimizer | None = None,
    nodes: str | Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Measurement:
    """Feature speed, backward-feature angle and loss decay of any module, layer by layer.

    The model is measured as it is: cut nodes are found among the outputs of its parts, and every use of a parameter is
    told apart, so that tied weights and parts that are called several times count where they are used. Modes, weights,
    gradients, buffers, random numbers and the optimizer are left alone. In evaluation mode.

    With an optimizer, weights move by the step that it would make now with the gradient of this batch: momentum, Adam's
    state, weight decay and rates of groups included (not what happens outside of ``step``, such as clipping). At every
    cut node

        feature_speed * cos(angle) * backward_norm = loss_decay = -sum <gradient, update>

    over the weights behind it; the loss decay may then be negative, and an angle above pi/2. ``cosine_error`` tells the
    error also where the decay is near 0. Costs about three passes forward and backward.

    Args:
        model: any module, as it is trained.
        loss: ``(outputs, targets) -> scalar``, or ``loss(model, batch)``.
        batch: one batch, in the form of :mod:`featurespeed.measuring.batches`.
        optimizer: an optimizer of ``torch.optim`` (or a subclass) of this model's parameters; the default is gradient
            descent with ``eta_l = 1/(L |grad_l|^2)``, L nodes.
        nodes: names of parts, or patterns (``"h.*"``), in place of those that are found.
        seed: of the random directions at the outputs, and of the rows that the alignment is taken of.

    Returns:
        :class:`Measurement`.

    Raises:
        ValueError: what cannot be measured, one line that names the argument and what is allowed: no cut node, no
            parameter that requires a gradient, an output that differs from pass to pass, ...
        FloatingPointError: the loss, a gradient or an update is not finite.

    Source: arXiv:2311.18718, Thm 2.1 (angle, speed, decay); arXiv:2502.17405 (``function_update``); arXiv:2402.05271
    (``alignment``).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double()
        >>> batch = torch.randn(16, 3).double(), torch.randint(2, (16,))
        >>> adam = torch.optim.Adam(net.parameters(), lr=1e-3)
        >>> result = measure(net, nn.CrossEntropyLoss(), batch, optimizer=adam)
        >>> result.nodes
        ('0', '2')
        >>> bool(result.formula_error.max() < 1e-12)
        True
    """
    with reported_as(ValueError), undisturbed(model, loss):
        seed = whole_number("seed", seed, 0)
        model, loss = without_wrapper(checked_model(model)), checked_loss(loss)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise MeasurementError("model: no parameter requires a gradient, at least one must")
        optimizer = None if optimizer is None else checked_optimizer(optimizer, model)
        parts = parts_of(batch, device_of(model), takes_batch(loss))
        if len(parts) > 1:
            raise MeasurementError(f"batch: {len(parts)} batches, allowed: one, whose features count as one vector")
        with evaluation([model, *([loss] if isinstance(loss, nn.Module) else [])]):
            passes = Passes(model, parts[0], loss)
            chosen = passes.candidates.found() if nodes is None else passes.candidates.named(nodes)
            return _measured(model, passes, chosen, optimizer, seed)


def _measured(
    model: nn.Module, passes: Passes, nodes: list[Node], optimizer: torch.optim.Optimizer | None, seed: int
) -> Measurement:
    backward, at_places, scale = _derivatives(passes, nodes)
    _warn_of_others(passes, nodes, at_places)
    motion = motion_of(model, nodes, at_places, optimizer, scale)
    stream = generator(seed, "directions")
    pulled = passes.pulled(nodes[-1], stream)
    outputs = moved_outputs(passes, nodes, motion, pulled, stream)
    velocities = passes.velocities(_all(model, motion), nodes)
    contributed, decay = _decays(nodes, motion, at_places, scale)
    gradient_norms = [
        norm(*(motion.gradients[key] for key, own in motion.owner.items() if own == k)) for k in range(len(nodes))
    ]
    features = [node.call.output for node in nodes]
    speed = speeds_of(
        features, velocities, motion.scale, backward, scale, decay, contributed, gradient_norms, list(motion.rates)
    )
    name = None if optimizer is None else type(optimizer).__name__
    rows = parameter_table(model, nodes, motion, outputs)
    return Measurement(
        tuple(node.name for node in nodes), speed, float(passes.value.detach()), name, rows,
        node_columns(nodes, outputs),
    )  # fmt: skip


def _warn_of_others(passes: Passes, nodes: list[Node], at_places: dict[int, Tensor]) -> None:
    """Say which parameters lower the loss and stand behind no node, as in a model with two outputs."""
    behind = {id(place.leaf) for node in nodes for place in node.places}
    others = [place.name for place in passes.places_of(at_places) if id(place.leaf) not in behind
              and bool(at_places[id(place.leaf)].any())]  # fmt: skip
    if others:
        warnings.warn(
            f"{', '.join(dict.fromkeys(others))}: behind no cut node; what they add to the loss decay is left out",
            RuntimeWarning, stacklevel=4,
        )  # fmt: skip


def _derivatives(passes: Passes, nodes: list[Node]) -> tuple[list[Tensor], dict[int, Tensor], float]:
    """At the nodes and at all places, times a scale that keeps them within the numbers of float16."""
    for scale in LOSS_SCALES if torch.float16 in passes.precisions else [1.0]:
        backward, at_places = passes.backward(nodes, scale)
        if all(bool(torch.isfinite(found).all()) for found in (*backward, *at_places.values())):
            return backward, at_places, scale
    raise FloatingPointError("the outputs or the gradients of the network are not finite")


def _decays(
    nodes: list[Node], motion: Motion, at_places: dict[int, Tensor], scale: float
) -> tuple[list[float], list[float]]:
    """What every node adds to the decay of the loss, and the decay by all that stands behind it."""
    each: dict[int, float] = {}
    for place in {id(p.leaf): p for node in nodes for p in node.places}.values():
        velocity = motion.velocities.get(id(place.parameter))
        found = 0.0 if velocity is None else -inner(at_places[id(place.leaf)], velocity) / scale / motion.scale
        each[id(place.leaf)] = found
    contributed, decay, seen = [], [], set()
    for node in nodes:
        behind = [id(place.leaf) for place in node.places]
        contributed.append(math.fsum(each[key] for key in behind if key not in seen))
        decay.append(math.fsum(each[key] for key in behind))
        seen.update(behind)
    return contributed, decay


def _all(model: nn.Module, motion: Motion) -> dict[int, Tensor]:
    """Velocities of all parameters that may move; 0 for those that do not."""
    return {
        id(p): motion.velocities.get(id(p), torch.zeros_like(p.detach())) for p in model.parameters() if p.requires_grad
    }
