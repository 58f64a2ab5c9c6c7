"""Sharpness along training, of one run a size at a learning rate that all sizes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from featurespeed.curvature.measure import sharpness
from featurespeed.measuring.errors import MeasurementError, first_line
from featurespeed.own.grid import Grid
from featurespeed.own.resume import Folder, fingerprint, starts_of
from featurespeed.own.training import Alone, Recipe

COLUMNS = ("size", "seed", "learning_rate", "step", "eigenvalue", "threshold", "edge", "residual", "converged")
NUMBERS = COLUMNS[4:8]
ADAPTIVE = (torch.optim.Adam, torch.optim.AdamW)
STOPPED = "training stopped at a loss that is not finite"


def probe_steps(steps: int, count: int) -> list[int]:
    """Steps at which to look, evenly from 0 (before the first) to ``steps`` (after the last).

    >>> probe_steps(100, 5)
    [0, 25, 50, 75, 100]
    """
    if count == 1:
        return [steps]
    return sorted({round(steps * k / (count - 1)) for k in range(count)})


def sharpness_of(
    recipe: Recipe, grid: Grid, rate: float, count: int, folder: Folder
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Sharpness along one run of every size of a grid, that of its first seed, at one learning rate.

    Args:
        rate: one that all sizes share.
        count: how many times to look; 0 for not at all.

    Returns:
        As :func:`along_training`.
    """
    seed = grid.seeds[0]
    parts = [no_sharpness()]
    for size in grid.sizes if count else ():
        own = starts_of(recipe, size, seed, [rate]) if folder.keeps else []
        name = fingerprint({"run": [size, seed, rate, grid.steps, grid.batch_size, count, own, torch.__version__]})
        parts.append(along_training(recipe, [size], seed, rate, grid.steps, count, folder, name))
    return together(parts)


def no_sharpness() -> tuple[pd.DataFrame, dict[int, str]]:
    """What is known where nothing was measured."""
    return pd.DataFrame(columns=list(COLUMNS)), {}


def together(parts: Sequence[tuple[pd.DataFrame, dict[int, str]]]) -> tuple[pd.DataFrame, dict[int, str]]:
    """The sharpness of several sizes as one."""
    tables = [rows for rows, _ in parts if len(rows)] or [parts[0][0]]
    return pd.concat(tables, ignore_index=True), {size: why for _, reasons in parts for size, why in reasons.items()}


def along_training(
    recipe: Recipe, sizes: Sequence[int], seed: int, rate: float, steps: int, count: int, folder: Folder, name: str
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Sharpness of one run a size on the first batch of its seed.

    Args:
        seed, rate, steps: of the runs, which repeat those of the grid.
        count: how many times to look.
        name: of what is kept in the folder, with all that it depends on.

    Returns:
        One row a size and step (columns :data:`COLUMNS`), and for sizes that could not be measured the reason.
    """
    rows: list[dict[str, Any]] = []
    reasons = {}
    for size in sizes:
        unit = f"size_{size}_sharpness_{name}"
        kept = folder.note(unit)
        if not isinstance(kept, dict) or not kept.keys() >= {"rows", "reason"}:
            own, reason = _of_size(recipe, size, seed, rate, steps, probe_steps(steps, count), folder, unit)
            kept = {"rows": own, "reason": reason}
            folder.write(unit, kept)
        rows += kept["rows"]
        if kept["reason"]:
            reasons[size] = kept["reason"]
    return pd.DataFrame(rows, columns=list(COLUMNS)), reasons


def _of_size(
    recipe: Recipe, size: int, seed: int, rate: float, steps: int, probes: list[int], folder: Folder, unit: str
) -> tuple[list[dict[str, Any]], str]:
    """Rows of one size, and why they end early; else an empty text."""
    alone, rows, first = Alone(recipe, size, seed, rate), [], 0
    (beginning,) = next(alone.parts(0))
    kept = folder.started(unit) if alone.resumes else None
    if kept is not None:
        alone.load(kept)
        rows, first = kept["rows"], int(kept["step"])
    batches = alone.parts(first)
    for step in range(first, steps + 1):
        if step in probes:
            try:
                found = measured(alone, recipe.loss, beginning.whole)
            except (MeasurementError, torch.OutOfMemoryError) as error:
                return rows, str(error) if isinstance(error, MeasurementError) else first_line(error)
            if found is None:
                probes = [*probes, step + 1]
            else:
                rows.append({"size": size, "seed": seed, "learning_rate": rate, "step": step} | found)
        if step == steps:
            break
        if not torch.isfinite(alone.step(next(batches), step)).all():
            return rows, STOPPED
        if folder.is_due and alone.resumes:
            folder.checkpoint(unit, {**alone.state(), "rows": rows, "step": step + 1})
    return rows, ""


def measured(alone: Alone, loss: Any, batch: Any) -> dict[str, Any] | None:
    """The sharpness of a network on a batch, and its share of its optimizer's edge of stability.

    Without a threshold, NaN, in units of the weights for an optimizer whose own are not known; None for Adam before its
    first step, when it has no preconditioner yet.
    """
    if isinstance(alone.optimizer, ADAPTIVE) and not alone.optimizer.state:
        return None
    try:
        found = sharpness(alone.model, loss, batch, optimizer=alone.optimizer)
    except MeasurementError as error:
        if not str(error).startswith("optimizer:"):
            raise
        found = sharpness(alone.model, loss, batch)
    values = {key: float(getattr(found, key)) for key in NUMBERS}
    return values | {"converged": bool(found.converged)}
