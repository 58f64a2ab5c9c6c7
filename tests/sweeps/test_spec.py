"""Training over sizes: what a block of settings asks for, and what is refused."""

from __future__ import annotations

import pytest

from featurespeed.sweeps.spec import EarlySpec, SweepSpec, TransferSpec
from featurespeed.training.curvature_spec import SharpnessSpec
from tests.sweeps.spec_cases import NETWORK, SWEEP, sweep

# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_is_named_by_its_settings():
    jobs = sweep().training_runs
    assert len(jobs) == 2 and all(job.run == name for name, job in jobs.items())
    assert [name.rsplit("_", 1)[0] for name in jobs] == ["mup_convnet_l2_n4", "mup_convnet_l2_n8"]
    assert set(sweep(artefact="other").training_runs) == set(jobs)
    assert not set(sweep(seed=1).training_runs) & set(jobs)
    assert not set(sweep(network={"optimizer": {"warmup_steps": 1}}).training_runs) & set(jobs)


def test_sizes_are_widths_and_depths():
    found = sweep(network={"widths": [6], "depths": [1, 3]})
    assert [(job.width, job.model.depth) for _, job in found.jobs] == [(6, 1), (6, 3)]


def test_a_network_may_have_data_and_steps_of_its_own():
    """Probe steps after its last one are left out; other networks keep those of the sweep."""
    augmented = {"name": "digits", "crop": 1}
    networks = {"short": NETWORK | {"steps": 10, "data": augmented}, "muP": NETWORK}
    jobs = dict(SweepSpec.model_validate(SWEEP | {"networks": networks}).jobs)
    assert (jobs["short"].steps, jobs["short"].probe_steps, jobs["short"].data.crop) == (10, [0, 10], 1)
    assert (jobs["muP"].steps, jobs["muP"].probe_steps, jobs["muP"].data.crop) == (20, [0, 10, 20], 0)


def test_a_measurement_is_named_by_what_is_measured_too():
    first, second = sweep(), sweep(network={"measured": [1.0]})
    assert set(first.training_runs) == set(second.training_runs)
    assert not {found.name for found in first.measurements} & {found.name for found in second.measurements}
    assert [found.learning_rates for found in second.measurements] == [[1.0], [1.0]]


def test_members_to_measure_are_those_of_the_chosen_rates():
    found = SharpnessSpec(training=sweep().jobs[0][1], curvature=SWEEP["curvature"], learning_rates=[0.5, 2.0])
    assert [found.training.members[place] for place in found.members] == [(0.5, 0), (2.0, 0), (0.5, 1), (2.0, 1)]
    with pytest.raises(ValueError, match=r"learning_rates = 4\.0: not one of the job's"):
        SharpnessSpec(training=sweep().jobs[0][1], curvature=SWEEP["curvature"], learning_rates=[4.0])


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "a depth that cannot be built": (
        SweepSpec,
        {},
        {"model": {"kind": "convnet", "depth": 3, "convention": "authors"}, "depths": [3, 4]},
        r"depths = \[3, 4\]: depth = 4: blocks of 3 equal stages, a multiple of 3",
    ),
    "strides that leave nothing": (
        SweepSpec,
        {},
        {"model": {"kind": "simple_convnet", "depth": 2, "convention": "authors", "strides": [4, 4]}},
        r"networks\.muP: strides = \[4, 4\]: .* leaves no pixel",
    ),
    "one size": (SweepSpec, {"widths": [4]}, {}, r"networks\.muP\.widths = \[4\]: one size shows no trend"),
    "one seed": (SweepSpec, {"seeds": 1}, {}, "greater than or equal to 2"),
    "rates in disorder": (
        SweepSpec,
        {},
        {"learning_rates": [1.0, 0.5]},
        r"learning_rates = \[1\.0, 0\.5\]: must ascend",
    ),
    "unknown measured rate": (SweepSpec, {}, {"measured": [3.0]}, r"measured = 3\.0: not one of learning_rates"),
    "two rates": (TransferSpec, {}, {"learning_rates": [1.0, 2.0]}, "too coarse to bracket an optimum"),
    "a gap": (TransferSpec, {}, {"learning_rates": [0.5, 1.0, 4.0]}, "too coarse to bracket an optimum"),
    "shown, unknown network": (SweepSpec, {"shown": {"NTP": 1.0}}, {}, r"shown = 'NTP': unknown network, allowed: muP"),
    "shown, not measured": (
        SweepSpec,
        {"shown": {"muP": 2.0}},
        {"measured": [1.0]},
        r"shown\.muP = 2: curvature is not measured there, allowed: \[1\.0\]",
    ),
    "nothing early": (EarlySpec, {"shown": {"muP": 1.0}, "early_steps": 5}, {}, r"early_steps = 5: fewer than 2 of"),
    "early, beyond the end": (
        EarlySpec,
        {"shown": {"muP": 1.0}, "early_steps": 21},
        {},
        "early_steps = 21: at most steps = 20",
    ),
    "a rate that is text": (SweepSpec, {}, {"learning_rates": ["0.5", 1.0]}, "input should be a number"),
    "a step that is not reached": (
        SweepSpec,
        {"probe_steps": [0, 10, 21]},
        {},
        "probe_steps = 21: beyond the last step, steps = 20",
    ),
    "one probe step": (
        SweepSpec,
        {"probe_steps": [20]},
        {},
        r"steps = 20: holds 1 of probe_steps = \[20\], at least 2",
    ),
    "one probe step of a network": (SweepSpec, {}, {"steps": 5}, r"networks\.muP\.steps = 5: holds 1 of probe_steps"),
    "a crop of the whole image": (
        SweepSpec,
        {"data": {"name": "digits", "crop": 8}},
        {},
        "crop = 8: must be below the side of the image, 8 pixels",
    ),
    "too many images": (
        SweepSpec,
        {"curvature": {"quantities": ["sharpness"], "images": 10**6}},
        {},
        r"images = 1000000: larger than",
    ),
}


@pytest.mark.parametrize(("kind", "changes", "network", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(kind, changes, network, message):
    with pytest.raises(ValueError, match=message):
        sweep(kind, network, **changes)
