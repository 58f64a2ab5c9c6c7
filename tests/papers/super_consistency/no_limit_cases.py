"""Stage tables in which the claims about networks without a limit hold (Figures 6, 7 and 8), divergence included."""

from __future__ import annotations

import math
from functools import cache

import pandas as pd

from featurespeed.papers.super_consistency.no_limit.spec import COLD, LONG, PLAIN, SHORT, WARM
from tests.papers.super_consistency.depth_cases import DEPTHS, EVERY, PROBES, SEEDS, depth_tables, octaves, wobble
from tests.papers.super_consistency.transfer_cases import transfer_table
from tests.sweeps.cases import WIDTHS, Formula, sweep_table

RATES = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
MEASURED = {COLD: (0.0625,), SHORT: (0.0625,), WARM: (0.0625,), LONG: (0.0625,), PLAIN: (0.125, 0.25)}
FIRST_STEPS = 20
SEEDS_OVER_WIDTH = 3  # of Figure 7, and of muP that it is compared with: nothing there is a share of seeds
#: Powers of the best rate in the size, and its value at the smallest one.
OVER_DEPTH = {COLD: (-0.8, 1.0), WARM: (-0.5, 1.0), PLAIN: (-0.5, 0.5)}
OVER_WIDTH = {COLD: (-0.5, 1.0), SHORT: (-0.3, 1.0), LONG: (-0.2, 1.0)}
TOO_MUCH = 4  # times the best rate, beyond which networks without 1/sqrt(L) diverge


def doublings(size: int, sizes: tuple[int, ...]) -> float:
    """0 for the smallest size."""
    return math.log2(size / sizes[0])


def best(label: str, size: int, sizes: tuple[int, ...], seed: int) -> float:
    """The best rate falls with the size."""
    power, start = (OVER_WIDTH if sizes == WIDTHS else OVER_DEPTH)[label]
    return start * 2 ** ((power + 0.02 * wobble(seed, label, sizes)) * doublings(size, sizes))


def bowl(label: str, size: int, sizes: tuple[int, ...], rate: float, step: int, seed: int) -> float:
    """A loss that falls to 0.3, and is least at the best rate."""
    return 0.3 + 0.05 * math.log2(rate / best(label, size, sizes, seed)) ** 2 + math.exp(-step / 20)


def loss(label: str, depth: int, rate: float, step: int, seed: int) -> float:
    """Over the depth: networks diverge at step 30 where the rate is more than four times the best one."""
    too_much = label != PLAIN and rate > TOO_MUCH * best(label, depth, DEPTHS, 0)
    return math.inf if too_much and step >= 30 else bowl(label, depth, DEPTHS, rate, step, seed)


def loss_over_width(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Over the width."""
    return bowl(label, width, WIDTHS, rate, step, seed)


def growing(label: str, depth: int, rate: float, step: int, seed: int) -> float:
    """The sharpness without 1/sqrt(L): before training it grows with the depth, later it is at the edge."""
    if step == 0:
        return 2 ** ((1.5 + 0.02 * wobble(seed, "initial", "depth")) * octaves(depth))
    return 0.9 * 2 / rate * (1 + 0.02 * wobble(seed, label, depth))


def growing_with_width(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """The same in SP, where the width takes the place of the depth."""
    if step == 0:
        return 2 ** ((0.5 + 0.02 * wobble(seed, "initial", "width")) * math.log2(width / WIDTHS[0]))
    return 0.9 * 2 / rate * (1 + 0.02 * wobble(seed, label, width))


def falling(label: str, depth: int, rate: float, step: int, seed: int) -> float:
    """The sharpness without skip connections: the deeper, the less it rises."""
    power = -0.4 + 0.01 * wobble(seed, label, rate)
    return min(0.9, 0.2 + 0.02 * step) * 2 / rate * 2 ** (power * octaves(depth))


def no_scaling(change_loss: Formula = loss, change_sharpness: Formula = growing, **options) -> pd.DataFrame:
    """The runs of Figure 6; functions of a label may be changed for tests."""
    own = {"labels": (COLD, WARM), "first_steps": FIRST_STEPS} | options
    return _over_depth(change_loss, change_sharpness, **own)


def standard(
    change_loss: Formula = loss_over_width, change_sharpness: Formula = growing_with_width, **options
) -> pd.DataFrame:
    """The runs of Figure 7."""
    own = {"labels": (COLD, SHORT, LONG), "widths": WIDTHS, "seeds": SEEDS_OVER_WIDTH}
    return _sweep(change_loss, change_sharpness, **(own | options))


def no_skips(change_loss: Formula = loss, change_sharpness: Formula = falling, **options) -> pd.DataFrame:
    """The runs of Figure 8."""
    return _over_depth(change_loss, change_sharpness, **({"labels": (PLAIN,)} | options))


def _over_depth(change_loss: Formula, change_sharpness: Formula, **options) -> pd.DataFrame:
    return _sweep(change_loss, change_sharpness, **({"widths": (8,), "depths": DEPTHS} | options))


def _sweep(change_loss: Formula, change_sharpness: Formula, **options) -> pd.DataFrame:
    settings = {"rates": RATES, "measured": MEASURED, "probe_steps": PROBES, "seeds": SEEDS, "record_every": EVERY}
    return sweep_table(change_loss, {"sharpness": change_sharpness}, **(settings | options))


@cache
def no_limit_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what the paper claims holds."""
    return {"sc_fig06": no_scaling(), "sc_fig07": standard(), "sc_fig08": no_skips()}


@cache
def all_tables() -> dict[str, pd.DataFrame]:
    """The same, with what the controls need: muP over the width, Depth-muP over the depth."""
    mup = transfer_table(labels=("muP",), seeds=SEEDS_OVER_WIDTH)
    return no_limit_tables() | {"sc_fig01": mup, "sc_fig04": depth_tables()["sc_fig04"]}
