"""Training over sizes: what a block of settings asks for, what it shares with others, and what is refused."""

from __future__ import annotations

import pandas as pd
import pytest
from conftest import load_script
from test_config import BASE, SCALE_FILES, load

from featurespeed.config import ConfigError, config_schema, load_config, sizes_together
from featurespeed.records import frame, read_table, write_table
from featurespeed.specs.curvature import SharpnessSpec
from featurespeed.specs.sweeps import EarlySpec, SweepSpec, TransferSpec
from featurespeed.stage import Task

NETWORK = {
    "model": {"kind": "convnet", "depth": 2},
    "parameterization": "MUP",
    "learning_rates": [0.5, 1.0, 2.0],
    "batch_size": 16,
}
SWEEP = {
    "artefact": "sweep",
    "data": {"name": "digits"},
    "networks": {"muP": NETWORK},
    "widths": [4, 8],
    "steps": 20,
    "probe_steps": [0, 10, 20],
    "curvature": {"quantities": ["sharpness"], "images": 16},
    "seeds": 2,
    "seed": 0,
}


def sweep(kind: type[SweepSpec] = SweepSpec, network: dict | None = None, **changes) -> SweepSpec:
    networks = {"muP": NETWORK | (network or {})}
    return kind.model_validate(SWEEP | {"networks": networks} | changes)


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


def test_jobs_that_differ_in_size_only_go_together_a_few_at_a_time():
    jobs = sweep().training_runs | sweep(network={"depths": [2, 3, 4]}, seed=1).training_runs
    groups = sizes_together(jobs, 4)
    assert [name for group in groups for name in group] == list(jobs)
    kinds = [{(jobs[name].seed, str(jobs[name].parameterization)) for name in group} for group in groups]
    assert all(len(kind) == 1 for kind in kinds) and max(map(len, groups)) <= 4
    assert [len(group) for group in sizes_together(jobs, 1)] == [1] * len(jobs)
    measured = {found.name: found for found in sweep().measurements}
    assert [name for group in sizes_together(measured, 99) for name in group] == list(measured)
    other = {found.name: found for found in sweep(curvature=SWEEP["curvature"] | {"images": 4}).measurements}
    both = sizes_together(measured | other, 99)
    assert len(both) == 2 * len(sizes_together(measured, 99))


def test_figures_that_share_runs_train_them_once():
    config = load()
    for names in (("sc_fig01", "sc_fig24", "sc_fig26", "sc_fig11", "sc_bridge"), ("sc_fig02", "sc_fig03", "sc_fig23")):
        first = set(config.training_runs(names[0]))
        for name in names[1:]:
            shared = first & set(config.training_runs(name))
            assert shared == first or name == "sc_fig11" and shared == set(config.training_runs(name))
    assert set(config.sharpness_runs("sc_fig24")) == set(config.sharpness_runs("sc_fig01"))
    assert set(config.sharpness_runs("sc_fig01")) < set(config.sharpness_runs("sc_fig26"))


# --- like -------------------------------------------------------------------------------------------------------------


def test_a_change_reaches_the_blocks_that_are_like_the_changed_one():
    config = load({"sc_fig01": {"seeds": 4}})
    assert [config.block(name).seeds for name in ("sc_fig01", "sc_fig24", "sc_fig26", "sc_bridge")] == [4] * 4
    assert load({"sc_fig24": {"seeds": 5}}).sc_fig01.seeds != 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"like": "sc_fig99"}, ["sc_fig24.like = 'sc_fig99'", "did you mean"]),
        ({"like": "sc_fig11"}, ["sc_fig24.like = 'sc_fig11'", "says like itself"]),
    ],
)
def test_like_names_a_block_that_stands_by_itself(change, words):
    with pytest.raises(ConfigError) as fault:
        load({"sc_fig24": change})
    assert all(word in str(fault.value) for word in words)


def test_a_block_may_stand_by_itself_at_another_scale():
    base = load_config(BASE, SCALE_FILES, {"scale": "paper"})
    assert base.sc_fig11.data.crop == 0 and base.sc_fig01.data.crop == 4


def test_editors_learn_about_like():
    definitions = config_schema()["$defs"]
    assert "sc_fig01" in definitions["TransferSpec"]["properties"]["like"]["enum"]
    assert "like" not in definitions["InitSpec"]["properties"]


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "one size": (SweepSpec, {"widths": [4]}, {}, r"networks\.muP: widths = \[4\]: one size shows no trend"),
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


# --- the stage table --------------------------------------------------------------------------------------------------


def row(run: str, quantity: str, value: float) -> dict[str, object]:
    return {
        "run_id": run, "series": run, "width": 4, "depth": 2, "input_dim": 64, "output_dim": 10, "seed": 0,
        "estimator": "training", "quantity": quantity, "value": value,
    }  # fmt: skip


def test_gathering_labels_the_rows_of_every_job(tmp_path):
    networks = {"one": NETWORK, "again": NETWORK, "other": NETWORK | {"parameterization": "NTP"}}
    spec = SweepSpec.model_validate(SWEEP | {"networks": networks})
    inputs: dict[str, list] = {"records": [], "curvature": []}
    for place, found in enumerate(spec.measurements):
        run = found.training.run
        for kind, name, quantity in (("records", run, "training_loss"), ("curvature", found.name, "sharpness")):
            inputs[kind].append(tmp_path / kind / f"{name}.parquet")
            write_table(frame([row(run, quantity, float(place))]), inputs[kind][-1], {})
    table = load_script("gather").main(spec, Task(inputs, {}))
    counts = table.groupby(["series", "quantity"]).size()
    assert counts.to_dict() == {(label, q): 2 for label in networks for q in ("training_loss", "sharpness")}
    assert table[table["series"] == "one"]["run_id"].tolist() == table[table["series"] == "again"]["run_id"].tolist()
    assert isinstance(read_table(inputs["records"][0]), pd.DataFrame)
