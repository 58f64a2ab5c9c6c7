"""Stratified subsets: every class with its share, the choice fixed by a seed."""

from __future__ import annotations

import numpy as np


def stratified_subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices, int64 [count], ascending, of a random subset in which every class has the share it has in `labels`.

    Shares that are no whole numbers are rounded by largest remainder, ties drawn by the seed: in a balanced set the
    classes differ by one image at most. Raises ValueError for a count below 1 or above the number of labels.

    >>> stratified_subset(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0).shape
    (3,)
    """
    labels = np.asarray(labels)
    if not 1 <= count <= len(labels):
        raise ValueError(f"a subset of {count} of {len(labels)} examples: must be 1 to {len(labels)}")
    # Raw words of the bit generator: unlike `permutation`, their values are promised for every version of numpy.
    rank = np.random.Philox(seed).random_raw(len(labels))
    classes, sizes = np.unique(labels, return_counts=True)
    chosen = []
    for label, share in zip(classes, _shares(sizes, count, seed), strict=True):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(rank[members], kind="stable")[:share]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _shares(sizes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """How many of each class: whole numbers with sum `count`, each at most its class's size."""
    shares, remainders = np.divmod(sizes * count, sizes.sum())
    ties = np.random.Philox([seed, 1]).random_raw(len(sizes))
    order = np.lexsort((ties, -remainders))
    shares[order[: count - shares.sum()]] += 1
    return shares
