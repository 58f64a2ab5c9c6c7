"""Feature speed, backward-feature angles and hyper-parameter scalings of deep networks.

Importing the package is cheap: a name of `EXPORTS` loads its module, and torch with it, when it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

# Public name -> module that holds it.
EXPORTS: dict[str, str] = {
    "sharpness": "featurespeed.curvature.measure",
    "hessian_trace": "featurespeed.curvature.measure",
    "spectral_density": "featurespeed.curvature.measure",
    "taylor_coefficients": "featurespeed.homogeneous.measure",
    "soft_ranks": "featurespeed.homogeneous.measure",
    "FeatureSpeed": "featurespeed.probes.feature_speed",
    "backward_feature_angle": "featurespeed.probes.feature_speed",
    "Sharpness": "featurespeed.curvature.stability",
    "autoscale": "featurespeed.own.scale",
    "BalancedRates": "featurespeed.own.rates",
    "Monitor": "featurespeed.own.monitor",
    "to_tensorboard": "featurespeed.own.monitor",
    "to_wandb": "featurespeed.own.monitor",
    "coordinate_check": "featurespeed.own.coordinates",
    "transfer_check": "featurespeed.own.transfer",
    "measure": "featurespeed.own.measure",
    "Measurement": "featurespeed.own.measure",
    "measure_feature_speed": "featurespeed.probes.feature_speed",
    "backward_feature_kernel": "featurespeed.probes.kernel",
    "measure_backward_speed": "featurespeed.probes.backward_speed",
    "build_residual_mlp": "featurespeed.models.mlp",
    "Network": "featurespeed.probes.sampler",
    "sample_networks": "featurespeed.probes.sampler",
}

__all__ = ["__version__", *EXPORTS]


def __getattr__(name: str) -> object:
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
