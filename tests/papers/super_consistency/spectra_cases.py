"""Stage tables in which the claims about spectra hold."""

from __future__ import annotations

import pandas as pd

from tests.papers.super_consistency.transfer_cases import transfer_table
from tests.sweeps.spectra_cases import PLAIN, SKIPS, spectra

JACKKNIFED = 5  # seeds that a distance to the proxy needs for an interval


def all_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what the paper claims holds; NTP in the runs of Figure 1 is a control."""
    return {
        "sc_fig01": transfer_table(),
        "sc_fig02": spectra(),
        "sc_fig03": spectra(seeds=JACKKNIFED),
        "sc_fig23": spectra((PLAIN, SKIPS)),
    }
