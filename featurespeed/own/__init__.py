"""Tools for people's own networks: measure, check coordinates, check whether learning rates transfer, scale."""
