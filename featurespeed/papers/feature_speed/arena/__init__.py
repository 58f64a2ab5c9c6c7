"""Where layer-wise scaling helps: schemes of scaling against each other, on networks as people write them (ours)."""
