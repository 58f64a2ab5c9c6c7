"""Artefact tables of Figures 17, 18 and 19 of the second paper (arXiv:2402.17457)."""

from __future__ import annotations

import pandas as pd

from featurespeed.drawing.tabulate import artefact_table
from featurespeed.drawing.transfer_rows import transfer_parts


def tabulate(records: pd.DataFrame) -> pd.DataFrame:
    """Transfer of the learning rate, sharpness and loss along training of every network over its width or depth, in
    panels ``<kind> | <network>``, without the seeds of which a network failed at the learning rate shown.
    """
    return artefact_table(*transfer_parts(records, leave_out=True))
