"""The lint of the ledger: what makes a row worthless is found, and sound rows are left in peace."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from featurespeed.ledger import engine
from featurespeed.ledger.criteria import Criterion
from featurespeed.ledger.engine import Estimate, StageTables, Undecidable
from featurespeed.ledger.evidence import as_estimate, identity, mean_estimate
from featurespeed.ledger.lint import faults, relation
from featurespeed.statistics import proportion_interval

X = np.random.default_rng(0).normal(1.0, 0.3, 10)
OTHER = np.random.default_rng(1).normal(5.0, 0.3, 10)


def table(**settings) -> pd.DataFrame:
    found = pd.DataFrame({"value": [1.0]})
    found.attrs["provenance"] = {"spec": {"width": 8, "seed": 1} | settings}
    return found


FRAMES = {"a": table(artefact="a"), "same": table(artefact="same"), "other": table(artefact="other", seed=2)}


@pytest.fixture
def tables(tmp_path) -> StageTables:
    for name in FRAMES:
        (tmp_path / f"{name}.parquet").touch()
    return StageTables(tmp_path.glob("*.parquet"), lambda path: FRAMES[path.stem])


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(engine, "STATISTICS", {})

    def register(name, estimate, *reads):
        def compute(tables):
            for artefact in reads or ("a",):
                tables[artefact]
            if estimate is None:
                raise Undecidable("too few")
            return estimate

        engine.statistic(name)(compute)

    register("claim", mean_estimate(X))
    register("sound", mean_estimate(OTHER))
    register("undecided", None)
    register("mirrored", mean_estimate(-X))
    register("inverted", mean_estimate(1 / X))
    register("shifted", mean_estimate(X + 0.5))
    register("doubled", mean_estimate(2 * X))
    register("reversed", mean_estimate(X[::-1]))
    register("permuted", mean_estimate(np.roll(X, 3)))
    register("on a line", mean_estimate(3 - 2 * X))
    register("constant", Estimate(1.0, 0.9, 1.1, 10, sample=(3.0,) * 10))
    register("no sample", Estimate(1.0, 0.9, 1.1, 10))
    register("no width", Estimate(2.0, 2.0, 2.0, 10, sample=(2.0,) * 10))
    register("all", as_estimate(proportion_interval(10, 10)))
    register("none", as_estimate(proportion_interval(0, 10)))
    register("bare share", Estimate(1.0, 1.0, 1.0, 10, sample=(1.0,) * 10))
    register("identity", identity(pd.Series([1e-16, 3e-16, 2e-16])))
    register("identity elsewhere", identity(pd.Series([0.4, 0.7, 0.2])))
    register("half of it", identity(pd.Series([0.5, 0.5, 0.5])))
    register("reads elsewhere", mean_estimate(X + 0.1 * OTHER), "other")
    register("reads both", mean_estimate(X + 0.2 * OTHER), "a", "other")
    register("reads the same runs", mean_estimate(X + 0.3 * OTHER), "a", "same")


def criterion(compute="claim", control="sound", claim_id="one", threshold=None, **changes) -> Criterion:
    return Criterion.model_validate({
        "claim_id": claim_id, "artefact": "a", "kind": "ours", "paper": "arXiv:1", "source": "ours",
        "statement": "s", "statistic": "mean", "compute": compute, "threshold": threshold or {"at_most": 2},
        "control": {"compute": control, "description": "d"},
    } | changes)  # fmt: skip


def test_sound_rows_have_no_faults(registry, tables):
    share = criterion("all", "none", "share", {"at_least": 0.5})
    exact = criterion("identity", "identity elsewhere", "exact", {"at_most": 1e-12}, identity=True)
    rows = [criterion(), share, exact, criterion("reads the same runs", "sound", "shared")]
    assert faults(rows, tables) == []


@pytest.mark.parametrize(
    ("control", "fault"),
    [
        ("mirrored", "the numbers of the claim, scaled by -1"),
        ("inverted", "the numbers of the claim, 1 over them"),
        ("shifted", "the numbers of the claim, shifted by 0.5"),
        ("doubled", "the numbers of the claim, scaled by 2"),
        ("reversed", "the numbers of the claim, in reverse order"),
        ("permuted", "the numbers of the claim, in another order"),
        ("on a line", "the numbers of the claim, on a line with them"),
        ("constant", "control: a constant"),
        ("no sample", "control: no sample"),
        ("no width", "control: an interval without width"),
    ],
)
def test_a_control_on_the_same_numbers_is_refused(registry, tables, control, fault):
    found = faults([criterion(control=control)], tables)
    assert any(fault in line for line in found), found
    assert all(line.startswith("claim 'one': ") for line in found)


def test_a_constant_error_is_no_control_of_an_identity(registry, tables):
    row = criterion("identity", "half of it", threshold={"at_most": 1e-12}, identity=True)
    assert faults([row], tables) == ["claim 'one': control: a constant"]


def test_a_share_without_an_exact_interval_is_refused(registry, tables):
    row = criterion("bare share", "none", threshold={"at_least": 0.5})
    assert faults([row], tables) == ["claim 'one': claim: an interval without width, [1, 1]"]


def test_two_rows_with_one_statistic_are_refused(registry, tables):
    rows = [criterion(), criterion(claim_id="two", threshold={"at_least": 3})]
    assert "claim 'two': compute: that of claim 'one', too" in faults(rows, tables)


@pytest.mark.parametrize("compute", ["mirrored", "shifted", "permuted"])
def test_two_rows_with_the_same_numbers_are_refused(registry, tables, compute):
    found = faults([criterion(), criterion(compute, claim_id="two")], tables)
    assert len(found) == 1 and found[0].startswith("claim 'two': the numbers of claim 'one', ")


@pytest.mark.parametrize(
    ("compute", "fault"),
    [("reads elsewhere", "reads other only"), ("reads both", "also reads other, a run with other")],
)
def test_a_row_that_is_not_about_the_runs_of_its_figure_is_refused(registry, tables, compute, fault):
    found = faults([criterion(compute)], tables)
    assert len(found) == 1 and fault in found[0]


def test_what_cannot_be_computed_is_not_looked_at(registry, tables):
    assert faults([criterion("undecided"), criterion(claim_id="two", control="undecided")], tables) == []


def test_random_samples_are_not_related():
    rng = np.random.default_rng(3)
    for n in (2, 3, 10, 200):
        for _ in range(50):
            assert relation(rng.normal(size=n), rng.lognormal(size=n)) == ""


@pytest.mark.parametrize(
    ("first", "second"), [([1.1, 2.3], [1.1, 2.3, 3.7]), ([1.37], [1.37]), ([1.123, math.nan], [1.123, 2.345])]
)
def test_relations_need_two_finite_samples_of_one_length(first, second):
    assert relation(first, second) == ""


def test_equal_numbers_are_so_to_the_rounding_of_float32():
    assert relation(X, X) == relation(X, X * (1 + 1e-7)) == "as they are"


@pytest.mark.parametrize("moved", [-X, 1 / X, 3 * X, X + 1])
def test_numbers_in_another_order_are_the_same_numbers(moved):
    assert relation(X, np.roll(moved, 3)).endswith("in another order")


def test_round_numbers_are_related_by_chance_only():
    """Counts, steps of a grid and the like: the same ones come out again and again."""
    rng = np.random.default_rng(5)
    draws = [lambda n: rng.poisson(3.0, n), lambda n: rng.integers(1, 3, n), lambda n: rng.normal(size=n).round(2)]
    for draw in draws:
        for n in (2, 3, 5, 20):
            assert [relation(draw(n), draw(n)) for _ in range(100)] == [""] * 100


def test_a_control_that_is_another_claim_mirrored_is_refused(registry, tables):
    rows = [criterion(), criterion("sound", "mirrored", "two", {"at_least": 3})]
    assert faults(rows, tables) == ["claim 'two': control: the numbers of claim 'one', scaled by -1"]
