"""What is known of the paper. Apart from the package, so that no stage hangs on it."""

from featurespeed.papers.entries import Paper

PAPER = Paper(
    group="fsf",
    short="Feature speed",
    title="The Feature Speed Formula",
    authors="L. Chizat and P. Netrapalli",
    venue="NeurIPS 2024",
    arxiv="2311.18718",
    kept=False,
    known="the whole paper, and the notebook of its authors",
)
