"""Homogeneous networks, depth-wise scaling of gradients, Taylor coefficients of the loss (for arXiv:2502.13110).

Of that paper only the abstract is known to us. The formulas in here are our reconstruction of what it announces.
"""
