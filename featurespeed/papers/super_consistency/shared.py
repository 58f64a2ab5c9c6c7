"""What claims about curves over the widths share: which rows, at which learning rate, and what cannot be decided."""

from __future__ import annotations

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Estimate, Undecidable, Verdict, decide
from featurespeed.ledger.evidence import Tables, as_estimate, select
from featurespeed.sweeps.convergence import FEWEST_WIDTHS, Curves, Statistic, common_rate, curves, interval
from featurespeed.sweeps.transfer import of_network

#: Artefact and network: residual networks trained on minibatches, to which a claim of another room compares its own.
WITH_SKIPS = ("sc_fig23", "tau = 1")


def measured(tables: Tables, artefact: str, label: str, quantity: str, index: int = 1, at: str = "") -> Curves:
    """One quantity along training of one network, at the best of the measured learning rates common to all widths.

    Args:
        at: quantity that says where was measured; the same one unless given (the loss is recorded everywhere).

    Raises:
        Undecidable: nothing was measured, a network stopped, or there are too few widths.
    """
    rows = of_network(select(tables[artefact], series=label), label).copy()
    measure = at or quantity
    if not ((rows["quantity"] == quantity) & rows["index"].isin((0, index))).any():
        raise Undecidable(f"this run has no {quantity} {index} of {label}")
    rate = common_rate(rows, measure)
    if rate is None:
        raise Undecidable(f"{label}: at every measured learning rate some network diverged, died or ended at chance")
    found = curves(rows, quantity, rate, index)
    if len(found.sizes) < FEWEST_WIDTHS:
        raise Undecidable(f"{label}: {len(found.sizes)} widths, at least {FEWEST_WIDTHS} are needed")
    gap = found.missing()
    if gap:
        raise Undecidable(f"{label}, learning rate {rate:g}: no {quantity} at width {gap[0]} from step {gap[1]} on")
    return found


def estimate(statistic: Statistic, found: Curves, note: str = "") -> Estimate:
    """A statistic with the bootstrap over seeds."""
    widths = f"widths {found.sizes[0]} to {found.sizes[-1]}, learning rate {found.rate:g}"
    return as_estimate(interval(statistic, found.seeds), "; ".join(filter(None, (widths, note))))


def told_apart(claimed: Estimate, other: Estimate, region: Threshold, what: str) -> Estimate:
    """Which of two settings shows what a figure shows: ``claimed`` if exactly one of them does, for sure.

    Raises:
        Undecidable: both show it, neither does, or one of them may or may not: then the runs cannot tell.
    """
    if {decide(claimed, region), decide(other, region)} != {Verdict.CONFIRMED, Verdict.CONTRADICTED}:
        texts = (f"{e.value:.3g} [{e.ci_low:.3g}, {e.ci_high:.3g}]" for e in (claimed, other))
        raise Undecidable(f"the runs cannot tell the two apart: {what} {' and '.join(texts)}")
    return claimed
