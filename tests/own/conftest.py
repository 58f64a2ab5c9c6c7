"""Shared by the tests of the tools for one's own models."""

from __future__ import annotations

import pytest

from tests.own.networks import complete_torchvision


@pytest.fixture(scope="session")
def torchvision_loads() -> object:
    """torchvision, which timm and parts of transformers import, also where it was built for another build of torch.

    A torchvision for CUDA beside a torch for the CPU finds none of its operations, and its import then fails at two
    of them. The networks of the tests use neither, so that their names are enough.
    """
    complete_torchvision()
    import torchvision

    return torchvision
