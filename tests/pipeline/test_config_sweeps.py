"""Blocks of training over sizes: what they share, how their jobs go together, and blocks that are like another."""

from __future__ import annotations

import pytest

from featurespeed.pipeline.config import ConfigError, config_schema, first_users, jobs_together, load_config, owners_of
from tests.pipeline.test_config import BASE, SCALE_FILES, load
from tests.sweeps.spec_cases import SWEEP, sweep


def test_jobs_of_one_owner_go_together_a_few_at_a_time():
    jobs = sweep().training_runs | sweep(network={"depths": [2, 3, 4]}, seed=1).training_runs
    owners = {name: job.seed for name, job in jobs.items()}
    groups = jobs_together(owners, 4)
    assert [name for group in groups for name in group] == list(jobs)
    assert all(len({owners[name] for name in group}) == 1 for group in groups)
    assert [len(group) for group in groups] == [2, 3, 3]  # two groups of nearly the same size, rather than 4 and 2
    assert [len(group) for group in jobs_together(owners, 1)] == [1] * len(jobs)
    measured = [found.name for found in sweep().measurements]
    assert jobs_together(dict.fromkeys(measured, "one"), 99) == [measured]
    other = [found.name for found in sweep(curvature=SWEEP["curvature"] | {"images": 4}).measurements]
    both = jobs_together(dict.fromkeys(measured, "one") | dict.fromkeys(other, "other"), 99)
    assert both == [measured, other]


def test_a_block_with_other_values_has_other_jobs():
    """Also where those of the first have been worked out already."""
    first = sweep()
    widths = {job.width for _, job in first.jobs}
    other = first.model_copy(update={"widths": [20, 40]})
    assert {job.width for _, job in other.jobs} == {20, 40} != widths == {job.width for _, job in first.jobs}
    assert {found.training.width for found in other.measurements} == {20, 40}
    assert first.model_copy() == first and first.model_copy(deep=True).training_runs == first.training_runs


def test_a_job_belongs_to_the_first_artefact_that_needs_it():
    users = {"early": ["a", "b"], "late": ["b", "c"], "last": iter(["c", "a"])}
    assert first_users(users) == {"a": "early", "b": "early", "c": "late"}


def test_jobs_go_together_by_artefact_room_or_paper():
    users = {"sc_fig01": ["a"], "sc_fig02": ["b", "a"], "sc_fig26": ["c"], "beos_fig1": ["d"]}
    assert owners_of("abcd", users, "artefact") == {"a": "sc_fig01", "b": "sc_fig02", "c": "sc_fig26", "d": "beos_fig1"}
    assert owners_of("abc", users, "room") == {"a": "sc_transfer", "b": "sc_spectra", "c": "sc_transfer"}
    assert owners_of("abcd", users, "paper") == {"a": "sc", "b": "sc", "c": "sc", "d": "beos"}


def test_figures_that_share_runs_train_them_once():
    config = load()
    for names in (("sc_fig01", "sc_fig24", "sc_fig26", "sc_fig11", "sc_bridge"), ("sc_fig02", "sc_fig03", "sc_fig23")):
        first = set(config.training_runs(names[0]))
        for name in names[1:]:
            shared = first & set(config.training_runs(name))
            assert shared == first or name == "sc_fig11" and shared == set(config.training_runs(name))
    assert set(config.sharpness_runs("sc_fig24")) == set(config.sharpness_runs("sc_fig01"))
    assert set(config.sharpness_runs("sc_fig01")) < set(config.sharpness_runs("sc_fig26"))


def test_weights_are_kept_of_the_rates_at_which_some_artefact_measures():
    """Those of jobs that another stage reads are all kept."""
    config = load()
    kept = config.kept_rates()
    assert set(kept) == set(config.training_runs())
    network = config.sc_fig01.networks["muP"]
    for job in (job for label, job in config.sc_fig01.jobs if label == "muP"):
        assert kept[job.run] == network.measured != network.learning_rates
    assert all(kept[run] is None for run in config.training_runs("fsf_training"))
    everywhere = load({"sc_fig11": {"networks": {"muP": {"measured": [network.learning_rates[-1]]}}}})
    shared = set(everywhere.training_runs("sc_fig11")) & {
        job.run for label, job in config.sc_fig01.jobs if label == "muP"
    }
    assert shared and all(
        kept_rates[-1] == network.learning_rates[-1]
        for run, kept_rates in everywhere.kept_rates().items()
        if run in shared
    )


# --- labels -----------------------------------------------------------------------------------------------------------

RATES = {"learning_rates": [0.1, 0.2]}
WRONG_LABELS = {
    "one letter too many": (
        {"sc_fig04": {"networks": {"1 layers a block": RATES}}},
        'config: sc_fig04.networks.1 layers a block = {"learning_rates": [0.1, 0.2]}: unknown label, without model,'
        " parameterization, batch_size; known: 1 layer a block; 2 layers a block; did you mean '1 layer a block'?",
    ),
    "a model alone": (
        {"sc_fig08": {"networks": {"no skip": {"model": {"tau": 0}}}}},
        'config: sc_fig08.networks.no skip = {"model": {"tau": 0}}: unknown label, without parameterization,'
        " learning_rates, batch_size; known: no skips; did you mean 'no skips'?",
    ),
    "no text": (
        {"sc_fig04": {"networks": {1: RATES}}},
        "config: sc_fig04.networks.1 = {",
    ),
    "small letters": (
        {"sc_fig21": {"networks": {"Adamw": {"batch_size": 8}}}},
        "known: Adam; AdamW; Adam, one rate for all layers; did you mean 'AdamW'?",
    ),
    "a room where others may be added": (
        {"sc_fig01": {"networks": {"mup": {"measured": [0.7]}}}},
        "without model, parameterization, learning_rates, batch_size; known: muP; NTP; did you mean 'muP'?",
    ),
    "a block like another": (
        {"sc_bridge": {"networks": {"muP over deph": {"steps": 400}}}},
        "Depth-muP over depth; muP over depth; did you mean 'muP over depth'?",
    ),
    "a run": (
        {"sc_sharpness_methods": {"runs": {"ConvNets": {"width": 4}}}},
        'config: sc_sharpness_methods.runs.ConvNets = {"width": 4}: unknown label, without model,',
    ),
    "a transformer": (
        {"fsf_training": {"transformers": {"GTP": {"width": 8}}}},
        'config: fsf_training.transformers.GTP = {"width": 8}: unknown label, without model, data, parameterization,'
        " batch_size, learning_rates; known: ViT; GPT; post-LN; did you mean 'GPT'?",
    ),
    "nothing like it": (
        {"sc_fig01": {"networks": {"third": {}}}},
        "learning_rates, batch_size; known: muP; NTP (and",
    ),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_a_label_that_is_written_wrong_is_told_from_those_that_are_known(case):
    change, words = WRONG_LABELS[case]
    with pytest.raises(ConfigError) as fault:
        load(change)
    line = str(fault.value)
    assert words in line and "unknown label" in line and "\n" not in line, line


def test_a_whole_network_with_a_fault_is_none_with_a_wrong_label():
    """Nor is one of which a block inside lacks a value."""
    model = {"kind": "convnet", "depth": 2}
    network = {"model": model, "parameterization": "MUP", "learning_rates": [0.5, 1, 2], "batch_size": 16}
    assert "third" in load({"sc_fig27": {"networks": {"third": network}}}).sc_fig27.networks
    for change, words in (
        ({"batch_size": 0}, "networks.third.batch_size = 0: "),
        ({"model": {"kind": "convnet"}}, "networks.third.model.depth: missing"),
    ):
        with pytest.raises(ConfigError, match=f"^config: sc_fig27.{words}"):
            load({"sc_fig27": {"networks": {"third": network | change}}})


@pytest.mark.parametrize("value", [None, 3, [1]])
@pytest.mark.parametrize(
    ("artefact", "key", "label"),
    [
        ("sc_fig04", "networks", "1 layer a block"),
        ("beos_fig1", "networks", "r = 0"),
        ("sc_sharpness_methods", "runs", "MLP"),
    ],
)
def test_a_network_is_a_block_of_settings(artefact, key, label, value):
    with pytest.raises(ConfigError) as fault:
        load({artefact: {key: {label: value}}})
    given = "null" if value is None else value
    assert str(fault.value).startswith(f"config: {artefact}.{key}.{label} = {given}: must be a block of settings")


def test_a_label_of_the_settings_of_a_figure_may_be_meant():
    """Of what is shown, or of the base of a network."""
    with pytest.raises(ConfigError, match="shown = 'mup': unknown network, allowed: muP, NTP; did you mean 'muP'?"):
        load({"sc_fig24": {"shown": {"mup": 0.7}}})
    with pytest.raises(ConfigError, match="base.Convnet: unknown network 'Convnet', .*; did you mean 'ConvNet'?"):
        load({"sc_conventions": {"base": {"Convnet": "SimpleConvNet"}}})


# --- like -------------------------------------------------------------------------------------------------------------


def test_a_change_reaches_the_blocks_that_are_like_the_changed_one():
    config = load({"sc_fig01": {"seeds": 4}})
    assert [config.block(name).seeds for name in ("sc_fig01", "sc_fig24", "sc_fig26", "sc_bridge")] == [4] * 4
    assert load({"sc_fig24": {"seeds": 5}}).sc_fig01.seeds != 5


def test_a_fault_in_a_block_that_is_like_another_says_so():
    """Whoever changes the rates of Figure 4 alone reads of another artefact: why."""
    networks = {"1 layer a block": {"learning_rates": [0.15, 0.3, 0.6], "measured": [0.3]}}
    with pytest.raises(ConfigError, match="what (sc_[a-z0-9_]+) does not set itself it takes from sc_fig04") as told:
        load({"sc_fig04": {"networks": networks}})
    assert str(told.value).startswith("config: sc_") and "measured = " in str(told.value)
    with pytest.raises(ConfigError) as told:
        load({"sc_fig04": {"seeds": -1}})
    assert "takes from" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"like": "sc_fig99"}, ["sc_fig24.like = 'sc_fig99'", "did you mean"]),
        ({"like": "sc_fig11"}, ["sc_fig24.like = 'sc_fig11'", "is like sc_fig01 itself", "such as sc_fig01"]),
        ({"like": True}, ["sc_fig24.like = true: unknown"]),
        ({"like": ["sc_fig01"]}, ['sc_fig24.like = ["sc_fig01"]: unknown']),
    ],
)
def test_like_names_a_block_that_stands_by_itself(change, words):
    with pytest.raises(ConfigError) as fault:
        load({"sc_fig24": change})
    assert all(word in str(fault.value) for word in words)


CIRCLES = {
    "sc_fig22 -> sc_fig22": {"sc_fig22": {"like": "sc_fig22"}},
    "sc_fig04 -> sc_fig22 -> sc_fig04": {"sc_fig04": {"like": "sc_fig22"}},
    "sc_fig04 -> sc_bridge -> sc_fig25 -> sc_fig04": {
        "sc_fig04": {"like": "sc_bridge"},
        "sc_bridge": {"like": "sc_fig25"},
    },
}


@pytest.mark.parametrize("circle", CIRCLES)
def test_blocks_that_are_like_each_other_are_named(circle):
    artefact, source = circle.split(" -> ")[:2]
    with pytest.raises(ConfigError) as fault:
        load(CIRCLES[circle])
    assert str(fault.value) == (
        f"config: {artefact}.like = '{source}': is in a circle, {circle}; name a block that is like no other"
    )


def test_a_block_may_stand_by_itself_at_another_scale():
    base = load_config(BASE, SCALE_FILES, {"scale": "paper"})
    assert base.sc_fig11.data.crop == 0 and base.sc_fig01.data.crop == 4


def test_editors_learn_about_like():
    schema = config_schema()
    of_width, of_depth = (
        schema["$defs"][schema["properties"][name]["$ref"].split("/")[-1]] for name in ("sc_fig24", "fsf_fig1b")
    )
    assert "sc_fig01" in of_width["properties"]["like"]["enum"]
    assert "like" not in of_depth["properties"]
