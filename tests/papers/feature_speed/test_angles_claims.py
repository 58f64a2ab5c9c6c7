"""Claims on Figure 1: published points are met by themselves, curves that collapse are told from those that do not."""

import numpy as np
import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, decide
from featurespeed.papers.feature_speed.angles import claims
from featurespeed.papers.feature_speed.angles.published import read_published
from tests.papers.cases import criteria_of
from tests.papers.feature_speed.cases import planted

CRITERIA = criteria_of("fsf_angles")


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(7)


def at_published_points(noise: np.random.Generator, offset: float) -> dict[str, pd.DataFrame]:
    """Ten seeds that scatter around the published angles, shifted by ``offset`` radians."""
    tables: dict[str, list[dict]] = {"fsf_fig1a": [], "fsf_fig1b": []}
    for point in read_published().itertuples():
        for seed in range(10):
            value = point.y + offset + 1e-3 * noise.standard_normal()
            row = {"series": point.series, "seed": seed, "value": value}
            if point.figure == "1a":
                tables["fsf_fig1a"].append(row | {"layer": int(point.x)})
            else:
                depth = {"50-100": 75, "100-150": 125, "150-200": 200}[point.x]
                tables["fsf_fig1b"].append(row | {"depth": depth})
    return {name: planted(rows) for name, rows in tables.items()}


@pytest.mark.parametrize(("figure", "points"), [("1a", 25), ("1b", 15)])
def test_published_points_are_met_by_themselves_and_missed_from_afar(noise, figure, points):
    name = f"share of the published points of Fig. {figure} with |z| <= 3"
    criterion = next(c for c in CRITERIA if c.compute == name)
    at_home, afar = at_published_points(noise, 0.0), at_published_points(noise, 0.5)
    met = STATISTICS[name](at_home)
    assert (met.value, met.n) == (1.0, points)
    # All points met can confirm the claim: the threshold lies below the lower end for n of n.
    assert decide(met, criterion.threshold) is Verdict.CONFIRMED
    assert decide(STATISTICS[name](afar), criterion.threshold) is Verdict.CONTRADICTED
    assert decide(STATISTICS[criterion.control.compute](at_home), criterion.threshold) is Verdict.CONTRADICTED


def test_comparison_gives_the_z_of_each_point(noise):
    compared = claims.compare_with_published(at_published_points(noise, 0.1))
    assert list(compared.columns) == ["figure", "series", "x", "y", "y_sd", "k", "mean", "se", "z", "n"]
    assert len(compared) == 40 and (compared["n"] == 10).all()
    by_hand = (compared["mean"] - compared["y"]) / np.sqrt(
        compared["y_sd"] ** 2 / compared["k"] + compared["se"] ** 2 + 0.0026**2
    )
    np.testing.assert_allclose(compared["z"], by_hand)


def test_points_of_another_width_are_undecidable(noise):
    tables = {name: table.assign(width=100) for name, table in at_published_points(noise, 0.0).items()}
    with pytest.raises(Undecidable, match="m = 200"):
        claims.compare_with_published(tables)


def test_collapse_against_c_is_told_from_no_collapse(noise):

    def angle(c: float) -> float:
        return np.arctan(c) + 0.01 * noise.standard_normal()

    rows = [
        {"depth": L, "series": f"L={L}", "branch_scale": b, "c": L**0.5 * b, "seed": s, "value": angle(L**0.5 * b)}
        for L in (30, 100, 500)
        for b in np.geomspace(1e-3, 1, 40)
        for s in range(5)
    ]
    tables = {"fsf_fig1c": planted(rows)}
    against_c = STATISTICS["largest gap between the curves of Fig. 1c, against c"](tables)
    assert against_c.value < 0.03 and against_c.ci_low == 0.0 and against_c.n == 5
    assert STATISTICS["largest gap between the curves of Fig. 1c, against beta"](tables).ci_low > 0.3
