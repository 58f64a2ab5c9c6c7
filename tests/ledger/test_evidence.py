"""What statistics of claims are put together from."""

import numpy as np
import pandas as pd
import pytest

from featurespeed.ledger.engine import Undecidable
from featurespeed.ledger.evidence import identity, largest_estimate, mean_difference, mean_estimate, slope


@pytest.mark.parametrize("estimate", [mean_estimate, lambda values: largest_estimate(values[:, None])])
@pytest.mark.parametrize(("values", "reason"), [([1.0], "1 seed, at least 2"), ([1.0, np.nan], "1 of 2 values")])
def test_too_few_seeds_or_a_missing_number_cannot_decide(estimate, values, reason):
    with pytest.raises(Undecidable, match=reason):
        estimate(np.array(values))


def test_estimates_carry_the_numbers_of_their_units():
    assert mean_estimate(np.array([1.0, 2.0])).sample == (1.0, 2.0)
    assert largest_estimate(np.array([[1.0, 3.0], [2.0, 3.0]]), 1.0).sample == (0.0, 2.0, 1.0, 2.0)
    assert identity(pd.Series([1e-16, 2e-16])).sample == (1e-16, 2e-16)
    rows = pd.DataFrame(
        {"width": [1.0, 2.0, 4.0] * 2, "value": [1.0, 2.0, 4.0, 1.0, 4.0, 16.0], "seed": [0] * 3 + [1] * 3}
    )
    assert slope(rows, "width").sample == pytest.approx((1.0, 2.0))


def test_a_difference_of_rows_needs_two_of_each():
    two, one = pd.DataFrame({"value": [1.0, 2.0]}), pd.DataFrame({"value": [1.0]})
    assert mean_difference(two, two).value == 0.0
    with pytest.raises(Undecidable):
        mean_difference(two, one)
