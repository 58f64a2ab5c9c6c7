"""The second paper's ledger: its criteria are complete, a small run is judged, no statistic lies idle."""

from __future__ import annotations

import re

from featurespeed.ledger.engine import STATISTICS, StageTables, Verdict, ledger
from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF
from featurespeed.records import read_table
from tests.papers.cases import criteria_of_paper

CRITERIA = criteria_of_paper("sc")
OF_THIS_PAPER = {
    name
    for name, function in STATISTICS.items()
    if function.__module__.startswith("featurespeed.papers.super_consistency")
}


def test_every_figure_table_and_theorem_of_the_paper_has_a_row():
    sources = " | ".join(criterion.source for criterion in CRITERIA)
    figures = {
        int(number) for listed in re.findall(r"Fig\.? ([\d, ]+)", sources) for number in re.findall(r"\d+", listed)
    }
    assert figures == set(range(1, 29))
    for part in ("Table 1", "Thm 5.1", "Lemma 5.2", "Prop. 5.3", "App. C.3", "App. D", "App. J.4", "Sec. 2"):
        assert part in sources


def test_computed_claims_belong_to_stages_of_this_version_and_the_others_say_why_not():
    for criterion in CRITERIA:
        assert criterion.claim_id.startswith("sc_")
        assert criterion.compute is None or criterion.artefact in ARTEFACTS
        assert (criterion.compute is None) == bool(criterion.not_run)
    assert {c.artefact for c in CRITERIA if c.compute} == {n for n in ARTEFACTS if ROOM_OF[n].paper.group == "sc"}


def test_every_computed_claim_has_a_control_of_its_own_and_no_statistic_lies_idle():
    computed = [criterion for criterion in CRITERIA if criterion.compute]
    assert all(criterion.control and criterion.control.compute != criterion.compute for criterion in computed)
    used = {c.compute for c in computed} | {c.control.compute for c in computed}
    assert used == OF_THIS_PAPER


def test_small_run_is_judged_without_an_error(smoke_results):
    tables = StageTables(
        sorted((smoke_results / "stages").glob("*.parquet")), read_table, {c.artefact for c in CRITERIA}
    )
    claims, _ = ledger(CRITERIA, tables, "smoke")
    found = claims.set_index("claim_id")["verdict"]
    for name in ("sgd", "adam", "adam_eps", "adamw"):
        assert found[f"sc_table1_forms_{name}"] == Verdict.CONFIRMED
    assert set(found[found == Verdict.NOT_RUN].index) == {c.claim_id for c in CRITERIA if c.not_run}
