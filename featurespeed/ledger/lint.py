"""What makes a row of the ledger worthless, found by looking at the numbers behind it.

A control is a computation on other data in the same regime. The numbers of the claim mirrored, exchanged, shifted or
scaled, and constants, are none; nor do two rows count that have the same numbers, a row that is not about the runs of
its figure, or an interval without width. Estimates carry the numbers of their units (``sample``), so that all of this
can be seen on the tables of any run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from featurespeed.ledger.criteria import Criterion
from featurespeed.ledger.engine import Estimate, StageTables

CLOSE = 1e-6  # relative; numbers that are computed from each other agree to rounding, of float32 too
ROUNDING = 1e-9  # below this, all numbers of a sample are errors of an identity that holds
AS_THEY_ARE = "as they are"
FEWEST_EQUAL = 5  # units that agree: fewer of them do so by chance, and then decide nothing anyway
FEWEST_COARSE = 10  # round numbers that agree one by one
FEWEST_AFFINE = 4  # numbers that lie on a line by chance never do so with so many


@dataclass(frozen=True)
class Seen:
    """A criterion on the tables of a run: its estimate, that of its control, and the tables that the claim read."""

    criterion: Criterion
    claim: Estimate | None
    control: Estimate | None
    read: frozenset[str]


def look(criteria: Iterable[Criterion], tables: Mapping[str, pd.DataFrame]) -> list[Seen]:
    """Every computed criterion on the tables of a run; what cannot be computed there has no estimate."""
    tables, found = StageTables.of(tables), []
    for criterion in (c for c in criteria if c.compute):
        claim, read = tables.evaluated(criterion.compute)
        control = tables.evaluated(criterion.control.compute)[0] if criterion.control else None
        found.append(Seen(criterion, claim.estimate, control.estimate if control else None, read))
    return found


def faults(criteria: Sequence[Criterion], tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """One line a fault, with the claim and what is wrong; none for a ledger that can be trusted.

    Args:
        criteria: all that are judged together.
        tables: stage tables of one run; what they cannot decide is not looked at.
    """
    seen = look(criteria, tables)
    found = [f"claim {a!r}: compute: that of claim {b!r}, too" for a, b in _same_statistic(criteria)]
    for one in seen:
        found += [f"claim {one.criterion.claim_id!r}: {text}" for text in (*_control(one), *_figure(one, tables))]
    found += [f"claim {a!r}: the numbers of claim {b!r}, {how}" for a, b, how in _same_numbers(seen)]
    found += [f"claim {a!r}: control: the numbers of claim {b!r}, {how}" for a, b, how in _moved_numbers(seen)]
    return found


def _same_statistic(criteria: Sequence[Criterion]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for criterion in (c for c in criteria if c.compute):
        if criterion.compute in first:
            yield criterion.claim_id, first[criterion.compute]
        first.setdefault(criterion.compute, criterion.claim_id)


def _control(one: Seen) -> Iterator[str]:
    criterion = one.criterion
    for name, estimate in (("claim", one.claim), ("control", one.control)):
        if estimate is not None and not criterion.identity and _without_width(estimate):
            yield f"{name}: an interval without width, [{estimate.ci_low:g}, {estimate.ci_high:g}]"
    if one.control is None:
        return
    if not one.control.sample:
        yield "control: no sample, so that nobody can tell whether its data are others"
    elif _is_constant(one.control.sample, exact=criterion.identity):
        yield "control: a constant"
    if one.claim is not None:
        how = relation(one.claim.sample, one.control.sample)
        if how:
            yield f"control: the numbers of the claim, {how}"


def _without_width(estimate: Estimate) -> bool:
    """Whether an interval says nothing about other seeds; the median of whole numbers may have no width rightly."""
    few = 0 < len(estimate.sample) < FEWEST_EQUAL
    return estimate.ci_low == estimate.ci_high and len(set(estimate.sample)) < 2 and not few


def _is_constant(sample: Sequence[float], exact: bool) -> bool:
    """Whether all units gave one number; those of a share (not of an identity) that counts all or none are no case."""
    values = np.asarray(sample, dtype=float)
    if len(values) < 2 or (_counts(values) and not exact):
        return False
    return bool(np.ptp(values) <= CLOSE * np.abs(values).max())


def _counts(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _figure(one: Seen, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    if one.claim is None:
        return
    own = one.criterion.artefact
    if own not in one.read:
        yield f"artefact = {own!r}: its statistic reads {', '.join(sorted(one.read))} only"
        return
    for other in sorted(one.read - {own}):
        if _settings(tables[other]) != _settings(tables[own]):
            yield f"artefact = {own!r}: its statistic also reads {other}, a run with other settings"


def _settings(table: pd.DataFrame) -> dict:
    settings = dict(table.attrs.get("provenance", {}).get("spec", {}))
    settings.pop("artefact", None)
    return settings


def _same_numbers(seen: Sequence[Seen]) -> Iterator[tuple[str, str, str]]:
    """Pairs of claims with one sample; rounding errors of identities are multiples of one number, and say nothing."""
    with_numbers = [one for one in seen if one.claim is not None and np.any(np.abs(one.claim.sample) > ROUNDING)]
    for first, second in combinations(with_numbers, 2):
        how = relation(first.claim.sample, second.claim.sample)
        if how:
            yield second.criterion.claim_id, first.criterion.claim_id, how


def _moved_numbers(seen: Sequence[Seen]) -> Iterator[tuple[str, str, str]]:
    """Controls that are the numbers of another claim, mirrored, scaled or shifted: two rows that one event confirms.

    A control may be another claim as it is: the same question put to other data.
    """
    for one in (one for one in seen if one.control is not None):
        for other in (other for other in seen if other.claim is not None and other is not one):
            how = relation(other.claim.sample, one.control.sample)
            if how and how != AS_THEY_ARE:
                yield one.criterion.claim_id, other.criterion.claim_id, how


def relation(first: Sequence[float], second: Sequence[float]) -> str:
    """How two samples are the same numbers, "" if they are not.

    >>> relation([1.0, 2.0, 4.0], [-1.0, -2.0, -4.0])
    'scaled by -1'
    """
    if len(first) != len(second) or len(first) < 2:
        return ""
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or _counts(x) or _counts(y):
        return ""
    if np.ptp(x) <= CLOSE * np.abs(x).max() or np.ptp(y) <= CLOSE * np.abs(y).max():
        return ""
    if _coarse(x) or _coarse(y):  # few round numbers are often related by chance
        return AS_THEY_ARE if len(x) >= FEWEST_COARSE and np.allclose(x, y, rtol=CLOSE, atol=0) else ""
    orders = [(x, y, ""), (x[::-1], y, " and in reverse order")]
    if len(x) >= FEWEST_AFFINE:
        moved = [x, -x, 1 / x] if x.all() else [x, -x]
        orders += [(np.sort(u), np.sort(y), " and in another order") for u in moved]
    for u, v, order in orders:
        how = _one_parameter(u, v)
        if how:
            return (how + order).removeprefix(f"{AS_THEY_ARE} and ")
    return ""


def _coarse(values: np.ndarray) -> bool:
    """Whether numbers are counts, steps or the like: some are equal, or all of them are round."""
    return len(np.unique(values)) < len(values) or bool(np.allclose(values, np.round(values, 2), rtol=0, atol=1e-12))


def _one_parameter(x: np.ndarray, y: np.ndarray) -> str:
    scale = CLOSE * max(np.abs(x).max(), np.abs(y).max())
    if np.allclose(x, y, rtol=CLOSE, atol=0):
        return AS_THEY_ARE
    if len(x) == 2:  # two pairs of scores fit any shift or factor too easily
        return "scaled by -1" if np.allclose(x, -y, rtol=CLOSE, atol=0) else ""
    if np.ptp(y - x) <= scale:
        return f"shifted by {(y - x)[0]:.3g}"
    if np.ptp(y + x) <= scale:
        return f"{(y + x)[0]:.3g} minus them" if abs((y + x)[0]) > scale else "scaled by -1"
    if x.all() and y.all():
        if np.ptp(y / x) <= CLOSE * np.abs(y / x).max():
            return f"scaled by {(y / x)[0]:.3g}"
        if np.ptp(y * x) <= CLOSE * np.abs(y * x).max():
            return f"{(y * x)[0]:.3g} over them"
    if len(x) >= FEWEST_AFFINE and _on_a_line(x, y):
        return "on a line with them"
    return ""


def _on_a_line(x: np.ndarray, y: np.ndarray) -> bool:
    slope, start = np.polyfit(x - x.mean(), y, 1)
    return bool(np.abs(y - slope * (x - x.mean()) - start).max() <= 1e-8 * np.ptp(y))
