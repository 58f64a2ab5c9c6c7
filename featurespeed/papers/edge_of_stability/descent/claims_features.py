"""What is learned beyond the edge: soft ranks of the last hidden features, sharpness, directions of updates, accuracy.

Ratios are those of means over seeds, paired by seed, with the bootstrap over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, register
from featurespeed.papers.edge_of_stability import shared
from featurespeed.papers.edge_of_stability.descent.networks import (
    AWARE,
    BELOW,
    BEYOND,
    FLAT,
    KAPPA_G,
    NONE,
    QUADRATIC,
    REL1,
    TABLE,
    complete,
    data_of,
    group,
    mean_estimate,
    of_both,
    of_seeds,
    ratio_estimate,
)
from featurespeed.papers.edge_of_stability.shared import CONSTANT, GEOMETRY_AWARE, RANKS, Runs
from featurespeed.sweeps.transfer import settings

ALONG_TRAINING, AGAINST_KAPPA, COSINES = "beos_fig2", "beos_fig3", "beos_fig4"
RANK, SHARPNESS = RANKS[0], "sharpness"
RISING = (0.5, 2.0, 8.0, 16.0)  # kappas over which the participation ratio is to increase, on MNIST
PEAK = 8.0  # kappa of the largest participation ratio on Fashion-MNIST, in our pre-study


def _name(found: Runs) -> str:
    return ", ".join(found.key[:2])


# --- soft rank and sharpness, beyond the edge over below --------------------------------------------------------------


def _ratio(
    quantity: str,
    kappa: float,
    initial: bool,
    scaling: str = REL1,
    artefact: str = AGAINST_KAPPA,
    schedule: str = CONSTANT,
) -> Callable[[Tables], Estimate]:
    """A quantity after training at ``kappa`` over that at 0.5, r = 2; ``initial``: before training."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, artefact, QUADRATIC, scaling, (BELOW, kappa), schedule)
        last = found.final(quantity)
        values = np.where(np.isnan(last), np.nan, found.initial(quantity)) if initial else last
        above, below = (found.at(values, k) for k in (kappa, BELOW))
        return ratio_estimate(f"{_name(found)}, {quantity}", above, below, "" if initial else _hollow(found, quantity))

    return compute


def _hollow(found: Runs, quantity: str) -> str:
    """How many final values have not converged."""
    rows = found.rows[(found.rows["quantity"] == quantity) & (found.rows["step"] == found.last)]
    hollow = int((~rows["converged"]).sum())
    return f"{hollow} of {len(rows)} final values have not converged" if hollow else ""


for _initial, _when in ((False, "after training"), (True, "at initialisation")):
    register(f"participation ratio at kappa 32 over 0.5, {_when}", _ratio(RANK, BEYOND, _initial))
    register(f"sharpness at kappa 32 over 0.5, {_when}", _ratio(SHARPNESS, BEYOND, _initial))
    register(
        f"participation ratio at kappa_g 1.5 over 0.5, {_when}",
        _ratio(RANK, KAPPA_G, _initial, NONE, AWARE, GEOMETRY_AWARE),
    )


# --- the participation ratio over kappa, by data set ------------------------------------------------------------------


def _over_initial(kappa: float) -> Callable[[Tables], Estimate]:
    """The sharpness after training over that at initialisation, r = 2 with rel1."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, ALONG_TRAINING, QUADRATIC, REL1, (kappa,))
        after, before = (found.at(values, kappa) for values in (found.final(SHARPNESS), found.initial(SHARPNESS)))
        return ratio_estimate(f"{_name(found)}, {SHARPNESS}", after, before)

    return compute


for _kappa in (BELOW, BEYOND):
    register(f"sharpness after training over that at initialisation, kappa {_kappa:g}", _over_initial(_kappa))


def _rising(backwards: bool) -> Callable[[Tables], Estimate]:
    """Smallest ratio of neighbours among the participation ratios at kappa = 0.5, 2, 8, 16; MNIST only."""

    def compute(tables: Tables) -> Estimate:
        data = data_of(tables, AGAINST_KAPPA, QUADRATIC)
        if data != "mnist":
            raise Undecidable(f"{AGAINST_KAPPA}: {QUADRATIC} was trained on {data}, the claim is on mnist only")
        found = group(tables, AGAINST_KAPPA, QUADRATIC, REL1, RISING)
        last = found.final(RANK)
        values, left_out = complete(_name(found), *(found.at(last, kappa) for kappa in RISING))
        by_kappa = np.stack(values[::-1] if backwards else values, 1)
        means = ", ".join(f"{k:g}: {own.mean():.3g}" for k, own in zip(RISING, values, strict=True))
        return of_seeds(
            lambda chosen: shared.increasing(by_kappa, chosen), len(by_kappa), f"means by kappa {means}", left_out
        )

    return compute


def _past_peak(above: float) -> Callable[[Tables], Estimate]:
    """Participation ratio at ``above`` over that at kappa = 8, of the network with r = 2 on Fashion-MNIST."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, AGAINST_KAPPA, _on_fashion(tables), REL1, (above, PEAK))
        last = found.final(RANK)
        return ratio_estimate(_name(found), found.at(last, above), found.at(last, PEAK))

    return compute


def _on_fashion(tables: Tables) -> str:
    """Label of the network with a quadratic pattern on Fashion-MNIST."""
    networks = settings(tables[AGAINST_KAPPA])["networks"]
    for label, network in networks.items():
        if network["pattern"] == 2 and data_of(tables, AGAINST_KAPPA, label) == "fashion_mnist":
            return label
    raise Undecidable(f"{AGAINST_KAPPA}: no network with r = 2 on fashion_mnist")


for _backwards, _suffix in ((False, ""), (True, ", backwards")):
    register(f"smallest step of the participation ratio over kappa{_suffix}", _rising(_backwards))
for _kappa in (BELOW, BEYOND):
    register(f"participation ratio at kappa {_kappa:g} over 8, Fashion-MNIST", _past_peak(_kappa))


# --- soft ranks of r = 2 over those of r = 0 --------------------------------------------------------------------------


def _pattern_rank(quantity: str, swapped: bool) -> Callable[[Tables], Estimate]:
    """Geometric mean, over the kappas at which all networks of both finish, of the ratio of means, r = 2 over r = 0."""

    def compute(tables: Tables) -> Estimate:
        groups = [group(tables, AGAINST_KAPPA, network, REL1) for network in (QUADRATIC, FLAT)]
        seeds_and_kappas = of_both(*groups)
        ours, flat = (
            found.final(quantity)[np.ix_(seeds, kappas)]
            for found, seeds, kappas in zip(groups, seeds_and_kappas[:2], seeds_and_kappas[2:], strict=True)
        )
        finished = ~np.isnan(ours + flat).any(0)
        if not finished.any():
            raise Undecidable(
                f"{AGAINST_KAPPA}: no kappa at which all networks of r = 2 and r = 0 are trained to the end"
            )
        ours, flat = ours[:, finished], flat[:, finished]
        above, below = (flat, ours) if swapped else (ours, flat)
        kappas = groups[0].kappas[seeds_and_kappas[2][finished]]
        return of_seeds(
            lambda chosen: _geometric(above[chosen].mean(0) / below[chosen].mean(0)),
            len(ours), _each(kappas, above.mean(0) / below.mean(0)),
        )  # fmt: skip

    return compute


def _geometric(values: np.ndarray) -> float:
    return float(np.exp(np.log(values).mean()))


def _each(kappas: Sequence[float], values: np.ndarray) -> str:
    return "by kappa " + ", ".join(f"{kappa:g}: {value:.3g}" for kappa, value in zip(kappas, values, strict=True))


for _quantity in RANKS:
    _rank = _quantity.replace("_", " ")
    register(f"{_rank} of r = 2 over that of r = 0", _pattern_rank(_quantity, swapped=False))
    register(f"{_rank} of r = 0 over that of r = 2", _pattern_rank(_quantity, swapped=True))


# --- directions of the updates ----------------------------------------------------------------------------------------


def _cosine(kappa: float) -> Callable[[Tables], Estimate]:
    """Cosine of the new update with the sum of all before it, mean over the steps, r = 2 with rel1."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, COSINES, QUADRATIC, REL1, (kappa,))
        means = np.where(found.finite, found.over_training("update_cosine"), np.nan)
        return mean_estimate(f"{_name(found)}, kappa {kappa:g}", found.at(means, kappa))

    return compute


for _kappa in (BELOW, BEYOND):
    register(f"cosine of new and cumulative updates, kappa {_kappa:g}", _cosine(_kappa))


# --- test accuracy ----------------------------------------------------------------------------------------------------


def accuracies(found: Runs) -> np.ndarray:
    """Test accuracy after training, ``[S, K]``; a network that failed can only guess: 1 / classes."""
    chance = 1 / found.rows["output_dim"].max()
    values = np.where(found.finite, found.final("test_accuracy"), chance)
    if np.isnan(values).any():
        raise Undecidable(f"{', '.join(found.key[:2])}: networks without a test accuracy")
    return values


def _accuracy(scaling: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = group(tables, TABLE, QUADRATIC, scaling, (BEYOND,))
        failed = int((~found.at(found.finite, BEYOND)).sum())
        note = f"{failed} of {len(found.seeds)} networks failed" if failed else ""
        return mean_estimate(f"{QUADRATIC}, {scaling}", found.at(accuracies(found), BEYOND), note)

    return compute


for _scaling in (NONE, REL1):
    register(f"test accuracy at kappa 32, r = 2, {_scaling}", _accuracy(_scaling))


def _gain_of_pattern(sign: int) -> Callable[[Tables], Estimate]:
    """Test accuracy of r = 2 minus that of r = 0, both with rel1, each at its best kappa."""

    def compute(tables: Tables) -> Estimate:
        quadratic, flat = (group(tables, TABLE, network, REL1) for network in (QUADRATIC, FLAT))
        first, second, *_ = of_both(quadratic, flat)
        ours, other = accuracies(quadratic)[first], accuracies(flat)[second]
        best = ", ".join(
            f"{found.key.network}: {values.mean(0).max():.3f} at kappa {found.kappas[values.mean(0).argmax()]:g}"
            for found, values in ((quadratic, ours), (flat, other))
        )
        return of_seeds(lambda chosen: sign * (_best(ours[chosen]) - _best(other[chosen])), len(ours), best)

    return compute


def _gain_beyond(sign: int) -> Callable[[Tables], Estimate]:
    """Test accuracy at kappa = 32 minus the best at smaller ones, r = 2 with rel1."""

    def compute(tables: Tables) -> Estimate:
        found = group(tables, TABLE, QUADRATIC, REL1, (BEYOND,))
        at, values = found.place(BEYOND), accuracies(found)
        if not at:
            raise Undecidable(f"{TABLE}: no kappa below {BEYOND:g}")
        means = ", ".join(f"{k:g}: {m:.3f}" for k, m in zip(found.kappas, values.mean(0), strict=True))
        return of_seeds(
            lambda chosen: sign * float(values[chosen, at].mean() - _best(values[chosen, :at])),
            len(values), f"by kappa {means}",
        )  # fmt: skip

    return compute


def _best(values: np.ndarray) -> float:
    """Largest mean over seeds, ``[S, K]``."""
    return float(values.mean(0).max())


for _sign, _suffix in ((1, ""), (-1, ", swapped")):
    register(f"accuracy gained by the pattern{_suffix}", _gain_of_pattern(_sign))
    register(f"accuracy gained beyond the edge{_suffix}", _gain_beyond(_sign))
