"""What is learned beyond the edge: soft ranks of the last hidden features, sharpness, directions of updates, accuracy.

Ratios are paired by seed: geometric means over the seeds whose networks trained, with the t interval of the log.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register
from featurespeed.papers.edge_of_stability.counts import share_estimate, trains
from featurespeed.papers.edge_of_stability.descent.networks import (
    AWARE,
    BELOW,
    BEYOND,
    FASHION,
    FLAT,
    KAPPA_G,
    MODERATE,
    NARROW,
    NONE,
    QUADRATIC,
    READINGS,
    REL1,
    TABLE,
    complete,
    data_of,
    group,
    joined,
    mean_estimate,
    name_of,
    of_both,
    ratio_estimate,
    trained,
    trained_mean,
)
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, RANKS, Runs
from featurespeed.statistics import Interval, exponential, mean_interval

ALONG_TRAINING, AGAINST_KAPPA, COSINES = "beos_fig2", "beos_fig3", "beos_fig4"
RANK, SHARPNESS = RANKS[0], "sharpness"
TITLES = {RANK: "participation ratio", SHARPNESS: "sharpness"}
RISING = (0.5, 2.0, 8.0, 16.0)  # kappas over which the participation ratio is to increase, on MNIST
ENOUGH = 0.5  # share of the seeds that must train without a scaling for a comparison with it
AT_THE_EDGE = 1.0  # kappa_g
LEARNED = 0.85  # test accuracy
#: For rel1 the claim is about Figure 4, for norm1 about the table of all runs.
UPDATES = {scaling: COSINES if scaling == REL1 else TABLE for scaling in READINGS}


# --- soft rank and sharpness, beyond the edge over below --------------------------------------------------------------


def _over_below(
    quantity: str, scaling: str, kappa: float = BEYOND, artefact: str = AGAINST_KAPPA, schedule: str = CONSTANT
) -> Callable[[Tables], Estimate]:
    """A quantity after training at ``kappa`` over that at 0.5, r = 2."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, artefact, QUADRATIC, scaling, (BELOW, kappa), schedule)
        above, below = (trained(found, quantity, k) for k in (kappa, BELOW))
        return ratio_estimate(f"{name_of(found)}, {quantity}", above, below, _hollow(found, quantity))

    return compute


def _hollow(found: Runs, quantity: str) -> str:
    """How many final values have not converged."""
    rows = found.rows[(found.rows["quantity"] == quantity) & (found.rows["step"] == found.last)]
    hollow = int((~rows["converged"]).sum())
    return f"{hollow} of {len(rows)} final values have not converged" if hollow else ""


def _unscaled_over_below(quantity: str) -> Callable[[Tables], Estimate]:
    """The same without a scaling, at kappa = 32 or else at the largest kappa below at which half of the seeds train."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, AGAINST_KAPPA, QUADRATIC, NONE, (BELOW,))
        kappas = [k for k in found.kappas if 1 < k <= BEYOND and found.at(trains(found), k).mean() >= ENOUGH]
        if not kappas:
            raise Undecidable(f"{name_of(found)}: fewer than half of the networks train at every kappa above 1")
        above, below = (trained(found, quantity, k) for k in (kappas[-1], BELOW))
        return ratio_estimate(f"{name_of(found)}, {quantity}", above, below, f"kappa {kappas[-1]:g}")

    return compute


def _over_none(quantity: str, scaling: str, kappa: float) -> Callable[[Tables], Estimate]:
    """A quantity after training with a scaling over that without one, at equal kappa, r = 2."""

    def compute(tables: Tables) -> Estimate:
        # Figure 2 has the curves of the sharpness that end there, with rel1 and without a scaling.
        artefact = ALONG_TRAINING if (quantity, scaling) == (SHARPNESS, REL1) else AGAINST_KAPPA
        scaled, plain = (group(tables, artefact, QUADRATIC, name, (kappa,)) for name in (scaling, NONE))
        places, others = of_both(scaled, plain)
        own = plain.at(trains(plain), kappa)
        if own.mean() < ENOUGH:
            raise Undecidable(
                f"without a scaling {own.sum()} of {len(own)} networks train at kappa = {kappa:g}:"
                " too few to compare with at equal kappa"
            )
        above, below = trained(scaled, quantity, kappa)[places], trained(plain, quantity, kappa)[others]
        return ratio_estimate(f"{name_of(scaled)} and none, {quantity}", above, below)

    return compute


for _quantity, _title in TITLES.items():
    for _scaling in READINGS:
        register(f"{_title} at kappa 32 over 0.5, {_scaling}", _over_below(_quantity, _scaling))
        for _kappa in (BELOW, BEYOND):
            register(
                f"{_title} with {_scaling} over that without a scaling, kappa {_kappa:g}",
                _over_none(_quantity, _scaling, _kappa),
            )
    register(f"{_title} at the largest kappa that trains over 0.5, none", _unscaled_over_below(_quantity))
for _kappa in (AT_THE_EDGE, KAPPA_G):
    register(
        f"participation ratio at kappa_g {_kappa:g} over 0.5", _over_below(RANK, NONE, _kappa, AWARE, GEOMETRY_AWARE)
    )


# --- the participation ratio over kappa -------------------------------------------------------------------------------


def smallest_ratio(values: np.ndarray) -> Interval:
    """Smallest of the mean ratios of neighbours, ``[seeds, kappas]``, each a geometric mean over seeds.

    Every mean log ratio has a t interval at the level ``1 - 0.05 / steps`` (Bonferroni), so that all of them hold
    together, and the smallest mean lies between the smallest of the lower and of the upper bounds.
    """
    logs = np.diff(np.log(values), axis=1)
    each = [mean_interval(step, 1 - 0.05 / logs.shape[1]) for step in logs.T]
    ends = [min(getattr(step, end) for step in each) for end in ("value", "low", "high")]
    found = Interval(*ends, len(values), "", tuple(logs.ravel().tolist()))
    return exponential(found, f"smallest of {len(each)} mean ratios, simultaneous t intervals of the logs")


def _rising(scaling: str) -> Callable[[Tables], Estimate]:
    """Smallest ratio of neighbours among the participation ratios at kappa = 0.5, 2, 8, 16; MNIST only."""

    def compute(tables: Tables) -> Estimate:
        data = data_of(tables, AGAINST_KAPPA, QUADRATIC)
        if data != "mnist":
            raise Undecidable(f"{AGAINST_KAPPA}: {QUADRATIC} was trained on {data}, the claim is on mnist only")
        found = group(tables, AGAINST_KAPPA, QUADRATIC, scaling, RISING)
        values, left_out = complete(name_of(found), *(trained(found, RANK, kappa) for kappa in RISING))
        means = ", ".join(f"{k:g}: {own.mean():.3g}" for k, own in zip(RISING, values, strict=True))
        return as_estimate(smallest_ratio(np.stack(values, 1)), joined(f"means by kappa {means}", left_out))

    return compute


def _past_peak(above: float) -> Callable[[Tables], Estimate]:
    """Participation ratio at ``above`` over that at kappa = 8, of the network with r = 2 on Fashion-MNIST."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, AGAINST_KAPPA, FASHION, REL1, (above, MODERATE))
        return ratio_estimate(name_of(found), trained(found, RANK, above), trained(found, RANK, MODERATE))

    return compute


for _scaling in (REL1, NONE):
    register(f"smallest step of the participation ratio over kappa, {_scaling}", _rising(_scaling))
for _kappa in (BELOW, BEYOND):
    register(f"participation ratio at kappa {_kappa:g} over 8, Fashion-MNIST", _past_peak(_kappa))


# --- soft ranks of one pattern over those of another ------------------------------------------------------------------


def _pattern_rank(quantity: str, one: str, other: str, artefact: str) -> Callable[[Tables], Estimate]:
    """Soft rank of one network over that of another at kappa = 8, rel1."""

    def compute(tables: Tables) -> Estimate:
        first, second = (group(tables, artefact, network, REL1, (MODERATE,)) for network in (one, other))
        places, others = of_both(first, second)
        above, below = trained(first, quantity, MODERATE)[places], trained(second, quantity, MODERATE)[others]
        return ratio_estimate(f"{one} and {other}, rel1", above, below)

    return compute


for _quantity in RANKS:
    _title = _quantity.replace("_", " ")
    register(f"{_title} of r = 2 over that of r = 0", _pattern_rank(_quantity, QUADRATIC, FLAT, AGAINST_KAPPA))
    register(f"{_title} of the narrow network over that of r = 0", _pattern_rank(_quantity, NARROW, FLAT, TABLE))


# --- directions of the updates ----------------------------------------------------------------------------------------


def _cosine(scaling: str, kappa: float) -> Callable[[Tables], Estimate]:
    """Cosine of the new update with the sum of all before it, mean over the steps of networks that train, r = 2."""

    def compute(tables: Tables) -> Estimate:
        return trained_mean(group(tables, UPDATES[scaling], QUADRATIC, scaling, (kappa,)), "update_cosine", kappa)

    return compute


for _scaling in READINGS:
    for _kappa in (BELOW, BEYOND):
        register(f"cosine of new and cumulative updates, {_scaling}, kappa {_kappa:g}", _cosine(_scaling, _kappa))


# --- test accuracy ----------------------------------------------------------------------------------------------------


def accuracies(found: Runs, kappa: float) -> np.ndarray:
    """Test accuracy after training at one kappa, ``[S]``; one that diverged or died can only guess: 1 / classes."""
    chance = 1 / found.rows["output_dim"].max()
    values = found.at(np.where(found.finite, found.final("test_accuracy"), chance), kappa)
    if np.isnan(values).any():
        raise Undecidable(f"{name_of(found)}: networks without a test accuracy")
    return values


def _learned(scaling: str) -> Callable[[Tables], Estimate]:
    """Share of the networks with r = 2 at kappa = 32 that have learned the task."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, TABLE, QUADRATIC, scaling, (BEYOND,))
        values, own = accuracies(found, BEYOND), found.at(trains(found), BEYOND)
        return share_estimate(own & (values >= LEARNED), f"mean test accuracy {values.mean():.3f}")

    return compute


def _gain_of_pattern(scaling: str) -> Callable[[Tables], Estimate]:
    """Test accuracy of r = 2 minus that of r = 0 at kappa = 8."""

    def compute(tables: Tables) -> Estimate:
        found = [group(tables, TABLE, network, scaling, (MODERATE,)) for network in (QUADRATIC, FLAT)]
        ours, flat = (accuracies(own, MODERATE)[places] for own, places in zip(found, of_both(*found), strict=True))
        return mean_estimate(f"accuracy, {scaling}", ours - flat, f"means {ours.mean():.3f} and {flat.mean():.3f}")

    return compute


def _gain_beyond(network: str) -> Callable[[Tables], Estimate]:
    """Test accuracy at kappa = 32 minus that at 8, rel1."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, TABLE, network, REL1, (MODERATE, BEYOND))
        beyond, moderate = (accuracies(found, kappa) for kappa in (BEYOND, MODERATE))
        note = f"means {beyond.mean():.3f} and {moderate.mean():.3f}"
        return mean_estimate(name_of(found), beyond - moderate, note)

    return compute


for _scaling in (NONE, *READINGS):
    register(f"share of networks that have learned the task, r = 2, {_scaling}", _learned(_scaling))
for _scaling in (REL1, NONE):
    register(f"accuracy gained by the pattern at kappa 8, {_scaling}", _gain_of_pattern(_scaling))
for _network in (QUADRATIC, FLAT):
    register(f"accuracy gained at kappa 32 over 8, {_network}", _gain_beyond(_network))
