"""What panels of learning-rate transfer tell."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.drawing.transfer_panels import statistics_text
from featurespeed.drawing.transfer_rows import SHARPNESS_EXPONENT


@pytest.mark.parametrize(
    ("measured", "shown", "told"),
    [
        ((0.1, 0.2, 0.4, 0.8), 0.4, (0.4, 0.2)),
        ((0.4, 0.8, 1.6), 0.4, (0.4, 0.8)),  # none below: the next above
        ((0.4,), 0.4, (0.4,)),
        ((0.8, 1.6), 0.4, ()),  # of the one shown nothing is known
    ],
)
def test_exponents_are_told_at_the_rate_shown_and_its_neighbour(measured, shown, told):
    rows = [{"series": SHARPNESS_EXPONENT, "x": rate, "y": rate, "y_low": 0.0, "y_high": 2.0} for rate in measured]
    lines = statistics_text(pd.DataFrame(rows), shown, "L").splitlines()
    assert [float(line.rsplit("=", 1)[1].rstrip("$")) for line in lines] == list(told)
    assert all(line.startswith("exponent in $L$") for line in lines)
