"""Loss and accuracy on the test set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from featurespeed.models.networks import Network
from featurespeed.training.ensemble import LOSSES
from featurespeed.training.progress import perplexity

TEST_BATCH = 500  # examples at a time
MOST_OUTPUTS = 2**27  # and at most so many numbers: those of a vocabulary are many


class HasTestSet(Protocol):
    """Test images ``[b, C, H, W]`` and labels ``[b]``, so many at a time, on the device of the networks' job."""

    def test_batches(self, size: int) -> Iterable[tuple[Tensor, Tensor]]: ...


@torch.no_grad()
def scores_on_test_set(
    final: list[tuple[list[int], Network]], stream: HasTestSet, loss: str, most: int | None = None
) -> dict[int, dict[str, float]]:
    """Member -> ``test_loss`` (mean over the examples) and ``test_accuracy`` (share of the images, or of the tokens).

    The images are gone through once, for all networks, because they may have to be read from the disk.

    Args:
        final: members and network of every group.
        stream: the batches of the job; of a text sequences of tokens and answers ``[b, T]``, which have a
            ``test_perplexity``, too, where it is a number.
        loss: name of the training loss.
        most: examples to look at, the first ones; all of them unless given.
    """
    if not final:
        return {}
    losses, hits, count, answers = [0.0] * len(final), [0] * len(final), 0, 0
    for x, y in first_examples(stream.test_batches(batch_of(final, stream)), most):
        count, answers = count + len(y), answers + y.numel()
        for place, (members, network) in enumerate(final):
            labels = y.expand(len(members), *y.shape)
            outputs = network.to(x.device)(x.expand(len(members), *x.shape))
            losses[place] = losses[place] + LOSSES[loss](outputs, labels).double() * len(y)
            hits[place] = hits[place] + (outputs.argmax(-1) == labels).flatten(1).sum(1)
    scores: dict[int, dict[str, float]] = {}
    for (members, _), sums, right in zip(final, losses, hits, strict=True):
        for index, member in enumerate(members):
            if torch.isfinite(sums[index]):
                mean, share = float(sums[index]) / count, float(right[index]) / answers
                scores[member] = {"test_loss": mean, "test_accuracy": share}
                if answers > count and math.isfinite(perplexity(mean)):
                    scores[member]["test_perplexity"] = perplexity(mean)
    return scores


def first_examples(batches: Iterable[tuple[Tensor, Tensor]], most: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches until there were so many examples."""
    left = math.inf if most is None else most
    for x, y in batches:
        own = min(left, len(y))
        yield x[:own], y[:own]
        left -= own
        if not left:
            return


def batch_of(final: list[tuple[list[int], Network]], stream: HasTestSet) -> int:
    """Examples at a time whose outputs fit into memory, those of the group that has most members."""
    x, _ = next(iter(stream.test_batches(1)))
    members, network = max(final, key=lambda group: len(group[0]))
    numbers = len(members) * network.to(x.device)(x.unsqueeze(0))[0].numel()
    return max(1, min(TEST_BATCH, MOST_OUTPUTS // numbers))
