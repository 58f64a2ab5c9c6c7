"""Statistics of the claims of the second paper (arXiv:2402.17457); importing the package registers them.

The criteria stand in ``workflow/claims/super_consistency.yaml``. The independent unit is the seed; an identity returns
its largest error.
"""

from featurespeed.claims.super_consistency import along_training, coordinates, curvature, exponents, forms

__all__ = ["along_training", "coordinates", "curvature", "exponents", "forms"]
