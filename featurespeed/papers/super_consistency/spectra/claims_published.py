"""Figures 2, 3 and 23 beside the points read off the authors' own plots.

The controls ascribe the points to other curves of the same runs, of which they must not hold. Where the quantities
depend on the width (loss, NTK, trace) these are the curves of another width. The largest eigenvalues of the Hessian
hardly do, which is what the paper claims, so that another width could not fail: in Figure 2 it is another eigenvalue.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register
from featurespeed.papers.super_consistency.agreement import (
    difference,
    not_at_their_rate,
    of_another_eigenvalue,
    of_another_width,
    share_within,
)
from featurespeed.papers.super_consistency.published import published_points
from featurespeed.papers.super_consistency.shared import HESSIAN, decidable, network, without_failed_seeds
from featurespeed.papers.super_consistency.spectra.claims import PLAIN
from featurespeed.sweeps.transfer import settings

Ascribe = Callable[[pd.DataFrame], pd.DataFrame]


def _share(artefact: str, figure: str, ascribe: Ascribe = lambda points: points) -> Callable[[Tables], Estimate]:
    """Share of the points of a figure that our curves meet, as they are or ascribed to other curves."""

    def compute(tables: Tables) -> Estimate:
        rows, left_out = without_failed_seeds(network(tables, artefact, PLAIN), HESSIAN)
        other = difference(settings(tables[artefact]), PLAIN) or not_at_their_rate(rows)
        if other:
            raise Undecidable(other)
        found = share_within(rows, ascribe(published_points(figure)))
        with decidable(f"points of Fig. {figure}"):
            return as_estimate(found.interval(), found.note() + left_out)

    return compute


for _artefact, _figure, _other, _ascribe in (
    ("sc_fig02", "2", "eigenvalue", of_another_eigenvalue),
    ("sc_fig03", "3", "width", of_another_width),
    ("sc_fig23", "23", "width", of_another_width),
):
    _name = f"share of the points of the authors' Fig. {_figure} within 3 standard deviations"
    register(_name, _share(_artefact, _figure))
    register(f"{_name}, of another {_other}", _share(_artefact, _figure, _ascribe))
