"""How figures over the width write numbers and networks, and what their axes and legends hold."""

import math

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from featurespeed.drawing.width_curves import (
    fitting_scale,
    from_zero,
    legend,
    network_label,
    numbers,
    shown,
    sound_points,
)


def test_numbers_are_written_for_a_reader():
    assert [shown(value) for value in (-0.001, -1.234, 12.34, 123.4)] == ["0.00", "−1.23", "12.3", "123"]


def test_an_estimate_without_an_interval_is_written_without_one():
    assert numbers(pd.Series({"y": 0.5, "y_low": 0.25, "y_high": 1.0})) == "0.50 [0.25, 1.00]"
    assert numbers(pd.Series({"y": 0.5, "y_low": math.nan, "y_high": math.nan})) == "0.50"


def test_networks_are_named_for_a_reader():
    assert network_label("muP, no skips") == "μP, no skips"
    assert (network_label("Depth-muP"), network_label("tau = 1"), network_label("NTP")) == (
        "Depth-μP",
        "$\\tau = 1$",
        "NTP",
    )


def curve(flag: str, *values: float, series: str = "N=8") -> pd.DataFrame:
    """Points of one series with a common flag."""
    points = {"x": range(len(values)), "y": values, "y_low": values, "y_high": values}
    return pd.DataFrame(points | {"flag": flag, "series": series})


def test_axes_show_what_trained_and_not_what_diverged():
    ax = Figure().subplots()
    from_zero(ax, pd.concat([curve("", 1.0, 2.0), curve("diverged", 1e12)]))
    assert ax.get_ylim() == (0, pytest.approx(2.1))
    ax = Figure().subplots()
    fitting_scale(ax, pd.concat([curve("", 1.0, 100.0), curve("diverged", 1e12)]))
    assert ax.get_yscale() == "log" and ax.get_ylim()[1] < 1000
    ax = Figure().subplots()
    near = pd.concat([curve("", 1.0, 2.0), curve("diverged", 5.0)])
    ax.plot(near["x"], near["y"])
    from_zero(ax, near)
    assert ax.get_ylim()[1] > 5  # near enough to be seen
    failed = curve("diverged", 3.0, 1e12)
    pd.testing.assert_frame_equal(sound_points(failed), failed)
    edge = curve("", 1.0, series="guide 2/learning rate")  # no measurement that an axis could be about
    assert len(sound_points(pd.concat([failed, edge]))) == 3
    unconverged = pd.concat([curve("", 1.0), curve("unconverged", 100.0)])
    pd.testing.assert_frame_equal(sound_points(unconverged), unconverged)


@pytest.mark.parametrize(("width", "columns"), [(4.0, 1), (6.0, 2), (9.0, 3), (12.0, 4)])
def test_the_legend_takes_as_many_lines_as_it_needs(width, columns):
    figure = Figure(figsize=(width, 3))
    text = "a long explanation of some forty letters"
    legend(figure, {}, band=text, hollow=text, edge=text, fit=text)
    box = figure.legends[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert figure.legends[0]._ncols == columns
