"""How much more one network's curvature depends on its size: both conditions count, and nothing is not 1.5 times it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Estimate, Undecidable, Verdict, decide
from featurespeed.papers.super_consistency.shared import curves_at
from featurespeed.papers.super_consistency.spread import below, more_spread
from featurespeed.statistics import mean_interval
from featurespeed.sweeps.transfer import of_network
from tests.sweeps.cases import sweep_table

SEEDS = 6
NOISE = 0.004 * np.array([-1.0, 1.0, 0.5, -0.5, 0.2, -0.2])
MORE = Threshold.parse({"at_least": 0})  # that of the claims


def spread(other: float, own: float) -> Estimate:
    """Of networks with these exponents, which differ a little from seed to seed."""
    return more_spread(other + NOISE, own + NOISE[::-1], "told")


# --- the smaller of two excesses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "own", "value", "verdict"),
    [
        (0.5, 0.2, 0.2, Verdict.CONFIRMED),  # 0.5 - 1.5 * 0.2, not 0.5 - 0.1
        (0.25, 0.05, 0.15, Verdict.CONFIRMED),  # 0.25 - 0.1, not 0.25 - 1.5 * 0.05
        (0.3, 0.25, -0.075, Verdict.CONTRADICTED),
        (0.03, 0.01, -0.07, Verdict.CONTRADICTED),  # three times as much, but next to nothing
        (0.0, 0.0, -0.1, Verdict.CONTRADICTED),
        (0.1, 0.0, 0.0, Verdict.INCONCLUSIVE),
        (0.3, 0.2, 0.0, Verdict.INCONCLUSIVE),
    ],
)
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_the_other_slope_has_to_be_half_as_much_again_and_more_than_nothing(other, own, value, verdict, signs):
    found = spread(signs[0] * other, signs[1] * own)
    assert found.value == pytest.approx(value, abs=1e-3) and decide(found, MORE) == verdict
    assert (found.n, found.note) == (SEEDS, "told")


def test_both_excesses_have_intervals_that_hold_together():
    other, own = 0.25 + 5 * NOISE, 0.1 + NOISE[::-1]
    found = more_spread(other, own, "")
    each = [mean_interval(values, 0.975) for values in (other - 1.5 * own, other - 0.1)]
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(
        tuple(min(getattr(one, end) for one in each) for end in ("value", "low", "high"))
    )
    assert found.sample == (*each[0].sample, *each[1].sample)


def test_networks_are_paired_by_seed():
    """What a seed adds to both does not widen the first interval, but the second, which is about one network."""
    common = 20 * NOISE
    alike = more_spread(0.9 + 1.5 * common, 0.3 + common, "")
    apart = more_spread(0.9 + 1.5 * common, 0.3 - common, "")
    assert apart.ci_low < alike.ci_low and alike.ci_high == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("other", "own"), [([0.3], [0.1]), ([0.3, math.nan], [0.1, 0.1]), ([0.3, 0.2], [0.1, math.nan])]
)
def test_one_seed_or_a_slope_that_is_missing_cannot_decide(other, own):
    with pytest.raises(Undecidable, match=r"1 seed, at least 2|1 of 2 values are no numbers"):
        more_spread(np.array(other), np.array(own), "")


# --- the rate below the best ------------------------------------------------------------------------------------------


def runs(measured: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)) -> pd.DataFrame:
    """A network whose sharpness is its learning rate, to tell curves by it."""
    table = sweep_table(
        curvature={"sharpness": lambda label, width, rate, step, seed: rate + 0.01 * width},
        labels=("muP",), measured={"muP": measured},
    )  # fmt: skip
    return of_network(table, "muP")


@pytest.mark.parametrize(("place", "rate"), [(-1, 0.5), (0, 0.25), (-2, 0.25)])
def test_the_rate_below_is_the_next_of_the_measured_or_the_smallest(place, rate):
    rows = runs()
    found = below(rows, "sharpness", curves_at(rows, "sharpness", 1.0), "width", place)
    assert found.rate == rate and found.values[0, 0, 0] == pytest.approx(rate + 0.08)
    best = curves_at(rows, "sharpness", 2.0)
    assert below(rows, "sharpness", best, "width").rate == 1.0


def test_rates_that_were_not_measured_or_are_the_best_but_for_rounding_are_not_below():
    rows = runs((0.25, 1.0))
    assert below(rows, "sharpness", curves_at(rows, "sharpness", 1.0), "width").rate == 0.25
    best = replace(curves_at(rows, "sharpness", 0.25), rate=0.25 * (1 + 1e-9))
    with pytest.raises(Undecidable, match="muP: the sharpness was measured at no rate below 0.25, the best of the mea"):
        below(rows, "sharpness", best, "width")


def test_without_a_smaller_measured_rate_there_is_none_below():
    rows = runs((0.5, 1.0))
    with pytest.raises(Undecidable, match="muP: the sharpness was measured at no rate below 0.5"):
        below(rows, "sharpness", curves_at(rows, "sharpness", 0.5), "width")
