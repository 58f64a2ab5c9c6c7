"""How numbers and networks are written in figures over the width."""

import math

import pandas as pd

from featurespeed.drawing.width_curves import network_label, numbers, shown


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
