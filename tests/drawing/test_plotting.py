"""Pieces of figures: what is flagged is seen, orders are told by lightness."""

from __future__ import annotations

import itertools

import pandas as pd

from featurespeed.drawing.plotting import draw_dots, new_figure, ordered_colors
from featurespeed.drawing.width_curves import draw_widths
from tests.conftest import REPOSITORY

STYLE = REPOSITORY / "scripts" / "figures.mplstyle"


def test_flagged_points_are_drawn_hollow():
    ax = new_figure(STYLE, 3, 2).add_subplot()
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0], "flag": ["", "dead", ""]})
    draw_dots(ax, table, "#123456")
    full, hollow = ax.lines
    assert list(full.get_xdata()) == [1.0, 3.0]
    assert list(hollow.get_xdata()) == [2.0] and hollow.get_markerfacecolor() == "white"


def test_no_flagged_dot_is_left_out_and_on_a_line_some_stand_for_many():
    many = pd.DataFrame({"x": range(100), "y": 1.0, "flag": "dead", "series": "N=8", "y_low": 1.0, "y_high": 1.0})
    dots, line = (new_figure(STYLE, 3, 2).add_subplot() for _ in range(2))
    draw_dots(dots, many, "#123456")
    draw_widths(line, many, {"N=8": "#123456"})
    assert dots.lines[-1].get_markevery() == 1
    assert 100 / line.lines[-1].get_markevery() == 20


def test_ordered_colours_get_lighter_step_by_step():
    colours = ordered_colors(list("abcde")).values()
    luminance = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in colours]
    assert all(earlier < later for earlier, later in itertools.pairwise(luminance))
