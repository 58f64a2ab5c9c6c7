"""Claims about the edge of stability: statistics find what is planted, controls can fail."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from featurespeed.papers.super_consistency.shared import NTP_ABSOLUTE_CONTROL, NTP_CONTROL
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.edge_cases import all_tables, directional, full_batch, residuals

ROOM = "sc_edge"
CRITERIA = criteria_of(ROOM)
TABLES = all_tables()


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, TABLES | tables, "planted")
    return found.set_index("claim_id")


def verdicts(*claims: str, **tables: pd.DataFrame) -> dict[str, str]:
    return rows(*claims, **tables)["verdict"].to_dict()


def test_tables_as_claimed_confirm_every_claim_and_every_control_fails():
    found = rows()
    assert len(found) == 7 and set(found["verdict"]) == {Verdict.CONFIRMED}, found["note"]
    assert found["control"].str.endswith("fails, as it must").all()


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) - {NTP_CONTROL, NTP_ABSOLUTE_CONTROL} == statistics_of(ROOM)


@pytest.mark.parametrize(("late", "verdict"), [(1.05, "confirmed"), (0.6, "contradicted"), (1.4, "contradicted")])
def test_level_of_the_sharpness_decides_the_edge_of_stability(late, verdict):
    assert verdicts("sc_fig9_full_batch", sc_fig09=full_batch(late))["sc_fig9_full_batch"] == verdict


def test_a_level_that_follows_the_width_is_seen_where_its_mean_is_that_of_the_edge():
    found = rows("sc_fig9_full_batch", "sc_fig9_width", sc_fig09=full_batch(power=0.4))
    assert set(found["verdict"]) == {Verdict.CONTRADICTED}
    assert found.loc["sc_fig9_full_batch", "value"] == pytest.approx(2**0.4 * 1.01 - 1, abs=0.01)  # at N = 32


@pytest.mark.parametrize("claim", ["sc_fig9_full_batch", "sc_fig9_width"])
def test_full_batch_descent_from_above_the_edge_does_not_have_the_premise(claim):
    table = TABLES["sc_fig09"]
    above = (table["quantity"] == "sharpness") & (table["step"] == 0) & (table["width"] == 16)
    found = rows(claim, sc_fig09=table.assign(value=table["value"].mask(above, 4 * table["value"]))).loc[claim]
    assert found["verdict"] == Verdict.INCONCLUSIVE and found["note"].startswith("premise: the run is not below the")


@pytest.mark.parametrize(
    ("rises", "verdict"),
    [({"muP": 2.0, "NTP": 0.5}, "confirmed"), ({"muP": 1.5, "NTP": 1.0}, "contradicted")],
)
def test_rise_of_the_gauss_newton_eigenvalue_is_compared_at_the_largest_and_smallest_width(rises, verdict):
    found = rows("sc_fig11_gauss_newton", sc_fig11=residuals(rises)).loc["sc_fig11_gauss_newton"]
    assert (found["value"], found["verdict"]) == (pytest.approx(rises["muP"] / rises["NTP"], rel=0.01), verdict)
    assert "muP at 0.8, rise by width 8: " in found["note"] and "NTP" in found["note"]


def test_a_larger_rise_at_every_width_is_no_evidence():
    """NTP begins further from where it goes at every width, as muP does on images: both are matched at the end only."""
    table = TABLES["sc_fig11"]
    start = (table["series"] == "muP") & (table["step"] < 30) & (table["quantity"] == "gauss_newton_eigenvalue")
    found = rows("sc_fig11_gauss_newton", sc_fig11=table.assign(value=table["value"].mask(start, 0.1 * table["value"])))
    assert found.loc["sc_fig11_gauss_newton", "value"] == pytest.approx(4.0, rel=0.01)


def test_initial_eigenvalues_that_differ_like_the_rises_take_the_control_away():
    table = TABLES["sc_fig11"]
    start = (table["series"] == "NTP") & (table["step"] < 30) & (table["quantity"] == "gauss_newton_eigenvalue")
    falling = table["value"] * (table["width"] / 8) ** -0.5
    found = rows("sc_fig11_gauss_newton", sc_fig11=table.assign(value=table["value"].mask(start, falling)))
    assert "does not fail" in found.loc["sc_fig11_gauss_newton", "control"]


def test_an_eigenvalue_that_falls_under_mup_too_does_not_have_the_premise():
    found = rows("sc_fig11_gauss_newton", sc_fig11=residuals({"muP": 0.8, "NTP": 0.2})).loc["sc_fig11_gauss_newton"]
    assert found["verdict"] == Verdict.INCONCLUSIVE and found["value"] == pytest.approx(4.0, rel=0.01)
    assert "rises under muP, Fig. 11: by a factor 0.8 at width 128, does not hold" in found["premise"]


def test_an_eigenvalue_that_begins_above_the_edge_does_not_have_the_premise():
    table = TABLES["sc_fig11"]
    wide = (table["quantity"] == "gauss_newton_eigenvalue") & (table["width"] == 128) & (table["step"] < 30)
    table = table.assign(value=table["value"].mask(wide & (table["series"] == "NTP"), 3 * table["value"]))
    found = rows("sc_fig11_gauss_newton", sc_fig11=table).loc["sc_fig11_gauss_newton"]
    assert found["note"].startswith("premise: the run is not below the edge of stability at the start, Fig. 11")


def test_a_share_that_is_the_residuals_contradicts():
    assert verdicts("sc_fig11_share", sc_fig11=residuals(share=0.5))["sc_fig11_share"] == Verdict.CONTRADICTED
    without = TABLES["sc_fig11"][TABLES["sc_fig11"]["quantity"] != "sharpness"]
    assert "no sharpness 1 of muP" in rows("sc_fig11_share", sc_fig11=without)["note"].iloc[0]


def test_a_sharpness_that_augmentation_changes_is_contradicted():
    found = rows("sc_probe_batch", sc_fig11=residuals(augmented=1.3)).loc["sc_probe_batch"]
    assert found["verdict"] == Verdict.CONTRADICTED and found["value"] == pytest.approx(0.26, abs=0.01)
    plain = TABLES["sc_fig11"][TABLES["sc_fig11"]["quantity"] != "augmented_sharpness"]
    assert "no augmented_sharpness 1 of muP" in rows("sc_probe_batch", sc_fig11=plain)["note"].iloc[0]


def test_curvature_along_the_gradient_that_follows_the_width_is_contradicted():
    found = verdicts("sc_fig27_directional", "sc_fig27_directional_depth_mup", sc_fig27=directional(0.5))
    assert found["sc_fig27_directional"] == found["sc_fig27_directional_depth_mup"] == Verdict.CONTRADICTED


def test_networks_of_figure_27_that_begin_above_the_edge_are_told_apart():
    def above(label, width, rate, step, seed):
        return [(1.3 if label == "Depth-muP" else 0.6) * 2 / rate]

    found = verdicts("sc_fig27_directional", "sc_fig27_directional_depth_mup", sc_fig27=directional(0.0, above))
    assert found == {"sc_fig27_directional": "confirmed", "sc_fig27_directional_depth_mup": "inconclusive"}


def with_attributes(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table of Figure 27 with its attributes, which concatenation loses."""
    table.attrs |= TABLES["sc_fig27"].attrs
    return table.reset_index(drop=True)


def diverging(table: pd.DataFrame, label: str, size: int, seeds: range) -> pd.DataFrame:
    """The table of a network of which some seeds diverged at step 30 at its smallest size."""
    own = (table["series"] == label) & table["seed"].isin(seeds)
    own &= table["depth" if label == "Depth-muP" else "width"] == size
    stopped = table[own & (table["step"] == 0) & (table["quantity"] == "sharpness")]
    stopped = stopped.assign(quantity="diverged_step", step=30, value=30.0)
    return with_attributes(pd.concat([table[~own | (table["step"] < 30)], stopped]))


@pytest.mark.parametrize(("lost", "verdict"), [(2, "confirmed"), (3, "inconclusive")])
def test_seeds_that_diverged_are_left_out_of_figure_27_up_to_a_fifth(lost, verdict):
    three = TABLES["sc_fig27"]
    twelve = pd.concat([three.assign(seed=three["seed"] + 3 * copy) for copy in range(4)])
    table = diverging(with_attributes(twelve), "Depth-muP", 3, range(lost))
    found = rows("sc_fig27_directional_depth_mup", sc_fig27=table).loc["sc_fig27_directional_depth_mup"]
    assert found["verdict"] == verdict
    told = f"without {lost} of 12 seeds, of which a network diverged" in found["note"]
    assert told == (lost == 2) and found["n"] == (10 if lost == 2 else 0)


def test_two_widths_and_two_seeds_are_judged_without_an_error_and_decide_nothing():
    def small(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["width"] <= 16) & (table["depth"] <= 6) & (table["seed"] < 2)]

    found = rows(**{name: small(table) for name, table in TABLES.items() if name != "sc_fig01"})
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found["note"].str.contains("2 (?:widths|depths), at least 3 are needed").all()
