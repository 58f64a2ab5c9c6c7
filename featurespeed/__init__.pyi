"""The public names for type checkers and editors; the package itself loads a name when it is first used.

A stub, not a TYPE_CHECKING block: every stage depends on the code that its modules import, and would on all of these.
"""

from featurespeed.curvature.measure import hessian_trace as hessian_trace
from featurespeed.curvature.measure import sharpness as sharpness
from featurespeed.curvature.measure import spectral_density as spectral_density
from featurespeed.curvature.stability import Sharpness as Sharpness
from featurespeed.homogeneous.measure import soft_ranks as soft_ranks
from featurespeed.homogeneous.measure import taylor_coefficients as taylor_coefficients
from featurespeed.models.mlp import build_residual_mlp as build_residual_mlp
from featurespeed.own.coordinates import coordinate_check as coordinate_check
from featurespeed.own.measure import Measurement as Measurement
from featurespeed.own.measure import measure as measure
from featurespeed.own.monitor import Monitor as Monitor
from featurespeed.own.monitor import to_tensorboard as to_tensorboard
from featurespeed.own.monitor import to_wandb as to_wandb
from featurespeed.own.rates import BalancedRates as BalancedRates
from featurespeed.own.scale import autoscale as autoscale
from featurespeed.own.transfer import transfer_check as transfer_check
from featurespeed.probes.backward_speed import measure_backward_speed as measure_backward_speed
from featurespeed.probes.feature_speed import FeatureSpeed as FeatureSpeed
from featurespeed.probes.feature_speed import backward_feature_angle as backward_feature_angle
from featurespeed.probes.feature_speed import measure_feature_speed as measure_feature_speed
from featurespeed.probes.kernel import backward_feature_kernel as backward_feature_kernel
from featurespeed.probes.sampler import Network as Network
from featurespeed.probes.sampler import sample_networks as sample_networks

EXPORTS: dict[str, str]
__version__: str

def __dir__() -> list[str]: ...
