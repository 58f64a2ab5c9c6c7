"""How many operations the measurements along a training job take, and the job in parts of so many; nothing is built."""

from __future__ import annotations

from featurespeed.training.curvature_spec import SharpnessSpec
from featurespeed.training.operations import gradient_flop, layers_of_job

# --- assumed ----------------------------------------------------------------------------------------------------------

#: A product of the Hessian with a vector, in gradients (1.5 to 2.2 in docs/benchmarks.md); also one of its parts.
PRODUCT = 2.0
#: Products of a warm measurement of one eigenvalue and of ten, of the member that needs most; between them a straight
#: line. A cold one takes a few more.
WARM_PRODUCTS, WARM_PRODUCTS_OF_TEN, MORE_PRODUCTS_COLD = 11, 42, 3
#: Gradients of measurements without an eigenvalue; a forward pass is a third of a gradient.
RESIDUAL_NORM, FEATURE_SPEED, DIRECTIONAL = 1 / 3, 4.0, PRODUCT + 1


def products_of(eigenvalues: int, cold: bool) -> float:
    """Products that so many of the largest eigenvalues take."""
    warm = WARM_PRODUCTS + (WARM_PRODUCTS_OF_TEN - WARM_PRODUCTS) * (eigenvalues - 1) / 9
    return warm + MORE_PRODUCTS_COLD * cold


def gradients_of(spec: SharpnessSpec) -> tuple[float, float]:
    """Gradients of all measurements of one network: those that may be in TF32, and those in full precision."""
    curvature, steps = spec.curvature, len(spec.steps)
    others = {"residual_norm": RESIDUAL_NORM, "feature_speed": FEATURE_SPEED, "directional_sharpness": DIRECTIONAL}
    others["hessian_trace"] = curvature.trace_vectors * PRODUCT
    trained = sum(layer.learns for layer in layers_of_job(spec.training))
    rounded, full = 0.0, 0.0
    for quantity in curvature.quantities:
        if quantity in others:
            full += steps * others[quantity]
            continue
        k = curvature.eigenvalues if quantity in ("sharpness", "ntk_eigenvalue") else 1
        operators = trained if quantity == "layer_sharpness" else 1
        # Adam has no preconditioner before its first update.
        times = steps - (quantity == "preconditioned_sharpness" and 0 in spec.steps)
        series, checks = max(times - 1, 0), max(times - 1, 0) // curvature.cold_every
        rounded += operators * PRODUCT * (series * products_of(k, cold=False) + products_of(k, cold=True))
        full += operators * PRODUCT * checks * products_of(k, cold=True)
    return rounded, full


def gradient_flop_of(spec: SharpnessSpec) -> float:
    """Operations of one gradient of all measured networks on the batch."""
    return len(spec.members) * spec.curvature.images * gradient_flop(layers_of_job(spec.training))


def split_by_seeds(spec: SharpnessSpec, most: float) -> list[SharpnessSpec]:
    """A measurement in parts of at most ``most`` operations, of as many seeds each as that allows and of one at least.

    Itself where it takes no more.
    """
    flop = gradient_flop_of(spec) * sum(gradients_of(spec))
    seeds = spec.seeds or list(range(spec.training.seeds))
    if flop <= most or len(seeds) == 1:
        return [spec]
    own = max(1, int(most / flop * len(seeds)))
    return [spec.model_copy(update={"seeds": seeds[start : start + own]}) for start in range(0, len(seeds), own)]
