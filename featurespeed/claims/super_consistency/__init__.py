"""Statistics of the claims of the second paper (arXiv:2402.17457); importing the package registers them.

The criteria stand in ``workflow/claims/super_consistency*.yaml``. The independent unit is the seed; an identity returns
its largest error.
"""

from featurespeed.claims.super_consistency import (
    along_training,
    along_widths,
    bridge,
    coordinates,
    curvature,
    early,
    edge,
    exponents,
    forms,
    spectra,
    transfer,
    two_layer,
)

__all__ = [
    "along_training", "along_widths", "bridge", "coordinates", "curvature", "early", "edge", "exponents", "forms",
    "spectra", "transfer", "two_layer",
]  # fmt: skip
