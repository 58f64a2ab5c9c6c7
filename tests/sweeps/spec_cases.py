"""Small settings of training over sizes."""

from __future__ import annotations

from featurespeed.sweeps.spec import SweepSpec

NETWORK = {
    "model": {"kind": "convnet", "depth": 2},
    "parameterization": "MUP",
    "learning_rates": [0.5, 1.0, 2.0],
    "batch_size": 16,
}
SWEEP = {
    "artefact": "sweep",
    "data": {"name": "digits"},
    "networks": {"muP": NETWORK},
    "widths": [4, 8],
    "steps": 20,
    "probe_steps": [0, 10, 20],
    "curvature": {"quantities": ["sharpness"], "images": 16},
    "seeds": 2,
    "seed": 0,
}


def sweep(kind: type[SweepSpec] = SweepSpec, network: dict | None = None, **changes) -> SweepSpec:
    networks = {"muP": NETWORK | (network or {})}
    return kind.model_validate(SWEEP | {"networks": networks} | changes)
