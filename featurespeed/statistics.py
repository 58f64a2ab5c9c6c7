"""Estimates with intervals: means, medians, exponents, shares and z-scores.

The independent unit is the seed: every interval describes what another set of seeds would give. All intervals are
two-sided with confidence ``level`` (0.95 unless told), and each one names its estimator. Bad input raises ValueError in
one line.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

PIXEL = 0.0026
"""Reading error of the published points of arXiv:2311.18718, Figure 1, in radians."""


@dataclass(frozen=True)
class Interval:
    """An estimate ``value`` with its confidence interval [low, high] from ``n`` independent units."""

    value: float
    low: float
    high: float
    n: int
    estimator: str


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean with Student's t interval; exact for normal values, shape [n] with n >= 2."""
    values = _sample(values)
    n = len(values)
    half = _t_quantile(n - 1, level) * _standard_error(values)
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, n, "mean, t interval")


def median_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Median with the narrowest symmetric pair of order statistics x_(r), x_(n+1-r) that covers the true median.

    Distribution-free: the coverage 1 - 2 P(Bin(n, 1/2) < r) is at least ``level`` whatever the law, heavy tails
    included.
    Raises ValueError when even the range of the sample covers less (n < 6 at level 0.95).
    """
    values = np.sort(_sample(values))
    n = len(values)
    alpha = _alpha(level)
    tails = special.bdtr(np.arange((n + 1) // 2), n, 0.5)  # P(Bin <= r - 1) for r = 1, 2, ...
    rank = int(np.count_nonzero(tails <= alpha / 2))
    if rank == 0:
        reached = 1 - 2.0 ** (1 - n)
        raise ValueError(
            f"{n} values are too few for a {level:g} interval of the median: their range covers {reached:.3g}"
        )
    coverage = 1 - 2 * tails[rank - 1]
    estimator = f"median, order statistics {rank} and {n + 1 - rank}, coverage {coverage:.3f}"
    return Interval(float(np.median(values)), float(values[rank - 1]), float(values[n - rank]), n, estimator)


def loglog_slope(x: ArrayLike, y: ArrayLike, unit: Sequence[Hashable], level: float = 0.95) -> Interval:
    """Exponent p of ``y ~ x^p``; ``unit`` names the seed of each observation. See :func:`loglog_exponents`."""
    frame = _frame({"x": np.asarray(x, dtype=float), "y": np.asarray(y, dtype=float), "unit": list(unit)})
    return loglog_exponents(frame, ["x"], "y", "unit", level)["x"]


def loglog_exponents(
    frame: pd.DataFrame, variables: Sequence[str], value: str, unit: str = "seed", level: float = 0.95
) -> dict[str, Interval]:
    """Exponents of ``value ~ product of variable^exponent``, one Interval a variable, in the order of ``variables``.

    Least squares on logarithms with an intercept. With several observations a unit: one fit a unit, then the mean of
    the units' exponents with Student's t interval over units, so that observations sharing a seed may be correlated.
    With one observation a unit: a single pooled fit with the heteroscedasticity-robust HC3 covariance and t quantiles
    at n - p degrees of freedom. Raises ValueError for missing columns, non-positive entries, fewer than 2 units, and
    for a variable that is constant or determined by the others (named, with its unit).
    """
    variables = list(variables)
    _check_columns(frame, [*variables, value, unit])
    logs = np.column_stack([_log(frame[name]) for name in [*variables, value]])
    groups = frame.groupby(unit, sort=False, dropna=False).indices
    if len(groups) < 2:
        raise ValueError(f"exponents need at least 2 values of {unit!r}, got {len(groups)}")
    if max(len(rows) for rows in groups.values()) == 1:
        return _pooled_exponents(logs, variables, level)
    fits = []
    for name, rows in groups.items():
        _check_rank(logs[rows, :-1], variables, f" at {unit} = {name}")
        design = _with_intercept(logs[rows, :-1])
        fits.append(np.linalg.lstsq(design, logs[rows, -1], rcond=None)[0][1:])
    estimator = "mean of the exponents of each unit, t interval"
    means = [mean_interval(column, level) for column in np.transpose(fits)]
    return {name: Interval(m.value, m.low, m.high, m.n, estimator) for name, m in zip(variables, means, strict=True)}


def _pooled_exponents(logs: np.ndarray, variables: list[str], level: float) -> dict[str, Interval]:
    _check_rank(logs[:, :-1], variables, "")
    design = _with_intercept(logs[:, :-1])
    n, parameters = design.shape
    if n <= parameters:
        raise ValueError(f"{n} observations cannot give an interval for {parameters} coefficients: one more at least")
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ logs[:, -1]
    leverage = np.sum(design * inverse.T, axis=1)
    if leverage.max() > 1 - 1e-9:
        raise ValueError(f"observation {int(leverage.argmax())} alone determines an exponent: add observations like it")
    residual = (logs[:, -1] - design @ coefficients) / (1 - leverage)
    half = _t_quantile(n - parameters, level) * np.sqrt(np.sum((inverse * residual) ** 2, axis=1))
    return {
        name: Interval(float(p), float(p - h), float(p + h), n, "pooled least squares, HC3 interval")
        for name, p, h in zip(variables, coefficients[1:], half[1:], strict=True)
    }


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


def coverage_interval(
    draws: ArrayLike,
    y: ArrayLike,
    y_sd: ArrayLike,
    k: ArrayLike,
    generator: np.random.Generator,
    limit: float = 3.0,
    n_boot: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Share of a fixed list of published points that our means meet with ``|z| <= limit``.

    ``draws`` has shape [seeds, points] and ``y``, ``y_sd``, ``k`` shape [points]; ``z`` as in :func:`z_score`. The
    points are all there are, not a sample of points, so a binomial interval does not apply (40 hits out of 40 would
    only give [0.91, 1]): what varies is our seeds. Percentile bootstrap over seeds, whole rows, because the points of
    one curve share their seeds. ``n`` counts seeds.
    """
    draws = _finite(draws)
    if draws.ndim != 2 or draws.shape[0] < 2 or draws.shape[1] < 1:
        raise ValueError(f"draws of shape {draws.shape} must be [seeds >= 2, points >= 1]")

    def share(rows: np.ndarray) -> float:
        se = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        return float(np.mean(np.abs(z_score(rows.mean(axis=0), se, y, y_sd, k)) <= limit))

    found = bootstrap_interval(draws, share, generator, n_boot, level)
    return Interval(found.value, found.low, found.high, found.n, f"share of |z| <= {limit:g}, bootstrap over seeds")


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Share ``successes / n`` of independent trials, with the Clopper-Pearson interval: it never covers too little."""
    if n < 2 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs n >= 2 and 0 <= successes <= n, got {successes} of {n}")
    half = _alpha(level) / 2
    low = float(special.betaincinv(successes, n - successes + 1, half)) if successes > 0 else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 1 - half)) if successes < n else 1.0
    return Interval(successes / n, low, high, n, "proportion, Clopper-Pearson interval")


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[np.ndarray], float],
    generator: np.random.Generator,
    n_boot: int = 2000,
    level: float = 0.95,
) -> Interval:
    """``statistic(values)`` with the percentile bootstrap over the rows of ``values``, shape [n, ...] with n >= 2.

    Coverage is approximate and falls short for few units or heavy tails; use it where no interval above applies.
    """
    values = _finite(values)
    if values.ndim == 0 or len(values) < 2:
        raise ValueError("a bootstrap needs at least 2 values")
    if n_boot < 100:
        raise ValueError(f"n_boot = {n_boot!r} must be at least 100")
    n, alpha = len(values), _alpha(level)
    rows = generator.integers(n, size=(n_boot, n))
    replicates = np.array([statistic(values[row]) for row in rows], dtype=float)
    value = float(statistic(values))
    if not np.isfinite(value) or not np.all(np.isfinite(replicates)):
        raise ValueError("the bootstrapped statistic is not finite on every resample")
    low, high = np.quantile(replicates, [alpha / 2, 1 - alpha / 2])
    return Interval(value, float(low), float(high), n, f"bootstrap percentile interval, {n_boot} resamples")


ENUMERATED_SEEDS = 5  # up to here all resamples of the seeds are taken, 5^5 of them; beyond, 2000 random ones


def seed_interval(
    statistic: Callable[[np.ndarray], float], seeds: int, generator: np.random.Generator, level: float = 0.95
) -> Interval:
    """A statistic of several seeds with the percentile bootstrap over them.

    For statistics that are not defined on every resample, or infinite: a resample without a number (NaN) may lie
    anywhere, so it counts as -inf for the lower end and as +inf for the upper one; infinity is a value like another.
    With few seeds every resample is taken once; up to 3 of them the interval is the range over all resamples, those
    made of one seed alone included. It always holds ``value``; where the data themselves give no number, all three are
    NaN.

    Args:
        statistic: of the indices ``[seeds]`` of the seeds that are used; ``arange(seeds)`` is the data itself. The
            order of the indices must not matter.
        seeds: how many there are, at least 2.

    Raises:
        ValueError: fewer than 2 seeds, or a level outside (0, 1).
    """
    if seeds < 2:
        raise ValueError(f"seeds = {seeds}: an interval needs at least 2")
    alpha = _alpha(level)
    if seeds <= ENUMERATED_SEEDS:
        draws = np.stack(np.meshgrid(*[np.arange(seeds)] * seeds), -1).reshape(-1, seeds)
    else:
        draws = generator.integers(seeds, size=(2000, seeds))
    estimator = f"bootstrap over seeds, {len(draws)} resamples"
    value = float(statistic(np.arange(seeds)))
    if np.isnan(value):
        return Interval(np.nan, np.nan, np.nan, seeds, estimator)
    # What differs in its order only is computed once.
    distinct, times = np.unique(np.sort(draws, axis=1), axis=0, return_counts=True)
    found = np.array([statistic(draw) for draw in distinct], dtype=float).repeat(times)
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


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _alpha(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r} must lie strictly between 0 and 1")
    return 1 - level


def _t_quantile(degrees: int, level: float) -> float:
    return float(special.stdtrit(degrees, 1 - _alpha(level) / 2))


def _frame(columns: dict[str, Sequence]) -> pd.DataFrame:
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
