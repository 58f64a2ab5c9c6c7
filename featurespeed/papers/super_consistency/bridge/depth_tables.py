"""Artefact table of ``sc_bridge_depth``: the first paper's quantities at the start over the depth, and transfer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import point_row, row_table
from featurespeed.drawing.width_rows import interval_row
from featurespeed.papers.super_consistency.bridge import analysis
from featurespeed.papers.super_consistency.bridge.analysis import QUANTITIES, Network
from featurespeed.papers.super_consistency.bridge.spec import OVER_DEPTH
from featurespeed.statistics import Interval, mean_interval
from featurespeed.sweeps.brackets import largest

BEST, OBSERVED = "best learning rate", "observed shift"
BEFORE, ERROR = "predicted from ", "largest error, "


def tabulate_bridge_depth(records: pd.DataFrame) -> pd.DataFrame:
    """Everything that the figure of ``sc_bridge_depth`` draws.

    ``<quantity>``: at the last hidden cut node before the first step, against the depth, one series a network;
    geometric mean over seeds, bounds the smallest and the largest one. ``best learning rate``: against the depth.
    ``observed shift``: of the best learning rate over all depths, in steps of 2, at x = place of the network.
    ``predicted from <quantity>``: the predicted shift (y) against the observed one (x). ``statistic``: errors of the
    predictions, as the claims judge them.
    """
    networks = [own for own in (analysis.network(records, label) for label in OVER_DEPTH) if own is not None]
    parts: list[pd.DataFrame] = []
    for place, own in enumerate(networks):
        parts += [_at_start(own, name) for name in QUANTITIES]
        parts += [_best(own), _shift(own, place), *(_predicted(own, name, place) for name in QUANTITIES)]
    if len(networks) == len(OVER_DEPTH):  # the claims are about all four
        parts += [_largest_error(networks, name) for name in QUANTITIES]
    return artefact_table(*parts)


def _at_start(own: Network, name: str) -> pd.DataFrame:
    values = own.at_start(name)
    rows = []
    for place, size in enumerate(own.losses.sizes):
        seeds = values[:, place]
        if np.isfinite(seeds).all() and (seeds > 0).all():
            found = Interval(float(analysis.geometric_mean(seeds)), seeds.min(), seeds.max(), len(seeds), "")
            rows.append(interval_row(name, own.label, float(size), found))
    return row_table(rows)


def _best(own: Network) -> pd.DataFrame:
    """Best rates by depth, geometric means over seeds; flagged where some are censored."""
    rates, censored = own.optima.log2_rates, own.optima.censored.any(0)
    rows = [
        point_row(
            BEST, own.label, size, float(2 ** rates[:, place].mean()), own.seeds, "grid edge" * bool(censored[place])
        )
        for place, size in enumerate(own.losses.sizes)
        if np.isfinite(rates[:, place]).all()
    ]
    return row_table(rows)


def _shift(own: Network, place: int) -> pd.DataFrame:
    found = _if_any(lambda: own.bounded_shifts().interval())
    if found is None:
        return row_table([])
    return row_table([interval_row(OBSERVED, own.label, float(place), found) | {"order": place}])


def _predicted(own: Network, name: str, place: int) -> pd.DataFrame:
    observed = _if_any(lambda: mean_interval(own.shifts()))
    found = _if_any(lambda: mean_interval(analysis.predicted_shifts(own, name)))
    if observed is None or found is None:
        return row_table([])
    return row_table([interval_row(f"{BEFORE}{name}", own.label, observed.value, found) | {"order": place}])


def _largest_error(networks: list[Network], name: str) -> pd.DataFrame:
    """Of the predicted shifts; with an infinite bound where best rates of a network lie at an end of the grid."""
    found = _if_any(lambda: largest(analysis.bounded_errors(networks, name)))
    if found is None:
        return row_table([])
    return row_table([interval_row("statistic", f"{ERROR}{name}", 0.0, found)])


def _if_any(compute: Callable[[], Interval]) -> Interval | None:
    """An estimate, None where a network failed or has no logarithm."""
    try:
        found = compute()
    except ValueError:
        return None
    return found if np.isfinite(found.value) else None
