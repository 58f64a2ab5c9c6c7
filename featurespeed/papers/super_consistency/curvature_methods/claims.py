"""How well the sharpness is measured: error, cost and silent misses of each method against the true value (App. J.1).

The unit is one measurement: from one random start at one probe step, of one training run of each network. Intervals say
what other starts would give, not other networks. For methods that start warm it is a measurement along a trajectory.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from featurespeed.ledger.engine import Estimate, Undecidable
from featurespeed.ledger.evidence import Tables, as_estimate, register, select
from featurespeed.statistics import median_interval, proportion_interval

ARTEFACT = "sc_sharpness_methods"
TARGET = 1e-3  # the accuracy that was asked for
FEWEST = 6  # values that bracket a median

OURS, WARM, CHECKED = "Lanczos, cold", "Lanczos, warm", "Lanczos, warm with checks"
PAPERS = "power iteration, tol 1e-3"
ALGEBRAIC, MAGNITUDE = "ARPACK LA, default", "ARPACK LM, default"
SHARES = (OURS, PAPERS)
SILENT = {"our method": (OURS, WARM, CHECKED), "the paper's method": (PAPERS,)}
COSTS = (OURS, WARM)
NEGATIVE = (OURS, PAPERS, ALGEBRAIC, MAGNITUDE)
START = ["case", "step", "seed"]  # from which all methods measure
NETWORK = "ConvNet"  # that of the paper, on which costs are judged


def _errors(tables: Tables, method: str) -> pd.DataFrame:
    return select(tables[ARTEFACT], series=method, quantity="relative_error")


def _median(values: pd.Series, note: str) -> Estimate:
    if len(values) < FEWEST:
        raise Undecidable(f"{len(values)} measurements: at least {FEWEST} are needed for a median")
    return as_estimate(median_interval(values.to_numpy()), note)


def _share(method: str, beyond: bool) -> Callable[[Tables], Estimate]:
    """Share of the measurements whose true error is within, or ``beyond``, the accuracy asked for."""

    def compute(tables: Tables) -> Estimate:
        errors = _errors(tables, method)["value"]
        hits = int(((errors > TARGET) if beyond else (errors <= TARGET)).sum())
        parts = ", ".join(
            f"{name} {errors.quantile(q):.2g}" for name, q in (("median", 0.5), ("90%", 0.9), ("largest", 1.0))
        )
        note = f"{hits} of {len(errors)} measurements; errors: {parts}"
        return as_estimate(proportion_interval(hits, len(errors)), note)

    return compute


def _silent(methods: tuple[str, ...]) -> Callable[[Tables], Estimate]:
    """Share of starts at a step from which any of the methods is off by more than was asked for and does not say so."""

    def compute(tables: Tables) -> Estimate:
        rows = pd.concat([_errors(tables, method) for method in methods])
        missed = rows["value"] > TARGET
        silent = (missed & rows["converged"].astype(bool)).groupby([rows[key] for key in START]).any()
        note = f"{len(rows)} measurements, {missed.sum()} of them off by more than {TARGET:g}"
        return as_estimate(proportion_interval(int(silent.sum()), len(silent)), note)

    return compute


def _products(method: str) -> Callable[[Tables], Estimate]:
    """Median number of products, over all steps and starts of the paper's kind of network."""

    def compute(tables: Tables) -> Estimate:
        rows = _errors(tables, method)
        others = rows[rows["case"] != NETWORK].groupby("case")["products"].median()
        note = "; ".join(f"median of the {case}: {value:g}" for case, value in others.items())
        return _median(select(rows, case=NETWORK)["products"], note)

    return compute


def _where_negative(method: str) -> Callable[[Tables], Estimate]:
    """Median error at the steps where the smallest eigenvalue is larger in magnitude than the largest."""

    def compute(tables: Tables) -> Estimate:
        truth = select(tables[ARTEFACT], series="truth")
        ends = truth.pivot_table(index=["case", "step"], columns="quantity", values="value")
        where = ends.index[ends["smallest_eigenvalue"] < -ends["sharpness"]]
        rows = _errors(tables, method).set_index(["case", "step"])
        values = rows.loc[rows.index.isin(where), "value"]
        return _median(values, "; ".join(f"{case}, step {step}" for case, step in where))

    return compute


for _method in SHARES:
    register(f"share of measurements within 1e-3, {_method}", _share(_method, beyond=False))
    register(f"share of measurements off by more than 1e-3, {_method}", _share(_method, beyond=True))
for _name, _methods in SILENT.items():
    register(f"share of silent misses, {_name}", _silent(_methods))
for _method in COSTS:
    register(f"median products, {_method}", _products(_method))
for _method in NEGATIVE:
    register(f"median error where the negative eigenvalue dominates, {_method}", _where_negative(_method))
