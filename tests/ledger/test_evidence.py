"""What statistics of claims are put together from."""

import pytest

from featurespeed.ledger.evidence import largest_deviation
from featurespeed.statistics import Interval


@pytest.mark.parametrize(
    ("intervals", "stated", "expected"),
    [
        ({"m": (0.0, -0.1, 0.1)}, 0.0, (0.0, 0.0, 0.1)),
        ({"m": (0.4, 0.3, 0.5)}, 0.0, (0.4, 0.3, 0.5)),
        ({"m": (-0.4, -0.5, -0.3)}, 0.0, (0.4, 0.3, 0.5)),
        ({"m": (0.1, 0.0, 0.2), "L": (0.3, -0.1, 0.7)}, 0.0, (0.3, 0.0, 0.7)),
        ({"m": (0.9, 0.8, 1.0), "L": (1.0, 0.9, 1.1)}, 1.0, (0.1, 0.0, 0.2)),
    ],
)
def test_largest_deviation_bounds_all_sizes_at_once(intervals, stated, expected):
    measured = {name: Interval(*numbers, 9, "planted") for name, numbers in intervals.items()}
    estimate = largest_deviation(measured, dict.fromkeys(measured, stated))
    assert (estimate.value, estimate.ci_low, estimate.ci_high) == pytest.approx(expected)
    assert estimate.n == 9
