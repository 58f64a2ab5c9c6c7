"""Taylor coefficients of the minibatch loss against automatic differentiation, and the identities that they obey.

The abstract announces formulas for the first three coefficients; those tested here, and the identities, are ours. In
the controls one side is that of another network of the same architecture.
"""

from __future__ import annotations

from collections.abc import Callable

from featurespeed.ledger.engine import Estimate
from featurespeed.ledger.evidence import Tables, identity, register, select

ARTEFACT = "beos_fig6"
AUTODIFF, IDENTITY = "autodiff", "identity"
ANOTHER = ", another network's"

#: Name in the ledger -> series of the table.
COEFFICIENTS = {"c0 and c1": ("c0", "c1"), "c2": ("c2",), "c3": ("c3",)}
IDENTITIES = (
    "directional sharpness at most lambda_Xi", "backward feature identity", "Euler identity", "soft rank identity",
)  # fmt: skip


def _largest(case: str, series: tuple[str, ...]) -> Callable[[Tables], Estimate]:
    """Largest relative error over all random networks; every one of the series must be there."""

    def compute(tables: Tables) -> Estimate:
        found = [select(tables[ARTEFACT], case=case, quantity="relative_error", series=name) for name in series]
        each = ", ".join(f"{name} {rows['value'].max():.1g}" for name, rows in zip(series, found, strict=True))
        worst = max(found, key=lambda rows: rows["value"].max())
        cases = min(len(rows) for rows in found)
        return identity(worst["value"], f"{cases} cases" + (f", largest errors {each}" if len(series) > 1 else ""))

    return compute


for _suffix in ("", ANOTHER):
    for _name, _series in COEFFICIENTS.items():
        register(
            f"error against automatic differentiation, {_name}{_suffix}",
            _largest(AUTODIFF, tuple(f"{name}{_suffix}" for name in _series)),
        )
    for _name in IDENTITIES:
        register(f"error of an identity, {_name}{_suffix}", _largest(IDENTITY, (f"{_name}{_suffix}",)))
