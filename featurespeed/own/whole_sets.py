"""A data set of this project as the data of a user's own model: all training examples at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def whole_set(npz: Path, settings: Mapping[str, Any], one_hot: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs and targets of all training examples.

    Args:
        npz: what the data stage has written.
        settings: of the set, as in :class:`featurespeed.data.spec.DataSpec` or ``TextSpec``.
        one_hot: classes as vectors of numbers, for a squared error.
        device: of both.

    Returns:
        Of images float32 ``[n, channels, height, width]`` and classes ``[n]``; of a text tokens and, for each, the one
        that follows, int64 ``[n, length]``.

    Raises:
        DataError: the file is missing or altered.
    """
    # Imported here: they need pydantic, which the tools for one's own networks do without.
    from featurespeed.data.spec import data_spec
    from featurespeed.data.store import TextData, load_dataset

    data, spec = load_dataset(npz), data_spec(settings)
    stream = _text(data, spec, device) if isinstance(data, TextData) else _images(data, spec, device)
    inputs, targets = (part[0] for part in stream.batch(0))  # the full batch of one stream
    if one_hot:
        return inputs, nn.functional.one_hot(targets, data.classes).to(inputs.dtype)
    return inputs, targets


def _images(data: Any, spec: Any, device: torch.device) -> Any:
    from featurespeed.data.batches import BatchStream
    from featurespeed.data.subset import stratified_subset
    from featurespeed.randomness import derive_seed

    rows: Any = slice(None)
    if spec.examples is not None:
        rows = stratified_subset(data.y_train, spec.examples, derive_seed(0, "subset"))
    return BatchStream(
        data.x_train[rows], data.y_train[rows], seeds=[0], batch_size=None, pixel_maximum=data.pixel_maximum,
        device=device, downscale=spec.downscale, pixels=spec.pixels,
    )  # fmt: skip


def _text(data: Any, spec: Any, device: torch.device) -> Any:
    from featurespeed.data.tokens import SequenceStream

    return SequenceStream(data.train[: spec.tokens], data.test, spec.length, seeds=[0], batch_size=None, device=device)
