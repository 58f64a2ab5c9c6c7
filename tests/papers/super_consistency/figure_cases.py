"""How figures over the width are looked at: drawn, read, and made whatever the order of their records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image

from featurespeed.drawing.making import make
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from tests.papers.cases import STYLE, drawing_of


def draw(name: str, artefact: pd.DataFrame):
    """The figure of an artefact table."""
    drawing = drawing_of(name)
    figure = new_figure(STYLE, *drawing.size)
    drawing.draw(artefact, figure)
    return figure


def texts(figure) -> str:
    """All that is written in the panels."""
    return "\n".join(text.get_text() for ax in figure.axes for text in ax.texts)


def legend_texts(figure) -> list[str]:
    """The entries of the legends around the panels."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def values(artefact: pd.DataFrame, panel: str, series: str, column: str = "y") -> list[float]:
    """One column of the points of a series, from the smallest x to the largest."""
    own = artefact[(artefact["panel"] == panel) & (artefact["series"] == series)]
    return own.sort_values("x")[column].tolist()


def assert_made(name: str, stage: pd.DataFrame, folder: Path) -> None:
    """The artefact is made, and its table does not depend on the order of the records."""
    drawing = drawing_of(name)
    make(drawing, (stage,), folder / "a.csv", {"png": folder / "a.png"}, STYLE)
    assert tuple(pd.read_csv(folder / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(folder / "a.png").size == tuple(round(200 * side) for side in drawing.size)
    labels = stage["series"].unique()  # their order is that of the settings
    shuffled = [stage[stage["series"] == label].sample(frac=1, random_state=1) for label in labels]
    write_csv(drawing.tabulate(pd.concat(shuffled)), folder / "b.csv")
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
