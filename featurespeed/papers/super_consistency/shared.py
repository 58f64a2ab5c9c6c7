"""What claims about curves over the sizes share: which rows, at which learning rate, and what cannot be decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Condition, Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, mean_estimate, per_table, select
from featurespeed.papers.super_consistency.spec import MUP, NTP
from featurespeed.statistics import Interval, jackknife_interval
from featurespeed.sweeps import convergence, dependence, transfer
from featurespeed.sweeps.convergence import FEWEST_WIDTHS, Curves
from featurespeed.sweeps.losses import Losses

HESSIAN, LOSS = "sharpness", "training_loss"
OVER_WIDTH = "sc_fig01"  # whose runs of muP and NTP other figures are compared with
OVER_DEPTH = ("sc_fig04", "1 layer a block")  # the same over the depth: Depth-muP
WITHOUT_SKIPS = ("sc_fig08", "no skips")  # networks of which deep ones do not train at rates that suit shallow ones
#: Criteria of several rooms have this control: a network that trained, and whose curvature depends on the width.
NTP_CONTROL = "slope of the late sharpness in the width, NTP at a matched rate, Fig. 1"
#: The same for criteria that bound an absolute slope.
NTP_ABSOLUTE_CONTROL = "absolute slope of the late sharpness in the width, NTP at a matched rate"

# The rows of a network are found once a table, and what is made of them once: most criteria of a room ask for the same.
of_network = per_table(transfer.of_network)
late_losses = per_table(transfer.late_losses)
measured_rates = per_table(transfer.measured_rates)
failed_seeds = per_table(transfer.failed_seeds)
common_rate = per_table(convergence.common_rate)
curves = per_table(convergence.curves)


@contextmanager
def decidable(what: str) -> Iterator[None]:
    """What the numbers of this run cannot give (ValueError) is undecidable, no error; ``what`` begins the reason."""
    try:
        yield
    except ValueError as reason:
        raise Undecidable(f"{what}: {reason}") from None


# --- curves at one learning rate --------------------------------------------------------------------------------------


def network(tables: Tables, artefact: str, label: str, size: str = "width") -> pd.DataFrame:
    """Rows of one network."""
    select(tables[artefact], series=label)
    return of_network(tables[artefact], label, size)


def name_of(rows: pd.DataFrame) -> str:
    """The network of these rows."""
    return str(rows["series"].iloc[0])


def curves_at(rows: pd.DataFrame, quantity: str, rate: float, index: int = 1, size: str = "width") -> Curves:
    """One quantity along training at one learning rate.

    Raises:
        Undecidable: it was not measured there, a network stopped, or there are too few sizes.
    """
    label = name_of(rows)
    if not np.isclose(measured_rates(rows, quantity), rate).any():
        known = ", ".join(f"{other:g}" for other in measured_rates(rows, quantity))
        raise Undecidable(f"{label}: {quantity} was not measured at {rate:g}; networks.{label}.measured = {known}")
    found = curves(rows, quantity, rate, index, size)
    if len(found.sizes) < FEWEST_WIDTHS:
        raise Undecidable(f"{label}: {len(found.sizes)} {size}s, at least {FEWEST_WIDTHS} are needed")
    gap = found.missing()
    if gap:
        raise Undecidable(f"{label}, learning rate {rate:g}: no {quantity} at {size} {gap[0]} from step {gap[1]} on")
    return found


def measured(
    tables: Tables, artefact: str, label: str, quantity: str, index: int = 1, at: str = "", size: str = "width"
) -> Curves:
    """One quantity along training of one network, at the best of the measured learning rates common to all sizes.

    Args:
        at: quantity that says where was measured; the same one unless given (the loss is recorded everywhere).

    Raises:
        Undecidable: nothing was measured, a network stopped, or there are too few sizes.
    """
    return best_measured(network(tables, artefact, label, size), quantity, index, at, size)


def best_measured(rows: pd.DataFrame, quantity: str, index: int = 1, at: str = "", size: str = "width") -> Curves:
    """:func:`measured`, of the rows of one network."""
    label = name_of(rows)
    if not ((rows["quantity"] == quantity) & rows["index"].isin((0, index))).any():
        raise Undecidable(f"this run has no {quantity} {index} of {label}")
    rate = common_rate(rows, at or quantity, size)
    if rate is None:
        raise Undecidable(f"{label}: at every measured learning rate some network diverged, died or ended at chance")
    return curves_at(rows, quantity, rate, index, size)


def without_failed_seeds(rows: pd.DataFrame, quantity: str, size: str = "width") -> tuple[pd.DataFrame, str]:
    """Rows of the other seeds than :func:`featurespeed.sweeps.transfer.failed_seeds`, and a note on these."""
    failed = failed_seeds(rows, quantity, size)
    if not len(failed):
        return rows, ""
    seeds = rows["seed"].nunique()
    note = f"; without {len(failed)} of {seeds} seeds, of which a network diverged, died or ended at chance"
    return rows[~rows["seed"].isin(failed)], note


def trained(
    tables: Tables, artefact: str, label: str, quantity: str, index: int = 1, at: str = "", size: str = "width"
) -> tuple[Curves, str]:
    """:func:`measured`, of the seeds of which every network trained, and a note on the others."""
    rows, note = without_failed_seeds(network(tables, artefact, label, size), at or quantity, size)
    return best_measured(rows, quantity, index, at, size), note


def common_best(losses: Losses, label: str) -> int:
    """Index of the learning rate that is best for all sizes together."""
    best = losses.common_best()
    if best is None:
        grid = f"{losses.rates[0]:g} to {losses.rates[-1]:g}"
        raise Undecidable(f"{label}: no learning rate of {grid} at which every network trains")
    return best


def matched(rows: pd.DataFrame, quantity: str, level: float, until: int | None = None, size: str = "width") -> Curves:
    """A quantity at the one learning rate at which the smallest network comes nearest to a level, below the edge.

    Looked at are the measured rates at which every network trains. The level, and the smallest network from the first
    step on, must be below the edge, and one within a factor 1.5 of the other
    (:func:`featurespeed.sweeps.dependence.matched`).

    Args:
        level: ``value * eta_0 / 2`` of the smallest network to compare with, in the second half.
        until: last step that is looked at; all of training unless given.

    Raises:
        Undecidable: there is no such rate; the reason names the levels at all of them.
    """
    losses = late_losses(rows, size)
    trained = losses.rates[losses.survive()]
    own = [rate for rate in measured_rates(rows, quantity) if np.isclose(trained, rate).any()]
    candidates = (curves_at(rows, quantity, rate, size=size) for rate in own)
    with decidable(name_of(rows)):
        return dependence.matched((_first_steps(own, until) for own in candidates), level)


def mup_at_best(tables: Tables, artefact: str) -> Curves:
    """muP's sharpness at the learning rate that is best for all its widths."""
    rows = network(tables, artefact, MUP)
    losses = late_losses(rows)
    return curves_at(rows, HESSIAN, float(losses.rates[common_best(losses, MUP)]))


def below_the_edge(rows: pd.DataFrame, rate: float, until: int | None = None, size: str = "width") -> Curves:
    """The sharpness of one network at a learning rate, if its smallest size stays below the edge in the second half;
    else at the largest smaller one, of those measured, at which it does. Beyond the edge nothing can be matched.

    Args:
        until: last step that is looked at; all of training unless given.
    """
    losses = late_losses(rows, size)
    trained = losses.rates[losses.survive()]
    smaller = [own for own in measured_rates(rows, HESSIAN) if own < rate and np.isclose(trained, own).any()]
    found = [_first_steps(curves_at(rows, HESSIAN, own, size=size), until) for own in (rate, *reversed(smaller))]
    return next((own for own in found if dependence.edge_level(own) < 1), found[0])


def _first_steps(found: Curves, until: int | None) -> Curves:
    return found if until is None else found.until(until)


def ntp_matched(tables: Tables, artefact: str) -> Curves:
    """NTP's sharpness at one learning rate, :func:`matched` at the smallest width to muP's at its best one, or
    :func:`below_the_edge`.
    """
    own = below_the_edge(network(tables, artefact, MUP), mup_at_best(tables, artefact).rate)
    return matched(network(tables, artefact, NTP), HESSIAN, dependence.edge_level(own))


# --- premises ---------------------------------------------------------------------------------------------------------


def begins_below_the_edge(*found: Curves) -> Condition:
    """Whether every size of all these networks is below 2/eta_0 at step 0 (means over seeds)."""
    levels = [dependence.start_levels(own) for own in found]
    each = "; ".join(
        f"at {own.rate:g} by size {numbers(own.sizes, level)}" for own, level in zip(found, levels, strict=True)
    )
    return Condition(all((level < 1).all() for level in levels), f"share of 2/eta_0 at step 0, {each}")


def sharpens(found: Curves, sharper: slice = slice(None)) -> Condition:
    """Whether every size begins below 2/eta_0, and the sharpness at least doubles until the second half (means over
    seeds).

    Args:
        sharper: the sizes whose sharpness at least doubles.
    """
    first, late = dependence.start_levels(found), found.late().mean(0) * found.rate / 2
    holds = bool((first < 1).all() and (late >= 2 * first)[sharper].all())
    ends = f"from {first.min():.2g}-{first.max():.2g} to {late.min():.2g}-{late.max():.2g} of 2/eta_0"
    return Condition(holds, f"at {found.rate:g} {ends}")


# --- numbers of seeds -------------------------------------------------------------------------------------------------


def exponents(sizes: np.ndarray, values: np.ndarray, what: str) -> np.ndarray:
    """:func:`featurespeed.sweeps.dependence.exponents` of ``[seeds, S]``."""
    with decidable(what):
        return dependence.exponents(sizes, values)


def late_exponents(found: Curves, what: str) -> np.ndarray:
    """Exponents in the size of the mean over the second half, ``[seeds]``."""
    with decidable(what):
        return dependence.late_exponents(found)


def slope_estimate(found: Curves, what: str, note: str = "") -> Estimate:
    """Mean over seeds of :func:`late_exponents`; ``note`` is put behind the levels."""
    return mean_estimate(late_exponents(found, what), levels(found, what) + note)


def levels(found: Curves, what: str) -> str:
    """``value * eta_0 / 2`` in the second half by size, means over seeds, for a note."""
    return (
        f"{what} at {found.rate:g}, times eta_0/2 by size {numbers(found.sizes, found.late().mean(0) * found.rate / 2)}"
    )


def numbers(names: Iterable[object], values: Iterable[float]) -> str:
    """Named numbers as a text for a note."""
    return ", ".join(f"{name}: {value:.3g}" for name, value in zip(names, values, strict=True))


def setting(found: Curves) -> str:
    """Widths and learning rate, for a note."""
    return f"widths {found.sizes[0]} to {found.sizes[-1]}, learning rate {found.rate:g}"


def jackknifed(statistic: Callable[[np.ndarray], float], seeds: int, what: str, note: str = "") -> Estimate:
    """A statistic of all seeds with the interval of its jackknife over them."""
    with decidable(what):
        return as_estimate(jackknife_interval(statistic, seeds), note)


# --- the smallest of several ------------------------------------------------------------------------------------------


def simultaneous(quantities: int) -> float:
    """Level at which each of several intervals is formed, so that all of them hold together at 95% (Bonferroni)."""
    return 1 - 0.05 / quantities


def smallest_of(each: Sequence[Interval], note: str = "") -> Estimate:
    """The smallest of several estimates whose intervals hold together: between the smallest of either bound."""
    value, low, high = (min(getattr(one, end) for one in each) for end in ("value", "low", "high"))
    return Estimate(value, low, high, each[0].n, note, tuple(number for one in each for number in one.sample))
