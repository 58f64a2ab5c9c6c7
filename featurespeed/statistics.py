"""Estimates with intervals: means, medians, exponents, shares, differences, ratios, z-scores.

The independent unit is the seed: every interval describes what another set of seeds would give. All intervals are
two-sided with confidence ``level`` (0.95 unless told), and each one names its estimator. SciPy and statsmodels compute
them; our own are three: the largest of several deviations (:func:`largest_deviation`) and the jackknife of a statistic
of all seeds (:func:`jackknife_interval`), which neither has, and the bootstrap over few seeds that figures draw
(:func:`seed_interval`). Bad input raises ValueError in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

PIXEL = 0.0026
"""Reading error of the published points of arXiv:2311.18718, Figure 1, in radians."""


@dataclass(frozen=True)
class Interval:
    """An estimate ``value`` with its confidence interval [low, high] from ``n`` independent units.

    ``sample`` holds what the units gave, one number each (or a few): that tells apart two statistics of the same data.
    """

    value: float
    low: float
    high: float
    n: int
    estimator: str
    sample: tuple[float, ...] = ()


# --- means, differences, ratios ---------------------------------------------------------------------------------------


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean with Student's t interval; exact for normal values, shape [n] with n >= 2."""
    values = _sample(values)
    mean, error = float(values.mean()), float(stats.sem(values))
    _alpha(level)
    low, high = stats.t.interval(level, len(values) - 1, mean, error) if error > 0 else (mean, mean)
    return Interval(mean, float(low), float(high), len(values), "mean, t interval", tuple(values.tolist()))


def difference_interval(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Interval:
    """Difference of the means of two independent samples ``[n]``, ``[m]``: Welch's t interval; ``n`` is the smaller.

    For networks that share their seeds use :func:`mean_interval` of the differences, which pairs them.
    """
    first, second = _sample(first), _sample(second)
    value, alpha = float(first.mean() - second.mean()), _alpha(level)
    n, both = min(len(first), len(second)), (*first.tolist(), *second.tolist())
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return Interval(value, value, value, n, "difference of means, no spread", both)
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(1 - alpha)
    return Interval(value, float(found.low), float(found.high), n, "difference of means, Welch's t interval", both)


def ratio_interval(above: ArrayLike, below: ArrayLike, level: float = 0.95) -> Interval:
    """Geometric mean over units of ``above / below``, ``[n]`` and positive, paired; t interval of the log ratio."""
    above, below = _sample(above), _sample(below)
    if above.shape != below.shape or np.any(above <= 0) or np.any(below <= 0):
        raise ValueError(f"a ratio needs two lists of positive values of one length, got {above} and {below}")
    return exponential(mean_interval(np.log(above / below), level), "geometric mean of ratios, t interval of the log")


def exponential(found: Interval, estimator: str) -> Interval:
    """The interval of ``exp(x)`` from that of ``x``."""
    value, low, high = (float(np.exp(end)) for end in (found.value, found.low, found.high))
    return Interval(value, low, high, found.n, estimator, tuple(np.exp(found.sample).tolist()))


def median_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Median with the narrowest pair of order statistics that covers the true median with at least ``level``.

    Distribution-free, heavy tails included (SciPy's ``quantile_test``). Raises ValueError when even the range of the
    sample covers less (n < 6 at level 0.95).
    """
    values = np.sort(_sample(values))
    n, alpha = len(values), _alpha(level)
    tails = stats.binom.cdf(np.arange((n + 1) // 2), n, 0.5)  # P(Bin <= r - 1) for r = 1, 2, ...
    rank = int(np.count_nonzero(tails <= alpha / 2))
    if rank == 0:
        raise ValueError(
            f"{n} values are too few for a {level:g} interval of the median:"
            f" their range covers {1 - 2.0 ** (1 - n):.3g}"
        )
    found = stats.quantile_test(values, p=0.5).confidence_interval(level)
    estimator = f"median, order statistics {rank} and {n + 1 - rank}, coverage {1 - 2 * tails[rank - 1]:.3f}"
    sample = tuple(values.tolist())
    return Interval(float(np.median(values)), float(found.low), float(found.high), n, estimator, sample)


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Share ``successes / n`` of independent trials, with the Clopper-Pearson interval: it never covers too little."""
    if n < 2 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs n >= 2 and 0 <= successes <= n, got {successes} of {n}")
    found = stats.binomtest(successes, n).proportion_ci(1 - _alpha(level), method="exact")
    sample = (1.0,) * successes + (0.0,) * (n - successes)
    return Interval(
        successes / n, float(found.low), float(found.high), n, "proportion, Clopper-Pearson interval", sample
    )


# --- several at once --------------------------------------------------------------------------------------------------


def largest_deviation(values: ArrayLike, stated: ArrayLike = 0.0, level: float = 0.95) -> Interval:
    """Largest ``|mean - stated|`` of several quantities, ``[units, quantities]``, with an interval for the largest.

    The upper bound is the largest of the quantities' own t intervals: that of the quantity which deviates most already
    suffices. The lower one is the largest of their lower bounds at the level ``1 - (1 - level) / quantities``
    (Bonferroni), because any of them may be too high by chance. Both hold however the quantities are correlated. Our
    own: neither SciPy nor statsmodels has an interval of a largest absolute mean.
    """
    values = _finite(values)
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"deviations need values of shape [units, quantities], got {values.shape}")
    gaps = values - np.broadcast_to(np.asarray(stated, dtype=float), values.shape[1])
    each = [mean_interval(column, level) for column in gaps.T]
    together = [mean_interval(column, 1 - _alpha(level) / gaps.shape[1]) for column in gaps.T]
    nearest = [0.0 if one.low <= 0.0 <= one.high else min(abs(one.low), abs(one.high)) for one in together]
    furthest = [max(abs(one.low), abs(one.high)) for one in each]
    estimator = f"largest of {len(each)} deviations, simultaneous t intervals"
    value = max(abs(one.value) for one in each)
    return Interval(value, max(nearest), max(furthest), len(values), estimator, tuple(gaps.ravel().tolist()))


def jackknife_interval(
    statistic: Callable[[np.ndarray], float], units: int, level: float = 0.95, least: int = 5
) -> Interval:
    """A smooth statistic of all units with the t interval of its delete-one jackknife.

    For what has no value of its own for a single seed, such as a distance with the seed noise subtracted. Pseudo-values
    ``n T - (n - 1) T_without_i`` take the place of the units (Tukey); our own, as SciPy and statsmodels have none.

    Args:
        statistic: of the indices of the units that are used.
        units: how many there are; at least ``least``.

    Raises:
        ValueError: too few units, or the statistic is not finite without one of them.
    """
    if units < least:
        raise ValueError(f"units = {units}: a jackknife needs at least {least}")
    everyone = np.arange(units)
    value = float(statistic(everyone))
    without = np.array([statistic(np.delete(everyone, i)) for i in everyone], dtype=float)
    pseudo = _finite(units * value - (units - 1) * without)
    found = mean_interval(pseudo, level)
    half = (found.high - found.low) / 2
    return Interval(value, value - half, value + half, units, "jackknife t interval", found.sample)


# --- exponents --------------------------------------------------------------------------------------------------------


def loglog_slope(x: ArrayLike, y: ArrayLike, unit: Sequence[Hashable], level: float = 0.95) -> Interval:
    """Exponent p of ``y ~ x^p``; ``unit`` names the seed of each observation. See :func:`loglog_exponents`."""
    frame = _frame({"x": np.asarray(x, dtype=float), "y": np.asarray(y, dtype=float), "unit": list(unit)})
    return loglog_exponents(frame, ["x"], "y", "unit", level)["x"]


def loglog_exponents(
    frame: pd.DataFrame, variables: Sequence[str], value: str, unit: str = "seed", level: float = 0.95
) -> dict[str, Interval]:
    """Exponents of ``value ~ product of variable^exponent``, one Interval a variable, in the order of ``variables``.

    Least squares on logarithms with an intercept. With several observations a unit: one fit a unit, then the mean of
    the units' exponents with Student's t interval over units (:func:`unit_exponents`), so that observations sharing a
    seed may be correlated. With one observation a unit: a single pooled fit with statsmodels' heteroscedasticity-robust
    HC3 covariance and t quantiles at n - p degrees of freedom. Raises ValueError for missing columns, non-positive
    entries, fewer than 2 units, and for a variable that is constant or determined by the others (named, with its unit).
    """
    variables = list(variables)
    _check_columns(frame, [*variables, value, unit])
    if frame[unit].nunique(dropna=False) < 2:
        raise ValueError(f"exponents need at least 2 values of {unit!r}, got {frame[unit].nunique(dropna=False)}")
    if not frame[unit].duplicated().any():
        return _pooled_exponents(_logs(frame, [*variables, value]), variables, level)
    fits = unit_exponents(frame, variables, value, unit)
    return {name: mean_interval(fits[:, place], level) for place, name in enumerate(variables)}


def unit_exponents(frame: pd.DataFrame, variables: Sequence[str], value: str, unit: str = "seed") -> np.ndarray:
    """Exponents ``[units, variables]`` of one least-squares fit a unit on logarithms; see :func:`loglog_exponents`."""
    variables = list(variables)
    _check_columns(frame, [*variables, value, unit])
    logs = _logs(frame, [*variables, value])
    fits = []
    for name, rows in frame.groupby(unit, sort=False, dropna=False).indices.items():
        _check_rank(logs[rows, :-1], variables, f" at {unit} = {name}")
        design = _with_intercept(logs[rows, :-1])
        fits.append(np.linalg.lstsq(design, logs[rows, -1], rcond=None)[0][1:])
    return np.array(fits)


def _pooled_exponents(logs: np.ndarray, variables: list[str], level: float) -> dict[str, Interval]:
    from statsmodels.regression.linear_model import OLS  # a second to import, and only this needs it

    _check_rank(logs[:, :-1], variables, "")
    design = _with_intercept(logs[:, :-1])
    n, parameters = design.shape
    if n <= parameters:
        raise ValueError(f"{n} observations cannot give an interval for {parameters} coefficients: one more at least")
    leverage = np.sum(design * np.linalg.pinv(design).T, axis=1)
    if leverage.max() > 1 - 1e-9:
        raise ValueError(f"observation {int(leverage.argmax())} alone determines an exponent: add observations like it")
    fit = OLS(logs[:, -1], design).fit(cov_type="HC3", use_t=True)
    bounds = fit.conf_int(_alpha(level))
    estimator, sample = "pooled least squares, HC3 interval", tuple(logs[:, -1].tolist())
    return {
        name: Interval(float(p), float(low), float(high), n, estimator, sample)
        for name, p, (low, high) in zip(variables, fit.params[1:], bounds[1:], strict=True)
    }


# --- published points -------------------------------------------------------------------------------------------------


def z_score(
    mean: ArrayLike, se: ArrayLike, y: ArrayLike, y_sd: ArrayLike, k: ArrayLike, pixel: float = PIXEL
) -> np.ndarray | float:
    """``(mean - y) / sqrt(y_sd^2/k + se^2 + pixel^2)``: our mean with standard error ``se`` against a published point.

    The point ``y`` averages ``k`` >= 1 drawn values of spread ``y_sd`` and was read with error ``pixel``. Arrays
    broadcast; dimensionless.
    """
    mean, se, y, y_sd, k = (_finite(entry) for entry in (mean, se, y, y_sd, k))
    if np.any(se < 0) or np.any(y_sd < 0) or np.any(k < 1):
        raise ValueError("a z-score needs se >= 0, y_sd >= 0 and k >= 1")
    variance = y_sd**2 / k + se**2 + pixel**2
    if np.any(variance == 0):
        raise ValueError("a z-score needs some uncertainty: se, y_sd and pixel are all zero")
    score = (mean - y) / np.sqrt(variance)
    return float(score) if score.ndim == 0 else score


# --- what figures draw ------------------------------------------------------------------------------------------------

ENUMERATED_SEEDS = 5  # up to here all resamples of the seeds are taken, 5^5 of them; beyond, 2000 random ones


def seed_interval(
    statistic: Callable[[np.ndarray], float], seeds: int, generator: np.random.Generator, level: float = 0.95
) -> Interval:
    """A statistic of several seeds with the percentile bootstrap over them: for figures, never for a verdict.

    It covers too little with few seeds (three quarters at n = 3); the ledger judges none. For statistics that are not
    defined on every resample, or infinite: a resample without a number (NaN) may lie anywhere, so it counts as -inf for
    the lower end and as +inf for the upper one; infinity is a value like another. With few seeds every resample is
    taken once; up to 3 of them the interval is the range over all resamples, those made of one seed alone included. It
    always holds ``value``; where the data themselves give no number, all three are NaN.

    Args:
        statistic: of the indices ``[seeds]`` of the seeds that are used; ``arange(seeds)`` is the data itself. The
            order of the indices must not matter.
        seeds: how many there are, at least 2.

    Raises:
        ValueError: fewer than 2 seeds, or a level outside (0, 1).
    """
    return seed_intervals(lambda chosen: np.array([statistic(chosen)]), seeds, generator, level)[0]


def seed_intervals(
    statistics: Callable[[np.ndarray], np.ndarray], seeds: int, generator: np.random.Generator, level: float = 0.95
) -> list[Interval]:
    """:func:`seed_interval` of several statistics at once, ``[seeds] -> [K]``, with the same resamples."""
    if seeds < 2:
        raise ValueError(f"seeds = {seeds}: an interval needs at least 2")
    alpha = _alpha(level)
    if seeds <= ENUMERATED_SEEDS:
        draws = np.stack(np.meshgrid(*[np.arange(seeds)] * seeds), -1).reshape(-1, seeds)
    else:
        draws = generator.integers(seeds, size=(2000, seeds))
    estimator = f"bootstrap over seeds, {len(draws)} resamples"
    values = np.asarray(statistics(np.arange(seeds)), dtype=float)
    if np.isnan(values).all():
        return [Interval(np.nan, np.nan, np.nan, seeds, estimator)] * len(values)
    # What differs in its order only is computed once.
    distinct, times = np.unique(np.sort(draws, axis=1), axis=0, return_counts=True)
    found = np.array([statistics(draw) for draw in distinct], dtype=float).repeat(times, axis=0)
    return [
        _percentiles(value, own, alpha, seeds, estimator) for value, own in zip(values.tolist(), found.T, strict=True)
    ]


def _percentiles(value: float, found: np.ndarray, alpha: float, seeds: int, estimator: str) -> Interval:
    if np.isnan(value):
        return Interval(np.nan, np.nan, np.nan, seeds, estimator)
    low = _order_statistic(np.where(np.isnan(found), -np.inf, found), alpha / 2)
    high = _order_statistic(np.where(np.isnan(found), np.inf, found), 1 - alpha / 2)
    return Interval(value, min(low, value), max(high, value), seeds, estimator)


def _order_statistic(values: np.ndarray, share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed; no arithmetic on infinities."""
    place = int(np.ceil(share * len(values) - 1e-9)) - 1
    return float(np.sort(values)[max(place, 0)])


def _finite(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values are not finite")
    return values


def _sample(values: ArrayLike) -> np.ndarray:
    values = _finite(values)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs a list of at least 2 values, got shape {values.shape}")
    return values


def _alpha(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r} must lie strictly between 0 and 1")
    return 1 - level


def _frame(columns: Mapping[str, Sequence | np.ndarray]) -> pd.DataFrame:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}")
    return pd.DataFrame(columns)


def _check_columns(frame: pd.DataFrame, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ValueError(f"columns {missing} are missing from {list(frame.columns)}")
    if frame.empty:
        raise ValueError("exponents need observations, got an empty table")


def _log(column: pd.Series) -> np.ndarray:
    values = column.to_numpy(dtype=float)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise ValueError(f"{column.name!r} must be positive and finite for a logarithm, found {values[bad][0]}")
    return np.log(values)


def _logs(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    return np.column_stack([_log(frame[name]) for name in columns])


def _with_intercept(logs: np.ndarray) -> np.ndarray:
    # Centred columns keep the pseudo-inverse well conditioned; only the intercept, which nobody reads, changes.
    return np.column_stack([np.ones(len(logs)), logs - logs.mean(axis=0)])


def _check_rank(logs: np.ndarray, variables: list[str], where: str) -> None:
    """Raise ValueError naming the first variable that is constant or a function of those before it."""
    design = np.ones((len(logs), 1))
    for name, column in zip(variables, logs.T, strict=True):
        spread = column - column.mean()
        scale = 1e-9 * np.sqrt(len(logs)) * (1 + np.abs(column).max())
        if np.linalg.norm(spread) <= scale:
            raise ValueError(f"{name!r} does not vary{where}: its exponent cannot be measured")
        rest = spread - design @ np.linalg.lstsq(design, spread, rcond=None)[0]
        if np.linalg.norm(rest) <= scale:
            raise ValueError(f"{name!r} is determined by the variables before it{where}: vary it on its own")
        design = np.column_stack([design, spread])
