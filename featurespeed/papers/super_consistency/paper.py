"""What is known of the paper. Apart from the package, so that no stage hangs on it."""

from featurespeed.papers.entries import Paper

PAPER = Paper(
    group="sc",
    short="Super consistency",
    title="Super Consistency of Neural Network Landscapes and Learning Rate Transfer",
    authors="L. Noci, A. Meterez, T. Hofmann and A. Orvieto",
    venue="NeurIPS 2024",
    arxiv="2402.17457",
    repository="lorenzonoci/nn_large_depth_width_landscape",
)
