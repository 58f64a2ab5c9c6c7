"""Stage tables in which the claims about transformers hold."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from featurespeed.papers.super_consistency.spec import PRECONDITIONED
from featurespeed.papers.super_consistency.transformers.spec import (
    COMPLETE_P,
    DEPTH_MUP,
    GAMMA,
    GPT,
    GPT_NO_ROOT,
    POST_LN,
    POST_LN_SP,
    U_MUP,
    VIT,
    VIT_NO_ROOT,
)
from tests.papers.super_consistency.transfer_cases import jitter
from tests.sweeps.cases import sweep_table

DEPTHS, WIDTHS = (6, 12, 24, 48), (64, 128, 256, 512)
RATES = tuple(4.64e-4 * 2.0**k for k in range(-3, 4))
MEASURED = RATES[2:4]
BEST, MIDDLE = RATES[3], {True: 17.0, False: 181.0}  # best rate in the middle of the depths, or of the widths
LABELS = {
    "sc_fig04c": (VIT, VIT_NO_ROOT),
    "sc_fig15": (GPT_NO_ROOT, GPT),
    "sc_fig16": (POST_LN, POST_LN_SP),
    "sc_completep": (DEPTH_MUP, COMPLETE_P, U_MUP),
}
#: Exponents in the size of best rates, of N times the sharpness, and of the preconditioned one.
SHIFTS = {VIT: 0.6, GPT_NO_ROOT: -0.5, POST_LN_SP: -0.8, DEPTH_MUP: -0.4, U_MUP: -0.4}
GAMMAS = {VIT: 0.1, GPT_NO_ROOT: 0.02, VIT_NO_ROOT: -0.2}
PRECONDITIONEDS = {POST_LN: 0.03, POST_LN_SP: 0.7}
CIFAR10, WORDS = {"name": "cifar10", "pixels": "symmetric"}, {"name": "wikitext2", "length": 35}
THEIR_VIT = {"kind": "vit", "depth": 6, "convention": "authors"}
COMMON = {"name": "adam", "betas": [0.9, 0.999], "layer_rates": "common"}
OPTIMIZERS = {
    VIT: COMMON | {"depth_rates": True},
    VIT_NO_ROOT: COMMON | {"depth_rates": False},
    GPT_NO_ROOT: {"name": "adam", "betas": [0.9, 0.999], "depth_rates": False},
}
TABLE_RATES = {"name": "adam", "betas": [0.9, 0.999]}


def grown(label: str, size: int, exponents: dict[str, float], over_depth: bool) -> float:
    return (size / MIDDLE[over_depth]) ** exponents.get(label, 0.0)


def _over_depth(label: str) -> bool:
    return label not in (POST_LN, POST_LN_SP)


def loss(label, size, rate, step, seed):
    """A parabola in the logarithms around the best rate; larger networks are the better ones."""
    best = BEST * grown(label, size, SHIFTS, _over_depth(label))
    late = (0.4 + 0.1 * math.log2(rate / best) ** 2) * size**-0.1
    return (late + 0.9 * math.exp(-step / 10)) * jitter(label, size, rate, step, seed)


def gamma_sharpness(label, size, rate, step, seed):
    """Rises to 20 within 40 steps."""
    own = 20.0 * grown(label, size, GAMMAS, _over_depth(label))
    return own * min(1.0, 0.1 + step / 40) * jitter(label, size, rate, step, seed)


def preconditioned(label, size, rate, step, seed):
    """Rises to 30; none at step 0."""
    if step == 0:
        return math.nan
    own = 30.0 * grown(label, size, PRECONDITIONEDS, _over_depth(label))
    return own * min(1.0, 0.2 + step / 40) * jitter(label, size, rate, step, seed)


def table(
    name: str, change_loss=loss, change_gamma=gamma_sharpness, change_preconditioned=preconditioned, **options: Any
) -> pd.DataFrame:
    """The runs of one figure; functions of a label may be changed for tests."""
    labels, over_depth = LABELS[name], name != "sc_fig16"
    kind = {"sc_fig04c": THEIR_VIT, "sc_fig16": {"kind": "post_ln", "depth": 4}}.get(name, {"kind": "gpt", "depth": 6})
    networks = {
        label: {"learning_rates": list(RATES), "measured": list(MEASURED), "batch_size": 64, "model": kind}
        | {"optimizer": OPTIMIZERS.get(label, TABLE_RATES)}
        for label in labels
    }
    curvature = {PRECONDITIONED: change_preconditioned} | ({GAMMA: change_gamma} if name in GAMMA_MEASURED else {})
    chosen = {"labels": labels, "rates": RATES, "measured": dict.fromkeys(labels, MEASURED), "networks": networks}
    chosen |= {"data": CIFAR10 if name == "sc_fig04c" else WORDS, "seeds": 4}
    chosen |= {"widths": (128,), "depths": DEPTHS} if over_depth else {"widths": WIDTHS, "depths": (4,)}
    return sweep_table(change_loss, curvature, **(chosen | options))


GAMMA_MEASURED = ("sc_fig04c", "sc_fig15")
TABLES = {name: table(name) for name in LABELS}


def transformer_tables(**changed: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Artefact -> table; some of them replaced."""
    return TABLES | changed
