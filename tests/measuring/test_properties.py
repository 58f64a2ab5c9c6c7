"""Any small problem that can be drawn: the measuring functions are right, or say in one line why they cannot be."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from featurespeed.measuring.context import REPLACEMENTS
from tests.measuring.drawn import FLAT_LOSSES, MEANS, problem_of
from tests.measuring.drawn_checks import (
    AMBIENT,
    Options,
    Question,
    check,
    check_feature_speed,
)
from tests.measuring.drawn_modules import DOUBLE, LAYERS, TWISTS, Choice

DRAWN = {
    "deadline": None, "derandomize": True, "database": None, "print_blob": False,
    "suppress_health_check": list(HealthCheck),
}  # fmt: skip
MAY_BE_OVERWRITTEN = {"linear", "conv", "layer norm", "batch norm", "group norm", "encoder"}
MANY = 100  # examples, of which most should be measured
RARE = 0.02  # share of values that are not converged


# --- what is drawn ----------------------------------------------------------------------------------------------------


@st.composite
def choices(draw) -> Choice:
    """A problem in which everything fits together."""
    kind = draw(st.sampled_from(sorted(LAYERS)))
    most = 3 if kind in ("vectors", "images") else 2
    layers = draw(st.lists(st.sampled_from(sorted(LAYERS[kind])), max_size=most))
    twists = draw(st.lists(st.sampled_from(TWISTS), max_size=2, unique=True))
    if {"tied", "mixed precision"} <= set(twists):
        twists = ["tied"]
    pooled = kind in ("vectors", "images")
    loss = draw(st.sampled_from([name for name in FLAT_LOSSES if pooled or name != "contrastive"]))
    labelled = loss not in ("no targets", "contrastive")
    forms = ["one", "one", "two arguments", "one pair", "keywords", "mapping", *["with labels"] * labelled]
    batch = draw(st.sampled_from(["one", "one", "list", "loader", "generator"]))
    sizes = st.sampled_from([(4,), (5,)] if batch == "one" else [(3, 3), (3, 2), (2, 2, 1), (1, 4)])
    choice = Choice(
        kind, _in_order(layers, twists), tuple(twists), loss,
        inputs="one" if kind == "tokens" else draw(st.sampled_from(forms)),
        outputs=draw(st.sampled_from(["tensor"] * 5 + ["mapping"])),
        batch=batch, sizes=draw(sizes),
        flat=not pooled and labelled and draw(st.booleans()),
        loss_of_model=draw(st.integers(0, 5)) == 5,
        micro_batch=draw(st.sampled_from([None, None, 1, 2, 3])),
        weighted=labelled and batch != "one" and draw(st.integers(0, 4)) == 4,
        dtype=draw(st.sampled_from([DOUBLE, DOUBLE, torch.float32])),
        seed=draw(st.integers(0, 999)),
    )  # fmt: skip
    return _countable(choice)


def one_batch(choice: Choice) -> Choice:
    """Most often, as feature speed wants it."""
    choice = replace(choice, batch="one", sizes=(4,), weighted=False) if choice.seed % 8 else choice
    exact = "batch statistics" in choice.layers  # before them gradients are rounding only, which rates then divide by
    return replace(choice, dtype=DOUBLE) if exact else choice


def _in_order(layers: list[str], twists: list[str]) -> tuple[str, ...]:
    """Layers, without those in place where PyTorch needs what is before them."""
    before = ["linear", *layers]
    return tuple(
        "gelu" if name == "relu in place" and (last not in MAY_BE_OVERWRITTEN or "checkpoint" in twists) else name
        for last, name in zip(before, layers, strict=False)
    )


def _countable(choice: Choice) -> Choice:
    """A loss of model and batch says nothing about how its batches add up: they count by their examples."""
    if choice.loss_of_model and choice.batch != "one" and not choice.weighted:
        loss = choice.loss if choice.loss in MEANS else "mse"
        sizes = (3, 3) if choice.kind == "time first" else choice.sizes
        return replace(choice, loss=loss, sizes=sizes, flat=choice.flat and loss != "no targets")
    return choice


options = st.builds(
    Options, k=st.integers(1, 5), smallest=st.booleans(),
    matrix=st.sampled_from(["hessian", "hessian", "gauss_newton", "residual"]),
    tol=st.sampled_from([1e-3, 1e-3, 1e-6]), block=st.sampled_from(["all", "all", "one", "last two", "twice"]),
    rated=st.booleans(), warm=st.integers(0, 4).map(lambda n: n == 4), ambient=st.sampled_from(sorted(AMBIENT)),
    beside=st.sampled_from(["trace", "density"]), seed=st.integers(0, 99),
)  # fmt: skip
rates = st.one_of(st.none(), st.lists(st.sampled_from([0.0, 0.1, 1.0, 30.0]), min_size=1, max_size=3))


# --- the properties ---------------------------------------------------------------------------------------------------


def _check_curvature(examples: int) -> None:
    tally: Counter = Counter()

    @settings(max_examples=examples, **DRAWN)
    @given(choices(), options)
    def right_or_refused(choice: Choice, options: Options) -> None:
        check(Question(problem_of(choice), options), tally)

    right_or_refused()
    assert tally["not converged"] <= RARE * tally["values"] and tally["missed"] <= RARE * tally["values"], tally
    assert tally["values"] and (tally["refused"] <= tally["values"] or examples < MANY), tally


def _check_feature_speeds(examples: int) -> None:
    tally: Counter = Counter()

    @settings(max_examples=examples, **DRAWN)
    @given(choices().map(one_batch), rates)
    def right_or_refused(choice: Choice, rates: list[float] | None) -> None:
        assume(not (choice.loss == "contrastive" and "zero readout" in choice.twists))  # its gradient is only rounding
        check_feature_speed(choice, rates, tally)

    right_or_refused()
    assert tally["refused"] <= tally["values"], tally


def test_curvature_is_that_of_plain_autograd_or_refused():
    _check_curvature(15)


def test_feature_speeds_are_those_of_real_steps_or_refused():
    _check_feature_speeds(25)


@pytest.mark.slow
def test_curvature_is_that_of_plain_autograd_or_refused_in_many_problems():
    _check_curvature(350)


@pytest.mark.slow
def test_feature_speeds_are_those_of_real_steps_or_refused_in_many_problems():
    _check_feature_speeds(400)


# --- what they would find ---------------------------------------------------------------------------------------------

CURVATURE = "featurespeed.curvature.objective."


def _equal_shares(loss, parts, outputs):
    return [1 / len(parts)] * len(parts)


def _shares_by_size(loss, whole, parts, name):
    sizes = [len(part.outputs) for part in parts]
    return [size / sum(sizes) for size in sizes]


CONTROLS = {
    "batches that count alike": (CURVATURE + "batch_shares", _equal_shares, Choice(batch="list", sizes=(1, 4))),
    "a sum over parts of what is none": (
        CURVATURE + "shares", _shares_by_size, Choice(loss="contrastive", micro_batch=2),
    ),
    "a forward pass that counts": (
        "featurespeed.measuring.passes.difference", lambda *trees: 0.0, Choice(twists=("counter",)),
    ),
    "training mode": (CURVATURE + "evaluation", lambda model: nullcontext(), Choice(layers=("batch norm", "linear"))),
    "a shared parameter that counts twice": (
        CURVATURE + "leaves_of", lambda model, *_: [*model.parameters(), next(model.parameters())],
        Choice(kind="tokens", twists=("tied",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("place", "wrong", "choice"), CONTROLS.values(), ids=CONTROLS)
def test_a_mistake_is_found(monkeypatch, place, wrong, choice):
    question = Question(problem_of(choice), Options())
    check(question, Counter())
    monkeypatch.setattr(place, wrong)
    with pytest.raises(AssertionError, match="right: |measured"):
        check(question, Counter())


def test_features_that_do_not_move_with_what_is_detached_are_found(monkeypatch):
    choice = Choice(twists=("detached branch",))
    check_feature_speed(choice, None, Counter())
    monkeypatch.setattr("featurespeed.probes.chain.IN_MOTION", REPLACEMENTS)
    with pytest.raises(AssertionError, match="feature speed"):
        check_feature_speed(choice, None, Counter())
