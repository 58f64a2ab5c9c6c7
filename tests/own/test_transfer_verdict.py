"""Verdicts on losses that are planted: what transfers, what does not, what is left open and what would decide it."""

from __future__ import annotations

import numpy as np
import pytest

from featurespeed.own.transfer_verdict import Verdict, final_losses, judge

SIZES = np.array([64, 128, 256, 512])
RATES = 2.0 ** np.arange(-12, -3)
STEPS = 20


def runs(*shifts: float, centre: float = -7.5, sizes: np.ndarray = SIZES, rates: np.ndarray = RATES) -> np.ndarray:
    """Losses ``[seeds, sizes, rates, steps]``: parabolas of the log loss; ``shifts`` octaves a factor 8, one a seed."""
    log_sizes = np.log2(sizes / sizes[0])
    best = centre + np.array(shifts)[:, None] * log_sizes / 3
    final = np.exp(0.05 * (np.log2(rates) - best[..., None]) ** 2 - 0.1 * log_sizes[:, None])
    losses = np.repeat(final[..., None], STEPS, axis=-1)
    losses[..., 0] = 10.0
    return losses


def verdict(losses: np.ndarray, sizes: np.ndarray = SIZES, rates: np.ndarray = RATES) -> Verdict:
    return judge(final_losses(sizes, rates, losses))


def test_a_best_rate_that_stays_transfers():
    found = verdict(runs(0.1, -0.1, 0.2, 0.0))
    assert found.answer == "transfers" and found.remedy == ""
    assert found.shift.value == pytest.approx(0.05) and found.shift.sample == pytest.approx((0.1, -0.1, 0.2, 0.0))
    low, high = (f"{round(end, 2):g}" for end in (found.shift.low, found.shift.high))
    half = 3.182446 * np.std([0.1, -0.1, 0.2, 0.0], ddof=1) / 2  # t quantile of 3 degrees of freedom
    assert found.shift.high == pytest.approx(0.05 + half, rel=1e-5)
    assert found.sentence == (
        f"from size 64 to 512 your best learning rate moves by 0.05 [{low}, {high}] octaves: it transfers"
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_best_rate_that_moves_by_more_than_an_octave_does_not(sign):
    found = verdict(runs(*(sign * np.array([2.1, 1.9, 2.0]))))
    assert found.answer == "does not transfer" and found.sentence.endswith("it does not transfer")
    assert found.shift.value == pytest.approx(2.0 * sign)


def test_the_verdict_is_for_a_factor_of_eight_and_the_sentence_for_all_sizes():
    sizes = np.array([64, 128, 256, 512, 1024, 2048, 4096])
    found = verdict(runs(0.8, 0.81, 0.79, sizes=sizes), sizes)
    assert found.answer == "transfers"
    assert found.moved.value == pytest.approx(1.6) and found.shift.value == pytest.approx(0.8)
    assert "from size 64 to 4096 your best learning rate moves by 1.6 [" in found.sentence
    assert "octaves (0.8 [0.78, 0.82] over a factor 8): it transfers" in found.sentence


def test_seeds_that_disagree_leave_it_open_and_so_many_would_decide_it():
    shifts = np.array([-0.9, 0.9, 0.1])
    found = verdict(runs(*shifts))
    assert found.answer == "undecided"
    assert "what would decide it: about" in found.remedy and "seeds, at the spread of these 3" in found.remedy
    count = int(found.remedy.split("about ")[1].split()[0])
    spread = shifts.std(ddof=1)
    from scipy import stats

    reached = [stats.t.ppf(0.975, n - 1) * spread / n**0.5 <= 1 - shifts.mean() for n in (count - 1, count)]
    assert reached == [False, True]
    enough = verdict(runs(*np.resize(shifts, 3 * count)))
    assert enough.answer == "transfers"


def test_a_shift_of_one_octave_takes_more_seeds_than_can_be_asked_for():
    assert "more than 1000 seeds" in verdict(runs(1.5, 0.5, 1.001)).remedy


@pytest.mark.parametrize(("centre", "end"), [(-3.6, "larger than 0.0625"), (-12.4, "smaller than 0.000244")])
def test_best_rates_at_an_end_ask_for_rates_beyond(centre, end):
    shift = -1.5 if centre > -7 else 1.5
    found = verdict(runs(shift, shift - 0.01, shift + 0.01, centre=centre))
    assert found.answer == "undecided"
    assert f"learning rates {end}, the best of the grid at size 64, 128" in found.remedy
    assert np.isinf(found.shift.low) != np.isinf(found.shift.high)


def test_a_bound_on_one_side_may_be_enough():
    """The small sizes are best at the largest rate or beyond, the large ones far below: it falls in any case."""
    found = verdict(runs(-6.0, -6.01, -5.99, centre=-3.6))
    assert found.answer == "does not transfer" and found.shift.low == -np.inf and found.shift.high < -1


def test_best_rates_next_to_a_failure_are_bounded_by_it():
    """All best rates are the last before the first that fails: between an octave below and none above."""
    losses = runs(0.0, 0.0, 0.0, centre=-5.0)
    losses[..., RATES > 2.0**-7, -1] = np.nan
    found = verdict(losses)
    assert found.best.censored.all() and np.isfinite(found.best.high).all()
    assert found.answer == "undecided" and "a finer grid below the rates at which runs of size 64" in found.remedy


def test_a_size_that_fails_everywhere_is_named():
    losses = runs(0.0, 0.0, 0.0)
    losses[:, 2, :, 5:] = np.nan
    found = verdict(losses)
    assert found.answer == "undecided" and "runs of size 256 fail at every learning rate" in found.sentence
    assert np.isnan(found.shift.value) and np.isnan(found.excess.value)


def test_failures_are_losses_that_are_not_finite_or_end_above_the_first():
    losses = runs(0.0, 0.0)
    losses[0, 0, 3, 7:] = np.inf
    losses[1, 1, 4, -2:] = 30.0
    failed = final_losses(SIZES, RATES, losses).failed
    assert failed.sum() == 2 and failed[0, 0, 3] and failed[1, 1, 4]


def test_a_final_loss_above_the_first_by_the_noise_of_batches_is_no_failure():
    losses = 2.0 + 0.1 * np.random.default_rng(0).normal(size=(5, 2, 3, 200))
    assert not final_losses(SIZES[:2], RATES[:3], losses).failed.any()
    assert final_losses(SIZES[:2], RATES[:3], losses + np.linspace(0, 2, 200)).failed.all()


def test_the_final_loss_is_the_mean_over_the_last_tenth():
    losses = np.arange(100.0, 0.0, -1.0) * np.ones((2, 2, 3, 1))
    assert final_losses(SIZES[:2], RATES[:3], losses).final == pytest.approx(
        np.full((2, 2, 3), np.arange(1, 11).mean())
    )


def test_the_excess_is_the_loss_at_the_smallest_sizes_best_rate_over_the_least():
    found = verdict(runs(3.0, 3.0, centre=-8.0))  # both best rates are on the grid: three octaves apart
    least = np.exp(-0.3)
    assert found.excess.value == pytest.approx(least * (np.exp(0.05 * 9) - 1))
    assert verdict(runs(0.0, 0.0, centre=-8.0)).excess.value == pytest.approx(0.0, abs=1e-12)


def test_a_smallest_sizes_best_rate_at_which_the_largest_fails_costs_without_bound():
    losses = runs(0.0, 0.0, centre=-8.0)
    losses[:, -1, RATES >= 2.0**-8, -1] = np.nan
    assert verdict(losses).excess.value == np.inf


def test_losses_below_zero_are_fitted_as_they_are():
    """A parabola of the loss itself has the same lowest point whatever is taken away from it."""
    best = -7.5 + np.array([[0.0, 0.5, 1.0, 1.5], [0.1, 0.6, 1.1, 1.6]])
    final = 0.05 * (np.log2(RATES) - best[..., None]) ** 2 - 3.0
    losses = np.repeat(final[..., None], STEPS, axis=-1)
    losses[..., 0] = 10.0
    found = final_losses(SIZES, RATES, losses)
    assert not found.logarithmic
    assert judge(found).best.log2_rates == pytest.approx(best)
    assert judge(found).excess.value == pytest.approx(0.05 * 1.5**2 - final[:, -1].min(-1).mean() - 3.0, abs=0.02)
