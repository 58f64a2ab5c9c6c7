"""Figures 12, 13 and 14: when does the sharpness fall, and does the best learning rate follow the batch size?

The unit is the seed: one number a seed, and Student's t over seeds. Late training is looked at at one learning rate,
with and without augmentation: the best for all widths of those measured without. Seeds of which a network failed, with
or without, are left out of both. Best learning rates are compared at equal numbers of epochs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featurespeed.ledger.engine import Condition, Estimate, Undecidable, premise
from featurespeed.ledger.evidence import Tables, mean_estimate, per_table, register
from featurespeed.papers.super_consistency.batch_size import analysis
from featurespeed.papers.super_consistency.batch_size.spec import AUGMENTED, BATCHES, PLAIN
from featurespeed.papers.super_consistency.best_rates import (
    bounded_rates,
    bounded_shift,
    largest_bounded_shift,
    largest_shift,
    ranges_estimate,
)
from featurespeed.papers.super_consistency.shared import (
    HESSIAN,
    NTP,
    OVER_WIDTH,
    curves_at,
    decidable,
    network,
    numbers,
)
from featurespeed.sweeps import dependence, late, transfer
from featurespeed.sweeps.brackets import best, total
from featurespeed.sweeps.late import Fall

LATE = "sc_fig12"
BATCH_FIGURES = {"Fig. 13": "sc_fig13", "Fig. 14": "sc_fig14"}
SPAN = 16  # ratio of widths over which shifts are stated; slopes are extrapolated to it
WIDEST = 2  # widths at which the sharpness must fall for a delay of its fall
FALLING = 0.8  # share of the seeds of a width that must fall there

late_runs = per_table(analysis.late_runs)


# --- Figure 12 --------------------------------------------------------------------------------------------------------


def _runs(tables: Tables, label: str) -> analysis.LateRuns:
    network(tables, LATE, label)
    with decidable(LATE):
        runs = late_runs(tables[LATE])
    if label not in runs.rows:
        raise Undecidable(f"{label}: the sharpness was not measured")
    if not analysis.trains(runs.rows[label], runs.rate):
        raise Undecidable(f"{label}: at {runs.rate:g} some network diverged, died or ended at chance")
    return runs


def fall_of(tables: Tables, label: str) -> tuple[Fall, str]:
    """Peaks and ends of the sharpness of one network, and a note on them."""
    runs = _runs(tables, label)
    with decidable(label):
        found = late.fall(curves_at(runs.rows[label], HESSIAN, runs.rate))
    never = int(np.isinf(found.onsets).sum())
    note = f"{label} at {runs.rate:g}, median onset by width {numbers(found.sizes, found.medians())}"
    if never:
        note += f"; {never} of {found.onsets.size} networks never fall and count with step {found.last}"
    if runs.left_out:
        note += f"; without {runs.left_out} of {runs.seeds} seeds, of which a network diverged, died or ended at chance"
    return found, note


def _onset(tables: Tables) -> Estimate:
    found, note = fall_of(tables, PLAIN)
    with decidable(note):
        return mean_estimate(found.exponents(), note)


def _arrival(tables: Tables) -> Estimate:
    """Slope of log(steps until the sharpness rises to 0.9 * 2/eta_0) in log N, of the same networks."""
    runs = _runs(tables, PLAIN)
    found = transfer.arrival(runs.rows[PLAIN], runs.rate)
    note = f"{PLAIN} at {runs.rate:g}, median steps to the edge by width {numbers(found.sizes, found.medians())}"
    with decidable(note):
        return mean_estimate(dependence.arrival_exponents(found), note)


def _fall_at_the_largest(label: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found, note = fall_of(tables, label)
        return mean_estimate(found.logs[:, -1], f"N = {found.sizes[-1]}; {note}")

    return compute


def _delay(tables: Tables) -> Estimate:
    (augmented, one), (plain, other) = (fall_of(tables, label) for label in (AUGMENTED, PLAIN))
    return mean_estimate(late.delays(augmented, plain), f"{one}; {other}")


def _delay_between_seeds(tables: Tables) -> Estimate:
    """log(onset of a seed of the second half / onset of one of the first), mean over widths: nothing but noise."""
    found, note = fall_of(tables, PLAIN)
    return mean_estimate(found.between_halves(), note)


def _shallower(tables: Tables) -> Estimate:
    """log(last tenth / peak) with augmentation minus that without, mean over widths."""
    augmented, plain = (fall_of(tables, label)[0] for label in (AUGMENTED, PLAIN))
    note = f"{AUGMENTED} {numbers(augmented.sizes, augmented.logs.mean(0))}"
    return mean_estimate(
        late.shallower(augmented, plain), f"by width, {note}; {PLAIN} {numbers(plain.sizes, plain.logs.mean(0))}"
    )


def _shallower_by_width(tables: Tables) -> Estimate:
    """With augmentation, log(last tenth / peak) at the largest width minus that at the smallest."""
    found, note = fall_of(tables, AUGMENTED)
    return mean_estimate(found.logs[:, -1] - found.logs[:, 0], note)


@premise("falling at the two largest widths, no augmentation of Fig. 12")
def falling(tables: Tables) -> Condition:
    """At the two largest widths the sharpness falls in four fifths of the seeds at least."""
    found, _ = fall_of(tables, PLAIN)
    shares = found.falling[-WIDEST:]
    return Condition(
        bool((shares >= FALLING).all()), f"share of seeds that fall {numbers(found.sizes[-WIDEST:], shares)}"
    )


register("slope of the onset of the fall in the width, no augmentation", _onset)
register("slope of the steps to the edge in the width, no augmentation of Fig. 12", _arrival)
for _label in (PLAIN, AUGMENTED):
    register(f"log of the last tenth over the peak at the largest width, {_label}", _fall_at_the_largest(_label))
register("delay of the fall by augmentation", _delay)
register("delay of the fall in one half of the seeds against the other, no augmentation", _delay_between_seeds)
register("what augmentation adds to the log of the last tenth over the peak", _shallower)
register("what the width adds to the log of the last tenth over the peak, augmentation", _shallower_by_width)


# --- Figures 13 and 14 ------------------------------------------------------------------------------------------------


def _growth(artefact: str) -> Callable[[Tables], Estimate]:
    """log2 of the best learning rate at the largest batch size over that at the smallest, mean over widths."""

    def compute(tables: Tables) -> Estimate:
        smallest, largest = min(BATCHES, key=BATCHES.get), max(BATCHES, key=BATCHES.get)
        found = {label: bounded_rates(tables, artefact, label) for label in (smallest, largest)}
        means = {label: total(best(own)) * (1 / len(own.sizes)) for label, own in found.items()}
        note = "; ".join(f"best rates at {name} by width {own.bounded_note()}" for name, own in found.items())
        return ranges_estimate(means[largest] - means[smallest], note)

    return compute


def _width(artefact: str) -> Callable[[Tables], Estimate]:
    return lambda tables: largest_bounded_shift(tables, [(artefact, label) for label in BATCHES], SPAN)


def _width_at_the_smallest(artefact: str) -> Callable[[Tables], Estimate]:
    return lambda tables: bounded_shift(tables, artefact, "B", max(BATCHES.values()))


for _figure, _artefact in BATCH_FIGURES.items():
    register(f"growth of the best learning rate from B to 4B, {_figure}", _growth(_artefact))
    register(
        f"shift of the best learning rate for 4 times the width at B, {_figure}", _width_at_the_smallest(_artefact)
    )
    register(
        f"largest shift of the best learning rate for 16 times the width, three batch sizes of {_figure}",
        _width(_artefact),
    )
register(
    "absolute shift of the best learning rate for 16 times the width, NTP of Fig. 1",
    lambda tables: largest_shift(tables, [(OVER_WIDTH, NTP)], SPAN),
)
