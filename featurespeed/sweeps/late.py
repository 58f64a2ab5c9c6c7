"""The fall of a curve late in training: its peak, the step from which on it falls, how far it falls.

Curvature that rises to the edge of stability may fall from there once the training loss is small (arXiv:2402.17457,
Fig. 12). Every seed and size has one peak, the largest value of the curve averaged over neighbouring probe steps, the
initial network left out. Arrays have the shape ``[seeds, sizes]``; what the runs cannot say raises ValueError with the
reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featurespeed.sweeps.convergence import TENTH, Curves
from featurespeed.sweeps.dependence import NEVER, exponents
from featurespeed.sweeps.transfer import median_steps

NEIGHBOURS = 3  # probe steps, one before and one after, over which a curve is averaged before its peak is looked for
FALLEN = 0.8  # share of its peak to which a curve must have come down by the end to count as fallen


@dataclass(frozen=True)
class Fall:
    """Peaks of curves along training, and what became of them (:func:`fall`).

    Attributes:
        sizes: ``[S]``, ascending.
        peaks: largest value of the smoothed curve, ``[seeds, S]``.
        steps: step of the peak, ``[seeds, S]``.
        ends: mean over the probe steps of the last tenth of training, ``[seeds, S]``.
        last: last step that was measured; who has not fallen would do so later.
    """

    sizes: np.ndarray
    peaks: np.ndarray
    steps: np.ndarray
    ends: np.ndarray
    last: int

    @property
    def logs(self) -> np.ndarray:
        """``log(end / peak)``, ``[seeds, S]``: 0 for a curve that stays at its peak, negative for one that falls."""
        return np.log(self.ends / self.peaks)

    @property
    def onsets(self) -> np.ndarray:
        """Step from which on a curve falls, that of its peak, ``[seeds, S]``.

        Infinite where it never falls: at the end it is above 0.8 of the peak.
        """
        return np.where(self.ends <= FALLEN * self.peaks, self.steps, np.inf)

    @property
    def counted(self) -> np.ndarray:
        """:attr:`onsets`, those that never fall counted with the last step, ``[seeds, S]``."""
        return np.minimum(self.onsets, self.last)

    @property
    def falling(self) -> np.ndarray:
        """Share of the seeds whose curve falls, ``[S]``."""
        return np.isfinite(self.onsets).mean(0)

    def medians(self) -> np.ndarray:
        """Median over seeds of the onsets, ``[S]``; infinite where half of them or more never fall."""
        return median_steps(self.onsets)

    def exponents(self) -> np.ndarray:
        """Exponent in the size of the onset, ``[seeds]``; a curve that never falls counts with the last step.

        Raises:
            ValueError: too many never fall, or there are too few sizes.
        """
        never = np.isinf(self.onsets).mean()
        if never > NEVER:
            raise ValueError(f"{never:.0%} of the networks do not fall in {self.last} steps")
        return exponents(self.sizes, self.counted)

    def between_halves(self) -> np.ndarray:
        """``log(onset of a seed of the second half / onset of one of the first)``, mean over sizes,
        ``[seeds // 2]``.
        """
        logs, half = np.log(self.counted).mean(1), len(self.counted) // 2
        return logs[half : 2 * half] - logs[:half]


def fall(found: Curves) -> Fall:
    """Peak and end of every curve.

    Raises:
        ValueError: nothing was measured after the first step, or a value is missing or not positive there.
    """
    steps, values = found.steps[found.steps > 0], found.values[..., found.steps > 0]
    if not len(steps):
        raise ValueError("nothing was measured after step 0")
    if not (values > 0).all():
        bad = values[~(values > 0)][0]
        raise ValueError(f"values after step 0 must be positive for a logarithm, found {bad:g}")
    smooth, late = smoothed(values), steps >= min((1 - TENTH) * found.last, steps[-1])
    return Fall(found.sizes, smooth.max(-1), steps[smooth.argmax(-1)], values[..., late].mean(-1), int(steps[-1]))


def smoothed(values: np.ndarray) -> np.ndarray:
    """Mean over every probe step and its neighbours, ``[..., T] -> [..., T]``; the ends have one neighbour.

    >>> smoothed(np.array([1.0, 4.0, 1.0, 1.0]))
    array([2.5, 2. , 2. , 1. ])
    """
    half = NEIGHBOURS // 2
    means = [values[..., max(k - half, 0) : k + half + 1].mean(-1) for k in range(values.shape[-1])]
    return np.stack(means, axis=-1)


def delays(first: Fall, second: Fall) -> np.ndarray:
    """``log(onset of one network / onset of another)``, mean over sizes, paired by seed, ``[seeds]``.

    A curve that never falls counts with the last step.
    """
    return np.log(first.counted / second.counted).mean(1)


def shallower(first: Fall, second: Fall) -> np.ndarray:
    """How much less one network falls than another: difference of ``log(end / peak)``, mean over sizes, ``[seeds]``."""
    return (first.logs - second.logs).mean(1)
