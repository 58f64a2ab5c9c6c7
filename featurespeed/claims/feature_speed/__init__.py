"""Statistics of the claims of the first paper (arXiv:2311.18718); importing the package registers them.

The criteria stand in ``workflow/claims/feature_speed.yaml``. Each statistic reads the long stage tables of a run and
returns an :class:`~featurespeed.claims.engine.Estimate`; the independent unit is the seed, and an identity returns its
largest error.
"""

from featurespeed.claims.feature_speed import angles, scalings, theorems

__all__ = ["angles", "scalings", "theorems"]
