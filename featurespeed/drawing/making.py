"""How every artefact is made: stage table to artefact table, written, read again and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from featurespeed.drawing.plotting import new_figure, save_figure
from featurespeed.drawing.tabulate import read_csv, write_csv


@dataclass(frozen=True)
class Drawing:
    """How one artefact is made: ``tabulate(*sources)`` -> artefact table -> figure of ``size`` inches.

    The first source is the stage table; a paper may have more, such as the points read off its figures.
    """

    tabulate: Callable[..., pd.DataFrame]
    draw: Callable[[pd.DataFrame, Figure], None]
    size: tuple[float, float]


def make_outputs(drawing: Drawing, sources: tuple, outputs: Mapping[str, Path], style: Path) -> None:
    """:func:`make` for named outputs: ``table``, and the images by their formats."""
    make(drawing, sources, outputs["table"], {kind: path for kind, path in outputs.items() if kind != "table"}, style)


def make(drawing: Drawing, sources: tuple, table: Path, images: Mapping[str, Path], style: Path) -> None:
    """Write the artefact table, then draw what was written into each of ``images`` (format -> path)."""
    write_csv(drawing.tabulate(*sources), table)
    figure = new_figure(style, *drawing.size)
    drawing.draw(read_csv(table), figure)
    save_figure(figure, images)
