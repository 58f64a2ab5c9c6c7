"""The long table: one schema, units fixed by the quantity, bytes fixed by the content."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurespeed.records import (
    COLUMNS,
    QUANTITIES,
    NonFiniteError,
    RecordError,
    frame,
    read_table,
    rounded,
    validate,
    write_table,
)

ROW = {
    "branch_scale": 0.1,
    "width": 64,
    "depth": 10,
    "input_dim": 10,
    "output_dim": 1,
    "layer": 9,
    "seed": 0,
    "estimator": "jvp",
    "quantity": "bfa",
    "value": 1.25,
}


def test_frame_fills_defaults_units_order_and_types():
    table = frame([ROW, {**ROW, "quantity": "feature_speed", "step": 3, "case": "x"}])
    assert list(table.columns) == list(COLUMNS)
    assert list(table["unit"]) == ["rad", "1/time"]
    assert list(table["step"]) == [0, 3]
    assert list(table["case"]) == ["", "x"]
    assert table["n_inputs"].tolist() == [1, 1] and table["width"].dtype == "int64"
    assert math.isnan(table["c"][0])
    validate(table)
    pd.testing.assert_frame_equal(frame(table.drop(columns=["unit", "case", "c"])), table.assign(case=""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widht": 3}, "unknown columns.*widht"),
        ({"quantity": "speed"}, "unknown quantity.*speed.*allowed"),
        ({"estimator": "guess"}, "unknown estimator.*guess.*allowed"),
        ({"seed": None}, "no seed in"),
        ({"width": "wide"}, "wrong type"),
        ({"width": 64.5}, "wrong type"),
    ],
)
def test_frame_rejects(change, message):
    with pytest.raises(RecordError, match=message):
        frame([ROW, {**ROW, **change}])


def test_frame_needs_every_key():
    with pytest.raises(RecordError, match="missing columns.*'depth'"):
        frame([{key: value for key, value in ROW.items() if key != "depth"}])


def test_no_rows_give_a_table_that_is_written_and_read(tmp_path):
    """Of networks that all failed before they were measured there is a table, too, and others can be joined to it."""
    table = frame(iter([]))
    assert list(table.columns) == list(COLUMNS) and len(table) == 0
    write_table(table, tmp_path / "a.parquet", {"spec": {"width": 64}})
    again = read_table(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(again, table)
    joined = frame(pd.concat([again.assign(series="x"), frame([ROW])], ignore_index=True))
    pd.testing.assert_frame_equal(joined, frame([ROW]))


def test_a_row_without_keys_is_not_no_row():
    with pytest.raises(RecordError, match="missing columns"):
        frame([{}])


def test_validate_rejects_a_missing_or_foreign_column_and_a_wrong_unit():
    table = frame([ROW])
    with pytest.raises(RecordError, match=r"missing \['layer'\]"):
        validate(table.drop(columns="layer"))
    with pytest.raises(RecordError, match=r"unknown \['lr'\]"):
        validate(table.assign(lr=0.1))
    with pytest.raises(RecordError, match="wrong unit"):
        validate(table.assign(unit="deg"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_named_by_its_keys(value, tmp_path):
    table = frame([ROW, {**ROW, "seed": 77, "value": value}])
    with pytest.raises(NonFiniteError, match=r'1 of 2 values.*"seed": 77'):
        write_table(table, tmp_path / "table.parquet", {})
    assert list(tmp_path.iterdir()) == []


def test_only_branch_scale_and_c_may_be_nan():
    table = frame([{**ROW, "branch_scale": math.nan, "c": math.nan}])
    assert validate(table)["branch_scale"].isna().all()


def test_two_writes_give_equal_bytes_and_reading_gives_the_table_back(tmp_path):
    table = frame({**ROW, "seed": seed, "value": seed / 7, "series": "μP"} for seed in range(100))
    metadata = {"spec": {"width": 64}, "code_hash": "abc"}
    write_table(table, tmp_path / "a.parquet", metadata)
    write_table(table.copy(), tmp_path / "b.parquet", dict(reversed(metadata.items())))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    again = read_table(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(again, table)
    assert again.attrs["provenance"] == metadata


def test_tables_derived_from_one_that_was_read_share_its_provenance(tmp_path):
    write_table(frame([ROW]), tmp_path / "a.parquet", {"spec": {"width": 64}})
    table = read_table(tmp_path / "a.parquet")
    derived = table[table["width"] > 0].copy()
    assert derived.attrs["provenance"] is table.attrs["provenance"]


def test_units_travel_in_the_file(tmp_path):
    import json

    import pyarrow.parquet as pq

    write_table(frame([ROW]), tmp_path / "a.parquet", {})
    assert json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"units"]) == QUANTITIES


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_values_survive_bit_by_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("bits") / "table.parquet"
    write_table(frame({**ROW, "seed": seed, "value": value} for seed, value in enumerate(values)), path, {})
    assert [value.hex() for value in read_table(path)["value"]] == [float(value).hex() for value in values]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_rounded_values_are_near_and_stay_where_they_are_rounded_again(values):
    normal = [0.0 if abs(value) < 1e-300 else value for value in values]
    table = pd.DataFrame({"value": normal, "residual": math.nan})
    once = rounded(table)
    assert once["residual"].isna().all() and table["value"].tolist() == normal
    assert all(abs(new - old) <= 2**-18 * abs(old) for new, old in zip(once["value"], normal, strict=True))
    pd.testing.assert_frame_equal(rounded(once), once)
