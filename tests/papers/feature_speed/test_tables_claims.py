"""Claims on Tables 1 and 2: a wrong exponent is seen under the ledger's own threshold."""

import numpy as np

from featurespeed.ledger.criteria import Threshold
from featurespeed.ledger.engine import Verdict, decide
from featurespeed.ledger.evidence import largest_deviation
from featurespeed.statistics import Interval
from tests.papers.cases import criteria_of

CRITERIA = criteria_of("fsf_tables")


def test_a_wrong_exponent_is_contradicted_under_the_ledgers_own_threshold():
    threshold = next(c.threshold for c in CRITERIA if c.claim_id == "fsf_table1_fsc_eta_hid")
    assert threshold == Threshold(-np.inf, 0.25)
    planted = {"m": Interval(0.5, 0.45, 0.55, 9, "planted"), "L": Interval(0.0, -0.1, 0.1, 9, "planted")}
    assert decide(largest_deviation(planted, {"m": 0.0, "L": 0.0}), threshold) is Verdict.CONTRADICTED
