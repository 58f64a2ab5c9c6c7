"""Tables 1 and 2: the size grid, the networks they describe, and exponents that come out as stated in wide networks."""

import numpy as np
import pytest

from featurespeed.papers.feature_speed.tables.spec import ScalingSpec
from featurespeed.records import SIZE_COLUMNS, validate
from featurespeed.scalings import FSF_EXPONENTS, Scaling
from featurespeed.statistics import loglog_exponents
from tests.conftest import load_script

scaling_tables = load_script("scaling_tables")
SIZES = {"widths": [2048, 512, 8192], "depths": [16, 8, 32], "input_dims": [4, 16], "output_dims": [2, 8]}
SPEC = ScalingSpec(artefact="t", scalings=list(Scaling)[:3], branch_scale="1", seeds=20, seed=3, **SIZES)


@pytest.fixture(scope="module")
def table():
    return scaling_tables.main(SPEC)


def test_one_size_varies_at_a_time():
    grid = scaling_tables.size_grid(SPEC)
    assert grid[0] == (2048, 16, 4, 2) and len(grid) == len(set(grid)) == 1 + 2 + 2 + 1 + 1
    assert all(sum(a != b for a, b in zip(sizes, grid[0], strict=True)) == 1 for sizes in grid[1:])


def test_table_is_complete_and_follows_the_schema(table):
    validate(table)
    assert len(table) == 3 * 7 * SPEC.seeds * (6 + 4)
    assert (table.groupby(["scaling", "quantity"]).size() == 7 * SPEC.seeds).all()


@pytest.mark.parametrize("scaling", SPEC.scalings)
def test_measured_exponents_are_nearest_to_the_stated_ones(table, scaling):
    for quantity, stated in FSF_EXPONENTS[scaling].items():
        rows = table[(table["scaling"] == scaling) & (table["quantity"] == quantity)]
        measured = loglog_exponents(rows, list(SIZE_COLUMNS.values()), "value")
        for size, column in SIZE_COLUMNS.items():
            assert abs(measured[column].value - stated[size]) < 0.25, (quantity, size, measured[column])


@pytest.mark.parametrize(
    ("scaling", "quantity", "size", "power"),
    [
        ("NTK", "feature_speed_rms", "m", -0.5),
        ("MF+muP", "loss_decay", "L", -0.5),
        ("FSC", "feature_speed_rms", "L", 0),
    ],
)
def test_properties_fail_where_the_paper_says_so(table, scaling, quantity, size, power):
    rows = table[(table["scaling"] == scaling) & (table["quantity"] == quantity)]
    measured = loglog_exponents(rows, list(SIZE_COLUMNS.values()), "value")[SIZE_COLUMNS[size]]
    assert abs(measured.value - power) < 0.25


def test_backward_norms_that_the_scalings_ask_for():
    wanted = [scaling_tables.backward_rms_wanted(s, 100, 0.5) for s in Scaling]
    np.testing.assert_allclose(wanted, [0.1, 0.01, 0.02, 0.02])
