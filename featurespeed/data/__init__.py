"""Data sets: where they come from, proof that they are what they say, and batches of them on any device."""
