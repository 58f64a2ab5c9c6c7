"""L. Chizat and P. Netrapalli, *The Feature Speed Formula* (arXiv:2311.18718)."""
