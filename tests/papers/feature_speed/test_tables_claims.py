"""Claims on Tables 1 and 2: stated exponents are confirmed, those of another scaling are contradicted."""

import numpy as np
import pytest

from featurespeed.ledger.engine import STATISTICS, Verdict, decide
from featurespeed.papers.feature_speed.tables.claims import largest_exponent_gap
from featurespeed.scalings import Scaling
from tests.papers.cases import criteria_of
from tests.papers.feature_speed.test_tables import scaling_records

RATES = [c for c in criteria_of("fsf_tables") if c.claim_id.endswith(("_rates", "_sigma_readout"))]


@pytest.fixture(scope="module")
def tables() -> dict:
    """Power laws with the stated exponents."""
    mlp = [str(scaling) for scaling in Scaling if scaling != Scaling.RESNET_FSC]
    return {"fsf_table1": scaling_records(tuple(mlp)), "fsf_table2": scaling_records((str(Scaling.RESNET_FSC),))}


@pytest.mark.parametrize("criterion", RATES, ids=lambda c: c.claim_id)
def test_stated_exponents_are_confirmed_and_those_of_another_scaling_contradicted(tables, criterion):
    assert decide(STATISTICS[criterion.compute](tables), criterion.threshold) is Verdict.CONFIRMED
    assert decide(STATISTICS[criterion.control.compute](tables), criterion.threshold) is Verdict.CONTRADICTED


def test_one_wrong_exponent_among_many_is_found_and_named():
    noise = np.random.default_rng(0).normal(0, 0.05, size=(2, 12, 4))
    measured = {"a": noise[0], "b": noise[1] + np.array([0, -0.5, 0, 0])}
    found = largest_exponent_gap(measured, dict.fromkeys(measured, np.zeros(4)))
    assert found.ci_low < 0.5 < found.ci_high and found.ci_low > 0.4
    assert found.note.startswith("largest at b in L: exponent -0.")
