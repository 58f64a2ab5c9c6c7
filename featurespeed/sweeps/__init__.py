"""Sweeps over widths, depths and learning rates: their settings, transfer and convergence."""
