"""Statistics of the claims about the theorems of arXiv:2311.18718, tested directly on small networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import (
    Tables,
    as_estimate,
    identity,
    largest_estimate,
    mean_difference,
    mean_estimate,
    register,
    select,
    slope,
)
from featurespeed.papers.feature_speed.shared import cosines
from featurespeed.statistics import proportion_interval, ratio_interval

PAIR = ("MLP", "ResNet")


def _batch_exponent(n_inputs_of_batch: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="batch")
        return slope(rows[(rows["n_inputs"] > 1) == n_inputs_of_batch], "depth")

    return compute


register("exponent of theta in L, beta=1/L, batch of inputs", _batch_exponent(True))


register("exponent of theta in L, beta=1/L, one input", _batch_exponent(False))


# --- Theorem 3.2 ------------------------------------------------------------------------------------------------------


def _kernel(tables: Tables) -> pd.DataFrame:
    """Cosine, M1/sqrt(M2) and condition number, one row a seed; columns ``(quantity, series)``."""
    rows = select(tables["fsf_theorems"], case="kernel")
    return rows.pivot_table(index="seed", columns=["quantity", "series"], values="value")


def _bound_over_the_cosine(case: str) -> Callable[[Tables], Estimate]:
    """Largest excess of ``lambda_min/lambda_max`` over a cosine."""

    def compute(tables: Tables) -> Estimate:
        cosines_of = select(tables["fsf_theorems"], case=case, quantity="cos_bfa")
        cosine = cosines_of.pivot_table(index="seed", columns="series", values="value")
        return identity((_kernel(tables)["kernel_condition"] - cosine).clip(lower=0.0).stack())

    return compute


register("kernel condition minus cos theta", _bound_over_the_cosine("kernel"))


register(
    "kernel condition minus the cosine with another network's backward pass",
    _bound_over_the_cosine("kernel, another network"),
)


@statistic("largest distance of cos theta over M1/sqrt(M2) from 1, MLP and ResNet")
def angle_of_a_kernel(tables: Tables) -> Estimate:
    """Of MLP and ResNet, so that their deviations cannot cancel."""
    kernel = _kernel(tables)
    ratios = kernel["cos_bfa"] / kernel["kernel_ratio"]
    means = ", ".join(f"{name} {mean:.3f}" for name, mean in ratios.mean().items())
    return largest_estimate(ratios.to_numpy(), 1.0, f"means {means}")


@statistic("largest distance of cos theta over M1/sqrt(M2) of the other network from 1")
def angle_of_another_kernel(tables: Tables) -> Estimate:
    kernel = _kernel(tables)
    ratios = [kernel["cos_bfa", one] / kernel["kernel_ratio", other] for one, other in (PAIR, PAIR[::-1])]
    return largest_estimate(np.stack(ratios, axis=1), 1.0)


# --- Proposition 4.1 --------------------------------------------------------------------------------------------------


def _sensitivity_of_one(series: str) -> Callable[[Tables], Estimate]:
    """Largest ``|S - 1|`` over depths and seeds."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="automatic scaling", series=series, quantity="feature_sensitivity")
        return identity((rows["value"] - 1).abs())

    return compute


for _series in ("MLP", "ResNet", "MLP, readout 1/m", "ResNet, readout 1/m"):
    register(f"largest |S - 1|, {_series}", _sensitivity_of_one(_series))


# --- Theorem 2.1 and signs --------------------------------------------------------------------------------------------


def _formula(series: str, case: str) -> Callable[[Tables], Estimate]:
    return lambda tables: identity(select(tables["fsf_theorems"], case=case, series=series)["value"])


for _series in ("MLP", "ResNet"):
    register(f"formula error, {_series}", _formula(_series, "formula"))
    register(f"formula error against the step before, {_series}", _formula(_series, "formula, the step before"))


def _loss_velocity(case: str) -> Callable[[Tables], Estimate]:
    return lambda tables: identity((select(tables["fsf_theorems"], case=case)["value"] + 1).abs())


register("loss velocity against minus the loss decay", _loss_velocity("loss velocity"))


register(
    "loss velocity under another network's descent against minus the loss decay",
    _loss_velocity("loss velocity, another network"),
)


# --- Section 6 and appendices -----------------------------------------------------------------------------------------


def _growth(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="forward growth", series=series)
        return mean_estimate(rows["value"].to_numpy())

    return compute


for _series in ("sqrt(2/m)", "2/sqrt(m)"):
    register(f"growth of log2 rms(f) a layer, {_series}", _growth(_series))


def _backward_speed(loss: str, quantity: str) -> Callable[[Tables], pd.DataFrame]:
    return lambda tables: select(tables["fsf_theorems"], case=f"backward speed, {loss}", quantity=quantity)


def _backward_formula_error(loss: str) -> Callable[[Tables], Estimate]:
    return lambda tables: identity(_backward_speed(loss, "formula_error")(tables)["value"])


for _loss in ("linear loss", "quadratic loss"):
    register(f"error of the backward speed formula, {_loss}", _backward_formula_error(_loss))


def _obtuse(loss: str) -> Callable[[Tables], Estimate]:
    """Share of seeds at which both networks, MLP and ResNet, have a backward-speed angle beyond pi/2 at some node."""

    def compute(tables: Tables) -> Estimate:
        rows = _backward_speed(loss, "backward_speed_angle")(tables)
        largest = rows.groupby(["seed", "series"])["value"].max() > math.pi / 2 + 1e-6
        both = largest.groupby("seed").all()
        return as_estimate(proportion_interval(int(both.sum()), len(both)))

    return compute


for _loss in ("linear loss", "quadratic loss, near target"):
    register(f"share of seeds with obtuse angles, {_loss}", _obtuse(_loss))


def _distance_exponent(series: str) -> Callable[[Tables], Estimate]:
    """Exponent of the cosine between f_v and -db_v/dt in L - v, 4 <= L - v."""

    def compute(tables: Tables) -> Estimate:
        rows = cosines(select(_backward_speed("linear loss", "backward_speed_angle")(tables), series=series))
        rows = rows.assign(distance=rows["depth"] - rows["layer"])
        if rows["depth"].max() < 16:
            raise Undecidable("the depth is below 16")
        return slope(rows[rows["distance"] >= 4], "distance")

    return compute


for _series in ("MLP", "ResNet"):
    register(f"exponent of the backward cosine in L - v, {_series}", _distance_exponent(_series))


def _invariance(run: str, invariant: bool) -> Callable[[Tables], Estimate]:
    """Largest relative difference at homogeneity -2; smallest over the other homogeneities (control)."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case=f"invariance, {run}")
        at_two = rows["series"] == "homogeneity -2"
        if invariant:
            return identity(rows[at_two]["value"])
        others = rows[~at_two]["value"]
        return Estimate(float(others.min()), n=len(others), sample=tuple(map(float, others)))

    return compute


for _run in ("rescaled layers", "reparameterized"):
    register(f"difference of outputs at homogeneity -2, {_run}", _invariance(_run, True))
    register(f"smallest difference of outputs at homogeneity 0, -1, -3, {_run}", _invariance(_run, False))


def _zero_readout(series: str, quantity: str) -> Callable[[Tables], Estimate]:
    """Exponent in L of a quantity after the first step of a readout that starts at 0."""
    return lambda tables: slope(
        select(tables["fsf_theorems"], case="zero readout", series=series, quantity=quantity), "depth"
    )


for _series in ("1/(m |b|^2)", "sqrt(L)/(m |b|^2)"):
    register(f"zero readout: exponent of S in L, rate {_series}", _zero_readout(_series, "feature_sensitivity"))


register("zero readout: exponent of cos theta in L", _zero_readout("1/(m |b|^2)", "cos_bfa"))


# --- what the notebook and the captions say ---------------------------------------------------------------------------


def _angle_change(case: str) -> Callable[[Tables], Estimate]:
    return lambda tables: identity(select(tables["fsf_theorems"], case=case)["value"])


register("change of the angle without beta in every layer", _angle_change("missing beta"))


register("change of the angle without beta in every other layer", _angle_change("missing beta, every other layer"))


@statistic("angle with five outputs minus angle with one")
def outputs(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theorems"], case="outputs")
    return mean_difference(select(rows, output_dim=5), select(rows, output_dim=1))


@statistic("angle at beta=1/L minus angle at beta=1/sqrt(L)")
def other_branch_scale(tables: Tables) -> Estimate:
    batch = select(tables["fsf_theorems"], case="batch", n_inputs=1)
    one = select(tables["fsf_theorems"], case="outputs", output_dim=1)
    return mean_difference(batch[batch["depth"] == batch["depth"].max()], one)


def _paired_ratio(case: str, numerator: str, denominator: str) -> Callable[[Tables], Estimate]:
    """Geometric mean over seeds of the ratio of two series, paired by seed."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case=case)
        by_net = rows.pivot_table(index="seed", columns="series", values="value")
        if not (by_net > 0).all(axis=None):
            raise Undecidable("a value is 0 and has no ratio")
        return as_estimate(ratio_interval(by_net[numerator], by_net[denominator]))

    return compute


register("S at g over S at f", _paired_ratio("node", "g", "f"))


register("S at the layer before over S at f", _paired_ratio("node", "f, layer before", "f"))


register("S at g over S at f, readout on g", _paired_ratio("node", "g, readout on g", "f"))


@statistic("finite-step error with ReLUs held over the whole")
def relus_held(tables: Tables) -> Estimate:
    errors = select(tables["fsf_theorems"], case="finite step").pivot_table(
        index="seed", columns="series", values="value"
    )
    if np.allclose(errors["float64, ReLUs held"], errors["float64"], rtol=1e-6, atol=0.0):
        raise Undecidable("no ReLU switched during the step")
    return _paired_ratio("finite step", "float64, ReLUs held", "float32")(tables)


register("finite-step error in float64 over float32", _paired_ratio("finite step", "float64", "float32"))


@statistic("angle at m=200 minus angle at m=500, MLP, L=500")
def width_of_figure_1c(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theorems"], case="width of figure 1c")
    return mean_difference(select(rows, series="m=200"), select(rows, series="m=500"))
