"""Tables 1 and 2 of arXiv:2311.18718 as literal numbers, and what the scalings imply by the paper's propositions."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurespeed.parameterization import LayerRole, PowerLaw
from featurespeed.scalings import (
    FSF_EXPONENTS,
    LAYER_SCALINGS,
    STATED_PROPERTIES,
    Scaling,
    layer_scaling,
    readout_std,
)
from featurespeed.theory import cos_bfa_recursion

# Sizes m = 100, L = 16, d = 4, k = 9 (and beta = 1/4 = L^-1/2): every entry of the tables is a number one can check by
# hand, with the relation written beside it.
SIZES = (100, 16, 4, 9)
RELU_STD = 0.1414213562373095  # sqrt(2/m)
TABLE_1 = {
    ("NTK", "input"): (0.5, 1 / 64),  # 1/sqrt(d), 1/(L d)
    ("NTK", "hidden"): (RELU_STD, 1 / 1600),  # sqrt(2/m), 1/(L m)
    ("NTK", "readout"): (0.3, 9 / 1600),  # sqrt(k/m), k/(L m)
    ("MF+muP", "input"): (0.5, 100 / 256),  # 1/sqrt(d), m/(L^1.5 d)
    ("MF+muP", "hidden"): (RELU_STD, 1 / 64),  # sqrt(2/m), L^-1.5
    ("MF+muP", "readout"): (0.03, 9 / 6400),  # sqrt(k)/m, k/(m L^1.5)
    ("FSC", "input"): (0.5, 100 / 1024),  # 1/sqrt(d), m/(L^2 d)
    ("FSC", "hidden"): (RELU_STD, 1 / 256),  # sqrt(2/m), L^-2
    ("FSC", "readout"): (0.12, 9 / 1600),  # sqrt(k L)/m, k/(L m)
}
TABLE_2 = {
    ("ResNet FSC", "input"): (0.5, 100 / 64),  # 1/sqrt(d), m/(L d)
    ("ResNet FSC", "hidden"): (RELU_STD, 1.0),  # 1/sqrt(m) up to the ReLU's sqrt(2); 1/(L beta^2)
    ("ResNet FSC", "readout"): (0.03, 9 / 1600),  # sqrt(k)/m, k/(L m)
}


@pytest.mark.parametrize(("entry", "expected"), [*TABLE_1.items(), *TABLE_2.items()], ids=str)
def test_every_entry_of_the_tables(entry, expected):
    rule = layer_scaling(Scaling(entry[0]), LayerRole(entry[1]))
    assert rule.init_std(*SIZES) == pytest.approx(expected[0], rel=1e-12)
    assert rule.learning_rate(*SIZES, branch_scale=0.25) == pytest.approx(expected[1], rel=1e-12)


# Exponents of (m, L, d, k), from the same tables; the ResNet on the ray beta = c/sqrt(L).
EXPONENTS = {
    "NTK": {
        "init_std_input": (0, 0, -0.5, 0),
        "init_std_hidden": (-0.5, 0, 0, 0),
        "init_std_readout": (-0.5, 0, 0, 0.5),
        "learning_rate_input": (0, -1, -1, 0),
        "learning_rate_hidden": (-1, -1, 0, 0),
        "learning_rate_readout": (-1, -1, 0, 1),
    },
    "MF+muP": {
        "init_std_input": (0, 0, -0.5, 0),
        "init_std_hidden": (-0.5, 0, 0, 0),
        "init_std_readout": (-1, 0, 0, 0.5),
        "learning_rate_input": (1, -1.5, -1, 0),
        "learning_rate_hidden": (0, -1.5, 0, 0),
        "learning_rate_readout": (-1, -1.5, 0, 1),
    },
    "FSC": {
        "init_std_input": (0, 0, -0.5, 0),
        "init_std_hidden": (-0.5, 0, 0, 0),
        "init_std_readout": (-1, 0.5, 0, 0.5),
        "learning_rate_input": (1, -2, -1, 0),
        "learning_rate_hidden": (0, -2, 0, 0),
        "learning_rate_readout": (-1, -1, 0, 1),
    },
    "ResNet FSC": {
        "init_std_input": (0, 0, -0.5, 0),
        "init_std_hidden": (-0.5, 0, 0, 0),
        "init_std_readout": (-1, 0, 0, 0.5),
        "learning_rate_input": (1, -1, -1, 0),
        "learning_rate_hidden": (0, 0, 0, 0),
        "learning_rate_readout": (-1, -1, 0, 1),
    },
}


def test_stated_exponents_are_those_of_the_tables():
    found = {
        scaling: {name: tuple(law[size] for size in "mLdk") for name, law in quantities.items()}
        for scaling, quantities in FSF_EXPONENTS.items()
    }
    assert found == EXPONENTS


@pytest.mark.parametrize(("scaling", "std"), [("NTK", 1 / 20), ("MF+muP", 1 / 400), ("FSC", 5 / 400)])
def test_readouts_of_figure_2(scaling, std):
    """``1/sqrt(m)``, ``1/m`` and ``sqrt(L)/m`` at m = 400, L = 25, one output."""
    assert readout_std(scaling, 400, 25) == pytest.approx(std, rel=1e-12)


def test_stated_properties_are_those_of_propositions_5_3_and_5_4():
    failing = {
        str(scaling): {name for name, holds in row.items() if not holds} for scaling, row in STATED_PROPERTIES.items()
    }
    assert failing == {"NTK": {"FL"}, "MF+muP": {"LD"}, "FSC": set(), "ResNet FSC": set()}
    assert all(set(row) == {"SP", "FL", "LD", "BC"} for row in STATED_PROPERTIES.values())
    assert set(LAYER_SCALINGS) == set(Scaling) == set(STATED_PROPERTIES)


# --- Proposition 4.1 --------------------------------------------------------------------------------------------------

reproducible = settings(derandomize=True, database=None, deadline=None)
sizes = st.tuples(*(st.integers(low, high) for low, high in ((50, 10**6), (10, 400), (1, 1000), (1, 1000))))


def conditions(scaling: Scaling, m: int, L: int, d: int, k: int) -> tuple[float, dict[str, float]]:
    """``m cos(theta) rms(b_{L-1})`` and ``L eta_l |grad_l|^2`` of a wide net with the stated numbers, dense setting.

    All signals have rms 1; ``b`` keeps its norm down to layer 1, so ``|b_l| = sigma_L sqrt(m) |dLoss/df_L|``.
    """
    beta = L**-0.5 if scaling == Scaling.RESNET_FSC else 1.0
    rules = {role: layer_scaling(scaling, role) for role in LayerRole}
    backward_square = m * rules[LayerRole.READOUT].init_std(m, L, d, k) ** 2 / k
    gradient_square = {
        LayerRole.INPUT: backward_square * d,
        LayerRole.HIDDEN: beta**2 * backward_square * m / 2,  # a ReLU halves the square
        LayerRole.READOUT: m / k,
    }
    cos = cos_bfa_recursion(L, beta)[-1]
    rates = {role: rule.learning_rate(m, L, d, k, beta) for role, rule in rules.items()}
    contributions = {str(role): L * rates[role] * square for role, square in gradient_square.items()}
    return m**0.5 * cos * backward_square**0.5, contributions


@pytest.mark.parametrize("scaling", [Scaling.FSC, Scaling.RESNET_FSC])
@reproducible
@given(sizes=sizes)
def test_fsc_meets_both_conditions_of_proposition_4_1_at_every_size(scaling, sizes):
    """Both are of order 1: between 1/2 and 3/2 from depth 10 to 400, whatever width and dimensions."""
    backward, contributions = conditions(scaling, *sizes)
    assert 0.5 < backward < 1.5
    assert all(0.49 < value < 1.5 for value in contributions.values())


@pytest.mark.parametrize(
    ("scaling", "broken"), [(Scaling.NTK, "backward"), (Scaling.MF_MUP, "contributions")], ids=["NTK", "MF+muP"]
)
def test_the_other_scalings_miss_the_condition_of_the_property_they_lack(scaling, broken):
    """Negative control. NTK has no feature learning: ``m cos rms(b)`` grows as sqrt(m/L); its contributions are right.
    MF+muP has no loss decay: its contributions shrink, all alike, as L^-1/2."""
    (b1, c1), (b2, c2) = conditions(scaling, 10**4, 50, 8, 4), conditions(scaling, 10**6, 200, 8, 4)
    if broken == "backward":
        assert b2 / b1 == pytest.approx((100 / 4) ** 0.5, rel=0.02)
        assert all(0.49 < value < 1.5 for value in (*c1.values(), *c2.values()))
    else:
        assert {name: c2[name] / c1[name] for name in c1} == pytest.approx(dict.fromkeys(c1, 0.5), rel=1e-9)


# --- the tools --------------------------------------------------------------------------------------------------------


@reproducible
@given(sizes=sizes)
def test_power_law_is_a_product_of_powers(sizes):
    m, L, d, k = sizes
    law = PowerLaw(constant=3.0, m=-0.5, L=1.5, d=-1, k=2, beta=-2)
    assert law(m, L, d, k, 0.1) == pytest.approx(3 * m**-0.5 * L**1.5 / d * k**2 * 100, rel=1e-9)
    assert law.exponents(-0.5) == {"m": -0.5, "L": 2.5, "d": -1, "k": 2}


def test_branch_scale_enters_only_where_it_is_stated():
    """A branch scale of 0 has no logarithm: laws without beta do not look at it."""
    assert PowerLaw(m=1.0)(7, 5, 1, 1, branch_scale=0.0) == pytest.approx(7)
    with pytest.raises(ValueError):
        PowerLaw(beta=1.0)(7, 5, 1, 1, branch_scale=0.0)
    assert math.isclose(readout_std(Scaling.RESNET_FSC, 10, 99), 0.1)


@pytest.mark.parametrize(("scaling", "role"), [("SP", "input"), ("NTK", "middle")])
def test_unknown_names_raise(scaling, role):
    with pytest.raises(ValueError, match="is not a valid"):
        layer_scaling(scaling, role)


def test_tables_cannot_be_changed():
    with pytest.raises(TypeError):
        LAYER_SCALINGS[Scaling.NTK] = {}
    with pytest.raises(AttributeError):
        layer_scaling(Scaling.NTK, LayerRole.INPUT).init_std = PowerLaw()
