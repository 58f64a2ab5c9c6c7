"""Does a learning rate transfer over sizes? What final losses say, and what would decide it where they do not.

Best learning rates, their bounds and their shifts are those of :mod:`featurespeed.sweeps.optima` and
:mod:`featurespeed.sweeps.brackets`: one number a seed, a t interval over seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from featurespeed.statistics import Interval, mean_interval
from featurespeed.sweeps import brackets
from featurespeed.sweeps.losses import LATE_LOSS, Losses
from featurespeed.sweeps.optima import Optima, optima, transfer_excess

Answer = Literal["transfers", "does not transfer", "undecided"]
SPAN = 8  # factor in the size for which shifts are judged
ALLOWED = 1.0  # octaves by which the best learning rate may move over that factor
NOISE = 3.0  # standard deviations of the loss over batches by which a run may end above its first loss
FEWEST = 10  # steps of which these are taken
MOST_SEEDS = 1000  # more are not asked for
LARGEST_EXPONENT = 700.0  # of a number that float64 holds


@dataclass(frozen=True)
class Final:
    """What is left of training losses, ``[seeds, sizes, rates]``.

    Attributes:
        start: loss before the first step.
        final: mean over the last tenth of the steps; NaN where a loss was not finite.
        failed: a loss was not finite, or the final one is above the first one by more than the batches differ: three
            standard deviations, as seen in the first tenth of the steps, at least ten, at the smallest rate.
        fitted: final losses as best rates are read off them, infinite where a run failed; their logarithm is fitted.
        logarithmic: that is the log loss; else, where some loss is not positive, the loss itself.
    """

    start: np.ndarray
    final: np.ndarray
    failed: np.ndarray
    fitted: Losses
    logarithmic: bool


def final_losses(sizes: np.ndarray, rates: np.ndarray, losses: np.ndarray) -> Final:
    """Final losses of runs ``[seeds, sizes, rates, steps]``."""
    last = max(1, math.ceil(LATE_LOSS * losses.shape[-1]))
    start, final = losses[..., 0], losses[..., -last:].mean(-1)
    noise = np.nan_to_num(losses[:, :, :1, : max(FEWEST, last)].std(-1)) * math.sqrt(1 + 1 / last)
    failed = ~np.isfinite(losses).all(-1) | ~(final <= start + NOISE * noise)
    kept = np.where(failed, np.inf, final)
    logarithmic = bool((kept > 0).all())
    if not logarithmic:  # the logarithm of exp(loss) is the loss
        least = float(kept.min())
        kept = np.where(failed, np.inf, np.exp(np.minimum(kept - least, LARGEST_EXPONENT)))
    return Final(start, final, failed, Losses(sizes, rates, kept), logarithmic)


def common_rate(losses: Losses) -> int:
    """Place of the rate that is best for all sizes together; where some run fails at every rate, of the fewest."""
    best = losses.common_best()
    return int(np.isfinite(losses.values).mean((0, 1)).argmax()) if best is None else best


@dataclass(frozen=True)
class Verdict:
    """Whether the best learning rate moves with the size.

    Attributes:
        answer: ``transfers``, ``does not transfer`` or ``undecided``.
        shift: of the best rate over a factor of :data:`SPAN` in the size, octaves; its ``sample`` is one number a seed.
        moved: the same over all sizes that were trained.
        excess: what the best rate of the smallest size costs at the largest, in units of the loss.
        remedy: what would decide it; empty where it is decided.
        best: best rates of every seed and size.
    """

    answer: Answer
    shift: Interval
    moved: Interval
    excess: Interval
    remedy: str
    best: Optima

    @property
    def sentence(self) -> str:
        """The answer in words."""
        small, large = self.best.sizes[0], self.best.sizes[-1]
        moves = f"{_number(self.moved)} octaves"
        if not math.isclose(large / small, SPAN):
            moves += f" ({_number(self.shift)} over a factor {SPAN})"
        said = "undecided" if self.answer == "undecided" else f"it {self.answer}"
        text = f"from size {small} to {large} your best learning rate moves by {moves}: {said}"
        return f"{text}; {self.remedy}" if self.remedy else text


def judge(found: Final) -> Verdict:
    """The verdict on final losses.

    It transfers if the 95% interval of the shift over a factor 8 in the size lies within one octave either way, and
    does not if it lies outside.
    """
    losses, best = found.fitted, optima(found.fitted)
    span = float(losses.sizes[-1] / losses.sizes[0])
    if not brackets.is_known(best):
        nothing = Interval(math.nan, -math.inf, math.inf, len(losses.values), "no best rate at some size")
        return Verdict("undecided", nothing, nothing, nothing, _nowhere(best), best)
    ranges = brackets.shifts(best, SPAN)
    shift, moved = ranges.interval(), brackets.shifts(best, span).interval()
    answer = _answer(shift)
    remedy = _remedy(best, ranges) if answer == "undecided" else ""
    return Verdict(answer, shift, moved, _excess(found, best), remedy, best)


def _answer(shift: Interval) -> Answer:
    if shift.low > ALLOWED or shift.high < -ALLOWED:
        return "does not transfer"
    return "transfers" if shift.low >= -ALLOWED and shift.high <= ALLOWED else "undecided"


def _excess(found: Final, best: Optima) -> Interval:
    """Loss of the largest size at the best rate of the smallest, less its own least loss on the grid."""
    more = transfer_excess(found.fitted, best)
    if found.logarithmic:
        more = np.expm1(more) * found.fitted.values[:, -1].min(-1)
    if not np.isfinite(more).all():
        return Interval(math.inf, math.inf, math.inf, len(more), "runs of the largest size fail there")
    return mean_interval(more)


def _nowhere(best: Optima) -> str:
    sizes = _listed(best.sizes[np.isnan(best.log2_rates).any(0)])
    return f"more than a fifth of the runs of size {sizes} fail at every learning rate: other rates, or more steps"


def _remedy(best: Optima, ranges: brackets.Ranges) -> str:
    """What would decide it: other rates where these do not hold the best one, else more seeds."""
    needed = []
    for bound, name, end in ((best.low, "smaller", best.rates[0]), (best.high, "larger", best.rates[-1])):
        sizes = best.sizes[np.isinf(bound).any(0)]
        if len(sizes):
            needed.append(f"learning rates {name} than {end:.3g}, the best of the grid at size {_listed(sizes)}")
    if needed:
        return "what would decide it: " + ", and ".join(needed)
    if _answer(mean_interval(ranges.value)) != "undecided":  # it is the bounds that leave it open
        sizes = _listed(best.sizes[best.censored.any(0)])
        return f"what would decide it: a finer grid below the rates at which runs of size {sizes} fail"
    return f"what would decide it: {_seeds_needed(ranges.value)}"


def _seeds_needed(shifts: np.ndarray) -> str:
    """So many seeds at the spread that was seen."""
    spread, margin = float(shifts.std(ddof=1)), abs(ALLOWED - abs(float(shifts.mean())))
    for seeds in range(len(shifts) + 1, MOST_SEEDS + 1):
        if stats.t.ppf(0.975, seeds - 1) * spread / math.sqrt(seeds) <= margin:
            return f"about {seeds} seeds, at the spread of these {len(shifts)}"
    return f"more than {MOST_SEEDS} seeds, at the spread of these {len(shifts)}; the shift is close to one octave"


def _listed(sizes: np.ndarray) -> str:
    return ", ".join(str(size) for size in sizes)


def _number(found: Interval) -> str:
    """``0.1 [-0.2, 0.4]``."""
    value, low, high = (f"{round(end, 2) + 0.0:g}" if math.isfinite(end) else f"{end:g}" for end in
                        (found.value, found.low, found.high))  # fmt: skip
    return f"{value} [{low}, {high}]"
