"""Statistics of the claims of the first paper (arXiv:2311.18718); criteria stand in
``workflow/claims/feature_speed.yaml``.

Each function reads the long stage tables of a run and returns an :class:`Estimate`. The independent unit is the seed;
an identity returns its largest error. Functions that differ by a name only are registered in loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from featurespeed.claims.engine import Estimate, Undecidable, statistic
from featurespeed.parameterization import FSF_EXPONENTS, SIZE_VARIABLES, Scaling
from featurespeed.statistics import (
    Interval,
    bootstrap_interval,
    coverage_interval,
    loglog_exponents,
    loglog_slope,
    mean_interval,
    proportion_interval,
)

Tables = Mapping[str, pd.DataFrame]
PUBLISHED = Path(__file__).parents[2] / "workflow" / "published" / "feature_speed_fig1ab.csv"
SIZE_COLUMNS = {"m": "width", "L": "depth", "d": "input_dim", "k": "output_dim"}
BOOTSTRAP_SEED = 0


def as_estimate(interval: Interval, note: str = "") -> Estimate:
    """The ledger's form of an interval."""
    return Estimate(interval.value, interval.low, interval.high, interval.n, note)


def identity(errors: pd.Series, note: str = "") -> Estimate:
    """Largest error of an identity over all its checks."""
    return Estimate(float(errors.max()), n=len(errors), note=note)


def select(table: pd.DataFrame, **keys) -> pd.DataFrame:
    """Rows whose columns equal the given values; none at all is undecidable at this scale."""
    rows = table
    for column, value in keys.items():
        rows = rows[rows[column] == value]
    if rows.empty:
        wanted = ", ".join(f"{column} = {value}" for column, value in keys.items())
        raise Undecidable(f"this run has no rows with {wanted}")
    return rows


def slope(rows: pd.DataFrame, x: str, y: str = "value", least: int = 3) -> Estimate:
    """Exponent of ``y`` in ``x`` over seeds; fewer than ``least`` sizes cannot decide."""
    if rows[x].nunique() < least:
        raise Undecidable(f"{rows[x].nunique()} values of {x}: at least {least} are needed for an exponent")
    return as_estimate(loglog_slope(rows[x], rows[y], rows["seed"]))


def generator() -> np.random.Generator:
    """Stream of the bootstrap, the same at every run."""
    return np.random.default_rng(BOOTSTRAP_SEED)


def register(name: str, function: Callable[[Tables], Estimate]) -> None:
    """Register ``function`` under ``name`` (for statistics made in loops)."""
    statistic(name)(function)


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


# --- Figures 1a and 1b: angles of MLP and ResNet ----------------------------------------------------------------------


def cosines(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the angle in ``value`` replaced by its cosine."""
    return rows.assign(value=np.cos(rows["value"]))


@statistic("exponent of cos theta in v, wide ReLU MLP")
def wide_mlp_exponent(tables: Tables) -> Estimate:
    return slope(_wide_mlp(tables, "ReLU"), "layer")


@statistic("exponent of cos theta in v, ResNet 1/sqrt(L)")
def resnet_layer_exponent(tables: Tables) -> Estimate:
    rows = select(tables["fsf_fig1a"], series="beta=1/sqrtL", estimator="sampler")
    return slope(cosines(rows[rows["layer"] >= 20]), "layer")


def _wide_mlp(tables: Tables, series: str) -> pd.DataFrame:
    rows = select(tables["fsf_theory"], case="wide MLP", series=series)
    if rows["width"].max() < 20 * rows["depth"].max():
        raise Undecidable("the width is not much larger than the depth")
    return rows


def _prefactor(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = _wide_mlp(tables, series)
        last = rows[rows["layer"] >= 100]
        if last.empty:
            raise Undecidable("no layer v >= 100")
        scaled = (last["value"] * np.sqrt(last["layer"] - 1)).groupby(last["seed"]).mean()
        return as_estimate(mean_interval(scaled))

    return compute


for _series in ("ReLU", "linear"):
    register(f"cos theta times sqrt(v - 1), wide {_series} MLP", _prefactor(_series))


def _depth_exponent(series: str, of_angle: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_fig1b"], series=series, estimator="sampler")
        rows = rows[rows["depth"] >= 20]
        return slope(rows if of_angle else cosines(rows), "depth")

    return compute


for _series in ("beta=0.5/sqrtL", "beta=1/sqrtL", "beta=2/sqrtL", "beta=1"):
    register(f"exponent of cos theta in L, {_series}", _depth_exponent(_series, of_angle=False))
for _series in ("beta=1/L", "beta=1/sqrtL"):
    register(f"exponent of theta in L, {_series}", _depth_exponent(_series, of_angle=True))


def _batch_exponent(n_inputs_of_batch: bool) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="batch")
        return slope(rows[(rows["n_inputs"] > 1) == n_inputs_of_batch], "depth")

    return compute


register("exponent of theta in L, beta=1/L, batch of inputs", _batch_exponent(True))
register("exponent of theta in L, beta=1/L, one input", _batch_exponent(False))


def _published_points(tables: Tables, shift: int) -> Estimate:
    """Share of published points met with |z| <= 3; ``shift`` rotates the series among the points (control)."""
    points = pd.read_csv(PUBLISHED)
    names = list(dict.fromkeys(points["series"]))
    draws = []
    for point in points.itertuples():
        series = names[(names.index(point.series) + shift) % len(names)]
        rows = select(tables[f"fsf_fig{point.figure}"], series=series, estimator="sampler")
        draws.append(_draws_at(rows, str(point.x)))
    shared = min(map(len, draws))
    k = np.where(points["figure"] == "1a", 5, 51)
    interval = coverage_interval(
        np.column_stack([d[:shared] for d in draws]), points["y"], points["y_sd"], k, generator()
    )
    return as_estimate(interval, f"{len(points)} points")


def _draws_at(rows: pd.DataFrame, x: str) -> np.ndarray:
    """Angle of each seed at a published abscissa: a layer (1a), or the mean over a range of depths (1b)."""
    if rows["width"].iloc[0] != 200 or rows["depth"].max() != 200:
        raise Undecidable("the published points belong to m = 200 and depths up to 200")
    if "-" not in x:
        return rows[rows["layer"] == int(x)].sort_values("seed")["value"].to_numpy()
    low, high = map(int, x.split("-"))
    inside = rows[rows["depth"].between(low, high)]
    return inside.groupby("seed")["value"].mean().to_numpy()


register("share of published points with |z| <= 3", lambda tables: _published_points(tables, 0))
register("share of published points with |z| <= 3, series rotated", lambda tables: _published_points(tables, 1))


# --- estimators against each other ------------------------------------------------------------------------------------


@statistic("dense angle minus sampled angle")
def dense_minus_sampler(tables: Tables) -> Estimate:
    """Mean over the series of Fig. 1b of (dense angle - mean sampled angle); the unit is the depth."""
    table, keys = tables["fsf_fig1b"], ["depth", "series"]
    sampled = select(table, estimator="sampler").groupby(keys)["value"].mean()
    dense = select(table, estimator="jvp").groupby(keys)["value"].mean()
    gaps = (dense.loc[sampled.index] - sampled).groupby("depth").mean()
    return as_estimate(mean_interval(gaps.to_numpy()))


@statistic("dense angle minus sampled angle of the next series")
def dense_minus_other_series(tables: Tables) -> Estimate:
    table = tables["fsf_fig1b"]
    dense = select(table, estimator="jvp", series="beta=1/sqrtL").set_index("depth")["value"]
    sampled = select(table, estimator="sampler", series="beta=0.5/sqrtL").groupby("depth")["value"].mean()
    return as_estimate(mean_interval((dense.loc[sampled.index] - sampled).to_numpy()))


def _finite_step_error(series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_fig1b"], series=series)
        by_net = rows.pivot_table(index=["depth", "seed"], columns="estimator", values="value")
        return as_estimate(mean_interval((by_net["finite step"] - by_net["jvp"]).dropna().abs().to_numpy()))

    return compute


for _series in ("beta=1/sqrtL", "beta=1"):
    register(f"finite step against exact tangent, {_series}", _finite_step_error(_series))


# --- Figure 1c and phi(c) ---------------------------------------------------------------------------------------------


def _curve_gap(tables: Tables, abscissa: str) -> Estimate:
    """Largest gap between the mean curves of two depths on their common range, up to branch scale 0.5."""
    rows = select(tables["fsf_fig1c"], estimator="sampler")
    rows = rows[(rows["branch_scale"] <= 0.5) & (rows["branch_scale"] > 0)]
    seeds = sorted(rows["seed"].unique())
    curves = [
        (np.log(curve.columns.to_numpy()), curve.loc[seeds].to_numpy())
        for _, group in rows.groupby("depth")
        for curve in [group.pivot_table(index="seed", columns=abscissa, values="value")]
    ]
    if len(curves) < 2:
        raise Undecidable("at least two depths are needed")
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.linspace(low, high, 30)
    values = np.stack([[np.interp(grid, x, draw) for draw in draws] for x, draws in curves], axis=1)

    def gap(sample: np.ndarray) -> float:
        means = sample.mean(axis=0)
        return float((means.max(axis=0) - means.min(axis=0)).max())

    return as_estimate(bootstrap_interval(values, gap, generator()))


register("largest gap between the curves of Fig. 1c, against c", lambda tables: _curve_gap(tables, "c"))
register("largest gap between the curves of Fig. 1c, against beta", lambda tables: _curve_gap(tables, "branch_scale"))


def _phi_error(measured: str, theory: str) -> Callable[[Tables], Estimate]:
    """Largest gap over c between the mean sampled angle and the closed form; bootstrap over seeds."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theory"], case="phi")
        closed = select(rows, series=theory, estimator="theory").sort_values("c")
        sampled = select(rows, series=measured, estimator="sampler")
        by_c = sampled.pivot_table(index="seed", columns="c", values="value")
        expected = np.interp(np.log(by_c.columns.to_numpy(dtype=float)), np.log(closed["c"]), closed["value"])

        def gap(draws: np.ndarray) -> float:
            return float(np.abs(draws.mean(axis=0) - expected).max())

        return as_estimate(bootstrap_interval(by_c.to_numpy(), gap, generator()))

    return compute


register("sampled angle against closed form, ReLU", _phi_error("ReLU", "ReLU"))
register("sampled angle against closed form, linear", _phi_error("linear", "linear"))
register("sampled angle (ReLU) against closed form (linear)", _phi_error("ReLU", "linear"))


@statistic("exponent of cos phi in c, c >= 3")
def tail_exponent(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theory"], case="tail", estimator="sampler")
    rows = rows[rows["c"] >= 2.99]
    if rows.empty or rows["c"].max() < 8:
        raise Undecidable("the tail needs c from 3 to 10")
    return slope(rows, "c")


@statistic("exponent of cos phi in c, c <= 1")
def core_exponent(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theory"], case="phi", series="ReLU", estimator="sampler")
    return slope(cosines(rows[rows["c"] <= 1.01]), "c")


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


def _theorem_depth_exponent(case: str, series: str, quantity: str) -> Callable[[Tables], Estimate]:
    return lambda tables: slope(select(tables["fsf_theorems"], case=case, series=series, quantity=quantity), "depth")


for _series in ("MLP", "ResNet", "MLP, readout 1/m"):
    register(
        f"exponent of S in L, {_series}", _theorem_depth_exponent("automatic scaling", _series, "feature_sensitivity")
    )


def _median_depth_exponent(artefact: str, series: str) -> Callable[[Tables], Estimate]:
    """Exponent in L of the median sensitivity; bootstrap over seeds, because NTK's mean is infinite."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[artefact], series=series, estimator="sampler", quantity="feature_sensitivity")
        by_depth = rows.pivot_table(index="seed", columns="depth", values="value")
        by_depth = by_depth[[depth for depth in by_depth.columns if depth >= 10]]
        if by_depth.shape[1] < 3:
            raise Undecidable(f"{by_depth.shape[1]} depths from 10 on: at least 3 are needed for an exponent")
        logs = np.log(by_depth.columns.to_numpy(dtype=float))

        def exponent(draws: np.ndarray) -> float:
            return float(np.polyfit(logs, np.log(np.median(draws, axis=0)), 1)[0])

        return as_estimate(bootstrap_interval(by_depth.to_numpy(), exponent, generator()))

    return compute


for _series in ("NTK", "MF+muP", "FSC"):
    register(f"exponent of the median S in L, {_series}", _median_depth_exponent("fsf_fig2a", _series))
for _series in ("beta=1/sqrtL", "beta=1/L"):
    register(f"exponent of the median S in L, {_series}", _median_depth_exponent("fsf_fig2b", _series))


def _level(tables: Tables, series: str) -> np.ndarray:
    """Mean over depths of each seed's sensitivity in Fig. 2b."""
    rows = select(tables["fsf_fig2b"], series=series, estimator="sampler", quantity="feature_sensitivity")
    if rows["width"].iloc[0] != 400:
        raise Undecidable("the published level belongs to m = 400")
    return rows.groupby("seed")["value"].median().to_numpy()


@statistic("level of S over the published level, Fig. 2b")
def level_against_published(tables: Tables) -> Estimate:
    return as_estimate(mean_interval(_level(tables, "beta=1/sqrtL") / 10.4))


def _level_ratio(numerator: str, denominator: str, published: float) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        pair = np.column_stack([_level(tables, numerator), _level(tables, denominator)])
        ratio = bootstrap_interval(pair, lambda d: float(d[:, 0].mean() / d[:, 1].mean() / published), generator())
        return as_estimate(ratio)

    return compute


register(
    "ratio of the levels of Fig. 2b over the published ratio", _level_ratio("beta=1/sqrtL", "beta=1/L", 10.4 / 7.75)
)
register("inverse ratio of the levels over the published ratio", _level_ratio("beta=1/L", "beta=1/sqrtL", 10.4 / 7.75))


# --- Tables 1 and 2 ---------------------------------------------------------------------------------------------------

TABLE_OF = {s: "fsf_table2" if s == Scaling.RESNET_FSC else "fsf_table1" for s in Scaling}
PROPERTIES = {
    "SP": "forward_rms",
    "FL": "feature_speed_rms",
    "LD": "loss_decay",
    "BC": "contribution_ratio",
}


def exponents(rows: pd.DataFrame) -> dict[str, Interval]:
    """Exponents of ``value`` in m, L, d, k."""
    by_column = loglog_exponents(rows, list(SIZE_COLUMNS.values()), "value")
    return {variable: by_column[column] for variable, column in SIZE_COLUMNS.items()}


def largest_deviation(measured: Mapping[str, Interval], stated: Mapping[str, float]) -> Estimate:
    """Largest ``|measured - stated|`` over the size variables, with an interval that holds for all of them."""
    deviations = []
    for variable, interval in measured.items():
        low, high = interval.low - stated[variable], interval.high - stated[variable]
        inside = low <= 0.0 <= high
        nearest = 0.0 if inside else min(abs(low), abs(high))
        deviations.append((abs(interval.value - stated[variable]), nearest, max(abs(low), abs(high)), interval.n))
    values, lows, highs, n = zip(*deviations, strict=True)
    note = ", ".join(f"{v}: {i.value:.3f}" for v, i in measured.items())
    return Estimate(max(values), max(lows), max(highs), min(n), f"measured exponents {note}")


def _rule_deviation(scaling: Scaling, quantity: str, offset: float) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        stated = dict(FSF_EXPONENTS[scaling][quantity])
        stated["m"] += offset
        return largest_deviation(exponents(rows), stated)

    return compute


def _property_deviation(scaling: Scaling, quantity: str, variables: tuple[str, ...]) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        measured = {variable: interval for variable, interval in exponents(rows).items() if variable in variables}
        return largest_deviation(measured, dict.fromkeys(variables, 0.0))

    return compute


def _one_rate_for_all(scaling: Scaling) -> Callable[[Tables], Estimate]:
    """Contributions of embedding over hidden layer if all layers had the same learning rate (control of BC)."""

    def compute(tables: Tables) -> Estimate:
        table = select(tables[TABLE_OF[scaling]], scaling=str(scaling))
        keys = [*SIZE_COLUMNS.values(), "seed"]
        hidden = select(table, quantity="learning_rate_hidden").set_index(keys)["value"]
        embedding = select(table, quantity="learning_rate_input").set_index(keys)["value"]
        ratio = (hidden / embedding).rename("value").reset_index()
        return largest_deviation(exponents(ratio), dict.fromkeys(SIZE_VARIABLES, 0.0))

    return compute


for _scaling in Scaling:
    for _quantity in FSF_EXPONENTS[_scaling]:
        register(f"{_scaling}, {_quantity}", _rule_deviation(_scaling, _quantity, 0.0))
        register(f"{_scaling}, {_quantity}, wrong exponent of m", _rule_deviation(_scaling, _quantity, 0.5))
    for _property, _quantity in PROPERTIES.items():
        register(f"{_scaling}, {_property}", _property_deviation(_scaling, _quantity, SIZE_VARIABLES))
    register(f"{_scaling}, one learning rate for all layers", _one_rate_for_all(_scaling))


def _property_exponent(scaling: Scaling, quantity: str, variable: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TABLE_OF[scaling]], scaling=str(scaling), quantity=quantity)
        return as_estimate(exponents(rows)[variable])

    return compute


for _scaling in (Scaling.NTK, Scaling.FSC):
    register(f"exponent of the feature speed in m, {_scaling}", _property_exponent(_scaling, "feature_speed_rms", "m"))
for _scaling in (Scaling.MF_MUP, Scaling.FSC):
    register(f"exponent of the readout std in L, {_scaling}", _property_exponent(_scaling, "init_std_readout", "L"))


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
        _theorem_depth_exponent("zero readout", _series, "feature_sensitivity"),
    )
register("zero readout: exponent of cos theta in L", _theorem_depth_exponent("zero readout", "f", "cos_bfa"))


# --- what the notebook and the captions say ---------------------------------------------------------------------------


def _angle_change(case: str) -> Callable[[Tables], Estimate]:
    return lambda tables: identity(select(tables["fsf_theorems"], case=case)["value"])


register("change of the angle without beta in every layer", _angle_change("missing beta"))
register("change of the angle without beta in every other layer", _angle_change("missing beta, every other layer"))


def _mean_difference(first: pd.DataFrame, second: pd.DataFrame) -> Estimate:
    """Difference of the means of two independent samples; bootstrap over both."""
    a, b = first["value"].to_numpy(), second["value"].to_numpy()
    n = min(len(a), len(b))
    pair = np.column_stack([a[:n], b[:n]])
    interval = bootstrap_interval(pair, lambda d: float(d[:, 0].mean() - d[:, 1].mean()), generator())
    return as_estimate(interval)


@statistic("angle with five outputs minus angle with one")
def outputs(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theorems"], case="outputs")
    return _mean_difference(select(rows, output_dim=5), select(rows, output_dim=1))


@statistic("angle at beta=1/L minus angle at beta=1/sqrt(L)")
def other_branch_scale(tables: Tables) -> Estimate:
    batch = select(tables["fsf_theorems"], case="batch", n_inputs=1)
    one = select(tables["fsf_theorems"], case="outputs", output_dim=1)
    return _mean_difference(batch[batch["depth"] == batch["depth"].max()], one)


def _node_ratio(numerator: str, denominator: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables["fsf_theorems"], case="node")
        by_net = rows.pivot_table(index="seed", columns="series", values="value")
        return as_estimate(mean_interval((by_net[numerator] / by_net[denominator]).to_numpy()))

    return compute


register("S at g over S at f", _node_ratio("g", "f"))
register("S at f over S at g", _node_ratio("f", "g"))


@statistic("angle at m=200 minus angle at m=500, MLP, L=500")
def width_of_figure_1c(tables: Tables) -> Estimate:
    rows = select(tables["fsf_theorems"], case="width of figure 1c")
    return _mean_difference(select(rows, series="m=200"), select(rows, series="m=500"))


@statistic("angle at L=30 minus angle at L=500, MLP")
def depth_of_figure_1c(tables: Tables) -> Estimate:
    rows = select(tables["fsf_fig1c"], estimator="sampler")
    rows = rows[rows["branch_scale"] == 1.0]
    return _mean_difference(select(rows, depth=30), select(rows, depth=500))
