"""The theory of the two-layer linear network (Sec. 5, App. C and D).

Identities return their largest error. Everything else has the seed as its unit; at initialisation every network drawn
is one. Controls hold what is stated of one network against another: the next seed, or another parameterization.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable, statistic
from featurespeed.ledger.evidence import (
    Tables,
    identity,
    mean_estimate,
    register,
    select,
    slope,
)
from featurespeed.parameterization import Parameterization
from featurespeed.sweeps.dependence import FEWEST_SIZES, exponents

THEORY = "sc_theory"
MUP, NTP, SP = (str(name) for name in (Parameterization.MUP, Parameterization.NTP, Parameterization.SP))
BELOW, BEYOND = 0.95, 1.05  # of 2/eta_0: where the learning rates tried must have their flattest minimisers
LEAST = "least sharpness over 2/learning rate"
RUN = ["parameterization", "width", "seed", "index"]
NETWORK = ["case", "run_id", "parameterization", "input_dim", "width", "step"]  # and the seed
GROUPS = 10  # of draws; what is near 0 has no useful logarithm of its own, its mean square over a group has

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


register("error of the evolution laws", _errors("laws", "one step"))
register("error of the evolution laws of the other parameterization", _errors("other laws", "one step"))
for _whose in ("", " of the next network"):
    register(f"error of the sharpness from (w, e, v){_whose}", _errors("dense", f"sharpness from (w, e, v){_whose}"))
register("error of H = G + R of the next network", _errors("dense", "H = G + R of the next network"))


@statistic("error of H = G + R, residual f - y")
def sign_of_the_residual(tables: Tables) -> Estimate:
    """Largest |H - G - R| / |H|; with the other sign of R the smallest is noted."""
    rows = select(tables[THEORY], case="dense", series="H = G + R, residual f - y")
    printed = select(tables[THEORY], case="dense", series="H = G + R, residual y - f")["value"]
    return identity(rows["value"], f"with y - f: {printed.min():.2g} to {printed.max():.2g}; {_sizes(rows)}")


def _over_bound(tables: Tables, series: str, following: bool) -> pd.DataFrame:
    """An eigenvalue over the bound of its own network, or over that of the next seed's at the same step."""
    rows = select(tables[THEORY], series=series, quantity="curvature_ratio").fillna({"run_id": ""})
    if not following:
        return rows
    bounds = select(tables[THEORY], series="bound").fillna({"run_id": ""})[[*NETWORK, "seed", "value"]]
    found = rows.merge(bounds, on=[*NETWORK, "seed"], suffixes=("", "_own"))
    found = found.merge(_of_the_next_seed(bounds), on=[*NETWORK, "seed"], suffixes=("", "_next"))
    return found.assign(value=found["value"] * found["value_own"] / found["value_next"])


def _of_the_next_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of every seed, put down for the seed before it; the last one takes the first."""
    return rows.assign(seed=(rows["seed"] - 1) % (rows["seed"].max() + 1))


def _excess(following: bool) -> Callable[[Tables], Estimate]:
    """Largest excess of the gap over the bound, relative to it."""

    def compute(tables: Tables) -> Estimate:
        rows = _over_bound(tables, "gap over bound", following)
        note = f"largest gap over bound: {rows['value'].max():.4f}; {_sizes(rows)}"
        return identity((rows["value"] - 1), note)

    return compute


def _attained(following: bool) -> Callable[[Tables], Estimate]:
    """Distance of the residual part's eigenvalue from the bound, relative; small networks."""

    def compute(tables: Tables) -> Estimate:
        rows = _over_bound(tables, "residual part over bound", following)
        return identity((rows["value"] - 1).abs(), _sizes(rows))

    return compute


for _whose, _following in (("the bound", False), ("the bound of the next network", True)):
    register(f"excess of the gap over {_whose}", _excess(_following))
    register(f"distance of the residual part from {_whose}", _attained(_following))

# --- Proposition 5.3 and the condition that it lacks ------------------------------------------------------------------


def _all_edge_runs(tables: Tables) -> pd.DataFrame:
    """One row a run, whether it converged or not: its ratios as columns."""
    rows = select(tables[THEORY], case="edge", quantity="curvature_ratio")
    runs = rows.pivot_table(index=[*RUN, "learning_rate"], columns="series", values="value").reset_index()
    return runs.assign(sharpness=2 * runs["sharpness over 2/learning rate"] / runs["learning_rate"])


def _edge_runs(tables: Tables) -> pd.DataFrame:
    """The runs that converged."""
    runs = _all_edge_runs(tables)
    return runs[runs["run"] == 1.0]


register("error of the Jacobian at the minimiser", _errors("edge", "Jacobian"))
register("error of the Jacobian at the minimiser as printed", _errors("edge", "Jacobian as printed"))


def _place_of_edge(converged: bool) -> Callable[[Tables], Estimate]:
    """Largest sharpness over 2/eta_0 of the runs that converged, or did not, at any rate; one value a seed, t interval.

    Only rates at which every minimiser is sharper than 2/eta_0 and the flattest one is within the printed edge can tell
    the two edges apart, and only rates close to the edge can reach it: some runs must have them.
    """

    def compute(tables: Tables) -> Estimate:
        select(tables[THEORY], case="edge", series=LEAST)
        runs = _all_edge_runs(tables)
        least, printed = runs[LEAST], runs["printed edge over 2/learning rate"]
        between = runs[(least > BEYOND) & (least < printed)]
        if between["seed"].nunique() < runs["seed"].nunique():
            raise Undecidable("not every seed has runs whose minimisers lie between 2/eta_0 and the printed edge")
        if runs[least.between(BELOW, 1.0)]["seed"].nunique() < runs["seed"].nunique():
            raise Undecidable(f"not every seed has a learning rate between {BELOW} of the edge and the edge")
        own = runs[runs["run"] == float(converged)]
        largest = own.groupby("seed")["sharpness over 2/learning rate"].max().reindex(runs["seed"].unique())
        note = (
            f"{(runs['run'] == 1).sum()} of {len(runs)} runs converge, {(between['run'] == 1).sum()} of {len(between)}"
            f" whose flattest minimiser lies between 2/eta_0 and the printed edge, up to {printed.max():.2f} of it"
        )
        return mean_estimate(largest.to_numpy(), note)

    return compute


register("largest sharpness of converged runs over 2/eta_0", _place_of_edge(converged=True))
register("largest sharpness of runs that do not converge over 2/eta_0", _place_of_edge(converged=False))


@statistic("shortfall of the sharpness of minimisers under its least value")
def shortfall(tables: Tables) -> Estimate:
    """Largest shortfall of a minimiser's sharpness under its least value, relative."""
    return _shortfall_of(_edge_runs(tables)["sharpness over its least"])


@statistic("shortfall of the sharpness of minimisers of NTP under the least value of muP")
def shortfall_under_another(tables: Tables) -> Estimate:
    """The same, minimisers of NTP held against the least value of muP at their width."""
    runs = _edge_runs(tables)
    mup = runs[runs["parameterization"] == MUP]
    least = (mup["sharpness"] / mup["sharpness over its least"]).groupby(mup["width"]).first()
    ntp = runs[runs["parameterization"] == NTP]
    return _shortfall_of((ntp["sharpness"] / ntp["width"].map(least)).dropna())


def _shortfall_of(ratio: pd.Series) -> Estimate:
    return identity((1 - ratio), f"{len(ratio)} minimisers; smallest ratio {ratio.min():.6f}")


# --- initialisation and large widths ----------------------------------------------------------------------------------


def _initial(tables: Tables, series: str, name: str, case: str = "initialisation") -> pd.DataFrame:
    """Values at initialisation, [draws, widths]."""
    rows = select(tables[THEORY], case=case, series=series, parameterization=name)
    return rows.pivot_table(index="seed", columns="width", values="value").dropna()


def _width_exponent(case: str, series: str, name: str) -> Callable[[Tables], Estimate]:
    def compute(tables: Tables) -> Estimate:
        return slope(select(tables[THEORY], case=case, series=series, parameterization=name), "width")

    return compute


for _series, _name in (
    ("e from its limit", MUP),
    ("w", MUP),
    ("w", NTP),
    ("mean eigenvalue of e", SP),
    ("mean eigenvalue of e", NTP),
):
    register(f"exponent in N at initialisation, {_series}, {_name}", _width_exponent("initialisation", _series, _name))
for _series, _name in (
    ("from infinite width", MUP),
    ("from infinite width of muP", NTP),
    ("from initialisation", MUP),
    ("from initialisation", NTP),
):
    register(f"exponent in N along training, distance {_series}, {_name}", _width_exponent("limit", _series, _name))


def _rms_exponent(series: str, name: str) -> Callable[[Tables], Estimate]:
    """Exponent in N of the root mean square over the draws of a group; one fit a group, t interval over groups."""

    def compute(tables: Tables) -> Estimate:
        values = _initial(tables, series, name)
        draws, sizes = values.shape
        if draws < 2 * GROUPS or sizes < FEWEST_SIZES:
            raise Undecidable(f"{draws} draws at {sizes} widths: at least {2 * GROUPS} at {FEWEST_SIZES} are needed")
        groups = np.array_split(values.to_numpy(), GROUPS)
        rms = np.array([np.sqrt(np.mean(group**2, axis=0)) for group in groups])
        return mean_estimate(exponents(values.columns.to_numpy(), rms), f"{GROUPS} groups of {len(groups[0])} draws")

    return compute


for _series, _name in (("v from its limit", MUP), ("w", NTP)):
    register(f"exponent in N at initialisation, rms of {_series}, {_name}", _rms_exponent(_series, _name))


def _variance(name: str, case: str) -> Callable[[Tables], Estimate]:
    """Squared deviation of v from its mean over the variance of Gaussian weights, mean over the widths of a draw."""

    def compute(tables: Tables) -> Estimate:
        values = _initial(tables, "v", name, case)
        width = values.columns.to_numpy(dtype=float)
        dim = float(select(tables[THEORY], case="initialisation")["input_dim"].iloc[0])
        mean = 1.0 if name == SP else 1 / dim
        ratios = (values.to_numpy() - mean) ** 2 / (2 * mean**2 / width)
        return mean_estimate(ratios.mean(axis=1), f"{len(width)} widths")

    return compute


for _name, _stated in ((MUP, "2/(N D^2)"), (SP, "2/N")):
    register(f"variance of v over {_stated}, {_name}", _variance(_name, "initialisation"))
    register(f"variance of v over {_stated}, {_name}, uniform weights", _variance(_name, "uniform initialisation"))


def _softmax(largest: bool) -> Callable[[Tables], Estimate]:
    """Largest eigenvalue of the Hessian by the outputs at the largest (or smallest) margin; t interval over seeds."""

    def compute(tables: Tables) -> Estimate:
        rows = select(tables[THEORY], case="softmax")
        margin = rows["step"].max() if largest else rows["step"].min()
        return mean_estimate(select(rows, step=margin)["value"].to_numpy(), f"margin {margin}")

    return compute


register("largest eigenvalue of the softmax Hessian at the best fit", _softmax(largest=True))
register("largest eigenvalue of the softmax Hessian at an even fit", _softmax(largest=False))
