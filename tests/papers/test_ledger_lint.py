"""The whole ledger under its lint: on the smoke run, and on every table that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurespeed.ledger.criteria import Kind
from featurespeed.ledger.engine import StageTables
from featurespeed.ledger.lint import faults, look
from featurespeed.pipeline.criteria import all_criteria
from featurespeed.pipeline.registry import check_criteria
from featurespeed.records import read_table
from tests.conftest import REPOSITORY

KEPT = sorted({path.parent for path in (REPOSITORY / "results/reference").glob("*/stages/*.parquet")})


def tables_in(folder: Path) -> StageTables:
    return StageTables(sorted(folder.glob("*.parquet")), read_table, {one.artefact for one in all_criteria()})


@pytest.fixture(scope="module")
def smoke_tables(smoke_results) -> StageTables:
    """Those of the smoke run, with what statistics have made of them."""
    return tables_in(smoke_results / "stages")


def test_no_row_of_the_smoke_run_is_worthless(smoke_tables):
    assert faults(all_criteria(), smoke_tables) == []


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.parent.name)
def test_no_row_of_a_kept_run_is_worthless(folder):
    assert faults(all_criteria(), tables_in(folder)) == []


def computed_in(tables: StageTables) -> set[str]:
    return {one.criterion.claim_id for one in look(all_criteria(), tables) if one.claim and one.control}


def test_the_lint_has_something_to_look_at(smoke_tables):
    """What smoke has too few sizes for is computed on the kept tables, so that silence says something."""
    ours, total = computed_in(smoke_tables), len([one for one in all_criteria() if one.compute])
    assert len(ours) > total / 3
    assert len(ours.union(*(computed_in(tables_in(folder)) for folder in KEPT))) > 0.8 * total


def test_criteria_can_be_read_before_anything_runs():
    check_criteria()


def test_every_paper_has_central_claims_and_says_of_each_what_its_abstract_does():
    criteria = all_criteria()
    for paper in {criterion.paper for criterion in criteria}:
        central = [one for one in criteria if one.paper == paper and one.kind is Kind.CENTRAL]
        assert 3 <= len(central) <= 5, paper


def test_a_discrepancy_says_so_in_its_id_and_no_other_row_does():
    for criterion in all_criteria():
        assert (criterion.kind is Kind.DISCREPANCY) == ("discrepancy" in criterion.claim_id), criterion.claim_id
