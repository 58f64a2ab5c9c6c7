"""Facts that several rooms of this paper set beside their runs."""

from featurespeed.papers.entries import Setting

SAMPLER = Setting("Exact samples for mean and bands", "none", "seeds:sampler")
