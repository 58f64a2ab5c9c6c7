"""Figures 5 and 10: the two-layer linear network along gradient descent on random data, and the toy with white inputs.

The unit is the seed, which has a run at every width, learning rate and parameterization.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import (
    Tables,
    as_estimate,
    largest_estimate,
    mean_estimate,
    register,
    select,
    slope,
)
from featurespeed.parameterization import Parameterization
from featurespeed.statistics import proportion_interval
from featurespeed.sweeps.dependence import FEWEST_SIZES, exponents

DATA, TOY = "sc_fig05", "sc_fig10"
FIRST_QUARTER = 0.25  # of training, in which the residual is still large
MUP, NTP = (str(name) for name in (Parameterization.MUP, Parameterization.NTP))

# --- Figure 5 ---------------------------------------------------------------------------------------------------------


def _at(tables: Tables, quantity: str, end: bool, name: str) -> pd.DataFrame:
    """Table seed x width of a quantity at the first or the last probe step."""
    table = select(tables[DATA], parameterization=name)
    if (table["quantity"] == "diverged_step").any():
        raise Undecidable(f"a run of {name} diverged")
    rows = select(table, quantity=quantity)
    step = rows["step"].max() if end else rows["step"].min()
    return rows[rows["step"] == step].pivot_table(index="seed", columns="width", values="value")


def _along(tables: Tables, quantity: str) -> pd.DataFrame:
    """Table seed x (parameterization, width, step) of a quantity; no run may have diverged."""
    table = tables[DATA]
    if (table["quantity"] == "diverged_step").any():
        raise Undecidable("a run diverged")
    rows = select(table, quantity=quantity)
    return rows.pivot_table(index="seed", columns=["parameterization", "width", "step"], values="value")


def _gauss_newton_share(late: bool) -> Callable[[Tables], Estimate]:
    """Largest distance of lambda_max(G) / lambda_max(H) from 1, over steps, widths and both parameterizations."""

    def compute(tables: Tables) -> Estimate:
        ratios = _along(tables, "gauss_newton_eigenvalue") / _along(tables, "sharpness")
        steps = ratios.columns.get_level_values("step")
        judged = ratios.loc[:, (steps >= FIRST_QUARTER * steps.max()) == late]
        name, width, step = (judged.mean() - 1).abs().idxmax()
        note = f"furthest at {name}, N = {width}, step {step}; {_since_half(tables, ratios)}"
        return largest_estimate(judged.to_numpy(), 1.0, note)

    return compute


def _since_half(tables: Tables, ratios: pd.DataFrame) -> str:
    """The largest distance since the loss of a run has fallen to half: at convergence the share is 1 in any case."""
    loss = _along(tables, "training_loss")
    first = loss.xs(0, axis=1, level="step").reindex(columns=loss.columns.droplevel("step")).to_numpy()
    furthest = (ratios - 1).abs().where(loss[ratios.columns] <= first / 2).max(axis=None)
    return f"{furthest:.2g} in one run since its loss has fallen to half"


register("distance of the Gauss-Newton share from 1, last three quarters", _gauss_newton_share(late=True))
register("distance of the Gauss-Newton share from 1, first quarter", _gauss_newton_share(late=False))


def _sharpening(name: str) -> Callable[[Tables], Estimate]:
    """Exponent in N of the rise of the sharpness, end over start less 1, one fit a seed; t interval."""

    def compute(tables: Tables) -> Estimate:
        factors = _at(tables, "sharpness", True, name) / _at(tables, "sharpness", False, name)
        widths, least = factors.columns.to_numpy(), float(factors.min().min())
        if len(widths) < FEWEST_SIZES:
            raise Undecidable(f"{len(widths)} widths: at least {FEWEST_SIZES} are needed for an exponent")
        if least <= 1:
            raise Undecidable(f"the sharpness of a run does not rise: factor {least:.3g}")
        ends = factors.mean()
        note = f"factor {ends.iloc[0]:.2f} at N = {widths[0]}, {ends.iloc[-1]:.2f} at N = {widths[-1]}"
        return mean_estimate(exponents(widths, factors.to_numpy() - 1), note)

    return compute


for _name in (MUP, NTP):
    register(f"exponent in N of the rise of the sharpness, {_name}", _sharpening(_name))

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
    """Largest distance from 2 of the terminal sharpness, over widths and learning rates below eta_0 = 1."""

    def compute(tables: Tables) -> Estimate:
        rows = _terminal(tables, name)
        rows = rows[rows["learning_rate"] < 1] if name == MUP else _common_rate(rows)
        if not len(rows) or not rows["converged"].all():
            raise Undecidable("not every run below eta_0 = 1 has converged")
        values = rows.pivot_table(index="seed", columns=["width", "learning_rate"], values="value")
        width, rate = (values.mean() - 2).abs().idxmax()
        edges = 2 / rows["learning_rate"]
        note = f"furthest at N = {width}, eta_0 = {rate:g}; 2/eta_0 is {edges.min():.3g} to {edges.max():.3g}"
        return largest_estimate(values.to_numpy(), 2.0, note)

    return compute


for _name in (MUP, NTP):
    register(f"distance of the toy's terminal sharpness from 2, {_name}", _terminal_sharpness(_name))


def _terminal_slope(name: str) -> Callable[[Tables], Estimate]:
    """Exponent of the terminal sharpness in N at the smallest learning rate of the grid."""

    def compute(tables: Tables) -> Estimate:
        rows = _common_rate(_terminal(tables, name))
        dim = rows["input_dim"].iloc[0]
        if name == NTP and (dim, rows["width"].min(), rows["width"].max()) != (100, 64, 4096):
            raise Undecidable("the exponent is stated for D = 100 and N from 64 to 4096")
        return replace(slope(rows, "width"), note=f"eta_0 = {rows['learning_rate'].iloc[0]:g}")

    return compute


for _name in (MUP, NTP):
    register(f"exponent in N of the toy's terminal sharpness, {_name}", _terminal_slope(_name))


def _converging(above: bool) -> Callable[[Tables], Estimate]:
    """Share of seeds of which any muP run, at any width and learning rate above (below) 1, converges."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[TOY], case="terminal", parameterization=MUP)
        rows = rows[rows["quantity"].isin(["sharpness", "diverged_step"])]
        rows = rows[(rows["learning_rate"] > 1) == above]
        if rows.empty:
            raise Undecidable(f"no learning rate {'above' if above else 'below'} 1")
        seeds = rows.groupby("seed")["converged"].any()
        cycling = rows[~rows["converged"] & (rows["quantity"] == "sharpness")]
        note = f"{len(cycling)} of {len(rows)} runs cycle, {(rows['quantity'] == 'diverged_step').sum()} diverge"
        return as_estimate(proportion_interval(int(seeds.sum()), len(seeds)), note)

    return compute


register("share of seeds of the toy that converge above eta_0 = 1", _converging(above=True))
register("share of seeds of the toy that converge below eta_0 = 1", _converging(above=False))
