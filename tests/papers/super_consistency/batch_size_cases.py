"""Stage tables in which the claims about late training and the batch size hold (Figures 12, 13 and 14)."""

from __future__ import annotations

import math

import pandas as pd

from featurespeed.papers.super_consistency.batch_size.spec import AUGMENTED, BATCHES, PLAIN
from tests.papers.super_consistency.transfer_cases import transfer_table
from tests.sweeps.cases import Formula, sweep_table

WIDTHS = (8, 16, 32, 64)
SEEDS = 6
STEPS = 100
LATE_PROBES = tuple(range(0, STEPS + 1, 4))
LATE_RATE = 0.5
RATES = {"B": (0.125, 0.25, 0.5, 1.0), "2B": (0.25, 0.5, 1.0, 2.0), "4B": (0.5, 1.0, 2.0, 4.0)}
MEASURED = {label: rates[:3] for label, rates in RATES.items()}
NETWORKS = {
    label: {"learning_rates": list(RATES[label]), "measured": list(MEASURED[label]), "batch_size": 8 * times}
    for label, times in BATCHES.items()
}


def octaves(width: int) -> float:
    """0 for the narrowest network, 3 for the widest."""
    return math.log2(width / WIDTHS[0])


def wobble(seed: int, *names: object) -> float:
    """Between -1 and 1: how seeds differ, not in the same way anywhere."""
    return math.sin(1000.0 * seed + sum(7.0 * k * sum(map(ord, str(name))) for k, name in enumerate(names, 1)))


# --- Figure 12 --------------------------------------------------------------------------------------------------------


def onset(label: str, width: int, seed: int) -> float:
    """From 72 steps at the narrowest to 30 at the widest without augmentation; with it, never."""
    if label == AUGMENTED:
        return math.inf
    return 72 * (1 + 0.1 * wobble(seed, "onset")) * 2 ** (-(0.42 + 0.05 * wobble(seed, "power")) * octaves(width))


def late_loss(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Without augmentation the images are learned by heart."""
    return (0.02 if label == PLAIN else 0.3) + 2 * math.exp(-step / 15) + 0.001 * wobble(seed, label, width)


def late_sharpness(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Rises to 2/eta_0 within 10 steps, creeps up until the onset, then falls."""
    place = onset(label, width, seed)
    level = min(1.0, 0.1 + 0.1 * step) * (1 + 0.002 * min(step, place)) * (1 + 0.003 * wobble(seed, label, width, step))
    return 2 / rate * level * math.exp(-max(step - place, 0.0) / 25)


def late_runs(change_loss: Formula = late_loss, change_sharpness: Formula = late_sharpness, **options) -> pd.DataFrame:
    """The runs of Figure 12; functions of a label may be changed for tests."""
    settings = {"labels": (PLAIN, AUGMENTED), "widths": WIDTHS, "rates": (LATE_RATE,), "seeds": SEEDS}
    settings |= {"steps": STEPS, "probe_steps": LATE_PROBES}
    return sweep_table(change_loss, {"sharpness": change_sharpness}, **(settings | options))


# --- Figures 13 and 14 ------------------------------------------------------------------------------------------------


def best(label: str, width: int, seed: int, augmented: bool) -> float:
    """Best rates: 0.3 times the batch size over the smallest, whatever the width."""
    power = 0.04 + 0.02 * wobble(seed, label, augmented, "power")
    return 0.3 * BATCHES[label] * 2 ** (power * octaves(width) + 0.03 * wobble(seed, label, augmented))


def batch_loss(augmented: bool) -> Formula:
    """Loss that is least at the best rate, larger with augmentation."""

    def loss(label: str, width: int, rate: float, step: int, seed: int) -> float:
        bowl = 0.05 * math.log2(rate / best(label, width, seed, augmented)) ** 2
        return (0.6 if augmented else 0.3) - 0.02 * octaves(width) + bowl + 1.5 * math.exp(-step / 10)

    return loss


def batch_sharpness(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """Rises to 2/eta_0 and a little beyond at larger batches."""
    level = min(0.9 + 0.1 * BATCHES[label], 0.1 + 0.05 * step)
    return 2 / rate * level * (1 + 0.01 * wobble(seed, label, width))


def batch_runs(
    augmented: bool, change_loss: Formula | None = None, change_sharpness: Formula = batch_sharpness, **options
) -> pd.DataFrame:
    """The runs of Figure 13, with augmentation, or 14; functions of a label may be changed for tests."""
    settings = {"labels": tuple(BATCHES), "widths": WIDTHS, "rates": RATES, "measured": MEASURED, "seeds": SEEDS}
    settings |= {"networks": NETWORKS, "augmented": augmented}
    return sweep_table(change_loss or batch_loss(augmented), {"sharpness": change_sharpness}, **(settings | options))


def batch_size_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what the paper claims holds, with the runs of NTP that are a control."""
    over_width = transfer_table(labels=("NTP",), widths=(8, 32, 128), measured={"NTP": ()})
    return {
        "sc_fig01": over_width,
        "sc_fig12": late_runs(),
        "sc_fig13": batch_runs(True),
        "sc_fig14": batch_runs(False),
    }
