"""Settings of descent beyond the edge of stability that refuse what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from featurespeed.homogeneous.spec import ActivationSpec, DescentSweepSpec, NetworkSpec
from tests.homogeneous.cases import with_change

SWEEP: dict[str, Any] = {
    "artefact": "sweep", "data": {"name": "digits"}, "layers": 4,
    "networks": {"r = 0": {"pattern": 0, "parameters": 5000}, "r = 2": {"pattern": 2, "parameters": 5000}},
    "scalings": {"none": {"networks": ["r = 0", "r = 2"]}, "gradn": {"networks": ["r = 2"], "seeds": 3, "kappas": [2]}},
    "kappas": [0.5, 8], "shown": [0.5],
    "geometry_aware": {"scaling": "rel1", "networks": ["r = 2"], "kappas": [0.5, 1.5], "largest_rate": 10},
    "batch_size": 32, "steps": 20, "record_every": 5, "probe_steps": [0, 20], "curvature_images": 16, "rank_images": 32,
    "seeds": 2, "seed": 1,
}  # fmt: skip
NETWORK: dict[str, Any] = {"pattern": 2, "base_width": 4}


@pytest.mark.parametrize(
    ("kind", "block", "path", "value", "message"),
    [
        (NetworkSpec, NETWORK, "base_width", None, "parameters = null, base_width = null: give one of them"),
        (NetworkSpec, NETWORK, "parameters", 900, "parameters = 900, base_width = 4: give one of them"),
        (NetworkSpec, NETWORK, "pattern", -1, "greater than or equal to 0"),
        (NetworkSpec, NETWORK, "kind", "transformer", "'mlp' or 'convnet'"),
        (ActivationSpec, {}, "a", 0, None),
        (ActivationSpec, {"a": 0}, "b", 0, "a = 0, b = 0: the activation is zero everywhere"),
        (DescentSweepSpec, SWEEP, "networks.r = 2.parameters", 50, "parameters = 50: at least 76, a network of one"),
        (DescentSweepSpec, SWEEP, "scalings.norm3", {"networks": ["r = 2"]}, "'none', 'norm1', 'rel1'"),
        (DescentSweepSpec, SWEEP, "scalings.none.networks", ["r = 3"],
         "scalings.none.networks = 'r = 3': unknown network, allowed: r = 0, r = 2"),
        (DescentSweepSpec, SWEEP, "geometry_aware.networks", ["r = 1"], "geometry_aware.networks = 'r = 1': unknown"),
        (DescentSweepSpec, SWEEP, "scalings.none.networks", ["r = 0", "r = 0"], "values must not repeat"),
        (DescentSweepSpec, SWEEP, "kappas", [8, 0.5], "values must ascend and not repeat"),
        (DescentSweepSpec, SWEEP, "kappas", [0, 0.5], "greater than 0"),
        (DescentSweepSpec, SWEEP, "shown", [3], r"shown = 3: not one of kappas = \[0.5, 8.0\]"),
        (DescentSweepSpec, SWEEP, "layers", 1, "greater than or equal to 2"),
        (DescentSweepSpec, SWEEP, "seeds", 1, "greater than or equal to 2"),
        (DescentSweepSpec, SWEEP, "loss", "hinge", "'cross_entropy' or 'mse'"),
        (DescentSweepSpec, SWEEP, "record_every", 6, "record_every = 6: must divide every one of probe_steps, not 20"),
        (DescentSweepSpec, SWEEP, "probe_steps", [0, 10], "must begin with 0 and end with steps = 20"),
        (DescentSweepSpec, SWEEP, "probe_steps", [0, 10, 10, 20], "must ascend and not repeat"),
        (DescentSweepSpec, SWEEP, "batch_size", 5000, "batch_size = 5000: larger than the 1437 training images"),
        (DescentSweepSpec, SWEEP, "rank_images", 5000, "rank_images = 5000: larger than the 1437 training images"),
        (DescentSweepSpec, SWEEP, "tolerance", 1, "Extra inputs"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(kind, block, path, value, message):
    changed = with_change(block, path, value)
    if message is None:
        kind.model_validate(changed)
        return
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(changed)


def test_good_settings_are_accepted_and_survive_the_way_to_a_job():
    for kind, block in ((NetworkSpec, NETWORK), (DescentSweepSpec, SWEEP)):
        spec = kind.model_validate(block)
        assert kind.model_validate(spec.model_dump(mode="json")) == spec


def test_jobs_are_named_by_their_settings_and_hold_all_kappas_and_seeds():
    spec = DescentSweepSpec.model_validate(SWEEP)
    assert [label for label, _ in spec.jobs] == ["r = 0", "r = 2", "r = 2", "r = 2"]
    assert len(spec.descents) == 4
    own = next(job for _, job in spec.jobs if job.scaling == "gradn")
    assert own.members == [(2.0, 0), (2.0, 1), (2.0, 2)]
    last = spec.jobs[-1][1]
    assert last.schedule == "geometry-aware" and last.largest_rate == 10 and last.kappas == [0.5, 1.5]


def test_artefacts_share_the_jobs_that_both_need():
    other = DescentSweepSpec.model_validate(SWEEP | {"artefact": "other", "geometry_aware": None})
    assert set(other.descents) < set(DescentSweepSpec.model_validate(SWEEP).descents)
    changed = DescentSweepSpec.model_validate(SWEEP | {"seed": 2})
    assert not set(changed.descents) & set(other.descents)
