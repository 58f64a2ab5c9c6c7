"""Loss and accuracy on the test set."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.progress import perplexity

TEST_BATCH = 500  # examples at a time
MOST_OUTPUTS = 2**27  # and at most so many numbers: those of a vocabulary are many


@torch.no_grad()
def scores_on_test_set(
    final: list[tuple[list[int], Network]], test: tuple[Tensor, Tensor], loss: str
) -> dict[int, dict[str, float]]:
    """Member -> ``test_loss`` (mean over the examples) and ``test_accuracy`` (share of the images, or of the tokens).

    Args:
        final: members and network of every group.
        test: images ``[n, C, H, W]`` and labels ``[n]``; sequences of tokens ``[n, T]`` and answers ``[n, T]``, which
            have a ``test_perplexity``, too, where it is a number.
        loss: name of the training loss.
    """
    scores: dict[int, dict[str, float]] = {}
    for members, network in final:
        network = network.to(test[0].device)
        losses = hits = torch.zeros((), device=test[0].device)
        size = batch_of(network, test)
        for x, y in zip(test[0].split(size), test[1].split(size), strict=True):
            labels = y.expand(len(members), *y.shape)
            outputs = network(x.unsqueeze(0))
            losses = losses + LOSSES[loss](outputs, labels).double() * len(y)
            hits = hits + (outputs.argmax(-1) == labels).flatten(1).sum(1)
        for index, member in enumerate(members):
            mean, share = float(losses[index]) / len(test[1]), float(hits[index]) / test[1].numel()
            if torch.isfinite(losses[index]):
                scores[member] = {"test_loss": mean, "test_accuracy": share}
                if test[1].ndim > 1 and math.isfinite(perplexity(mean)):
                    scores[member]["test_perplexity"] = perplexity(mean)
    return scores


def batch_of(network: Network, test: tuple[Tensor, Tensor]) -> int:
    """Examples at a time whose outputs fit into memory."""
    numbers = network.members * network(test[0][:1].unsqueeze(0))[0].numel()
    return max(1, min(TEST_BATCH, MOST_OUTPUTS // numbers))
