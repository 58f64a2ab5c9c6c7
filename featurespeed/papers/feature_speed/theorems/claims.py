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
    generator,
    identity,
    mean_difference,
    register,
    select,
    slope,
)
from featurespeed.papers.feature_speed.shared import cosines
from featurespeed.statistics import (
    bootstrap_interval,
    mean_interval,
    proportion_interval,
)


def theorem_depth_exponent(case: str, series: str, quantity: str) -> Callable[[Tables], Estimate]:
    """Statistic: exponent in L of a quantity of the table of theorems."""
    return lambda tables: slope(select(tables["fsf_theorems"], case=case, series=series, quantity=quantity), "depth")


def _batch_exponent(n_inputs_of_batch: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="batch")
        return slope(rows[(rows["n_inputs"] > 1) == n_inputs_of_batch], "depth")

    return compute


register("exponent of theta in L, beta=1/L, batch of inputs", _batch_exponent(True))


register("exponent of theta in L, beta=1/L, one input", _batch_exponent(False))


# --- Theorem 3.2 ------------------------------------------------------------------------------------------------------


def _kernel(tables: Tables) -> pd.DataFrame:
    """One row a network: cosine, M1/sqrt(M2) and condition number, and the cosine of the top eigenvector."""
    rows = tables["fsf_theorems"]
    rows = rows[rows["case"].str.startswith("kernel")]
    rows = rows.assign(name=np.where(rows["case"] == "kernel", rows["quantity"], "top"))
    return rows.pivot_table(index=["series", "seed"], columns="name", values="value")


@statistic("kernel condition minus cos theta")
def kernel_bound(tables: Tables) -> Estimate:
    kernel = _kernel(tables)
    return identity((kernel["kernel_condition"] - kernel["cos_bfa"]).clip(lower=0.0))


@statistic("kernel ratio minus cos theta")
def kernel_ratio_is_no_bound(tables: Tables) -> Estimate:
    kernel = _kernel(tables)
    return identity((kernel["kernel_ratio"] - kernel["cos_bfa"]).clip(lower=0.0))


def _relative_to_kernel_ratio(column: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        kernel = _kernel(tables)
        return as_estimate(mean_interval((kernel[column] / kernel["kernel_ratio"] - 1).to_numpy()))

    return compute


register("cos theta over M1/sqrt(M2), minus 1", _relative_to_kernel_ratio("cos_bfa"))


register("cosine of the top eigenvector over M1/sqrt(M2), minus 1", _relative_to_kernel_ratio("top"))


# --- Proposition 4.1, Figure 2 ----------------------------------------------------------------------------------------


for _series in ("MLP", "ResNet", "MLP, readout 1/m"):
    register(
        f"exponent of S in L, {_series}", theorem_depth_exponent("automatic scaling", _series, "feature_sensitivity")
    )


# --- Theorem 2.1 and signs --------------------------------------------------------------------------------------------


def _formula(series: str, shuffled: bool) -> Callable[[Tables], Estimate]:
    case = "formula, shuffled" if shuffled else "formula"
    return lambda tables: identity(select(tables["fsf_theorems"], case=case, series=series)["value"])


for _series in ("MLP", "ResNet"):
    register(f"formula error, {_series}", _formula(_series, shuffled=False))
    register(f"formula error with shuffled layers, {_series}", _formula(_series, shuffled=True))


@statistic("loss velocity against minus the loss decay")
def loss_velocity(tables: Tables) -> Estimate:
    return identity((select(tables["fsf_theorems"], quantity="velocity_ratio")["value"] + 1).abs())


@statistic("loss velocity against plus the loss decay")
def loss_velocity_printed(tables: Tables) -> Estimate:
    return identity((select(tables["fsf_theorems"], quantity="velocity_ratio")["value"] - 1).abs())


# --- Section 6 and appendices -----------------------------------------------------------------------------------------


def _growth(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="forward growth", series=series)
        return as_estimate(mean_interval(rows["value"].to_numpy()))

    return compute


for _series in ("sqrt(2/m)", "2/sqrt(m)"):
    register(f"growth of log2 rms(f) a layer, {_series}", _growth(_series))


def _backward_speed(loss: str, quantity: str) -> Callable[[Tables], pd.DataFrame]:
    return lambda tables: select(tables["fsf_theorems"], case=f"backward speed, {loss} loss", quantity=quantity)


def _backward_formula_error(loss: str) -> Callable[[Tables], Estimate]:
    return lambda tables: identity(_backward_speed(loss, "formula_error")(tables)["value"])


for _loss in ("linear", "quadratic"):
    register(f"error of the backward speed formula, {_loss} loss", _backward_formula_error(_loss))


@statistic("sign of Eq. 14 with a minus")
def equation_14(tables: Tables) -> Estimate:
    return identity((_backward_speed("linear", "alignment_sign")(tables)["value"] - 1).abs())


@statistic("sign of Eq. 14 as printed")
def equation_14_printed(tables: Tables) -> Estimate:
    return identity((_backward_speed("linear", "alignment_sign")(tables)["value"] + 1).abs())


def _obtuse(loss: str) -> Callable[[Tables], Estimate]:
    """Share of networks with a backward-speed angle beyond pi/2 at some node."""

    def compute(tables: Tables) -> Estimate:
        rows = _backward_speed(loss, "backward_speed_angle")(tables)
        largest = rows.groupby(["series", "seed"])["value"].max()
        beyond = int((largest > math.pi / 2 + 1e-6).sum())
        return as_estimate(proportion_interval(beyond, len(largest)))

    return compute


for _loss in ("linear", "quadratic"):
    register(f"share of nets with an obtuse angle, {_loss} loss", _obtuse(_loss))


def _distance_exponent(series: str) -> Callable[[Tables], Estimate]:
    """Exponent of the cosine between f_v and -db_v/dt in L - v, 4 <= L - v."""

    def compute(tables: Tables) -> Estimate:
        rows = cosines(select(_backward_speed("linear", "backward_speed_angle")(tables), series=series))
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
        return Estimate(float(rows[~at_two]["value"].min()), n=int((~at_two).sum()))

    return compute


for _run in ("rescaled layers", "reparameterized"):
    register(f"difference of outputs at homogeneity -2, {_run}", _invariance(_run, True))
    register(f"smallest difference of outputs at homogeneity 0, -1, -3, {_run}", _invariance(_run, False))


for _series in ("1/(m |b|^2)", "sqrt(L)/(m |b|^2)"):
    register(
        f"zero readout: exponent of S in L, rate {_series}",
        theorem_depth_exponent("zero readout", _series, "feature_sensitivity"),
    )


register("zero readout: exponent of cos theta in L", theorem_depth_exponent("zero readout", "f", "cos_bfa"))


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


def _node_ratio(numerator: str, denominator: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="node")
        by_net = rows.pivot_table(index="seed", columns="series", values="value")
        return as_estimate(mean_interval((by_net[numerator] / by_net[denominator]).to_numpy()))

    return compute


register("S at g over S at f", _node_ratio("g", "f"))


register("S at f over S at g", _node_ratio("f", "g"))


register("S at g over S at f, readout on g", _node_ratio("g, readout on g", "f"))


def _step_error_ratio(numerator: str, denominator: str) -> Callable[[Tables], Estimate]:
    """Mean error of one finite step over that of another on the same networks; bootstrap over networks."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="finite step")
        by_net = rows.pivot_table(index="seed", columns="series", values="value")
        pair = by_net[[numerator, denominator]].to_numpy()
        return as_estimate(bootstrap_interval(pair, lambda d: float(d[:, 0].sum() / d[:, 1].sum()), generator()))

    return compute


register("finite-step error with ReLUs held over the whole", _step_error_ratio("float64, ReLUs held", "float32"))


register("finite-step error in float64 over float32", _step_error_ratio("float64", "float32"))


@statistic("angle at m=200 minus angle at m=500, MLP, L=500")
def width_of_figure_1c(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theorems"], case="width of figure 1c")
    return mean_difference(select(rows, series="m=200"), select(rows, series="m=500"))
