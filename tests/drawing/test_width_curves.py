"""How numbers and networks are written in figures over the width."""

from featurespeed.drawing.width_curves import network_label, shown


def test_numbers_are_written_for_a_reader():
    assert [shown(value) for value in (-0.001, -1.234, 12.34, 123.4)] == ["0.00", "−1.23", "12.3", "123"]


def test_networks_are_named_for_a_reader():
    assert network_label("muP, no skips") == "μP, no skips"
    assert (network_label("Depth-muP"), network_label("tau = 1"), network_label("NTP")) == (
        "Depth-μP",
        "$\\tau = 1$",
        "NTP",
    )
