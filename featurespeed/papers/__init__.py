"""What the papers did: the facts that the page sets beside each run.

A setting names one choice of a paper and says where this run's own value is found: ``column:NAME`` (values of a column
of the stage table), ``spec:NAME`` (a setting stored in the table; ``NAME.KEY`` inside a block), ``seeds:ESTIMATOR``
(seeds behind one point), ``series``, or ``text:...``. The page therefore shows what the records hold, not what somebody
meant to run.
"""

from __future__ import annotations

from collections.abc import Mapping

from featurespeed.papers import bridge, checks, edge_of_stability, feature_speed, spectra, theory, transfer
from featurespeed.papers.entries import ArtefactFacts, Paper, Setting

__all__ = ["FACTS", "PAPERS", "ArtefactFacts", "Paper", "Setting"]

PAPERS: tuple[Paper, ...] = (
    Paper(
        "fsf",
        "Feature speed",
        "The Feature Speed Formula",
        "L. Chizat and P. Netrapalli",
        "NeurIPS 2024",
        "2311.18718",
    ),
    Paper(
        "sc",
        "Super consistency",
        "Super Consistency of Neural Network Landscapes and Learning Rate Transfer",
        "L. Noci, A. Meterez, T. Hofmann and A. Orvieto",
        "NeurIPS 2024",
        "2402.17457",
    ),
    Paper(
        "beos",
        "Beyond the edge",
        "Feature Learning Beyond the Edge of Stability",
        "D. Terjék",
        "preprint",
        "2502.13110",
    ),
)

FACTS: Mapping[str, ArtefactFacts] = (
    feature_speed.FACTS
    | transfer.FACTS
    | spectra.FACTS
    | theory.FACTS
    | checks.FACTS
    | bridge.FACTS
    | edge_of_stability.FACTS
)
