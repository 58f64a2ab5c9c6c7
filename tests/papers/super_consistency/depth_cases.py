"""Stage tables in which the claims about residual networks over their depth hold (Figures 4, 22 and 25)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pandas as pd

from featurespeed.papers.super_consistency.depth.spec import ONE, TWO
from tests.sweeps.cases import Formula, sweep_table

DEPTHS = (3, 6, 12, 24)
RATES = (0.125, 0.25, 0.5, 1.0, 2.0)
MEASURED = (0.25, 0.5)
PROBES = (0, 20, 40, 60, 80, 100)
EVERY = 20  # steps between two records of the loss
LATE = 0.8  # mean of those in the second half, as a share of training
SHOWN = 0.5  # the best of the measured rates
SEEDS = 6  # a share of seeds needs as many to lie above a half, a distance to the deepest network five
CIFAR10 = {"name": "cifar10", "pixels": "symmetric"}
MODELS = {  # the authors' networks, which are trained here for much less than an epoch
    label: {"kind": "convnet", "depth": 3, "convention": "authors", "tau": 1, "layers_per_block": layers}
    for layers, label in enumerate((ONE, TWO), 1)
}
SLOPES = {ONE: 0.04, TWO: -0.3}  # of the sharpness in the depth at the end of training


def octaves(depth: int) -> float:
    """0 for the shallowest network, 3 for the deepest."""
    return math.log2(depth / DEPTHS[0])


def wobble(seed: int, *names: object) -> float:
    """Between -1 and 1: how seeds differ, not in the same way anywhere."""
    return math.sin(1000.0 * seed + sum(7.0 * k * sum(map(ord, str(name))) for k, name in enumerate(names, 1)))


def best(label: str, depth: int, seed: int) -> float:
    """Best rates: 0.5 with one layer a block, from 0.25 to 0.7 with two."""
    start, power = (0.5, 0.02) if label == ONE else (0.25, 0.5)
    return start * 2 ** ((power + 0.02 * wobble(seed, label, "best")) * octaves(depth))


def loss(label: str, depth: int, rate: float, step: int, seed: int) -> float:
    """Deeper is better; departs from the deepest network like t."""
    bowl = 0.05 * math.log2(rate / best(label, depth, seed)) ** 2
    return 0.3 + (step / 100) ** (1 + 0.02 * wobble(seed, label, "loss")) * (bowl + 0.4 / math.sqrt(depth))


def sharpness(label: str, depth: int, rate: float, step: int, seed: int) -> float:
    """Rises nearly to 2/eta_0. It depends on the depth a little, and always the same, with one layer a block; with two
    it departs from that of the deepest network like t.
    """
    level = min(0.9, 0.2 + 0.02 * step) * 2 / rate
    power = SLOPES[label] + 0.005 * wobble(seed, label, rate)
    return level * 2 ** (power * octaves(depth) * (1 if label == ONE else step / 100))


def spectrum(label: str, depth: int, rate: float, step: int, seed: int) -> list[float]:
    """Ten eigenvalues; with two layers a block the further down, the more they depend on the depth."""
    first, further = sharpness(label, depth, rate, step, seed), 0.001 if label == ONE else -0.02
    further *= 1 + 0.05 * wobble(seed, label, "spectrum")
    return [first / k * 2 ** (further * (k - 1) * octaves(depth)) for k in range(1, 11)]


def ntk(label: str, depth: int, rate: float, step: int, seed: int) -> list[float]:
    """Departs from that of the deepest network like t^2 with one layer a block; with two it follows the depth."""
    if label == TWO:
        return [3 * 2 ** ((0.4 + 0.01 * wobble(seed, "ntk")) * octaves(depth))]
    return [3 + 0.3 * (step / 100) ** (2 + 0.02 * wobble(seed, "ntk")) / math.sqrt(depth)]


def failing(
    formula: Formula, where: Callable[[str, int, float, int], bool], what: float = math.inf, since: int = 0
) -> Formula:
    """A loss that is ``what`` from a step on for those networks, rates and seeds: infinite ones diverge, NaN dies."""

    def changed(label: str, size: int, rate: float, step: int, seed: int) -> float:
        return what if step >= since and where(label, size, rate, seed) else formula(label, size, rate, step, seed)

    return changed


def broken(case: str, formula: Formula, smallest: int) -> Formula:
    """A loss with which most networks are of no use; ``smallest`` is the smallest size."""
    return {
        "sizes diverge": failing(formula, lambda label, size, *_: size > smallest),  # all but the smallest, at once
        "rates diverge": failing(formula, lambda label, size, rate, _: rate > 0.2),  # all but the smallest, at once
        "all die": failing(formula, lambda *_: True, math.nan, since=60),
        "chance": lambda label, size, rate, step, seed: 3.0 + 0.1 * wobble(seed, size, step),
    }[case]


def transfer_runs(change_loss: Formula = loss, change_sharpness: Formula = sharpness, **options) -> pd.DataFrame:
    """The runs of Figures 4 and 22; functions of a label may be changed for tests."""
    return _of_the_authors(_runs(change_loss, {"sharpness": change_sharpness}, **({"data": CIFAR10} | options)))


def _of_the_authors(table: pd.DataFrame) -> pd.DataFrame:
    """The same table, of their networks."""
    for label, network in table.attrs["provenance"]["spec"]["networks"].items():
        network["model"] = MODELS[label]
    return table


def spectrum_runs(change_loss: Formula = loss, **options) -> pd.DataFrame:
    """The runs of Figure 25, measured at one rate; formulas of quantities may be changed for tests."""
    changed = {name: options.pop(name) for name in ("sharpness", "ntk_eigenvalue") if name in options}
    curvature = {"sharpness": spectrum, "ntk_eigenvalue": ntk} | changed
    own = {"measured": dict.fromkeys((ONE, TWO), (SHOWN,)), "rates": RATES[1:4], "data": CIFAR10}
    return _of_the_authors(_runs(change_loss, curvature, **(own | options)))


def _runs(change_loss: Formula, curvature: dict[str, Formula], **options) -> pd.DataFrame:
    settings = {"labels": (ONE, TWO), "widths": (8,), "depths": DEPTHS, "rates": RATES, "seeds": SEEDS}
    settings |= {"measured": dict.fromkeys((ONE, TWO), MEASURED), "probe_steps": PROBES, "record_every": EVERY}
    return sweep_table(change_loss, curvature, **(settings | options))


@cache  # several modules read them, and what is made of a table is kept as long as it lives
def depth_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what the paper claims holds."""
    return dict.fromkeys(("sc_fig04", "sc_fig22"), transfer_runs()) | {"sc_fig25": spectrum_runs()}
