"""Warm starts along a trajectory, and how they are checked."""

import math

import pytest
import torch

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.objective import CurvatureError, Objective
from featurespeed.curvature.operators import Hessian
from featurespeed.curvature.tracking import Tracker, compare
from featurespeed.training.ensemble import LOSSES
from tests.curvature.cases import Matrices, relative_error, rotation, symmetric, with_bulk
from tests.probes.cases import normal
from tests.training.cases import MLP, Batches, initialised

ROTATION = rotation(400, seed=7)


def with_vectors_kept(*values):
    """Operators whose eigenvectors stay and whose first eigenvalues are these, at one time."""
    spectrum = with_bulk(*values)
    return Matrices(ROTATION * spectrum @ ROTATION.T)


def test_a_crossing_is_found_and_flagged_by_the_check_from_a_random_start():
    """The third vector overtakes the first: a warm start stays with the latter, and says that it converged."""
    tracker, times = Tracker(noise=0.0, cold_every=6), range(9)
    rising = [1.0, 1.0, *[2.0 + 0.02 * time for time in times[1:]]]
    records = [tracker.measure(with_vectors_kept(2.0, 1.9, rising[time], 0.8))[0] for time in times]
    assert records[5].eigenvalue == pytest.approx(2.0, rel=1e-3) and records[5].converged  # 2.08 is missed
    assert records[6].eigenvalue == pytest.approx(rising[6], rel=1e-3)
    assert records[6].disagreement == pytest.approx(rising[6] / 2.0 - 1, rel=0.1)
    for time in (7, 8):
        assert records[time].eigenvalue == pytest.approx(rising[time], rel=1e-3)


def test_noise_in_the_start_finds_what_a_silent_start_misses():
    trackers = Tracker(noise=0.0, cold_every=100), Tracker(noise=0.3, cold_every=100)
    for third in (1.0, 1.0, 2.9):
        silent, noisy = (tracker.measure(with_vectors_kept(2.0, 1.9, third))[0] for tracker in trackers)
    assert silent.eigenvalue == pytest.approx(2.0, rel=1e-3)
    assert noisy.eigenvalue == pytest.approx(2.9, rel=1e-3)


def test_a_second_vector_that_becomes_the_first_is_found_at_once():
    for k in (1, 2):
        tracker = Tracker(k, cold_every=100)
        for second in (1.8, 1.9, 1.98, 2.06, 2.2):
            record = tracker.measure(with_vectors_kept(2.0, second, 1.0))[0]
            assert record.eigenvalue == pytest.approx(max(2.0, second), rel=1e-3)


def test_every_so_many_measurements_are_checked_from_a_random_start():
    tracker = Tracker(cold_every=3)
    operator = Matrices(symmetric(with_bulk(3.0, 2.0)))
    records = [tracker.measure(operator)[0] for _ in range(8)]
    assert [math.isnan(record.disagreement) for record in records] == [True, True, True, False, True, True, False, True]
    assert sum(record.products for record in records) == len(operator.seen)


def test_of_two_measurements_the_larger_counts_with_the_products_of_both():
    low, high = (largest_eigenvalues(Matrices(symmetric(with_bulk(v))))[0] for v in (2.0, 2.5))
    for warm, cold, apart in ((low, high, 0.2), (high, low, 0.2)):
        both = compare(warm, cold)
        assert both.eigenvalue == high.eigenvalue and torch.equal(both.vectors, high.vectors)
        assert both.products == low.products + high.products
        assert both.disagreement == pytest.approx(apart, rel=1e-2)


def test_members_may_leave_on_the_way_and_keep_their_own_vectors():
    tracker = Tracker(2, cold_every=100, tol=1e-6)
    matrices = torch.stack([symmetric(with_bulk(3.0 + m, 2.0, size=80), seed=m) for m in range(3)])
    tracker.measure(Matrices(matrices))
    left = [2, 0]
    records = tracker.measure(Matrices(matrices[left]), members=left)
    assert [record.warm for record in records] == [True, True]
    for member, record in zip(left, records, strict=True):
        assert relative_error(record.values, torch.tensor([3.0 + member, 2.0]).double()) < 1e-6
    fresh = largest_eigenvalues(Matrices(matrices[left]), 2, tol=1e-6)
    assert records[0].products < fresh[0].products
    swapped = Tracker(2, cold_every=100, tol=1e-6)
    swapped.measure(Matrices(matrices[[0, 2]]), members=[2, 0])
    assert swapped.measure(Matrices(matrices[left]), members=left)[0].products > records[0].products


def test_a_member_that_joins_is_measured_from_a_random_start():
    tracker, operator = Tracker(), Matrices(symmetric(with_bulk(3.0)))
    tracker.measure(operator, members=[4])
    assert not tracker.measure(operator, members=[7])[0].warm
    assert tracker.measure(operator, members=[7])[0].warm


def test_a_tracker_that_never_checks_is_refused():
    with pytest.raises(CurvatureError, match="^cold_every = 0: allowed: at least 1$"):
        Tracker(cold_every=0)


def test_trackers_of_one_seed_measure_the_same_bits():
    network = initialised(MLP, seeds=[0, 1])
    x, y = Batches([0, 1], 8).batch(0)
    objective = Objective(network, LOSSES["cross_entropy"], (x, y), members=2)
    runs = [[t.measure(Hessian(objective)) for _ in range(3)] for t in (Tracker(seed=3), Tracker(seed=3))]
    for one, other in zip(*runs, strict=True):
        assert all(torch.equal(a.vectors, b.vectors) for a, b in zip(one, other, strict=True))
    assert not torch.equal(normal(2), normal(2, seed=1))
