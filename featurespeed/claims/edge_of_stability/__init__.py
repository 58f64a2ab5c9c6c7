"""Statistics of the claims of the third paper (arXiv:2502.13110); importing the package registers them.

The criteria stand in ``workflow/claims/edge_of_stability*.yaml``. Of the paper only its abstract is known to us:
models, formulas, settings and thresholds are our reconstruction, and each criterion says which part of it the abstract
states. The independent unit is the seed; an identity, or a bound that holds always, returns its largest error or value.
"""

from featurespeed.claims.edge_of_stability import bridge, coefficients, features, rates, stability

__all__ = ["bridge", "coefficients", "features", "rates", "stability"]
