"""Seeds: every random stream is named, derived from the spec's seed, and passed in."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(root: int, *names: int | str) -> int:
    """A seed for the stream ``names`` under ``root``: stable over runs, machines and Python versions.

    Streams of different names are independent for all practical purposes (SHA-256 of the names).

    >>> derive_seed(0, "weights", 3) == derive_seed(0, "weights", 3) != derive_seed(0, "weights", 4)
    True
    """
    text = "/".join(str(part) for part in (root, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for the stream ``names`` under ``root`` on ``device``."""
    return torch.Generator(device=device).manual_seed(derive_seed(root, *names))
