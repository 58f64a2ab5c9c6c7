"""Stage tables in which the claims about spectra hold."""

from __future__ import annotations

import pandas as pd

from tests.sweeps.spectra_cases import PLAIN, SKIPS, spectra


def all_tables() -> dict[str, pd.DataFrame]:
    """Artefact -> table in which what the paper claims holds."""
    return {"sc_fig02": spectra(), "sc_fig03": spectra(), "sc_fig23": spectra((PLAIN, SKIPS))}
