"""Facts that several rooms of this paper set beside their runs."""

OURS = "ours, after the abstract"
NOT_KNOWN = "not known"
QUADRATIC = "abstract only: polynomial; beyond the edge quadratic"
SCALING = "abstract only: a depth-wise scaling; formula not known"
