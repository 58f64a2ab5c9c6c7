"""Small float64 jobs of scaled descent on images that a network can learn."""

from __future__ import annotations

from typing import Any

import torch

from featurespeed.data.batches import BatchStream
from featurespeed.homogeneous.build import network_builder
from featurespeed.homogeneous.descent import Descent
from featurespeed.homogeneous.spec import DescentSpec
from featurespeed.randomness import generator

SHAPE, CLASSES, IMAGES = (1, 4, 4), 3, 96
JOB: dict[str, Any] = {
    "run": "test",
    "data": {"name": "digits"},
    "kind": "mlp",
    "layers": 4,
    "hidden": [6, 9, 12],
    "scaling": "rel1",
    "schedule": "constant",
    "kappas": [0.5, 4.0],
    "batch_size": 16,
    "steps": 20,
    "record_every": 5,
    "probe_steps": [0, 10, 20],
    "curvature_images": 12,
    "rank_images": 24,
    "dtype": "float64",
    "seeds": 2,
    "seed": 3,
}


def make_spec(**changes: Any) -> DescentSpec:
    """A job of two kappas and two seeds."""
    return DescentSpec.model_validate(JOB | changes)


def make_stream(spec: DescentSpec) -> BatchStream:
    """Noisy images of three classes, and 20 more as the test set."""
    drawn = generator(0, "descent", "images")
    y = torch.randint(CLASSES, (IMAGES + 20,), generator=drawn)
    means = torch.randint(0, 200, (CLASSES, *SHAPE), generator=drawn)
    x = (means[y] + torch.randint(0, 56, (len(y), *SHAPE), generator=drawn)).to(torch.uint8)
    return BatchStream(
        x[:IMAGES], y[:IMAGES], seeds=[spec.seed], batch_size=spec.batch_size, test=(x[IMAGES:], y[IMAGES:]),
        dtype=torch.float64 if spec.dtype == "float64" else torch.float32, pixels="mean_image_removed",
    )  # fmt: skip


def make_descent(spec: DescentSpec, **options: Any) -> Descent:
    """The job, ready to run."""
    stream = make_stream(spec)
    return Descent(spec, network_builder(spec, SHAPE, CLASSES, stream.device, stream.dtype), stream, **options)


def descend(spec: DescentSpec, **options: Any) -> list[dict[str, Any]]:
    """Rows of the job."""
    return make_descent(spec, **options).run()


def values(rows: list[dict[str, Any]], quantity: str, member: int = 0, **keys: Any) -> dict[int, float]:
    """Step -> value of one quantity of one member."""
    wanted = {"quantity": quantity, "member": member} | keys
    return {row["step"]: row["value"] for row in rows if all(row.get(key) == value for key, value in wanted.items())}


def with_change(block: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The block with one of its keys, named by a dotted path, set or (None) left out."""
    key, _, rest = path.partition(".")
    if rest:
        return block | {key: with_change(block.get(key, {}), rest, value)}
    return {name: own for name, own in block.items() if name != key} if value is None else block | {key: value}
