"""What measurements along training cost, and the same measurement in parts of some seeds each."""

from __future__ import annotations

import pytest

from featurespeed.data.spec import DataSpec
from featurespeed.models.spec import ModelSpec
from featurespeed.training import curvature_operations as operations
from featurespeed.training.curvature_operations import gradient_flop_of, gradients_of, split_by_seeds
from featurespeed.training.curvature_spec import CurvatureSpec, SharpnessSpec
from featurespeed.training.spec import TrainingSpec

SEEDS = 7


def measured(seeds: list[int] | None = None, learning_rates: list[float] | None = None, **settings) -> SharpnessSpec:
    """One measurement along a small job at six steps, with some settings of the curvature changed."""
    training = TrainingSpec(
        run="job", data=DataSpec(name="digits"), model=ModelSpec(kind="convnet", depth=2), width=8,
        parameterization="MUP", learning_rates=[0.1, 0.2], seeds=SEEDS, batch_size=16, steps=50,
        probe_steps=[0, 10, 20, 30, 40, 50], seed=0,
    )  # fmt: skip
    curvature = CurvatureSpec(**{"quantities": ["sharpness"], "images": 16, "cold_every": 3} | settings)
    return SharpnessSpec(training=training, curvature=curvature, learning_rates=learning_rates, seeds=seeds)


def flop(spec: SharpnessSpec) -> float:
    return gradient_flop_of(spec) * sum(gradients_of(spec))


def test_products_follow_the_warm_and_cold_starts_of_the_tracker():
    # Six steps: the first cold, five warm, of which the fourth (number 3) is checked by a cold one in full precision.
    warm, cold = operations.WARM_PRODUCTS, operations.WARM_PRODUCTS + operations.MORE_PRODUCTS_COLD
    spec = measured()
    assert operations.gradients_of(spec) == ((5 * warm + cold) * 2, cold * 2)
    ten = measured(eigenvalues=10)
    more = operations.WARM_PRODUCTS_OF_TEN + operations.MORE_PRODUCTS_COLD
    assert operations.gradients_of(ten)[0] == (5 * operations.WARM_PRODUCTS_OF_TEN + more) * 2
    layers = measured(quantities=["layer_sharpness"])
    assert operations.gradients_of(layers) == (3 * (5 * warm + cold) * 2, 3 * cold * 2)
    trace = measured(quantities=["hessian_trace"], trace_vectors=20)
    assert operations.gradients_of(trace) == (0, 6 * 20 * 2)


def test_only_the_steps_at_which_it_is_measured_cost():
    """Three of six: the first one cold, two warm, too few for a check by a cold one."""
    warm, cold = operations.WARM_PRODUCTS, operations.WARM_PRODUCTS + operations.MORE_PRODUCTS_COLD
    assert operations.gradients_of(measured(steps=[0, 20, 50])) == ((2 * warm + cold) * 2, 0)
    trace = measured(quantities=["hessian_trace"], trace_vectors=20, steps=[50, 0, 20])
    assert operations.gradients_of(trace) == (0, 3 * 20 * 2)


# --- steps ------------------------------------------------------------------------------------------------------------


def test_steps_that_are_not_given_are_all_and_leave_names_as_they_were():
    whole, none = measured(), measured(steps=None)
    assert whole.name == none.name and whole == none and whole.steps == none.steps == [0, 10, 20, 30, 40, 50]
    assert "steps" not in whole.curvature.model_dump() and "steps" not in none.model_dump(mode="json")["curvature"]
    some = measured(steps=[50, 0, 20])
    assert some.name != whole.name and some.steps == [0, 20, 50]
    assert some.name == measured(steps=[0, 20, 50]).name  # one measurement, one name
    assert SharpnessSpec.model_validate(some.model_dump(mode="json")) == some


def test_the_name_without_steps_is_that_of_measurements_before_there_were_any():
    assert measured().name == "job_59aa2868"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([0, 15], r"curvature\.steps = 15: not one of probe_steps = \[0, 10, 20, 30, 40, 50\]"),
        ([0, 10, 10], "values must not repeat"),
        ([-10, 0], "greater than or equal to 0"),
        ([], "at least 1 item"),
    ],
)
def test_steps_that_a_job_does_not_keep_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        measured(steps=steps)


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds_each", [1, 2, 3, 6])
@pytest.mark.parametrize("rates", [None, [0.2]])
def test_parts_hold_every_network_once_and_no_more_than_is_asked_for(seeds_each, rates):
    whole = measured(learning_rates=rates)
    most = 1.001 * flop(whole) * seeds_each / SEEDS
    parts = split_by_seeds(whole, most)
    assert len(parts) == -(-SEEDS // seeds_each)
    assert [member for part in parts for member in part.members] == whole.members
    assert all(flop(part) <= most for part in parts)
    assert sum(map(flop, parts)) == pytest.approx(flop(whole))


def test_what_is_small_enough_stays_whole_under_its_name():
    whole = measured()
    assert split_by_seeds(whole, flop(whole)) == [whole]
    assert split_by_seeds(whole, float("inf")) == [whole]


def test_one_seed_is_never_divided():
    parts = split_by_seeds(measured(), 1.0)
    assert [part.seeds for part in parts] == [[seed] for seed in range(SEEDS)]
    assert split_by_seeds(parts[0], 1.0) == [parts[0]]


def test_a_part_can_be_divided_again():
    part = measured(seeds=[1, 4, 5])
    assert [again.seeds for again in split_by_seeds(part, flop(part) / 3)] == [[1], [4], [5]]


def test_names_of_parts_are_their_own_and_belong_to_the_whole():
    whole, other = measured(), measured(images=32)
    parts = split_by_seeds(whole, flop(whole) / 3)
    names = [part.name for part in parts]
    assert len({whole.name, *names}) == 1 + len(parts)
    assert all(whole.is_named(name) and not other.is_named(name) for name in names)
    assert whole.is_named(whole.name) and not whole.is_named(other.name)


def test_names_say_which_seeds_and_stay_short():
    assert measured(seeds=[3]).name == f"{measured().name}_s_3"
    assert measured(seeds=[0, 1, 2, 3, 4, 6]).name == f"{measured().name}_s_0_to_4_6"
    assert measured(seeds=[2, 1]).name == measured(seeds=[1, 2]).name == f"{measured().name}_s_1_to_2"


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0, 7], "seeds = 7: not one of the job's, allowed: 0 to 6"),
        ([3, 3], "values must not repeat"),
        ([-1], "greater than or equal to 0"),
        ([], "at least 1 item"),
    ],
)
def test_seeds_that_a_job_has_not_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        measured(seeds=seeds)
