"""Small settings of the stage of the Taylor coefficients."""

from typing import Any

TAYLOR: dict[str, Any] = {
    "artefact": "beos_fig6", "cases": {"architectures": 14, "networks": 2}, "data": {"name": "digits"}, "layers": 4,
    "network": {"pattern": 2, "parameters": 5000}, "scaling": "rel1", "kappa": 8, "batch_size": 32, "steps": 20,
    "probe_steps": [0, 20], "edge_images": 32, "step_sizes": [0.01, 1, 2], "seeds": 2, "seed": 1,
}  # fmt: skip
