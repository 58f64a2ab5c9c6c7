"""Stage tables of training over sizes and learning rates, made from formulas instead of runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from featurespeed.records import Provenance, frame

WIDTHS = (8, 16, 32, 64, 128)
RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PROBES = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
LAYERS = (1, 2, 3)
EIGENVALUES = (
    "sharpness", "smallest_eigenvalue", "gauss_newton_eigenvalue", "residual_eigenvalue", "ntk_eigenvalue",
    "preconditioned_sharpness",
)  # fmt: skip
BY_LAYER = ("bfa", "feature_speed_rms", "feature_sensitivity", "loss_decay", "layer_sharpness")

#: ``f(label, size, rate, step, seed)``; with several depths the size is the depth. Several eigenvalues: a sequence.
Formula = Callable[[str, int, float, int, int], Any]


def flat(label: str, size: int, rate: float, step: int, seed: int) -> float:
    """Loss that falls to 0.1 and is least at a rate of 1, whatever the network, size and seed."""
    return 0.1 + 0.1 * math.log2(rate) ** 2 + 2.0 * math.exp(-step / 20)


def sweep_table(
    loss: Formula = flat,
    curvature: Mapping[str, Formula] | None = None,
    labels: Sequence[str] = ("muP", "NTP"),
    widths: Sequence[int] | Mapping[str, Sequence[int]] = WIDTHS,
    rates: Sequence[float] | Mapping[str, Sequence[float]] = RATES,
    measured: Mapping[str, Sequence[float]] | None = None,
    depths: Sequence[int] = (2,),
    seeds: int = 3,
    steps: int = 100,
    probe_steps: Sequence[int] = PROBES,
    record_every: int = 10,
    **spec: Any,
) -> pd.DataFrame:
    """The table as ``scripts/gather.py`` gives it, with the settings among its attributes.

    Args:
        loss: of a training record; infinite: the network diverges at that step, NaN: it dies there. Nothing of such a
            network is recorded or measured afterwards.
        curvature: quantity -> value at a probe step, NaN where it is missing; quantities of layers are the same in all.
        measured: label -> rates at which curvature is measured; all of them unless given.
        spec: further settings, such as ``shown`` or ``early_steps``.
    """
    own_rates = {label: list(rates[label] if isinstance(rates, Mapping) else rates) for label in labels}
    own_widths = {label: list(widths[label] if isinstance(widths, Mapping) else widths) for label in labels}
    at = {label: list((measured or {}).get(label, own_rates[label])) for label in labels}
    rows: list[dict[str, object]] = []
    for label in labels:
        for depth in depths:
            for width in own_widths[label]:
                for rate in own_rates[label]:
                    for seed in range(seeds):
                        size = depth if len(depths) > 1 else width
                        base = _base(label, width, depth, rate, seed)
                        place = (label, size, rate)
                        records, stop = _training(loss, place, seed, steps, record_every)
                        rows += [base | record for record in records]
                        if rate in at[label]:
                            probes = [step for step in probe_steps if step < stop]
                            rows += [base | row for row in _measured(curvature or {}, place, seed, probes)]
    table = frame(rows)
    networks = {name: {"learning_rates": own_rates[name], "measured": at[name], "batch_size": 64} for name in labels}
    settings = {"networks": networks, "steps": steps, "probe_steps": list(probe_steps), "seeds": seeds}
    settings |= {"widths": max(own_widths.values(), key=len), "shown": None, "early_steps": None}
    table.attrs["provenance"] = Provenance(spec=settings | spec)
    return table


def _base(label: str, width: int, depth: int, rate: float, seed: int) -> dict[str, object]:
    return {
        "run_id": f"{label}_l{depth}_n{width}", "case": "convnet", "series": label, "parameterization": label.upper(),
        "optimizer": "sgd", "learning_rate": rate, "width": width, "depth": depth, "input_dim": 64, "output_dim": 10,
        "seed": seed,
    }  # fmt: skip


def _training(
    loss: Formula, place: tuple, seed: int, steps: int, record_every: int
) -> tuple[list[dict[str, object]], float]:
    """Rows of training, and the step from which on there is nothing."""
    rows: list[dict[str, object]] = []
    for step in range(record_every, steps + 1, record_every):
        value = float(loss(*place, step, seed))
        if not math.isfinite(value):
            what = "dead_step" if math.isnan(value) else "diverged_step"
            rows.append({"estimator": "training", "quantity": what, "step": step, "value": float(step)})
            return rows, step
        rows.append({"estimator": "training", "quantity": "training_loss", "step": step, "value": value})
    return rows, math.inf


def _measured(
    curvature: Mapping[str, Formula], place: tuple, seed: int, probes: Sequence[int]
) -> Iterator[dict[str, object]]:
    for quantity, formula in curvature.items():
        for step in probes:
            found = formula(*place, step, seed)
            values = list(found) if isinstance(found, Sequence) else [float(found)]
            for index, value in enumerate(values, 1):
                row = {"estimator": "Lanczos", "quantity": quantity, "step": step, "value": value}
                row |= {"index": index if quantity in EIGENVALUES else 0}
                if not math.isnan(value):
                    yield from ([row | {"layer": k} for k in LAYERS] if quantity in BY_LAYER else [row])
