"""Stage tables in which the claims about ConvNets with Adam hold."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from featurespeed.papers.super_consistency.adam.published import BY_CHANNELS
from featurespeed.papers.super_consistency.adam.spec import (
    ADAM,
    ADAMW,
    COMMON,
    NO_ROOT,
    ONE,
    ONE_NO_ROOT,
    PRECONDITIONED,
    TWO,
    TWO_NO_ROOT,
)
from tests.papers.super_consistency.transfer_cases import jitter
from tests.sweeps.cases import sweep_table

OVER_DEPTH, OVER_WIDTH = (ONE, TWO, ONE_NO_ROOT, TWO_NO_ROOT), (ADAM, ADAMW, COMMON)
DEPTHS, WIDTHS = (3, 6, 12, 24), (16, 32, 64, 128, 256)  # channels: N = 64 to 1024
RATES = tuple(0.0625 * 2**k for k in range(6))
RATES_COMMON = tuple(1e-5 * 2**k for k in range(9))
MEASURED, MEASURED_COMMON = (0.125, 0.5), (RATES_COMMON[1], RATES_COMMON[3])
MIDDLE = {True: 8.5, False: 64}  # of the sizes: of depths, of widths
BEST = 0.45  # learning rate of the networks whose best one depends on no size
EDGE = 38.0
CIFAR10 = {"name": "cifar10", "pixels": "symmetric"}


def best(label: str, size: int) -> float:
    """Best rates: all but equal with the rates of the table; falling without ``1/sqrt(L)``, or as the authors' do."""
    if label == COMMON:
        return 1.2 * BY_CHANNELS[size]
    power = -0.5 if label.endswith(NO_ROOT) else 0.05 if label in (TWO, ADAMW) else 0.0
    return BEST * (size / MIDDLE[label in OVER_DEPTH]) ** power


def loss(label, size, rate, step, seed):
    """A parabola in the logarithms around the best rate; larger networks are the better ones."""
    late = (0.4 + 0.1 * math.log2(rate / best(label, size)) ** 2) * size**-0.1
    return (late + 0.9 * math.exp(-step / 10)) * jitter(label, size, rate, step, seed)


def exponent(label: str, rate: float) -> float:
    """Of the sharpness in the size: at the smaller rate less than half of that at the larger one."""
    at_the_larger = {ONE: -0.1, TWO: -0.4, ADAM: 0.03, ADAMW: -0.02, COMMON: 0.4}.get(label, -0.2)
    return at_the_larger if rate > 0.2 or label == COMMON else 0.4 * at_the_larger


def sharpness(label, size, rate, step, seed):
    """Rises within 40 steps to 38 at the rate of 0.5, to less at smaller ones; none at step 0."""
    if step == 0:
        return math.nan
    level = min(1.0, 0.3 + 1.4 * rate) if label != COMMON else 0.4
    rise = min(1.0, 0.2 + step / 50) * jitter(label, size, rate, step, seed)
    return EDGE * level * (size / MIDDLE[label in OVER_DEPTH]) ** exponent(label, rate) * rise


def _networks(labels, rates, measured, model, optimizers) -> dict[str, dict[str, Any]]:
    """Settings of networks, as far as figures and claims ask for them."""
    return {
        label: {"learning_rates": list(rates[label]), "measured": list(measured[label]), "batch_size": 64}
        | {"model": model, "optimizer": {"betas": [0.9, 0.999]} | optimizers.get(label, {})}
        for label in labels
    }


def depth_table(change_loss=loss, change_sharpness=sharpness, measured=MEASURED, **options) -> pd.DataFrame:
    """The runs of Figure 20; functions of a label may be changed for tests."""
    rates, at = dict.fromkeys(OVER_DEPTH, RATES), dict.fromkeys(OVER_DEPTH, measured)
    model = {"kind": "convnet", "depth": 3, "tau": 1, "convention": "authors"}
    networks = _networks(OVER_DEPTH, rates, at, model, {})
    chosen = {"labels": OVER_DEPTH, "rates": rates, "measured": at, "networks": networks, "data": CIFAR10}
    chosen |= {"widths": (16,), "depths": DEPTHS, "seeds": 4} | options
    return sweep_table(change_loss, {PRECONDITIONED: change_sharpness}, **chosen)


def width_table(
    change_loss=loss, change_sharpness=sharpness, data=CIFAR10, model=None, widths=WIDTHS, **options
) -> pd.DataFrame:
    """The runs of Figure 21."""
    rates = {ADAM: RATES, ADAMW: RATES, COMMON: RATES_COMMON}
    at = {ADAM: MEASURED, ADAMW: MEASURED, COMMON: MEASURED_COMMON}
    model = model or {"kind": "convnet", "depth": 3, "convention": "authors"}
    networks = _networks(OVER_WIDTH, rates, at, model, {COMMON: {"layer_rates": "common"}})
    chosen = {"labels": OVER_WIDTH, "rates": rates, "measured": at, "networks": networks, "data": data}
    chosen |= {"widths": widths, "depths": (3,), "seeds": 4} | options
    return sweep_table(change_loss, {PRECONDITIONED: change_sharpness}, **chosen)


TABLES = {"sc_fig20": depth_table(), "sc_fig21": width_table()}


def adam_tables(**changed: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Artefact -> table; some of them replaced."""
    return TABLES | changed
