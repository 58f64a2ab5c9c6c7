"""Validation at the door: every bad input ends in one line, good input merges as documented and makes round trips."""

import copy
import json
from functools import cache

import pytest
import yaml

from featurespeed.papers.entries import Planned
from featurespeed.pipeline import asked
from featurespeed.pipeline.asked import check_target, read_changes, read_config
from featurespeed.pipeline.config import (
    ARTEFACTS,
    SCALES,
    Config,
    ConfigError,
    check_artefact,
    config_schema,
    load_config,
    merge,
)
from featurespeed.pipeline.registry import groups
from featurespeed.values import LogGrid, branch_scale
from tests.conftest import REPOSITORY


def read(name: str) -> dict:
    return yaml.safe_load((REPOSITORY / name).read_text())


BASE = read("config.yaml")
SCALE_FILES = {name: read(f"workflow/scales/{name}.yaml") for name in SCALES}


def load(user: dict | None = None) -> Config:
    return load_config(BASE, SCALE_FILES, user or {})


@cache
def of_scale(scale: str) -> Config:
    """The configuration of a scale; it is frozen, so that tests may share it."""
    return load({"scale": scale})


# --- bad input: what the user wrote, and the words that the one line must hold (key, value, what is allowed) ----------

BAD = {
    # unknown and misspelt keys
    "unknown key": (
        {"colour": "red"},
        ["colour", '"red"', "allowed: scale, data_dir, data_sha256, training, own, fsf_fig1a"],
    ),
    "misspelt key": ({"scal": "smoke"}, ["scal", '"smoke"', "did you mean 'scale'?"]),
    "misspelt key of a block": ({"fsf_fig1a": {"widht": 3}}, ["fsf_fig1a.widht = 3", "allowed: width,", "'width'"]),
    "misspelt nested key": (
        {"fsf_theory": {"phi": {"dept": 9}}},
        ["fsf_theory.phi.dept = 9", "allowed: width, depth, c, seeds", "'depth'"],
    ),
    "misspelt key of a grid": (
        {"fsf_fig1c": {"branch_scale_grid": {"cuont": 9}}},
        ["fsf_fig1c.branch_scale_grid.cuont = 9", "allowed: low, high, count", "'count'"],
    ),
    "misspelt key two levels down": (
        {"fsf_theory": {"phi": {"c": {"hgih": 9}}}},
        ["fsf_theory.phi.c.hgih = 9", "allowed: low, high, count", "'high'"],
    ),
    "key that is a number": ({7: {"width": 3}}, ["7", "allowed: scale"]),
    "key of a block that is a number": ({"fsf_fig1a": {7: 3}}, ["fsf_fig1a", "7"]),
    "artefact cannot be renamed": ({"fsf_fig1a": {"artefact": "x"}}, ["fsf_fig1a.artefact", '"x"', "unknown key"]),
    # data, models, parameterizations, training
    "unknown data set": (
        {"sc_fig28": {"data": {"name": "imagenette"}}},
        ["sc_fig28.data.name", '"imagenette"', "'digits'"],
    ),
    "text where images are needed": ({"sc_fig28": {"data": {"name": "pydoc"}}}, ["sc_fig28.data.name", '"pydoc"']),
    "more images than there are": (
        {"sc_fig28": {"data": {"name": "digits", "examples": 1438}}},
        ["sc_fig28.data", "examples = 1438", "1437"],
    ),
    "images that cannot be divided": ({"sc_fig28": {"data": {"downscale": 3}}}, ["downscale = 3", "8 x 8"]),
    "batch larger than the data": ({"sc_fig28": {"batch_size": 1438}}, ["sc_fig28", "batch_size = 1438", "1437"]),
    "probe batch larger than the data": ({"sc_table1": {"probe_images": 2000}}, ["probe_images = 2000", "1437"]),
    "unknown model": ({"sc_fig28": {"plain": {"kind": "resnet"}}}, ["sc_fig28.plain.kind", '"resnet"', "'convnet'"]),
    "unknown parameterization": (
        {"sc_fig28": {"parameterizations": ["MUPP"]}},
        ["sc_fig28.parameterizations.0", '"MUPP"', "'DEPTH_MUP'"],
    ),
    "Depth-muP without residual branches": (
        {"fsf_training": {"parameterization": "DEPTH_MUP"}},
        ["fsf_training", "parameterization = DEPTH_MUP", "tau: 1"],
    ),
    "residual model without branches": ({"sc_fig28": {"residual": {"tau": 0}}}, ["sc_fig28", "DEPTH_MUP", "tau: 1"]),
    "alpha without branches": ({"sc_fig28": {"plain": {"alpha": 0.5}}}, ["sc_fig28.plain", "alpha = 0.5", "tau = 1"]),
    "unknown optimizer": ({"sc_fig28": {"learning_rates": {"lamb": 1}}}, ["sc_fig28.learning_rates.lamb", "'adamw'"]),
    "learning rate of 0": ({"fsf_training": {"learning_rates": [0.1, 0]}}, ["fsf_training.learning_rates.1 = 0", "0"]),
    "negative learning rate": ({"fsf_training": {"learning_rates": [-0.1]}}, ["learning_rates.0 = -0.1", "than 0"]),
    "learning rate twice": (
        {"fsf_training": {"learning_rates": [0.1, 0.1]}},
        ["learning_rates = [0.1, 0.1]", "repeat"],
    ),
    "no learning rate": ({"fsf_training": {"learning_rates": []}}, ["fsf_training.learning_rates = []", "at least 1"]),
    "probe step after the end": ({"fsf_training": {"probe_steps": [201]}}, ["probe_steps = 201", "steps = 200"]),
    "hash that is none": ({"data_sha256": {"cifar10": "abc"}}, ["data_sha256.cifar10", '"abc"', "64"]),
    "hash of an unknown set": ({"data_sha256": {"cifar": "a" * 64}}, ["data_sha256.cifar", "'cifar10'"]),
    "folder that is a number": ({"data_dir": 3}, ["data_dir = 3", "string"]),
    "no time between checkpoints": ({"training": {"checkpoint_minutes": 0}}, ["training.checkpoint_minutes = 0"]),
    # artefacts and scales
    "unknown artefact": ({"fsf_fig9": {"width": 3}}, ["fsf_fig9", '{"width": 3}', "fsf_fig1a"]),
    "unknown scale": ({"scale": "huge"}, ["scale = 'huge'", "smoke, laptop, gpu, paper"]),
    "misspelt scale": ({"scale": "smok"}, ["scale = 'smok'", "did you mean 'smoke'?"]),
    "scale of a wrong type": ({"scale": ["smoke"]}, ['scale = ["smoke"]', "smoke, laptop, gpu, paper"]),
    "no scale": ({"scale": None}, ["scale = null", "smoke, laptop, gpu, paper"]),
    "scale that is a truth value": ({"scale": True}, ["scale = true", "smoke, laptop, gpu, paper"]),
    # wrong types
    "text for a width": ({"fsf_fig1a": {"width": "wide"}}, ["fsf_fig1a.width", '"wide"', "integer"]),
    "text that looks like a width": ({"fsf_fig1a": {"width": "64"}}, ["fsf_fig1a.width", '"64"', "integer"]),
    "fraction for a width": ({"fsf_fig1a": {"width": 64.5}}, ["fsf_fig1a.width", "64.5", "integer"]),
    "truth value for a width": ({"fsf_fig1a": {"width": True}}, ["fsf_fig1a.width", "true", "integer"]),
    "nothing for a width": ({"fsf_fig1a": {"width": None}}, ["fsf_fig1a.width", "null", "integer"]),
    "number for a list": ({"fsf_fig1b": {"depths": 10}}, ["fsf_fig1b.depths", "10", "list"]),
    "text in a list": ({"fsf_fig1b": {"depths": [10, "deep"]}}, ["fsf_fig1b.depths.1", '"deep"', "integer"]),
    "number for a block": ({"fsf_fig1a": 3}, ["fsf_fig1a = 3", "block"]),
    "nothing for a block": ({"fsf_fig1a": None}, ["fsf_fig1a = null", "block"]),
    "text for a step": ({"fsf_fig1a": {"finite_step": "small"}}, ["fsf_fig1a.finite_step", '"small"', "number"]),
    "truth value for a step": ({"fsf_fig1a": {"finite_step": True}}, ["fsf_fig1a.finite_step", "true", "number"]),
    "text that looks like a step": ({"fsf_fig1a": {"finite_step": "0.1"}}, ["finite_step", '"0.1"', "a number"]),
    "text for a learning rate": (
        {"sc_fig04": {"networks": {"1 layer a block": {"learning_rates": ["0.1", 0.2, 0.4]}}}},
        ["sc_fig04.networks.1 layer a block.learning_rates.0", '"0.1"', "a number"],
    ),
    "one number for several": (
        {"sc_fig21": {"networks": {"Adam": {"optimizer": {"betas": 0.9}}}}},
        ["sc_fig21.networks.Adam.optimizer.betas = 0.9", "must be a list"],
    ),
    "truth value for a target": ({"fsf_fig2a": {"target": False}}, ["fsf_fig2a.target", "false", "number"]),
    "truth value in a grid": (
        {"fsf_fig1c": {"branch_scale_grid": {"high": True}}},
        ["fsf_fig1c.branch_scale_grid.high", "true", "number"],
    ),
    "list for branch scales": (
        {"fsf_fig1a": {"branch_scales": [1]}},
        ["fsf_fig1a.branch_scales", "[1]", "block of settings"],
    ),
    "truth value for a branch scale": (
        {"fsf_fig1a": {"branch_scales": {"x": True}}},
        ["branch_scales.x", "true", "[0, 1]"],
    ),
    # numbers out of range
    "negative width": ({"fsf_fig1a": {"width": -5}}, ["fsf_fig1a.width = -5", "greater than or equal to 2"]),
    "negative width in a table": ({"fsf_table1": {"widths": [64, -5]}}, ["fsf_table1.widths.1 = -5", "equal to 2"]),
    "no draws": ({"fsf_fig1a": {"draws": 0}}, ["fsf_fig1a.draws = 0", "equal to 1"]),
    "one seed gives no interval": ({"fsf_fig1a": {"sampler_seeds": 1}}, ["fsf_fig1a.sampler_seeds = 1", "equal to 2"]),
    "negative seed": ({"fsf_fig1a": {"seed": -1}}, ["fsf_fig1a.seed = -1", "equal to 0"]),
    "no step": ({"fsf_fig1a": {"finite_step": 0}}, ["fsf_fig1a.finite_step = 0", "greater than 0"]),
    "step that is not a number": (
        {"fsf_fig1a": {"finite_step": float("nan")}},
        ["fsf_fig1a.finite_step", "NaN", "finite"],
    ),
    "infinite target": ({"fsf_fig2a": {"target": float("inf")}}, ["fsf_fig2a.target", "Infinity", "finite"]),
    # L < 3
    "L < 3": ({"fsf_fig1b": {"depths": [10, 2]}}, ["fsf_fig1b.depths.1 = 2", "greater than or equal to 3"]),
    "L < 3 in a range": ({"fsf_fig1b": {"depths": {"from": 1, "to": 9}}}, ["fsf_fig1b.depths.0 = 1", "equal to 3"]),
    "L < 3 in the theory": ({"fsf_theory": {"finite_width": {"depth": 2}}}, ["finite_width.depth = 2", "equal to 3"]),
    # beta outside [0, 1]
    "beta above 1": ({"fsf_fig1a": {"branch_scales": {"x": 1.5}}}, ["fsf_fig1a", "x = '1.5'", "[0, 1]"]),
    "beta below 0": ({"fsf_fig1a": {"branch_scales": {"x": -0.5}}}, ["fsf_fig1a.branch_scales.x", "-0.5", "[0, 1]"]),
    "beta above 1 at one depth": (
        {"fsf_fig2b": {"branch_scales": {"x": "9/sqrtL"}}},
        ["fsf_fig2b", "x = '9/sqrtL'", "2.012 at depth 20", "[0, 1]"],
    ),
    "beta not a law": ({"fsf_fig1a": {"branch_scales": {"x": "1/M"}}}, ["branch_scales.x", '"1/M"', "'1/L'"]),
    "beta of a table": ({"fsf_table2": {"branch_scale": "2"}}, ["fsf_table2", "branch_scale = '2'", "[0, 1]"]),
    "grid of beta above 1": (
        {"fsf_fig1c": {"branch_scale_grid": {"high": 1.5}}},
        ["fsf_fig1c.branch_scale_grid.high = 1.5", "less than or equal to 1"],
    ),
    "c that makes beta exceed 1": ({"fsf_theory": {"phi": {"c": {"high": 99}}}}, ["fsf_theory.phi", "99", "[0, 1]"]),
    # empty and disordered grids
    "empty grid": ({"fsf_fig1b": {"depths": []}}, ["fsf_fig1b.depths = []", "at least 1"]),
    "empty range": (
        {"fsf_fig1b": {"depths": {"from": 9, "to": 5}}},
        ["fsf_fig1b.depths", '"from": 9', "must not exceed"],
    ),
    "range without an end": ({"fsf_fig1b": {"depths": {"from": 9}}}, ["fsf_fig1b.depths", '{"from": 9}', "from, to"]),
    "range with an unknown key": (
        {"fsf_fig1b": {"depths": {"from": 9, "to": 12, "by": 2}}},
        ["fsf_fig1b.depths", '"by": 2', "from, to and (optionally) step"],
    ),
    "range of text": ({"fsf_fig1b": {"depths": {"from": "a", "to": 5}}}, ["fsf_fig1b.depths", '"a"', "integers"]),
    "range with step 0": (
        {"fsf_fig1b": {"depths": {"from": 5, "to": 9, "step": 0}}},
        ["depths", '"step": 0', "step >= 1"],
    ),
    "no branch scales": ({"fsf_fig1a": {"branch_scales": {}}}, ["fsf_fig1a.branch_scales = {}", "at least 1"]),
    "no scalings": ({"fsf_fig2a": {"scalings": []}}, ["fsf_fig2a.scalings = []", "at least 1"]),
    "grid of one point": (
        {"fsf_fig1c": {"branch_scale_grid": {"count": 1}}},
        ["fsf_fig1c.branch_scale_grid.count = 1", "equal to 2"],
    ),
    "grid upside down": (
        {"fsf_fig1c": {"branch_scale_grid": {"low": 1}}},
        ["branch_scale_grid", "low = 1", "below high = 1"],
    ),
    "table with one width": ({"fsf_table1": {"widths": [64]}}, ["fsf_table1.widths = [64]", "at least 2"]),
    "repeated depth": ({"fsf_fig1b": {"depths": [5, 5]}}, ["fsf_fig1b.depths = [5, 5]", "repeat"]),
    # rules across keys
    "two families of branch scales": (
        {"fsf_fig1a": {"branch_scale_grid": {"low": 0.1, "high": 1, "count": 3}}},
        ["fsf_fig1a", "exactly one of branch_scales and branch_scale_grid"],
    ),
    "series of two kinds": (
        {"fsf_fig2a": {"branch_scales": {"a": 1, "b": "1/L"}}},
        ["fsf_fig2a", "scalings or branch_scales"],
    ),
    "unknown scaling": (
        {"fsf_fig2a": {"scalings": ["SP"]}},
        ["fsf_fig2a.scalings.0", '"SP"', "'NTK'", "'MF+muP'", "'FSC'"],
    ),
    "unknown choice": ({"fsf_fig1a": {"layers": "some"}}, ["fsf_fig1a.layers", '"some"', "'all' or 'last'"]),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_raises_one_line_with_key_value_and_what_is_allowed(fault):
    user, words = BAD[fault]
    with pytest.raises(ConfigError) as raised:
        load(user)
    line = str(raised.value)
    assert line.startswith("config: ") and "\n" not in line
    assert [word for word in words if word not in line] == [], line


def test_several_faults_are_counted():
    with pytest.raises(ConfigError, match=r"fsf_fig1a.width = -5.*\(and 1 more\)"):
        load({"fsf_fig1a": {"width": -5, "seed": -1}})


def test_a_long_value_is_shortened():
    with pytest.raises(ConfigError) as raised:
        load({"fsf_fig1a": {"width": list(range(100))}})
    assert len(str(raised.value)) < 200 and "..." in str(raised.value)


@pytest.mark.parametrize("missing", ["width", "depths"])
def test_a_missing_key_is_named(missing):
    base = copy.deepcopy(BASE)
    del base["fsf_fig1a"][missing]
    with pytest.raises(ConfigError, match=f"config: fsf_fig1a.{missing}: missing"):
        load_config(base, SCALE_FILES, {})


def test_a_missing_block_is_named():
    base = {key: value for key, value in BASE.items() if key != "fsf_fig2b"}
    with pytest.raises(ConfigError, match="config: fsf_fig2b: missing"):
        load_config(base, SCALE_FILES, {})


@pytest.mark.parametrize("name", SCALES)
def test_a_fault_in_a_scale_file_is_named_like_any_other(name):
    scales = SCALE_FILES | {name: {"scale": name, "fsf_fig1a": {"widht": 3}}}
    with pytest.raises(ConfigError, match="fsf_fig1a.widht = 3: unknown key"):
        load_config(BASE, scales, {"scale": name})


def test_an_unknown_artefact_is_named():
    for ask in (check_artefact, load().block, load().params):
        with pytest.raises(ConfigError, match="artefact = 'fsf_fig9': unknown, allowed: fsf_fig1a,.*did you mean"):
            ask("fsf_fig9")


# --- files and the command line ---------------------------------------------------------------------------------------


def test_files_and_words_are_laid_over_each_other(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.json"
    first.write_text("scale: smoke\nfsf_fig1a: {width: 30, seed: 5}\nfsf_fig1b: {depths: {from: 9, to: 99, step: 9}}\n")
    second.write_text('{"fsf_fig1a": {"width": 31}, "fsf_fig1b": {"depths": {"from": 8, "to": 9}}}')
    changes = read_changes([first, second], ["fsf_fig1a={width: 32, layers: last}", "fsf_fig1a={draws: 3}"])
    assert changes == {
        "scale": "smoke",
        "fsf_fig1a": {"width": 32, "seed": 5, "layers": "last", "draws": 3},
        "fsf_fig1b": {"depths": {"from": 8, "to": 9}},  # without the step of the first file
    }


TEXTS = {
    "/data/my #1 set": "/data/my #1 set",
    "/data/a: b": "/data/a: b",
    "/data/{x}": "/data/{x}",
    "[data]": "[data]",
    "it's": "it's",
    "2024": "2024",
    "yes": "yes",
    "a=b": "a=b",
    '"/data/my set"': "/data/my set",
    "'/data/a: b'": "/data/a: b",
    "null": None,
    "~": None,
    "": None,
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_folder_on_the_command_line_is_taken_as_it_stands(text):
    assert read_changes(words=[f"data_dir={text}"]) == {"data_dir": TEXTS[text]}
    assert load({"data_dir": TEXTS[text]}).data_dir == TEXTS[text]


@pytest.mark.parametrize("text", ["/data/my #1 set", "/data/a: b", "64", "null", "[1]"])
def test_a_text_of_a_file_is_not_read_again(tmp_path, text):
    file = tmp_path / "my.json"
    file.write_text(json.dumps({"data_dir": text, "beos_fig2": {"scalings": {"none": {"networks": [text]}}}}))
    found = read_changes([file])
    assert found["data_dir"] == text and found["beos_fig2"]["scalings"]["none"]["networks"] == [text]


def test_nested_values_of_the_command_line_are_what_yaml_makes_of_them():
    words = ["fsf_fig1a={width: 33, finite_step: 1.0e-3, depths: [12], layers: all}", "data_sha256={}", "scale=smoke"]
    config = load(read_changes(words=words))
    assert (config.fsf_fig1a.width, config.fsf_fig1a.finite_step, config.fsf_fig1a.depths) == (33, 0.001, [12])
    assert config.scale == "smoke"


BAD_WORDS = {
    "repeated key": (["fsf_fig1a={width: 3, width: 4}"], ["--config fsf_fig1a", "width: written twice"]),
    "repeated setting": (["scale=smoke", "scale=gpu"], ['--config scale = "gpu"', "given twice", '"smoke"']),
    "block and value": (["fsf_fig1a={width: 3}", "fsf_fig1a=3"], ["--config fsf_fig1a = 3", "given twice"]),
    "no end": (["fsf_fig1a={width: 3"], ["--config fsf_fig1a", "not YAML"]),
}


@pytest.mark.parametrize("fault", BAD_WORDS)
def test_a_fault_on_the_command_line_is_told_in_one_line(fault):
    given, words = BAD_WORDS[fault]
    with pytest.raises(ConfigError) as raised:
        read_changes(words=given)
    line = str(raised.value)
    assert line.startswith("config: ") and "\n" not in line
    assert [word for word in words if word not in line] == [], line


BAD_FILES = {
    "repeated block": (
        b"fsf_fig1a: {width: 3}\nscale: smoke\nfsf_fig1a: {seed: 3}\n",
        "line 3: fsf_fig1a: written twice",
    ),
    "repeated key": (b"fsf_fig1a:\n  width: 3\n  width: 4\n", "line 3: fsf_fig1a.width: written twice"),
    "Latin-1": (b"# caf\xe9\nscale: smoke\n", "line 1: byte 0xe9 is not UTF-8"),
    "no YAML": (b"scale: [smoke\n", "line 2: not YAML"),
    "a list": (b"- scale: smoke\n", '= [{"scale": "smoke"}]: must be keys with values'),
    "a text": (b"smoke\n", '= "smoke": must be keys with values'),
}


@pytest.mark.parametrize("fault", BAD_FILES)
@pytest.mark.parametrize("name", ["my.yaml", "config.yaml", "workflow/scales/smoke.yaml"])
def test_a_fault_in_a_file_is_told_in_one_line_with_its_name(tmp_path, name, fault):
    content, words = BAD_FILES[fault]
    (tmp_path / "workflow/scales").mkdir(parents=True)
    for other in ("config.yaml", "workflow/scales/smoke.yaml"):
        (tmp_path / other).write_bytes((REPOSITORY / other).read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        read_config(tmp_path, {"scale": "smoke"} | read_changes([tmp_path / name] if name == "my.yaml" else []))
    line = str(raised.value)
    assert line.startswith(f"config: {tmp_path / name}") and words in line and "\n" not in line


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "my.yaml").write_text("# to be filled\n")
    assert read_changes([tmp_path / "my.yaml"]) == {}


@pytest.mark.parametrize("scale", SCALES)
def test_the_files_of_the_repository_are_those_of_the_merge(scale):
    assert read_config(REPOSITORY, {"scale": scale}) == load({"scale": scale})


TO_COME = Planned("sc_fig98", "Figure 98", "what is to come")
BAD_TARGETS = {
    "sc_fig98": ["Figure 98", "not computed here yet", "docs/coverage.md"],
    "results/smoke/figures/sc_fig98.png": ["Figure 98", "not computed here yet"],
    "sc_fig99": ["unknown, allowed: fsf,", "sc_fig01", "did you mean 'sc_fig"],
    "fsf_fig1": ["unknown", "did you mean 'fsf_fig1"],
    "sc_sharpness": ["draws nothing", "results/<scale>/stages/sc_sharpness.parquet"],
}


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_a_target_of_which_there_is_no_figure_is_named(target, monkeypatch):
    monkeypatch.setattr(asked, "PLANNED", {TO_COME.id: TO_COME})
    with pytest.raises(ConfigError) as raised:
        check_target(target)
    line = str(raised.value)
    assert repr(target) in line and "\n" not in line
    assert [word for word in BAD_TARGETS[target] if word not in line] == [], line


def test_what_can_be_made_may_be_asked_for():
    drawn = [name for name, artefact in ARTEFACTS.items() if artefact.drawn]
    for target in (*drawn, *groups(), "all", "page", "reference_figures", "results/smoke/stages/sc_sharpness.parquet"):
        check_target(target)


# --- merging ----------------------------------------------------------------------------------------------------------


def test_the_user_wins_over_the_scale_and_the_scale_over_the_base():
    smoke = load({"scale": "smoke"})
    assert load().fsf_fig1a.width == BASE["fsf_fig1a"]["width"] == 200
    assert smoke.fsf_fig1a.width == SCALE_FILES["smoke"]["fsf_fig1a"]["width"] == 48
    user = load({"scale": "smoke", "fsf_fig1a": {"width": 31}})
    assert user.fsf_fig1a.width == 31
    assert user.fsf_fig1a.draws == smoke.fsf_fig1a.draws == 2  # what the user left alone is the scale's
    assert user.fsf_fig1a.finite_step == 0.001  # and what the scale left alone is the base's
    assert user.fsf_fig1b == smoke.fsf_fig1b


def test_a_scale_file_given_as_user_settings_equals_the_scale_by_name():
    for name in SCALES:
        assert load(SCALE_FILES[name]) == load({"scale": name})


def test_sub_blocks_are_merged_key_by_key():
    theory = load({"fsf_theory": {"phi": {"c": {"low": 0.2}}}}).fsf_theory
    assert (theory.phi.c.low, theory.phi.c.high, theory.phi.width) == (0.2, 10, 2000)
    assert theory.tail == load().fsf_theory.tail


def test_lists_ranges_and_series_are_replaced_whole():
    config = load({"fsf_fig1b": {"depths": [7, 9], "sampler_depths": [9], "branch_scales": {"only": "1/L"}}})
    assert config.fsf_fig1b.depths == [7, 9] and config.fsf_fig1b.branch_scales == {"only": "1/L"}
    ranged = load({"fsf_fig1b": {"depths": {"from": 20, "to": 30, "step": 5}, "sampler_depths": [20]}})
    assert ranged.fsf_fig1b.depths == [20, 25, 30]
    # a range over a range: the old step (10 in sampler_depths) must not survive
    assert load({"fsf_fig1b": {"sampler_depths": {"from": 15, "to": 17}}}).fsf_fig1b.sampler_depths == [15, 16, 17]


def test_merging_modifies_nothing():
    base, changes = {"a": {"b": {"c": 1}, "d": 2}, "e": 3}, {"a": {"b": {"c": 9}}}
    kept = copy.deepcopy((base, changes))
    assert merge(base, changes) == {"a": {"b": {"c": 9}, "d": 2}, "e": 3}
    assert (base, changes) == kept
    snapshot = copy.deepcopy((BASE, SCALE_FILES))
    load({"scale": "smoke", "fsf_fig1a": {"width": 31}})
    assert snapshot == (BASE, SCALE_FILES)


# --- the specs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ARTEFACTS)
def test_params_make_a_round_trip_through_json(name, scale):
    config = of_scale(scale)
    params = json.loads(json.dumps(config.params(name)))
    assert params == config.params(name) and params["artefact"] == name
    spec = ARTEFACTS[name].spec.model_validate(params)
    assert spec == config.block(name) and type(spec) is type(config.block(name))


def test_laptop_is_the_default_and_has_the_papers_settings():
    """Widths, depths, grids, draws and steps of Figures 1 and 2, written from the paper."""
    config = load()
    assert config.scale == "laptop"
    a, b, c, d, e = (config.block(f"fsf_fig{panel}") for panel in ("1a", "1b", "1c", "2a", "2b"))
    assert [spec.width for spec in (a, b, c, d, e)] == [200, 200, 500, 400, 400]
    assert [spec.draws for spec in (a, b, c, d, e)] == [5, 1, 5, 2, 2]
    assert [spec.finite_step for spec in (a, b, c, d, e)] == [0.001, 0.001, 0.001, 0.01, 0.01]
    assert {spec.input_dim for spec in (a, b, c, d, e)} == {10}
    assert a.depths == [200] and b.depths == list(range(10, 201)) and c.depths == [30, 100, 500]
    assert d.depths == list(range(5, 41)) and e.depths == list(range(20, 101))
    laws = {"beta=1/L": "1/L", "beta=0.5/sqrtL": "0.5/sqrtL", "beta=1/sqrtL": "1/sqrtL", "beta=2/sqrtL": "2/sqrtL"}
    assert a.branch_scales == laws | {"beta=1": "1"} and b.branch_scales == laws | {"beta=1": "0.999"}
    grid = c.branch_scale_grid.values()
    assert len(grid) == 20 and grid[0] == pytest.approx(1e-3) and grid[-1] == pytest.approx(1)
    assert [str(s) for s in d.scalings] == ["NTK", "MF+muP", "FSC"] and d.target == e.target == 1
    assert e.branch_scales == {"beta=1/sqrtL": "1/sqrtL", "beta=1/L": "1/L"}
    assert min(spec.sampler_seeds for spec in (a, b, c, d, e)) >= 40


@pytest.mark.parametrize("scale", ["laptop", "gpu", "paper"])
def test_every_full_scale_keeps_the_papers_sizes_and_draws(scale):
    for panel in ("1a", "1b", "1c", "2a", "2b"):
        full, laptop = (of_scale(s).block(f"fsf_fig{panel}") for s in (scale, "laptop"))
        changed = {name for name in type(full).model_fields if getattr(full, name) != getattr(laptop, name)}
        assert changed <= {"sampler_seeds"} and full.sampler_seeds >= laptop.sampler_seeds


def test_specs_are_frozen():
    spec = load().fsf_fig1a
    with pytest.raises(ValueError, match="frozen"):
        spec.width = 3


@pytest.mark.parametrize(
    ("law", "depth", "value"),
    [
        ("1", 7, 1.0),
        ("0.999", 7, 0.999),
        ("0", 7, 0.0),
        ("1/L", 40, 0.025),
        ("0.5/sqrtL", 100, 0.05),
        ("2e-1/sqrtL", 4, 0.1),
    ],
)
def test_branch_scale_laws(law, depth, value):
    assert branch_scale(law, depth) == pytest.approx(value, rel=1e-14, abs=0)


@pytest.mark.parametrize(("law", "depth"), [("2/sqrtL", 3), ("1.01", 9), ("-1", 9), ("1/l", 9), ("", 9), ("1//L", 9)])
def test_bad_branch_scale_laws_raise_one_line(law, depth):
    with pytest.raises(ValueError, match=r"\[0, 1\]") as raised:
        branch_scale(law, depth)
    assert "\n" not in str(raised.value)


def test_log_grid_is_even_in_the_logarithm():
    assert LogGrid(low=0.01, high=100, count=5).values() == pytest.approx([0.01, 0.1, 1, 10, 100], rel=1e-12)


def test_schema_describes_what_loads():
    """The JSON schema accepts the merged configuration of every scale and refuses an unknown key."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = config_schema()
    validator = jsonschema.Draft202012Validator(schema)
    for scale in SCALES:
        written = merge(BASE, SCALE_FILES[scale])
        assert list(validator.iter_errors(written)) == []
    written["fsf_fig1a"] = written["fsf_fig1a"] | {"widht": 3}
    assert "widht" in next(validator.iter_errors(written)).message


@pytest.mark.parametrize("path", sorted((REPOSITORY / "workflow/schemas").glob("config.*")), ids=lambda path: path.name)
def test_stored_schema_is_in_step(path):
    stored = json.loads(path.read_text())
    assert {key: value for key, value in stored.items() if key != "$schema"} == config_schema()
