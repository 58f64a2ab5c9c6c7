"""Claims about the edge of stability: statistics find what is planted, controls can fail."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.ledger.engine import Verdict, ledger
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.edge_cases import all_tables, directional, full_batch, residuals
from tests.sweeps.spectra_cases import EDGE, PLAIN, SKIPS, spectra, spectrum

ROOM = "sc_edge"
CRITERIA = criteria_of(ROOM)
UNTOLD = "sc_discrepancy_fig9_settings"  # both settings show the same
TABLES = all_tables()


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, TABLES | tables, "planted")
    return found.set_index("claim_id")


def verdicts(*claims: str, **tables: pd.DataFrame) -> dict[str, str]:
    return rows(*claims, **tables)["verdict"].to_dict()


def test_tables_as_claimed_confirm_every_claim():
    found = verdicts()
    assert found.pop(UNTOLD) == Verdict.INCONCLUSIVE
    assert len(found) == 4 and set(found.values()) == {Verdict.CONFIRMED}


def test_every_control_fails_where_its_claim_holds():
    table = rows().drop(index=UNTOLD)
    assert table["control"].str.endswith("fails, as it must").all()


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) == statistics_of(ROOM)


@pytest.mark.parametrize(("late", "verdict"), [(1.05, "confirmed"), (0.6, "contradicted"), (1.4, "contradicted")])
def test_level_of_the_sharpness_decides_the_edge_of_stability(late, verdict):
    assert verdicts("sc_fig9_full_batch", sc_fig09=full_batch(late))["sc_fig9_full_batch"] == verdict


def test_networks_that_start_at_the_edge_take_the_control_away():
    table = full_batch()
    start = (table["quantity"] == "sharpness") & (table["step"] < 30)
    flat = table.assign(value=table["value"].where(~start, EDGE))
    assert verdicts("sc_fig9_full_batch", sc_fig09=flat)["sc_fig9_full_batch"] == Verdict.INCONCLUSIVE


def test_minibatches_that_stay_below_the_edge_contradict_the_printed_settings():
    def below(label, width, rate, step, seed):
        return [0.5 * value for value in spectrum(label, width, rate, step, seed)]

    table = spectra((PLAIN, SKIPS), sharpness=below)
    assert (
        verdicts("sc_discrepancy_fig9_settings", sc_fig23=table)["sc_discrepancy_fig9_settings"] == Verdict.CONTRADICTED
    )
    assert (
        verdicts("sc_discrepancy_fig9_settings", sc_fig09=full_batch(0.5))["sc_discrepancy_fig9_settings"]
        == Verdict.CONFIRMED
    )
    both = rows("sc_discrepancy_fig9_settings", sc_fig23=table, sc_fig09=full_batch(0.5)).loc[
        "sc_discrepancy_fig9_settings"
    ]
    assert both["verdict"] == Verdict.INCONCLUSIVE and "cannot tell the two apart" in both["note"]


@pytest.mark.parametrize(
    ("rises", "verdict"),
    [({"muP": 2.0, "NTP": 0.5}, "confirmed"), ({"muP": 1.5, "NTP": 1.0}, "contradicted")],
)
def test_rise_of_the_gauss_newton_eigenvalue_is_compared_at_the_largest_width(rises, verdict):
    found = rows("sc_fig11_gauss_newton", sc_fig11=residuals(rises)).loc["sc_fig11_gauss_newton"]
    assert (found["value"], found["verdict"]) == (pytest.approx(rises["muP"] / rises["NTP"]), verdict)
    assert "width 128; muP: rise" in found["note"] and "NTP: rise" in found["note"]


def test_curvature_along_the_gradient_that_follows_the_width_is_contradicted():
    found = verdicts("sc_fig27_directional", "sc_fig27_directional_depth_mup", sc_fig27=directional(0.5))
    assert found["sc_fig27_directional"] == found["sc_fig27_directional_depth_mup"] == Verdict.CONTRADICTED


def test_two_widths_and_two_seeds_are_judged_without_an_error_and_decide_nothing():
    def small(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["width"] <= 16) & (table["seed"] < 2)]

    found = rows(**{name: small(table) for name, table in TABLES.items()})
    others = found.drop(index="sc_fig11_gauss_newton")
    assert set(others["verdict"]) == {Verdict.INCONCLUSIVE}
    assert others["note"].str.contains("2 widths, at least 3 are needed").all()
