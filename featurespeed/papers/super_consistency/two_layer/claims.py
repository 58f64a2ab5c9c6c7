"""The two-layer linear network: its theory (Sec. 5, App. C and D), Figure 5 and Figure 10.

Identities return their largest error. Everything else has the seed as its unit; a network drawn at another width is
another draw, so shares of runs count networks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import Tables, as_estimate, generator, identity, register, select, slope
from featurespeed.parameterization import Parameterization
from featurespeed.statistics import bootstrap_interval, mean_interval, proportion_interval

THEORY, DATA, TOY = "sc_theory", "sc_fig05", "sc_fig10"
MUP, NTP, SP = (str(name) for name in (Parameterization.MUP, Parameterization.NTP, Parameterization.SP))
FEWEST_SIZES = 5  # for a rank correlation
NEAR = 0.97  # of the edge: runs that say where it is
RUN = ["parameterization", "width", "seed", "index"]

# --- Theorem 5.1, Lemma 5.2, the sign of the residual -----------------------------------------------------------------


def _errors(case: str, series: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        rows = select(tables[THEORY], case=case, series=series, quantity="relative_error")
        return identity(rows["value"], _sizes(rows))

    return compute


def _sizes(rows: pd.DataFrame) -> str:
    sizes = {"D": "input_dim", "N": "width"}
    parts = [f"{name} = {', '.join(map(str, sorted(rows[column].unique())))}" for name, column in sizes.items()]
    return "; ".join(parts)


for _series in ("one step", "free running", "one step, first order only"):
    register(f"error of the evolution laws, {_series}", _errors("laws", _series))
for _sign in ("f - y", "y - f"):
    register(f"error of H = G + R, residual {_sign}", _errors("dense", f"H = G + R, residual {_sign}"))
register("error of the sharpness from (w, e, v)", _errors("dense", "sharpness from (w, e, v)"))


def _excess(share: float) -> Callable[[Tables], Estimate]:
    """Largest excess of the gap over ``share`` times the bound, relative to it."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[THEORY], series="gap over bound")
        excess = (rows["value"] / share - 1).clip(lower=0.0)
        return identity(excess, f"largest gap over bound: {rows['value'].max():.4f}; {_sizes(rows)}")

    return compute


register("excess of the gap over the bound", _excess(1.0))
register("excess of the gap over half the bound", _excess(0.5))


def _attained(factor: float) -> Callable[[Tables], Estimate]:
    """Distance of the residual part's eigenvalue from ``factor`` times the bound, relative."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[THEORY], case="dense", series="residual part over bound")
        return identity((rows["value"] / factor - 1).abs(), _sizes(rows))

    return compute


register("distance of the residual part from its bound", _attained(1.0))
register("distance of the residual part from twice its bound", _attained(2.0))

# --- Proposition 5.3 and the condition that it lacks ------------------------------------------------------------------


def _edge_runs(tables: Tables) -> pd.DataFrame:
    """One row a converged run: its ratios as columns."""
    rows = select(tables[THEORY], case="edge", quantity="curvature_ratio")
    runs = rows.pivot_table(index=RUN, columns="series", values="value")
    return runs[runs["run"] == 1.0].reset_index()


def _near_edge(tables: Tables) -> pd.DataFrame:
    runs = _edge_runs(tables)
    near = runs[runs["sharpness over 2/learning rate"] > NEAR]
    if near["seed"].nunique() < 2:
        raise Undecidable(f"converged runs above {NEAR} of the edge come from {near['seed'].nunique()} seeds")
    return near


@statistic("excess of converged runs over the edge")
def edge_excess(tables: Tables) -> Estimate:
    """Largest excess of lambda eta_0 / 2 over 1 among the runs that converged."""
    ratio = _edge_runs(tables)["sharpness over 2/learning rate"]
    note = f"largest sharpness eta_0 / 2 of {len(ratio)} converged runs: {ratio.max():.4f}"
    return identity((ratio - 1).clip(lower=0.0), note)


@statistic("excess of converged runs over 0.9 of the edge")
def edge_excess_below(tables: Tables) -> Estimate:
    ratio = _edge_runs(tables)["sharpness over 2/learning rate"]
    return identity((ratio / 0.9 - 1).clip(lower=0.0))


register("error of the Jacobian at the minimiser", _errors("edge", "Jacobian"))
register("error of the Jacobian at the minimiser as printed", _errors("edge", "Jacobian as printed"))


def _place_of_edge(printed: bool) -> Callable[[Tables], Estimate]:
    """Largest sharpness of converged runs over an edge, one value a seed; t interval."""

    def compute(tables: Tables) -> Estimate:
        near = _near_edge(tables)
        ratio = near["sharpness over 2/learning rate"]
        edge = near["printed edge over 2/learning rate"] if printed else 1.0
        largest = (ratio / edge).groupby(near["seed"]).max()
        shift = near["printed edge over 2/learning rate"] - 1
        note = f"{len(near)} runs above {NEAR} of 2/eta_0; printed correction {shift.min():.0%} to {shift.max():.0%}"
        return as_estimate(mean_interval(largest.to_numpy()), note)

    return compute


register("largest sharpness of converged runs over the printed edge", _place_of_edge(printed=True))
register("largest sharpness of converged runs over 2/eta_0", _place_of_edge(printed=False))


def _shortfall(factor: float) -> Callable[[Tables], Estimate]:
    """Largest shortfall of a minimiser's sharpness under ``factor`` times its least value, relative."""

    def compute(tables: Tables) -> Estimate:
        ratio = _edge_runs(tables)["sharpness over its least"]
        return identity(
            (1 - ratio / factor).clip(lower=0.0), f"{len(ratio)} minimisers; smallest ratio {ratio.min():.6f}"
        )

    return compute


register("shortfall of the sharpness of minimisers under its least value", _shortfall(1.0))
register("shortfall of the sharpness of minimisers under twice its least value", _shortfall(2.0))

# --- initialisation and large widths ----------------------------------------------------------------------------------


def _width_exponent(case: str, series: str, name: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        return slope(select(tables[THEORY], case=case, series=series, parameterization=name), "width")

    return compute


for _series, _name in (
    ("e from its limit", MUP),
    ("v from its limit", MUP),
    ("w", MUP),
    ("w", NTP),
    ("mean eigenvalue of e", SP),
    ("mean eigenvalue of e", NTP),
):
    register(f"exponent in N at initialisation, {_series}, {_name}", _width_exponent("initialisation", _series, _name))
for _series, _name in (("from infinite width", MUP), ("from initialisation", MUP), ("from initialisation", NTP)):
    register(f"exponent in N along training, distance {_series}, {_name}", _width_exponent("limit", _series, _name))


def _variance(name: str, expected: str) -> Callable[[Tables], Estimate]:
    """Var[v] over its expected value, pooled over the widths; bootstrap over networks."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[THEORY], case="initialisation", series="v", parameterization=name)
        values = rows.pivot_table(index="seed", columns="width", values="value").dropna()
        width, dim = values.columns.to_numpy(dtype=float), float(rows["input_dim"].iloc[0])
        stated = {"2/N": 2 / width, "1/N": 1 / width, "2/(N D^2)": 2 / (width * dim**2)}[expected]
        found = bootstrap_interval(
            values.to_numpy(), lambda d: float(np.mean(d.var(axis=0, ddof=1) / stated)), generator()
        )
        return as_estimate(found, f"{len(width)} widths, {len(values)} networks each")

    return compute


for _expected, _name in (("2/(N D^2)", MUP), ("2/N", MUP), ("2/N", SP), ("1/N", SP)):
    register(f"variance of v over {_expected}, {_name}", _variance(_name, _expected))


def _softmax(largest: bool) -> Callable[[Tables], Estimate]:
    """Largest eigenvalue of the Hessian by the outputs at the largest (or smallest) margin; t interval over seeds."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[THEORY], case="softmax")
        margin = rows["step"].max() if largest else rows["step"].min()
        return as_estimate(mean_interval(select(rows, step=margin)["value"].to_numpy()), f"margin {margin}")

    return compute


register("largest eigenvalue of the softmax Hessian at the best fit", _softmax(largest=True))
register("largest eigenvalue of the softmax Hessian at an even fit", _softmax(largest=False))

# --- Figure 5 ---------------------------------------------------------------------------------------------------------


def _at(tables: Tables, quantity: str, end: bool, name: str) -> pd.DataFrame:
    """Table seed x width of a quantity at the first or the last probe step."""
    table = select(tables[DATA], parameterization=name)
    if (table["quantity"] == "diverged_step").any():
        raise Undecidable(f"a run of {name} diverged")
    rows = select(table, quantity=quantity)
    step = rows["step"].max() if end else rows["step"].min()
    return rows[rows["step"] == step].pivot_table(index="seed", columns="width", values="value")


def _gauss_newton_share(end: bool) -> Callable[[Tables], Estimate]:
    """Smallest mean over seeds, over widths and both parameterizations, of lambda_max(G) / lambda_max(H)."""

    def compute(tables: Tables) -> Estimate:
        parts = {
            name: _at(tables, "gauss_newton_eigenvalue", end, name) / _at(tables, "sharpness", end, name)
            for name in (MUP, NTP)
        }
        ratios = pd.concat(parts, axis=1)
        smallest = ratios.mean().idxmin()
        note = f"smallest at {smallest[0]}, N = {smallest[1]}"
        return as_estimate(mean_interval(ratios[smallest].to_numpy()), note)

    return compute


register("Gauss-Newton share of the sharpness at the end", _gauss_newton_share(end=True))
register("Gauss-Newton share of the sharpness at initialisation", _gauss_newton_share(end=False))


def _rank_correlation(values: np.ndarray) -> float:
    """Spearman correlation of ``values`` with their place; measured numbers, so without ties."""
    places = np.arange(len(values))
    return float(np.corrcoef(places, np.argsort(np.argsort(values)))[0, 1])


def _sharpening(name: str) -> Callable[[Tables], Estimate]:
    """Rank correlation of the sharpening factor, end over start, with the width; bootstrap over seeds."""

    def compute(tables: Tables) -> Estimate:
        factors = _at(tables, "sharpness", True, name) / _at(tables, "sharpness", False, name)
        widths = factors.columns.to_numpy()
        if len(widths) < FEWEST_SIZES:
            raise Undecidable(f"{len(widths)} widths: at least {FEWEST_SIZES} are needed for a rank correlation")
        found = bootstrap_interval(factors.to_numpy(), lambda d: _rank_correlation(d.mean(axis=0)), generator())
        ends = factors.mean()
        note = f"factor {ends.iloc[0]:.2f} at N = {widths[0]}, {ends.iloc[-1]:.2f} at N = {widths[-1]}"
        return as_estimate(found, note)

    return compute


for _name in (MUP, NTP):
    register(f"rank correlation of the sharpening factor with N, {_name}", _sharpening(_name))

# --- Figure 10 --------------------------------------------------------------------------------------------------------


def _terminal(tables: Tables, name: str) -> pd.DataFrame:
    """One row a run of the toy that did not diverge: its last sharpness."""
    return select(tables[TOY], case="terminal", quantity="sharpness", parameterization=name)


def _common_rate(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs at the smallest learning rate of the grid, which every width must have survived."""
    rows = rows[rows["learning_rate"] == rows["learning_rate"].min()]
    if not rows["converged"].all():
        raise Undecidable("not every width converges at the smallest learning rate")
    return rows


def _terminal_sharpness(name: str) -> Callable[[Tables], Estimate]:
    """Mean over seeds of the terminal sharpness below eta_0 = 1, at the width and rate furthest from 2."""

    def compute(tables: Tables) -> Estimate:
        rows = _terminal(tables, name)
        rows = rows[rows["learning_rate"] < 1] if name == MUP else _common_rate(rows)
        if not len(rows) or not rows["converged"].all():
            raise Undecidable("not every run below eta_0 = 1 has converged")
        means = rows.groupby(["width", "learning_rate"])["value"].mean()
        width, rate = (means - 2).abs().idxmax()
        worst = rows[(rows["width"] == width) & (rows["learning_rate"] == rate)]
        return as_estimate(mean_interval(worst["value"].to_numpy()), f"furthest at N = {width}, eta_0 = {rate:g}")

    return compute


for _name in (MUP, NTP):
    register(f"terminal sharpness of the toy, {_name}", _terminal_sharpness(_name))


def _terminal_slope(name: str) -> Callable[[Tables], Estimate]:
    """Exponent of the terminal sharpness in N at the smallest learning rate of the grid."""

    def compute(tables: Tables) -> Estimate:
        rows = _common_rate(_terminal(tables, name))
        dim = rows["input_dim"].iloc[0]
        if name == NTP and (dim, rows["width"].min(), rows["width"].max()) != (100, 64, 4096):
            raise Undecidable("the exponent is stated for D = 100 and N from 64 to 4096")
        found = slope(rows, "width")
        return Estimate(found.value, found.ci_low, found.ci_high, found.n, f"eta_0 = {rows['learning_rate'].iloc[0]:g}")

    return compute


for _name in (MUP, NTP):
    register(f"exponent in N of the toy's terminal sharpness, {_name}", _terminal_slope(_name))


def _converging(above: bool) -> Callable[[Tables], Estimate]:
    """Share of muP runs, each a network and a learning rate above (below) 1, that converge."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TOY], case="terminal", parameterization=MUP)
        rows = rows[rows["quantity"].isin(["sharpness", "diverged_step"])]
        rows = rows[(rows["learning_rate"] > 1) == above]
        if rows.empty:
            raise Undecidable(f"no learning rate {'above' if above else 'below'} 1")
        cycling = rows[~rows["converged"] & (rows["quantity"] == "sharpness")]
        note = f"{len(cycling)} of {len(rows)} runs cycle, {(rows['quantity'] == 'diverged_step').sum()} diverge"
        return as_estimate(proportion_interval(int(rows["converged"].sum()), len(rows)), note)

    return compute


register("share of toy runs that converge above eta_0 = 1", _converging(above=True))
register("share of toy runs that converge below eta_0 = 1", _converging(above=False))


@statistic("terminal sharpness of the toy over 2/eta_0")
def toy_at_edge(tables: Tables) -> Estimate:
    """Mean over seeds of lambda eta_0 / 2 below eta_0 = 1, at the learning rate closest to the edge."""
    rows = _terminal(tables, MUP)
    rows = rows[(rows["learning_rate"] < 1) & rows["converged"]]
    if rows.empty:
        raise Undecidable("no converged run below eta_0 = 1")
    ratio = rows.assign(value=rows["value"] * rows["learning_rate"] / 2)
    seeds = ratio.groupby(["seed", "learning_rate"])["value"].mean().groupby("seed").mean()
    rates = ", ".join(f"{rate:g}" for rate in sorted(rows["learning_rate"].unique()))
    return as_estimate(mean_interval(seeds.to_numpy()), f"mean over eta_0 = {rates}")


@statistic("terminal sharpness of the toy over twice 2/eta_0")
def toy_at_double_edge(tables: Tables) -> Estimate:
    found = toy_at_edge(tables)
    return Estimate(found.value / 2, found.ci_low / 2, found.ci_high / 2, found.n)
