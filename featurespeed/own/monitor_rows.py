"""The rows that a monitor has measured: as a table, in a file that a kill leaves whole, and as a figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from featurespeed.machine.files import atomic_path
from featurespeed.measuring.errors import MeasurementError
from featurespeed.measuring.figures import GUIDE, new_figure, size_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "monitor.csv"
FIRST = (
    "step", "sharpness", "edge", "sharpness_converged", "products", "loss", "loss_decay", "angle_min", "angle_mean",
    "angle_max",
)  # fmt: skip
LAST = ("seconds", "error")
LEGEND = 8  # nodes, up to which all are named


class Rows:
    """One row a measurement, in the order of steps.

    In a folder, the file ``monitor.csv`` holds all of them after each one: it is replaced as a whole. A training that
    goes on at a later step keeps the rows before it; one that begins at step 0 sets the file of an earlier training
    aside as ``monitor.1.csv``, ``monitor.2.csv``, ...

    Raises:
        MeasurementError: the folder is a file, or its ``monitor.csv`` is another table.
    """

    def __init__(self, folder: str | Path | None):
        self._path = None if folder is None else Path(folder) / FILE
        if self._path is not None and self._path.parent.exists() and not self._path.parent.is_dir():
            raise MeasurementError(f"folder: {self._path.parent} is a file, allowed: a folder")
        self._rows: list[dict[str, Any]] = []
        self._earlier = _read(self._path) if self._path is not None and self._path.exists() else []
        self._begun = False

    def add(self, row: Mapping[str, Any]) -> None:
        """One row more; what was measured earlier at this step and later ones, before a restart, goes."""
        held = self._rows if self._begun else self._earlier
        fresh = not self._begun and bool(held) and row["step"] == 0
        self._rows = [*(kept for kept in held if kept["step"] < row["step"]), dict(row)]
        self._begun = True
        if fresh:
            self._set_aside()
        self._save()

    def note(self, reasons: Mapping[str, str]) -> None:
        """Add reasons to the last row, by what failed."""
        if reasons:
            said = [f"{part}: {reason}" for part, reason in reasons.items()]
            self._rows[-1]["error"] = "; ".join(filter(None, [self._rows[-1]["error"], *said]))
            self._save()

    @property
    def table(self) -> pd.DataFrame:
        """All rows; quantities that were not measured are NaN."""
        rows = self._rows if self._begun else self._earlier
        own = dict.fromkeys(name for row in rows for name in row if name not in (*FIRST, *LAST))
        found = pd.DataFrame(rows, columns=[*FIRST, *own, *LAST])
        return found.astype(dict.fromkeys((*FIRST[1:], *own, LAST[0]), float) | {"step": int, "error": str})

    def _save(self) -> None:
        if self._path is not None:
            with atomic_path(self._path) as part:
                self.table.to_csv(part, index=False)

    def _set_aside(self) -> None:
        if self._path is None or not self._path.exists():
            return
        number = 1
        while (aside := self._path.with_name(f"{self._path.stem}.{number}{self._path.suffix}")).exists():
            number += 1
        self._path.rename(aside)


def _read(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier file, to the last digit."""
    try:
        with path.open(newline="") as file:
            return [_parsed(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise MeasurementError(f"folder: {path} is no table of a monitor, allowed: another folder") from error


def _parsed(row: Mapping[str, str]) -> dict[str, Any]:
    numbers = {name: float(value or "nan") for name, value in row.items() if name not in ("step", "error")}
    return {"step": int(row["step"]), **numbers, "error": row["error"]}


def plotted(table: pd.DataFrame) -> Figure:
    """Edge of stability, backward-feature angles and loss over the steps of a monitor's table."""
    figure, (edges, angles, losses) = new_figure(3)
    _plot_edge(edges, table)
    _plot_angles(angles, table)
    losses.plot(table["step"], table["loss"], marker="o", markersize=3)
    losses.set(ylabel="loss on the batch of the monitor")
    for ax in (edges, angles, losses):
        ax.set(xlabel="step")
    return figure


def _plot_edge(ax: Axes, table: pd.DataFrame) -> None:
    """In units of the threshold where there is one; hollow where it has not converged."""
    name = "edge" if table["edge"].notna().any() else "sharpness"
    ax.plot(table["step"], table[name], color="C0")
    for converged, face in ((True, "C0"), (False, "white")):
        some = table[(table["sharpness_converged"] == 1) == converged]
        ax.plot(some["step"], some[name], "o", markersize=4, color="C0", markerfacecolor=face)
    if name == "edge":
        ax.axhline(1.0, **GUIDE)
    ax.set(ylabel="sharpness / threshold" if name == "edge" else "sharpness")


def _plot_angles(ax: Axes, table: pd.DataFrame) -> None:
    """One line a node, light to dark from input to output."""
    names = [name for name in table.columns if name.startswith("angle/")]
    named = names if len(names) <= LEGEND else [names[0], names[-1]]
    for name, color in zip(names, size_colors(len(names)), strict=True):
        label = name.removeprefix("angle/") if name in named else None
        ax.plot(table["step"], table[name], color=color, marker="o", markersize=3, label=label)
    ax.axhline(math.pi / 2, **GUIDE)
    ax.set(ylim=(0, None), ylabel="backward-feature angle (rad)")
    if named:
        ax.legend(fontsize="x-small")
