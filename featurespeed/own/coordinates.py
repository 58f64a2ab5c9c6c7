"""Coordinate check of anyone's model: how activations and their updates depend on the width (arXiv:2203.03466).

Networks of several widths take a few steps of the user's own optimizer. At every node, with ``f_t`` its value on the
first batch after step t and rms over all of its entries,

    activation = rms(f_t),    update = rms(f_t - f_0).

Their exponents in the width are least-squares slopes of log rms in log width, one a seed, with a t interval over seeds.
A parameterization that transfers learning rates keeps updates constant in the width. Otherwise theory gives them powers
of the width that are multiples of 1/2 (NTK parameterization: -1/2 at hidden layers; standard parameterization with
Adam: +1), so that an exponent within +-0.25 is 0, and one beyond is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurespeed.measuring.context import undisturbed
from featurespeed.measuring.errors import MeasurementError, kind_of, reported_as
from featurespeed.measuring.model import checked_loss, takes_batch
from featurespeed.own.coordinate_runs import Batches, Run, Runs, optimizers
from featurespeed.own.making import MakeModel, checked_maker, checked_seeds, checked_sizes
from featurespeed.own.node_sizes import check_equal_nodes
from featurespeed.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF_STEP = 0.25  # half of the 1/2 by which exponents of theory differ
FEWEST_WIDTHS, FEWEST_SEEDS = 3, 2
GROWS, VANISHES, STABLE, UNDECIDED = "grows", "vanishes", "stable", "undecided"

#: A class of ``torch.optim``, ``(model, learning_rate) -> optimizer``, or ``(model) -> optimizer``.
MakeAnyOptimizer = type[torch.optim.Optimizer] | Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True, eq=False)
class CoordinateCheck:
    """How activations and updates of every node depend on the width.

    Attributes:
        table: one row a node, in the order of their use. ``node``; ``activation_slope`` and ``update_slope``, exponents
            in the width at ``step`` (mean over seeds; NaN where a root mean square is 0, as at a readout that starts at
            0), with the ends of their 95% t intervals over seeds in ``activation_low``, ``activation_high``,
            ``update_low`` and ``update_high``; ``verdict``: ``grows`` or ``vanishes`` (the interval of the update lies
            beyond +-0.25, or that of the activation above 0.25), ``stable`` (it lies within), ``undecided`` (neither:
            more seeds, wider networks). A node before which nothing learns stands still at every width: ``stable``.
        rows: one row a width, seed, step and node: ``width, seed, step, node, activation, update``; root mean squares
            in the units of the node; step 0 is the initialisation; infinite where a network has diverged.
        step: the last one at which every network was finite; exponents are taken there.
        diverged: the networks that did not stay finite, ``"width 512, seed 1, step 3"``.
        verdict: ``stable`` only if all nodes are and no network diverged; else the first of ``grows``, ``vanishes``,
            ``undecided`` that a node has.
    """

    table: pd.DataFrame
    rows: pd.DataFrame
    step: int
    diverged: tuple[str, ...]
    verdict: str

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        widths = self.rows["width"]
        span = f"from width {widths.min()} to {widths.max()}, after {_plural(self.step, 'step')}"
        if self.diverged:
            span += f" ({_plural(len(self.diverged), 'network')} diverged later, first {self.diverged[0]})"
        if self.verdict == STABLE:
            return f"{STABLE}: {span}, updates of all nodes keep their size{self._range()}"
        counts = {kind: int((self.table["verdict"] == kind).sum()) for kind in _VERBS}
        shares = [f"{counts[kind]} {_VERBS[kind][counts[kind] > 1]}" for kind in _VERBS if counts[kind]]
        return f"{self.verdict}: {span}, of {_plural(len(self.table), 'node')} {', '.join(shares)}{self._steepest()}"

    def __str__(self) -> str:
        return self.sentence

    def plot(self) -> Figure:
        """Activations and updates against the width, and the exponents of every node."""
        from featurespeed.own.coordinate_plots import plot_coordinates

        return plot_coordinates(self)

    def _range(self) -> str:
        known = self.table["update_slope"].dropna()
        return f" (exponents {known.min():.2f} to {known.max():.2f})" if len(known) else ""

    def _steepest(self) -> str:
        changing = self.table[self.table["verdict"].isin([GROWS, VANISHES])]
        if changing.empty:
            return ""
        largest = changing[["activation_slope", "update_slope"]].abs().max(axis=1).to_numpy()
        row = changing.iloc[int(largest.argmax())]
        what = "update" if abs(row["update_slope"]) >= abs(row["activation_slope"]) else "activation"
        ends = f"{row[f'{what}_low']:.2f} to {row[f'{what}_high']:.2f}"
        return f"; most at {row['node']}, whose {what} goes as width^{row[f'{what}_slope']:.2f} ({ends})"


_VERBS = {
    GROWS: ("grows", "grow"),
    VANISHES: ("vanishes", "vanish"),
    UNDECIDED: ("is undecided", "are undecided"),
    STABLE: ("is stable", "are stable"),
}


def coordinate_check(
    make_model: MakeModel,
    widths: Sequence[int],
    loss: Callable[..., Tensor],
    batches: Any,
    optimizer: MakeAnyOptimizer,
    *,
    seeds: int | Sequence[int] = 3,
    learning_rate: float | None = None,
    nodes: str | Sequence[str] | None = None,
) -> CoordinateCheck:
    """Whether activations and their updates keep their size as a network gets wider.

    For every width and seed a network is made anew and takes one step of the optimizer a batch, in training mode, with
    dropout as it has it. Before the first step and after each one its nodes are looked at on the first batch, in
    evaluation mode. All widths of a seed see the same batches. Batch normalisation uses its running statistics there.

    Args:
        make_model: ``width -> module``, new weights at every call.
        widths: at least 3, ascending.
        loss: ``loss(outputs, targets)`` or ``loss(model, batch)``.
        batches: a list of batches, a DataLoader, or a function ``seed -> batches``; as many steps as batches, at most
            1000. A single batch is one step.
        optimizer: ``(model) -> optimizer``; with ``learning_rate`` also a class such as ``torch.optim.AdamW``, or
            ``(model, learning_rate) -> optimizer``.
        seeds: how many, at least 2, or a list of them. Intervals are over seeds.
        learning_rate: the same at all widths.
        nodes: names or shell patterns of modules, such as ``"blocks.*.mlp"``, and ``"output"``; default: every module
            that has parameters of its own, and the model's output if it is a tensor. A module that is called several
            times makes the nodes ``name``, ``name#2``, ...

    Returns:
        :class:`CoordinateCheck`.

    Raises:
        MeasurementError: what cannot be checked, one line that names the argument and what is allowed.

    Source: arXiv:2203.03466, App. D.1 (which plots differences of coordinates against the width).

    Example:
        >>> from torch import nn
        >>> def make_model(width):
        ...     return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 1))
        >>> batch = torch.ones(8, 3), torch.ones(8, 1)
        >>> adam = torch.optim.Adam
        >>> check = coordinate_check(make_model, [32, 64, 128], nn.MSELoss(), [batch] * 2, adam, learning_rate=1e-3)
        >>> list(check.table["node"])
        ['0', '2', '3', 'output']
        >>> check.verdict  # the standard parameterization
        'grows'
    """
    with (
        reported_as(MeasurementError),
        undisturbed(loss),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        checked_maker("make_model", make_model, "allowed: a function width -> torch.nn.Module")
        sizes, chosen = checked_sizes("widths", widths, FEWEST_WIDTHS), checked_seeds(seeds, FEWEST_SEEDS)
        made = Runs(make_model, checked_loss(loss), optimizers(optimizer, learning_rate), _patterns(nodes))
        given, runs = Batches(batches, takes_batch(loss)), []
        for seed in chosen:  # one seed's batches are held at a time
            parts = given.of(seed)
            for width in sizes:
                runs.append(made.run(width, seed, parts))
                _check_alike(runs[0], runs[-1])
        return _result(runs, sizes)


def _patterns(nodes: Any) -> list[str] | None:
    if nodes is None:
        return None
    listed = [nodes] if isinstance(nodes, str) else nodes
    if not isinstance(listed, (list, tuple)) or not listed or not all(isinstance(name, str) for name in listed):
        raise MeasurementError(f"nodes: {kind_of(nodes)}, allowed: names or shell patterns of modules, or None for all")
    return list(listed)


def _check_alike(first: Run, other: Run) -> None:
    """Raise :class:`MeasurementError` unless two networks differ in their width, and in nothing else that shows."""
    check_equal_nodes([*first.learning], [*other.learning], f"width {first.width}", f"width {other.width}")
    if first.width != other.width and first.parameters == other.parameters:
        raise MeasurementError(
            f"make_model: {first.parameters} parameters at width {first.width} and at {other.width}, allowed: a"
            " function that makes networks of the width it gets"
        )


# --- exponents and verdicts -------------------------------------------------------------------------------------------


def _result(runs: Sequence[Run], widths: Sequence[int]) -> CoordinateCheck:
    steps = [len(run.sizes) - 1 for run in runs]
    step = min(steps)
    nodes = [*runs[0].learning]
    table = pd.DataFrame([_row(node, runs, widths, step) for node in nodes])
    if step and not any(run.sizes[step][node].update for run in runs for node in nodes):
        raise MeasurementError(f"optimizer: no node moved in {_plural(step, 'step')}, allowed: one that moves weights")
    diverged = tuple(f"width {r.width}, seed {r.seed}, step {r.diverged}" for r in runs if r.diverged is not None)
    kinds = [*table["verdict"], *([UNDECIDED] if diverged else [])]
    verdict = next(kind for kind in (GROWS, VANISHES, UNDECIDED, STABLE) if kind in kinds)
    return CoordinateCheck(table, _long(runs), step, diverged, verdict)


def _long(runs: Sequence[Run]) -> pd.DataFrame:
    """All that was seen; infinite after a divergence, so that every network has all steps."""
    last = max(len(run.sizes) - 1 if run.diverged is None else run.diverged for run in runs)
    rows = [
        (run.width, run.seed, step, node, *(run.sizes[step][node] if step < len(run.sizes) else (math.inf, math.inf)))
        for run in runs
        for step in range(last + 1)
        for node in run.learning
    ]
    return pd.DataFrame(rows, columns=["width", "seed", "step", "node", "activation", "update"])


def _row(node: str, runs: Sequence[Run], widths: Sequence[int], step: int) -> dict[str, Any]:
    """Exponents of one node, and what they say."""
    found = np.array([run.sizes[step][node] for run in runs]).reshape(-1, len(widths), 2)  # [seeds, widths, 2]
    activation, update = (_exponent(widths, found[..., part]) for part in (0, 1))
    stands = not any(run.learning[node] for run in runs) and not found[..., 1].any()
    return {
        "node": node,
        **dict(zip(("activation_slope", "activation_low", "activation_high"), activation, strict=True)),
        **dict(zip(("update_slope", "update_low", "update_high"), update, strict=True)),
        "verdict": _verdict(activation, update, stands),
    }


def _exponent(widths: Sequence[int], values: np.ndarray) -> tuple[float, float, float]:
    """Exponent in the width of ``values [seeds, widths]`` with its interval; NaN where one of them has no logarithm."""
    if not (values > 0).all():
        return math.nan, math.nan, math.nan
    x = np.log(np.array(widths, dtype=float))
    centred = x - x.mean()
    found = mean_interval(np.log(values) @ centred / (centred @ centred))
    return found.value, found.low, found.high


def _verdict(activation: tuple[float, ...], update: tuple[float, ...], stands: bool) -> str:
    """By where the intervals lie; comparisons with NaN are False."""
    if activation[1] > HALF_STEP or update[1] > HALF_STEP:
        return GROWS
    if update[2] < -HALF_STEP:
        return VANISHES
    return STABLE if stands or (update[1] >= -HALF_STEP and update[2] <= HALF_STEP) else UNDECIDED


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
