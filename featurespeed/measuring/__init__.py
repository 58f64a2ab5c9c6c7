"""What the measuring functions share: which models, losses and batches they take, and how they say no."""
