"""One long table a stage: its columns, its units, and Parquet files that are equal byte for byte when their content is.

A row is one number, found by its keys (case, series, width, depth, ..., layer, seed, estimator, quantity). The unit of
each quantity is fixed here, so that no table can disagree with another one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from featurespeed.machine.files import atomic_path

SCHEMA_VERSION = 2

# Column -> kind, in the order of the file.
COLUMNS: dict[str, type] = {
    "run_id": str,
    "case": str,
    "series": str,
    "scaling": str,
    "parameterization": str,
    "optimizer": str,
    "learning_rate": float,
    "branch_scale": float,
    "c": float,
    "width": int,
    "depth": int,
    "input_dim": int,
    "output_dim": int,
    "n_inputs": int,
    "step": int,
    "layer": int,
    "seed": int,
    "estimator": str,
    "quantity": str,
    "index": int,
    "value": float,
    "unit": str,
    "residual": float,
    "products": int,
    "converged": bool,
}
DEFAULTS: dict[str, object] = {
    "run_id": "",
    "case": "",
    "series": "",
    "scaling": "",
    "parameterization": "",
    "optimizer": "",
    "learning_rate": math.nan,
    "branch_scale": math.nan,
    "c": math.nan,
    "n_inputs": 1,
    "step": 0,
    "layer": 0,
    "index": 0,
    "residual": math.nan,
    "products": 0,
    "converged": True,
}
# A multilayer perceptron has no branch scale, a network that is not trained no learning rate, some rows no c, and only
# eigenvalues have a residual: NaN says so there and nowhere else.
MAY_BE_NAN = {"learning_rate", "branch_scale", "c", "residual"}

# Size variables of the papers (width, depth, input and output dimension) -> their columns.
SIZE_COLUMNS: dict[str, str] = {"m": "width", "L": "depth", "d": "input_dim", "k": "output_dim"}

ESTIMATORS = (
    "jvp", "finite step", "sampler", "theory", "published", "training", "Lanczos", "Hutchinson", "one product",
    "power iteration", "ARPACK",
)  # fmt: skip

# Quantity -> unit. "1" is a pure number; time is that of the gradient flow, so dt cancels.
QUANTITIES: dict[str, str] = {
    "bfa": "rad",
    "cos_bfa": "1",
    "feature_speed": "1/time",
    "feature_speed_rms": "1/time",
    "loss_decay": "1/time",
    "feature_sensitivity": "1",
    "inverse_backward_norm": "1",
    "forward_rms": "1",
    "backward_norm": "1",
    "gradient_norm": "1",
    "contribution_ratio": "1",
    "init_std_input": "1",
    "init_std_hidden": "1",
    "init_std_readout": "1",
    "learning_rate_input": "1",
    "learning_rate_hidden": "1",
    "learning_rate_readout": "1",
    "formula_error": "1",
    "cosine_error": "1",
    "velocity_ratio": "1",
    "kernel_ratio": "1",
    "kernel_condition": "1",
    "backward_speed_angle": "rad",
    "angle_difference": "rad",
    "relative_difference": "1",
    "log2_growth": "1",
    "batch_loss": "1",
    "label_entropy": "1",
    # Training: the loss is the mean over the steps since the last record.
    "training_loss": "1",
    "test_loss": "1",
    "test_accuracy": "1",
    "test_perplexity": "1",
    "diverged_step": "step",
    "dead_step": "step",
    # Coordinate checks: root mean squares over a batch and a layer.
    "activation_rms": "1",
    "update_rms": "1",
    "effective_update_rms": "1",
    "propagating_update_rms": "1",
    "feature_update_rms": "1",
    "curve_difference": "1",
    # Curvature of the mean loss in units of each layer's learning rate, D^1/2 A D^1/2, so that it compares with
    # 2 / base learning rate; a preconditioned one holds the base learning rate and compares with a number.
    "sharpness": "1/learning rate",
    "smallest_eigenvalue": "1/learning rate",
    "gauss_newton_eigenvalue": "1/learning rate",
    "residual_eigenvalue": "1/learning rate",
    "layer_sharpness": "1/learning rate",
    "augmented_sharpness": "1/learning rate",
    "gamma_sharpness": "1/learning rate",
    "directional_sharpness": "1/learning rate",
    "hessian_trace": "1/learning rate",
    "ntk_eigenvalue": "1/learning rate",
    "preconditioned_sharpness": "1",
    "warm_start_disagreement": "1",
    "overflow_step": "step",
    # Root mean square over a batch of the gradient of the loss by the outputs: softmax or outputs minus label.
    "residual_norm": "1",
    # How sharpness is measured: error of one measurement relative to the true value.
    "relative_error": "1",
    # The two-layer theory: curvature over what it is compared with (a bound, 2 / base learning rate), distances between
    # states of a network relative to the first one, the variable v and the norm of w at initialisation, and the largest
    # eigenvalue of the Hessian of the cross-entropy by the outputs.
    "curvature_ratio": "1",
    "relative_distance": "1",
    "readout_norm": "1",
    "effective_map_norm": "1",
    "softmax_eigenvalue": "1",
    # Descent with depth-wise scaled gradients: curvature of the loss along the update over 2 / learning rate, and the
    # share of steps where it is above 1; cosine of an update with all before it; the size of an update over the
    # learning rate; curvature in units of the layers' scaled rates; soft ranks of hidden features.
    "beyond_share": "1",
    "update_cosine": "1",
    "step_size": "learning rate",
    "step_norm": "1/learning rate",
    "largest_loss_ratio": "1",
    "loss_change": "1",
    "scaled_sharpness": "1/learning rate",
    "participation_ratio": "1",
    "stable_rank": "1",
    "entropy_rank": "1",
    "gradient_soft_rank": "1",
}


class RecordError(ValueError):
    """A table that does not follow the schema."""


class NonFiniteError(FloatingPointError):
    """A table that holds NaN or infinity where a number must be."""


def frame(rows: pd.DataFrame | Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a table with every column of the schema, in order and with its type.

    Missing keys take their default; the unit follows from the quantity. No rows give a table of no rows. Raises
    RecordError for an unknown column or quantity and for a key that has neither value nor default.
    """
    table = rows.copy() if isinstance(rows, pd.DataFrame) else _table_of(list(rows))
    unknown = [name for name in table.columns if name not in COLUMNS]
    if unknown:
        raise RecordError(f"unknown columns {unknown}; allowed: {list(COLUMNS)}")
    for name, default in DEFAULTS.items():
        if name not in table:
            table[name] = default
        elif name not in MAY_BE_NAN:
            table[name] = table[name].fillna(default)
    if "quantity" in table and "unit" not in table:
        table["unit"] = table["quantity"].map(QUANTITIES)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise RecordError(f"missing columns {missing}")
    _check_keys(table)
    return _typed(table)


def validate(table: pd.DataFrame) -> pd.DataFrame:
    """The table itself if it follows the schema.

    Raises RecordError for missing, unknown or misordered columns, null keys, an unknown quantity or estimator, a wrong
    unit; NonFiniteError, naming the keys of the first bad rows, for a value that is not finite.
    """
    if list(table.columns) != list(COLUMNS):
        missing = [name for name in COLUMNS if name not in table]
        unknown = [name for name in table.columns if name not in COLUMNS]
        raise RecordError(
            f"columns differ from the schema: missing {missing}, unknown {unknown}; order {list(COLUMNS)}"
        )
    _check_keys(table)
    wrong = table[table["unit"] != table["quantity"].map(QUANTITIES)]
    if len(wrong):
        raise RecordError(f"wrong unit in {_keys(wrong)}")
    values = pd.to_numeric(table["value"]).to_numpy(dtype=float)
    bad = table[[not math.isfinite(value) for value in values]]
    if len(bad):
        raise NonFiniteError(f"{len(bad)} of {len(table)} values are not finite, first: {_keys(bad)}")
    return _typed(table)


def write_table(table: pd.DataFrame, path: Path | str, metadata: Mapping[str, object], level: int = 9) -> None:
    """Validate and write atomically; `metadata` (JSON-able, deterministic) travels inside the file.

    Two writes of equal tables with equal metadata give equal bytes. ``level`` of the compression: 19 is slow and
    an eighth smaller, for tables that are kept.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = validate(table)
    arrays = [pa.array(table[name].tolist(), type=_arrow_type(kind)) for name, kind in COLUMNS.items()]
    provenance = json.dumps(metadata, sort_keys=True, ensure_ascii=False, allow_nan=False)
    units = json.dumps(dict(sorted(QUANTITIES.items())))
    fields = [pa.field(name, _arrow_type(kind), nullable=name in MAY_BE_NAN) for name, kind in COLUMNS.items()]
    schema = pa.schema(fields, metadata={"provenance": provenance, "units": units, "schema": str(SCHEMA_VERSION)})
    text = [name for name, kind in COLUMNS.items() if kind is str]  # numbers get smaller without a dictionary
    with atomic_path(path) as part:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema), part, compression="zstd", compression_level=level,
            use_dictionary=text, use_byte_stream_split=["value"],
        )  # fmt: skip


def rounded(table: pd.DataFrame, bits: int = 18) -> pd.DataFrame:
    """The table with values and residuals of so many binary digits, relative errors of at most ``2^-bits``.

    Of networks that train in float32 these are digits enough, and the file is hardly more than half as large.
    """
    found = table.copy()
    for name in ("value", "residual"):
        values = table[name].to_numpy(dtype=float)
        mantissa, exponent = np.frexp(values)
        with np.errstate(over="ignore"):  # next to the largest double there is no rounded one
            near = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)
        found[name] = np.where(np.isfinite(near), near, values)
    return found


def read_table(path: Path | str) -> pd.DataFrame:
    """A stage table; its metadata is in `table.attrs["provenance"]`."""
    import pyarrow.parquet as pq

    stored = pq.read_table(path)
    table = _typed(stored.to_pandas())
    table.attrs["provenance"] = Provenance(json.loads(stored.schema.metadata[b"provenance"]))
    return table


class Provenance(dict):
    """What made a table. One object for all tables derived from it: pandas copies ``attrs`` deeply at every step."""

    def __copy__(self) -> Provenance:
        return self

    def __deepcopy__(self, memo: dict) -> Provenance:
        return self


def _table_of(rows: list[Mapping[str, object]]) -> pd.DataFrame:
    """Rows as a table of the columns that they name; no row names one, as of networks that all failed."""
    return pd.DataFrame.from_records(rows, columns=None if rows else list(COLUMNS))


def _check_keys(table: pd.DataFrame) -> None:
    for name in COLUMNS:
        if name in MAY_BE_NAN or name in ("value", "unit"):
            continue
        if table[name].isna().any():
            raise RecordError(f"no {name} in {_keys(table[table[name].isna()])}")
    for name, allowed in (("quantity", QUANTITIES), ("estimator", ESTIMATORS)):
        unknown = sorted(set(table[name]) - set(allowed))
        if unknown:
            raise RecordError(f"unknown {name} {unknown}; allowed: {list(allowed)}")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    try:
        whole = {int: _whole, bool: _truth}
        typed = {
            name: whole[kind](table[name]) if kind in whole else table[name].astype(kind)
            for name, kind in COLUMNS.items()
        }
    except (TypeError, ValueError) as error:
        raise RecordError(f"a column has the wrong type: {error}") from error
    return pd.DataFrame(typed).reset_index(drop=True)


def _whole(column: pd.Series) -> pd.Series:
    whole = column.astype("int64")
    if (whole != column).any():
        raise ValueError(f"{column.name} must be whole numbers")
    return whole


def _truth(column: pd.Series) -> pd.Series:
    if not column.isin([True, False]).all():
        raise ValueError(f"{column.name} must be true or false")
    return column.astype(bool)


def _keys(rows: pd.DataFrame, limit: int = 3) -> str:
    shown = [name for name in rows.columns if name != "unit"]
    return json.dumps(json.loads(rows.head(limit)[shown].to_json(orient="records")))


def _arrow_type(kind: type):
    import pyarrow as pa

    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kind]
