"""How much more one network's curvature depends on its size than another's, as the rooms of depth and of Adam ask.

The unit is the seed: one exponent of the late curvature in the size.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import enough_seeds
from featurespeed.papers.super_consistency.shared import curves_at, measured_rates, name_of, simultaneous, smallest_of
from featurespeed.statistics import mean_interval
from featurespeed.sweeps import dependence
from featurespeed.sweeps.convergence import Curves

MORE = 1.5  # by how much two layers a block should spread the sharpness more than one
LEAST = 0.1  # and the absolute slope that they should have: 1.5 times nothing is nothing


def more_spread(other: np.ndarray, own: np.ndarray, note: str) -> Estimate:
    """How far ``|slope|`` of another network is above 1.5 times the own one, and above 0.1: the smaller of both.

    Args:
        other, own: exponents of the late curvature in the size, ``[seeds]`` each, paired by seed. Their signs are those
            of the means over seeds.
        note: told with the estimate.
    """
    for values in (other, own):
        enough_seeds(values)
    level = simultaneous(2)
    excesses = [dependence.steeper(other, least) for least in (MORE * own, np.full_like(other, LEAST))]
    return smallest_of([mean_interval(values, level) for values in excesses], note)


def below(rows: pd.DataFrame, quantity: str, best: Curves, size: str, place: int = -1) -> Curves:
    """The same curvature at one of the measured rates below the best of them.

    Args:
        place: among the smaller ones, ascending: -1 is the next below, 0 the smallest.
    """
    smaller = [rate for rate in measured_rates(rows, quantity) if rate < best.rate * (1 - 1e-6)]
    if not smaller:
        raise Undecidable(
            f"{name_of(rows)}: the sharpness was measured at no rate below {best.rate:g}, the best of the measured"
        )
    return curves_at(rows, quantity, smaller[place], size=size)
