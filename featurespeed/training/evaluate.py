"""Loss and accuracy on the test set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.training.ensemble import LOSSES

TEST_BATCH = 500  # images at a time


class HasTestSet(Protocol):
    """Test images ``[b, C, H, W]`` and labels ``[b]``, so many at a time, on the device of the networks' job."""

    def test_batches(self, size: int) -> Iterable[tuple[Tensor, Tensor]]: ...


@torch.no_grad()
def scores_on_test_set(
    final: list[tuple[list[int], Network]], stream: HasTestSet, loss: str
) -> dict[int, dict[str, float]]:
    """Member -> ``test_loss`` (mean over the images) and ``test_accuracy`` (share of them).

    The images are gone through once, for all networks, because they may have to be read from the disk.

    Args:
        final: members and network of every group.
        stream: the batches of the job.
        loss: name of the training loss.
    """
    if not final:
        return {}
    losses, hits, count = [0.0] * len(final), [0] * len(final), 0
    for x, y in stream.test_batches(TEST_BATCH):
        count += len(y)
        for place, (members, network) in enumerate(final):
            labels = y.expand(len(members), -1)
            outputs = network.to(x.device)(x.expand(len(members), *x.shape))
            losses[place] = losses[place] + LOSSES[loss](outputs, labels).double() * len(y)
            hits[place] = hits[place] + (outputs.argmax(-1) == labels).sum(1)
    scores: dict[int, dict[str, float]] = {}
    for (members, _), sums, right in zip(final, losses, hits, strict=True):
        for index, member in enumerate(members):
            if torch.isfinite(sums[index]):
                mean, share = float(sums[index]) / count, float(right[index]) / count
                scores[member] = {"test_loss": mean, "test_accuracy": share}
    return scores
