"""The first paper's ledger: its criteria are complete, a small run is judged, no statistic lies idle."""

from featurespeed.ledger.criteria import Kind
from featurespeed.ledger.engine import STATISTICS, StageTables, Verdict, ledger
from featurespeed.pipeline.registry import ARTEFACTS, ROOMS
from featurespeed.records import read_table
from tests.papers.cases import criteria_of_paper

CRITERIA = criteria_of_paper("fsf")
OF_THIS_PAPER = {
    name for name, function in STATISTICS.items() if function.__module__.startswith("featurespeed.papers.feature_speed")
}

#: Every figure, table, theorem, proposition and appendix of the paper that the ledger must hold.
OF_THE_PAPER = (
    "Thm 2.1", "Thm 3.2", "Prop. 4.1", "Prop. 5.3", "Prop. 5.4", "Prop. 6.1", "Prop. 6.2", "Thm 6.3", "App. B",
    "App. C", "Eq. 14", "Sec. 2", "Sec. 5.1", "Sec. 5.2", "Sec. 6.1", "Fig. 1a", "Fig. 1b", "Fig. 1c", "Fig. 2a",
    "Fig. 2b", "Table 1", "Table 2",
)  # fmt: skip


def test_every_part_of_the_paper_has_a_row():
    sources = " | ".join(criterion.source for criterion in CRITERIA)
    assert [part for part in OF_THE_PAPER if part not in sources] == []
    assert {criterion.artefact for criterion in CRITERIA} <= set(ARTEFACTS)
    drawn = {artefact.id for room in ROOMS if room.paper.group == "fsf" for artefact in room.drawn}
    assert drawn <= {criterion.artefact for criterion in CRITERIA}


def test_every_computed_claim_has_a_control_of_its_own_and_no_statistic_lies_idle():
    computed = [criterion for criterion in CRITERIA if criterion.compute]
    assert all(criterion.control and criterion.control.compute != criterion.compute for criterion in computed)
    used = {c.compute for c in computed} | {c.control.compute for c in computed}
    assert used == OF_THIS_PAPER


def test_central_claims_are_the_five_of_the_abstract():
    assert {criterion.claim_id for criterion in CRITERIA if criterion.kind is Kind.CENTRAL} == {
        "fsf_thm21_mlp_trained", "fsf_thm32_limit", "fsf_fig1a_mlp_exponent", "fsf_fig1b_resnet_one", "fsf_fig2a_fsc",
    }  # fmt: skip


def test_small_run_is_judged_without_an_error_and_confirms_no_comparison_with_the_paper(smoke_results):
    tables = StageTables(sorted((smoke_results / "stages").glob("*.parquet")), read_table)
    claims, _ = ledger(CRITERIA, tables, "smoke")
    verdicts = claims.set_index("claim_id")["verdict"]
    assert verdicts["fsf_thm21_mlp"] == verdicts["fsf_prop62"] == Verdict.CONFIRMED
    for claim in ("fsf_fig1a_published", "fsf_fig1b_published", "fsf_discrepancy_fig2b_level"):
        assert verdicts[claim] == Verdict.INCONCLUSIVE
    # Ten steps hardly train, and the run may say nothing of training; the formula holds in it all the same.
    transformers = [f"fsf_thm21_{kind}{how}" for kind in ("vit", "gpt", "post_ln") for how in ("", "_adam")]
    trained = claims.set_index("claim_id").loc[["fsf_thm21_mlp_trained", "fsf_thm21_convnet", *transformers]]
    assert (trained["value"] < 1e-10).all()
    assert not (verdicts == Verdict.NOT_RUN).any()
