"""Tables 1 and 2 of the first paper: exponents are recovered and stand beside the stated ones."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.drawing import making
from featurespeed.papers.feature_speed.tables import tables
from featurespeed.records import frame
from featurespeed.scalings import FSF_EXPONENTS
from tests.papers.cases import STYLE, drawing_of
from tests.papers.feature_speed.cases import assert_made_in_all_formats, record

PROPERTIES = ("forward_rms", "feature_speed_rms", "loss_decay", "contribution_ratio")


def scaling_records(scalings: tuple[str, ...], seeds: int = 4) -> pd.DataFrame:
    """Exact power laws with the stated exponents, times a factor of each seed."""
    reference = {"width": 64, "depth": 16, "input_dim": 16, "output_dim": 4}
    sizes = [reference] + [reference | {key: 4 * value} for key, value in reference.items()]
    columns = {"m": "width", "L": "depth", "d": "input_dim", "k": "output_dim"}
    rows = []
    for scaling in scalings:
        laws = dict(FSF_EXPONENTS[scaling]) | {name: dict.fromkeys(columns, 0.0) for name in PROPERTIES}
        for (quantity, law), size, seed in itertools.product(laws.items(), sizes, range(seeds)):
            value = (1 + seed) * math.prod(size[columns[key]] ** power for key, power in law.items())
            rows.append(record(series="", scaling=scaling, seed=seed, quantity=quantity, value=value, **size))
    return frame(rows)


def stage_table(artefact: str) -> pd.DataFrame:
    return scaling_records(("NTK", "FSC") if artefact == "fsf_table1" else ("ResNet FSC",))


@pytest.mark.parametrize("artefact", ["fsf_table1", "fsf_table2"])
def test_artefact_is_made_in_all_formats(artefact, tmp_path):
    assert_made_in_all_formats(artefact, stage_table(artefact), tmp_path)


def test_a_figure_drawn_twice_is_the_same_file(tmp_path):
    for run in ("a", "b"):
        paths = {kind: tmp_path / f"{run}.{kind}" for kind in ("pdf", "svg", "png")}
        sources = (stage_table("fsf_table2"),)
        making.make(drawing_of("fsf_table2"), sources, tmp_path / f"{run}.csv", paths, STYLE)
    for kind in ("csv", "pdf", "svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_table_exponents_are_recovered_and_set_beside_the_stated_ones():
    table = tables.tabulate_table1(stage_table("fsf_table1"))
    assert set(table["panel"]) == {f"{s} | exponent of {v}" for s in ("NTK", "FSC") for v in ("m", "L", "d", "k")}
    np.testing.assert_allclose(table["y"], table["x"], atol=1e-9)
    row = table.query("panel == 'FSC | exponent of L' and series == 'learning_rate_hidden'").iloc[0]
    assert row.x == -2.0 and row.n == 4
    assert set(table.loc[table.series.isin(PROPERTIES), "x"]) == {0.0}
