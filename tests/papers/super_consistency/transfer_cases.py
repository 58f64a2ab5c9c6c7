"""Stage tables in which the claims about transfer over the width hold."""

from __future__ import annotations

import math

import pandas as pd

from tests.sweeps.cases import sweep_table

RATES = {
    "muP": (0.4, 0.8, 1.6, 3.2),
    "NTP": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
    "random features": (1.0, 2.0, 4.0, 8.0, 16.0),
}
SHOWN = {"muP": 0.8, "NTP": 32.0}
MATCHED = 2.0  # NTP's rate below the edge at which its narrowest network is nearest to muP's


def octaves(width: int) -> float:
    """0 for the smallest width, 4 for the largest."""
    return math.log2(width / 8)


def best(label: str, width: int) -> float:
    """Best rates: 0.8 under muP, from 2 to 16 under NTP, from 2 to 4 with random features."""
    power = {"muP": 0.0, "NTP": 0.75, "random features": 0.25}[label]
    return (0.8 if label == "muP" else 2.0) * 2 ** (power * octaves(width))


def jitter(label: str, width: int, rate: float, step: int, seed: int) -> float:
    """A factor near 1 by which runs differ from seed to seed."""
    return 1 + 0.004 * math.sin(1000.0 * seed + 7.0 * width + 13.0 * rate + 0.1 * step + len(label))


def loss(label, width, rate, step, seed):
    """Wider is better, most under muP; at a fixed rate it is worse under NTP."""
    scale = 1 - (0.1 if label == "muP" else 0.02) * octaves(width)
    late = (0.2 + 0.05 * math.log2(rate / best(label, width)) ** 2) * scale
    return (late + 1.5 * math.exp(-step / 10)) * jitter(label, width, rate, step, seed)


def sharpness(label, width, rate, step, seed):
    """Rises nearly to 2/eta_0, under muP at one pace everywhere; under NTP later, and to less below it if wider."""
    edge = 2 / rate * jitter(label, width, rate, step, seed)
    if label == "random features":
        return 0.5 * edge * max(1.0, 2 - step / 20)
    level = {"muP": 0.95 + 0.01 * octaves(width), "NTP": min(1.1, 0.4 * rate * 2 ** (-0.5 * octaves(width)))}[label]
    pace = 10 if label == "muP" else 5 * 2 ** octaves(width)
    return level * edge * min(1.0, 0.2 + step / pace)


def transfer_table(change_loss=loss, change_sharpness=sharpness, **options) -> pd.DataFrame:
    """The runs of all three figures; functions of a label may be changed for tests."""
    settings = {"labels": tuple(RATES), "rates": RATES, "shown": SHOWN, "early_steps": 50} | options
    return sweep_table(change_loss, {"sharpness": change_sharpness}, **settings)


def transfer_tables(*arguments, **options) -> dict[str, pd.DataFrame]:
    """Artefact -> table."""
    return dict.fromkeys(("sc_fig01", "sc_fig24", "sc_fig26"), transfer_table(*arguments, **options))
