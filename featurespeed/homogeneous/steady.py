"""The cross-entropy without cancellation, for networks that fit their minibatch almost perfectly."""

from __future__ import annotations

import torch
from torch import Tensor

from featurespeed.homogeneous.losses import CrossEntropy


class SteadyCrossEntropy(CrossEntropy):
    """As :class:`CrossEntropy`, with all digits where the probability ``p_y`` of the right class is close to 1, too.

    ``log p_y`` and ``p_y - 1`` would lose the difference from 1, so they are made of the other classes: with
    ``d_j = z_j - z_y``, the loss is ``log(1 + sum_{j != y} exp(d_j))``, and ``1 - p_y = sum_{j != y} p_j``. Second and
    third derivatives along a direction do not change when its entry at ``y`` is taken off.
    """

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        differences = self._from_right(z, y)
        others = self._others(differences.clamp(max=0).exp(), z, y).sum(-1)
        largest = differences.amax(-1)
        return torch.where(largest > 0, differences.logsumexp(-1), others.log1p()).mean(1)

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        others = self._others(z.softmax(-1), z, y)
        return others.scatter_add(-1, self._classes(z, y), -others.sum(-1, keepdim=True)) / z.shape[1]

    def second(self, z: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return super().second(z, y, self._from_right(u, y), self._from_right(v, y))

    def third(self, z: Tensor, y: Tensor, u: Tensor) -> Tensor:
        return super().third(z, y, self._from_right(u, y))

    def _from_right(self, z: Tensor, y: Tensor) -> Tensor:
        """Entries minus that of the right class."""
        return z - z.gather(-1, self._classes(z, y))

    def _others(self, values: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """Values of the wrong classes, 0 at the right one."""
        return values.scatter(-1, self._classes(z, y), 0.0)
