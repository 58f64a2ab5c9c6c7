"""Figures 9, 11 and 27: where the sharpness settles, the Gauss-Newton eigenvalue, and curvature along the gradient.

The interval is the bootstrap over seeds.
"""

from __future__ import annotations

from collections.abc import Callable

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, register
from featurespeed.papers.super_consistency.shared import WITH_SKIPS, estimate, measured, told_apart
from featurespeed.sweeps.convergence import Curves, edge_ratio, interval, late_spread, rise, rise_ratio, unscaled

HESSIAN, GAUSS_NEWTON = "sharpness", "gauss_newton_eigenvalue"
DIRECTIONAL = "directional_sharpness"
DIRECTIONAL_NETWORKS = ("muP, no skips", "Depth-muP")
AT_THE_EDGE = Threshold(0.85, 1.15, 1.0)  # sharpness * eta_0 / 2


# --- Figure 9 ---------------------------------------------------------------------------------------------------------


def _settled(found: Curves) -> Estimate:
    late = found.late().mean(0) * found.rate / 2
    by_width = ", ".join(f"{width}: {value:.2f}" for width, value in zip(found.sizes, late, strict=True))
    return estimate(edge_ratio(found), found, f"by width {by_width}")


@statistic("sharpness over 2/learning rate, full batch, second half")
def full_batch(tables: Tables) -> Estimate:
    return _settled(measured(tables, "sc_fig09", tables["sc_fig09"]["series"].iloc[0], HESSIAN))


@statistic("sharpness over 2/learning rate, full batch, initialisation")
def initial(tables: Tables) -> Estimate:
    found = measured(tables, "sc_fig09", tables["sc_fig09"]["series"].iloc[0], HESSIAN)
    first = found.values[..., 0] * found.rate / 2
    return estimate(lambda chosen: float(first[chosen].mean()), found, f"step {found.steps[0]}")


@statistic("sharpness over 2/learning rate, minibatches and augmentation, if they tell")
def minibatches(tables: Tables) -> Estimate:
    """Late sharpness of the residual network of Figure 23, trained as Figure 9's list of settings says, but for B."""
    claimed = _settled(measured(tables, *WITH_SKIPS, HESSIAN))
    return told_apart(claimed, full_batch(tables), AT_THE_EDGE, "with minibatches and with the full batch the ratio is")


# --- Figure 11 --------------------------------------------------------------------------------------------------------


def _rise_ratio(above: str, below: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        found = {label: measured(tables, "sc_fig11", label, GAUSS_NEWTON) for label in (above, below)}
        first, second = found.values()
        if first.sizes[-1] != second.sizes[-1] or first.seeds != second.seeds:
            raise Undecidable(f"{above} and {below} have different widths or seeds")
        estimated = interval(rise_ratio(first, second), first.seeds)
        note = "; ".join(
            f"{label}: rise {rise(own)(slice(None)):.3g} at learning rate {own.rate:g}" for label, own in found.items()
        )
        return as_estimate(estimated, f"width {first.sizes[-1]}; {note}")

    return compute


register("rise of the Gauss-Newton eigenvalue at the largest width, muP over NTP", _rise_ratio("muP", "NTP"))
register("rise of the Gauss-Newton eigenvalue at the largest width, NTP over muP", _rise_ratio("NTP", "muP"))


# --- Figure 27 --------------------------------------------------------------------------------------------------------


def _late(label: str, scaled: bool) -> Callable[[Tables], Estimate]:
    """CV of the curvature of gamma^2 H along the gradient, or of that of H itself."""

    def compute(tables: Tables) -> Estimate:
        found = measured(tables, "sc_fig27", label, DIRECTIONAL)
        return estimate(late_spread(found if scaled else unscaled(found)), found)

    return compute


for _label in DIRECTIONAL_NETWORKS:
    register(f"CV over widths of the late directional sharpness, {_label}", _late(_label, scaled=True))
    register(f"CV over widths of the late directional sharpness of H, {_label}", _late(_label, scaled=False))
