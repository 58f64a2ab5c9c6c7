"""Claims about the Taylor coefficients: errors above a tolerance are seen, what is missing is said."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Verdict, ledger
from featurespeed.papers.edge_of_stability.coefficients import claims as coefficients
from featurespeed.records import frame
from tests.papers.cases import criteria_of, used_by

CRITERIA = criteria_of("beos_coefficients")
TAYLOR = [criterion.claim_id for criterion in CRITERIA]
OWN = {
    "autodiff": {"c0": 1e-16, "c1": 4e-16, "c2": 2e-15, "c3": 2e-13},
    "identity": {
        "directional sharpness at most lambda_Xi": 0.0, "backward feature identity": 1e-15, "Euler identity": 1e-15,
        "soft rank identity": 1e-15,
    },
}  # fmt: skip
ERRORS = {case: own | {f"{name}, another network's": 0.5 for name in own} for case, own in OWN.items()}


def taylor(**changes: float) -> pd.DataFrame:
    """The table of Figure 6: errors of random networks; ``changes`` replace the largest error of a series."""
    rows = []
    for case, errors in ERRORS.items():
        for series, error in errors.items():
            for seed in range(4):
                largest = changes.get(series, error)
                rows.append({
                    "case": case, "series": series, "scaling": "rel1", "seed": seed, "width": 4, "depth": 3,
                    "input_dim": 4, "output_dim": 3, "estimator": "jvp", "quantity": "relative_error",
                    "value": largest * (seed + 1) / 4,
                })  # fmt: skip
    return frame(rows)


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted table, or of one that replaces it; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, {"beos_fig6": taylor()} | tables, "planted")
    return found.set_index("claim_id")


def test_tables_as_claimed_confirm_every_claim_and_fail_every_control():
    found = rows()
    assert found["verdict"].eq(Verdict.CONFIRMED).all()
    assert found["control"].str.endswith("fails, as it must").all()


def test_statistics_and_criteria_name_each_other():
    own = {name for name, function in STATISTICS.items() if function.__module__ == coefficients.__name__}
    assert used_by(CRITERIA) == own


def test_every_claim_says_what_the_abstract_states_and_what_is_ours():
    assert len(CRITERIA) == 7 and all("our" in c.source for c in CRITERIA)
    assert [c.claim_id for c in CRITERIA if c.kind == "central"] == ["beos_taylor_c3"]


@pytest.mark.parametrize(
    ("claim", "series", "error"),
    [
        ("beos_taylor_c0_c1", "c0", 2e-12),
        ("beos_taylor_c2", "c2", 2e-12),
        ("beos_taylor_c3", "c3", 2e-10),
        ("beos_identity_directional", "directional sharpness at most lambda_Xi", 2e-12),
        ("beos_identity_feature_speed", "backward feature identity", 2e-12),
        ("beos_identity_euler", "Euler identity", 2e-12),
        ("beos_identity_soft_rank", "soft rank identity", 2e-12),
    ],
)
def test_one_error_above_the_tolerance_contradicts_its_claim_alone(claim, series, error):
    found = rows(*TAYLOR, beos_fig6=taylor(**{series: error}))
    contradicted = found.index[found["verdict"] == Verdict.CONTRADICTED]
    assert list(contradicted) == [claim] and found.loc[claim, "value"] == error


@pytest.mark.parametrize("claim", TAYLOR)
def test_a_control_that_agrees_with_another_network_decides_nothing(claim):
    names = {f"{name}, another network's": 1e-16 for own in OWN.values() for name in own}
    found = rows(claim, beos_fig6=taylor(**names)).iloc[0]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "does not fail" in found["note"]


def test_error_of_the_third_coefficient_has_its_own_tolerance():
    assert rows("beos_taylor_c3", beos_fig6=taylor(c3=2e-12))["verdict"].item() == Verdict.CONFIRMED


def test_a_run_without_one_of_the_coefficients_cannot_decide():
    table = taylor()
    found = rows("beos_taylor_c0_c1", beos_fig6=table[table["series"] != "c1"]).iloc[0]
    assert found["verdict"] == Verdict.INCONCLUSIVE and "series = c1" in found["note"]
