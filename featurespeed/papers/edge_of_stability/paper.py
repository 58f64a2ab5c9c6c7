"""What is known of the paper. Apart from the package, so that no stage hangs on it."""

from featurespeed.papers.entries import Paper

PAPER = Paper(
    group="beos",
    short="Beyond the edge",
    title="Feature Learning Beyond the Edge of Stability",
    authors="D. Terjék",
    venue="preprint",
    arxiv="2502.13110",
    known="the abstracts of its two versions",
)
