"""Artefact table of what connects both papers: feature speed, angle, sensitivity beside sharpness and transfer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, artefact_table
from featurespeed.papers.super_consistency.bridge import analysis
from featurespeed.papers.super_consistency.bridge.analysis import DECAYED, QUANTITIES, SHIFTED, Network
from featurespeed.statistics import Interval, largest_deviation, mean_interval
from featurespeed.sweeps.transfer import over_seeds

#: Networks whose curves are drawn, and the quantities that are drawn along training.
CURVES = ("muP", "NTP")
ALONG = ("feature sensitivity", "angle", "sharpness")
#: Quantities whose dependence on the size is set against that of the sharpness.
CELLS = ("feature sensitivity", "feature speed")
#: The share of training over which these are independent of the width is compared with and without weight decay.
HELD = ALONG
NO_SHIFT = "no shift"
BEFORE = "predicted from "


def tabulate_bridge(records: pd.DataFrame) -> pd.DataFrame:
    """Everything that the figure of ``sc_bridge`` draws.

    ``<quantity> | <network>``: the quantity against the step (sharpness times the base learning rate over 2; the
    angle as its cosine), one series a width, geometric mean and range over
    seeds. ``spread of <quantity>``: its coefficient of
    variation over widths against the step, without and with weight decay, with the bootstrap over seeds.
    ``observed shift``: of the best learning rate, in steps of 2, at x = place of the network. ``predicted from
    <quantity>``: the prediction (y) against the observed shift (x). ``cells, <quantity>``: absolute slope in log(size)
    of the sharpness (y) against that of the quantity (x), one row a network and probe step. ``statistic``: errors and
    correlations as the claims judge them, and the shares of training below the drawn coefficient of variation.
    """
    networks = [own for own in (analysis.network(records, label) for label in SHIFTED) if own is not None]
    parts = [_curves(own, name) for own in networks if own.label in CURVES for name in ALONG]
    parts += [_spreads(records, networks, name) for name in ALONG]
    parts += [
        _observed(networks),
        *(_predicted(networks, name) for name in QUANTITIES),
        *(_cells(networks, name) for name in CELLS),
    ]
    return artefact_table(*parts, _statistics(records, networks))


def _curves(network: Network, name: str) -> pd.DataFrame:
    rate = network.rate()
    if rate is None:
        return _table([])
    sizes, steps, values = network.curves(name, rate)
    values = values * rate / 2 if name == "sharpness" else 1.0 / values if name == "angle" else values
    rows = []
    for place, size in enumerate(sizes):
        for step, seeds in zip(steps, values[:, place].T, strict=True):
            range_ = Interval(float(analysis.geometric_mean(seeds)), seeds.min(), seeds.max(), len(seeds), "")
            rows.append(_row(f"{name} | {network.label}", f"N={size}", step, range_, order=place))
    return _table(rows)


def _spreads(records: pd.DataFrame, networks: list[Network], name: str) -> pd.DataFrame:
    """Over the widths and at the learning rate that runs with and without decay have in common."""
    rows = []
    for own in networks:
        if own.label in CURVES:
            pair = analysis.decay_pair(records, own.label)
            shown = pair[:2] if pair else (own,)
            rate = pair[2] if pair else own.rate()
            for member in shown if rate is not None else ():
                _, steps, values = member.curves(name, rate)
                found = zip(steps, analysis.spread_intervals(values), strict=True)
                rows += [_row(f"spread of {name}", member.label, step, at) for step, at in found]
    return _table(rows)


def _observed(networks: list[Network]) -> pd.DataFrame:
    rows = []
    for own in networks:
        # A best rate at an end of its grid may lie beyond it.
        flag = "grid edge" if own.optima.censored.any() else ""
        place, found = SHIFTED.index(own.label), _mean(own.shifts)
        if not own.optima.usable:
            found = Interval(found.value, np.nan, np.nan, found.n, "")
        rows.append(_row("observed shift", own.label, place, found, order=place, flag=flag))
    return _table(rows)


def _predicted(networks: list[Network], name: str) -> pd.DataFrame:
    rows = []
    for own in networks:
        found = _mean(lambda own=own: analysis.predicted_shifts(own, name))
        shift = _mean(own.shifts).value
        rows.append(_row(f"{BEFORE}{name}", own.label, shift, found, order=SHIFTED.index(own.label)))
    return _table(rows)


def _mean(values: Callable[[], np.ndarray]) -> Interval:
    """Mean over seeds; not a number where a network has none."""
    return _if_any(lambda: mean_interval(values()))


def _if_any(found: Callable[[], Interval]) -> Interval:
    try:
        return found()
    except ValueError:
        return Interval(np.nan, np.nan, np.nan, 0, "")


def _cells(networks: list[Network], name: str) -> pd.DataFrame:
    rows = []
    for own in networks:
        values = analysis.cells(own, name)
        if values is not None:
            for place, (x, y) in enumerate(zip(values.predictor.mean(0), values.sharpness.mean(0), strict=True)):
                rows.append(
                    _row(f"cells, {name}", own.label, x, Interval(y, np.nan, np.nan, own.seeds, ""), order=place)
                )
    return _table(rows)


def _statistics(records: pd.DataFrame, networks: list[Network]) -> pd.DataFrame:
    rows = [_row("statistic", series, 0, found) for series, found in _numbers(records, networks)]
    return _table(rows)


def _numbers(records: pd.DataFrame, networks: list[Network]) -> Iterator[tuple[str, Interval]]:
    if not networks:
        return
    for name in (*QUANTITIES, None):
        errors = _if_any(lambda name=name: largest_deviation(analysis.prediction_errors(networks, name)))
        yield f"largest error, {name or NO_SHIFT}", errors
    for name in CELLS:
        found = [analysis.cells(own, name) for own in networks]
        known = [values for values in found if values is not None]
        if known:
            yield f"rank correlation of slopes, {name}", _mean(lambda known=known: analysis.correlations(known).mean(1))
    for label in DECAYED:
        pair = analysis.decay_pair(records, label)
        for member in pair[:2] if pair else ():
            for name in HELD:
                _, steps, values = member.curves(name, pair[2])
                share = over_seeds(
                    lambda chosen, s=steps, v=values: analysis.share_held(s, analysis.spreads(v, chosen)), member.seeds
                )
                yield f"share held, {name} | {member.label}", share


def _row(panel: str, series: str, x: float, at: Interval, order: int = 0, flag: str = "") -> dict[str, object]:
    return {
        "panel": panel, "series": series, "x": float(x), "y": at.value, "y_low": at.low, "y_high": at.high, "n": at.n,
        "estimator": "training", "order": order, "flag": flag,
    }  # fmt: skip


def _table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Rows without those that have no value: a network that failed has none. A bound that is open is left empty."""
    table = pd.DataFrame(rows, columns=list(ARTEFACT_COLUMNS))
    table = table[np.isfinite(table["x"].astype(float)) & np.isfinite(table["y"].astype(float))]
    return table.assign(**{end: table[end].where(np.isfinite(table[end].astype(float))) for end in ("y_low", "y_high")})
