"""Claims along training: the formula holds to rounding, fails between networks, and untrained ones are no evidence."""

import math

import pandas as pd
import pytest

from featurespeed.ledger.engine import PREMISES, STATISTICS, Undecidable, Verdict, decide, ledger
from tests.papers.cases import criteria_of
from tests.papers.feature_speed.cases import planted

CRITERIA = criteria_of("fsf_along_training")
CONVNET = next(c for c in CRITERIA if c.claim_id == "fsf_thm21_convnet")


def trained_networks(speeds: tuple[float, ...], error: float, loss: float = 1.0) -> pd.DataFrame:
    """Two seeds of a residual ConvNet; the speeds of the second are twice those of the first, so are its decays."""
    rows = []
    for seed in (0, 1):
        net = {"seed": seed, "series": "residual ConvNet", "learning_rate": 0.1, "case": "along training"}
        rows.append(net | {"layer": 0, "quantity": "batch_loss", "value": loss})
        for layer, speed in enumerate(speeds, start=1):
            found = {"feature_speed": speed * 2**seed, "loss_decay": speed * 2**seed, "formula_error": error}
            found |= {"bfa": math.pi / 3, "backward_norm": 2.0}
            rows += [net | {"layer": layer, "quantity": name, "value": value} for name, value in found.items()]
    return planted(rows, estimator="jvp", output_dim=10)


def test_formula_along_training_is_confirmed_by_rounding_errors_and_failed_by_another_network():
    tables = {"fsf_training": trained_networks((1.0, 2.0, 5.0), 3e-16)}
    error = STATISTICS["formula error along training, ConvNet"](tables)
    assert (error.value, error.n) == (3e-16, 6)
    # cos = 1/2 and |b| = 2: the formula gives the loss decay; that of the next seed is twice or half the speed.
    control = STATISTICS["formula error along training against the next seed, ConvNet"](tables)
    assert sorted(control.sample) == pytest.approx([0.5] * 3 + [1.0] * 3)
    with pytest.raises(Undecidable, match="no MLP"):
        STATISTICS["formula error along training, MLP"](tables)


def test_formula_that_fails_at_one_node_is_contradicted():
    tables = {"fsf_training": trained_networks((1.0, 2.0), 1e-6)}
    assert decide(STATISTICS[CONVNET.compute](tables), CONVNET.threshold) is Verdict.CONTRADICTED


@pytest.mark.parametrize(("loss", "verdict"), [(2.2, Verdict.CONFIRMED), (2.4, Verdict.INCONCLUSIVE)])
def test_networks_at_the_loss_of_chance_say_nothing_of_training(loss, verdict):
    tables = {"fsf_training": trained_networks((1.0, 2.0), 3e-16, loss)}
    claims, _ = ledger([CONVNET], tables, "laptop")
    assert claims["verdict"].tolist() == [verdict]
    assert PREMISES[CONVNET.premise[0]](tables).holds == (verdict is Verdict.CONFIRMED)
