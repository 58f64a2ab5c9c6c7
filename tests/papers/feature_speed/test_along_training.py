"""Claims along training: rounding errors confirm the formula, the speeds of the neighbours fail it."""

import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, decide
from tests.papers.cases import criteria_of
from tests.papers.feature_speed.cases import planted

CRITERIA = criteria_of("fsf_along_training")


def trained_networks(speeds: tuple[float, ...], error: float, series: str = "residual ConvNet") -> pd.DataFrame:
    rows = []
    for seed in (0, 1):
        for layer, speed in enumerate(speeds, start=1):
            place = {"layer": layer, "seed": seed, "series": series, "learning_rate": 0.1, "case": "along training"}
            rows.append(place | {"quantity": "feature_speed", "value": speed})
            rows.append(place | {"quantity": "formula_error", "value": error})
    return planted(rows, estimator="jvp")


def test_formula_along_training_is_confirmed_by_rounding_errors_and_failed_by_the_neighbours_speeds():
    tables = {"fsf_training": trained_networks((1.0, 2.0, 5.0), 3e-16)}
    error = STATISTICS["formula error along training, ConvNet"](tables)
    assert (error.value, error.n) == (3e-16, 6)
    # Speeds 5, 1, 2 in place of 1, 2, 5: the first node is off by a factor of five.
    assert STATISTICS["formula error along training with shuffled layers, ConvNet"](tables).value == pytest.approx(4.0)
    with pytest.raises(Undecidable, match="no MLP"):
        STATISTICS["formula error along training, MLP"](tables)


def test_formula_that_fails_at_one_node_is_contradicted():
    criterion = next(c for c in CRITERIA if c.claim_id == "fsf_thm21_convnet")
    tables = {"fsf_training": trained_networks((1.0, 2.0), 1e-6)}
    assert decide(STATISTICS[criterion.compute](tables), criterion.threshold) is Verdict.CONTRADICTED
