"""Curvature of a loss: operators know model, loss and batch; algorithms know their products with vectors only."""
