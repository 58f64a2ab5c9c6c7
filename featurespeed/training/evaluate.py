"""Loss and accuracy on the test set."""

from __future__ import annotations

import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.training.ensemble import LOSSES

TEST_BATCH = 500  # images at a time


@torch.no_grad()
def scores_on_test_set(
    final: list[tuple[list[int], Network]], test: tuple[Tensor, Tensor], loss: str
) -> dict[int, dict[str, float]]:
    """Member -> ``test_loss`` (mean over the images) and ``test_accuracy`` (share of them).

    Args:
        final: members and network of every group.
        test: images ``[n, C, H, W]`` and labels ``[n]``.
        loss: name of the training loss.
    """
    scores: dict[int, dict[str, float]] = {}
    for members, network in final:
        network = network.to(test[0].device)
        losses = hits = torch.zeros((), device=test[0].device)
        for x, y in zip(test[0].split(TEST_BATCH), test[1].split(TEST_BATCH), strict=True):
            labels = y.expand(len(members), -1)
            outputs = network(x.expand(len(members), *x.shape))
            losses = losses + LOSSES[loss](outputs, labels).double() * len(y)
            hits = hits + (outputs.argmax(-1) == labels).sum(1)
        for index, member in enumerate(members):
            mean, share = float(losses[index]) / len(test[1]), float(hits[index]) / len(test[1])
            if torch.isfinite(losses[index]):
                scores[member] = {"test_loss": mean, "test_accuracy": share}
    return scores
