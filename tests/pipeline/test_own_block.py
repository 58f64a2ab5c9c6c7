"""The block of a user's own model: faults in one line at the door, files found and hashed, settings of its jobs."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from featurespeed.pipeline.asked import OWN, check_target, read_changes, read_config
from featurespeed.pipeline.config import BaseConfig, ConfigError
from featurespeed.pipeline.own_block import LOSSES, OPTIMIZERS, OwnSpec
from featurespeed.pipeline.own_files import files_hash
from tests.conftest import REPOSITORY

MODEL = """\
from torch import nn
from helpers import width_of

try:
    from fast import loss_of_tokens
except ImportError:
    def loss_of_tokens(outputs, targets): ...

RATE_OF = lambda model, rate: None
def make_model(size): return nn.Linear(width_of(size), 2)
def make_data(): ...
class Batches: ...
"""
BLOCK = {
    "factory": "my_model.py:make_model",
    "sizes": [8, 16],
    "learning_rates": [0.01, 0.02, 0.04],
    "loss": "cross_entropy",
    "optimizer": "AdamW",
    "data": "my_model.py:make_data",
    "steps": 10,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder: a model, a module beside it, and one that has nothing to do with it."""
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "helpers.py").write_text("import tools.widths\ndef width_of(size): return tools.widths.WIDTH\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/__init__.py").write_text("")
    (tmp_path / "tools/widths.py").write_text("from .parts import WIDTH\n")
    (tmp_path / "tools/parts.py").write_text("WIDTH = 3\n")
    (tmp_path / "other.py").write_text("")
    return tmp_path


def config(folder: Path, **changes: object) -> BaseConfig:
    """The configuration with the block in a file of that folder."""
    file = folder / "my.yaml"
    file.write_text(yaml.safe_dump({"own": BLOCK | changes}))
    return read_config(REPOSITORY, read_changes([file]))


def own(folder: Path, **changes: object) -> OwnSpec:
    return config(folder, **changes).own


# --- faults -----------------------------------------------------------------------------------------------------------

BAD = {
    "unknown key": ({"factry": "x"}, ["own.factry", '"x"', "allowed: factory, sizes", "did you mean 'factory'"]),
    "missing file": ({"factory": "absent.py:f"}, ["own.factory", "no such absent.py", "beside the file"]),
    "missing function": (
        {"factory": "my_model.py:make_modle"},
        ["own.factory", "no 'make_modle' in my_model.py", "allowed: its functions (Batches, loss_of_tokens, make_data,",
         "did you mean 'make_model'"],
    ),
    "missing usual function": ({"loss": "my_model.py"}, ["own.loss", "no 'loss' in my_model.py"]),
    "no reference": ({"factory": "my_model"}, ["own.factory", "my_model", "FILE.py:function"]),
    "one size": ({"sizes": [8]}, ["own.sizes", "[8]", "at least 2"]),
    "descending": ({"sizes": [16, 8]}, ["own.sizes", "[16, 8]", "ascend"]),
    "size 0": ({"sizes": [0, 8]}, ["own.sizes.0", "0", "1"]),
    "two rates": ({"learning_rates": [0.1, 0.2]}, ["own.learning_rates", "[0.1, 0.2]", "at least 3"]),
    "rate 0": ({"learning_rates": [0, 0.1, 0.2]}, ["own.learning_rates.0", "greater than 0"]),
    "loss": ({"loss": "crossentropy"}, ["own.loss", "cross_entropy, mse, FILE.py:function", "mean 'cross_entropy'"]),
    "optimizer": ({"optimizer": "AdmW"}, ["own.optimizer", "AdmW", "SGD, Adam, AdamW", "mean 'AdamW'"]),
    "option": ({"optimizer": {"name": "Adam", "momentum": 0.9}}, ["own.optimizer", "momentum = 0.9", "betas, eps"]),
    "option of a function": (
        {"optimizer": {"name": "my_model.py:RATE_OF", "momentum": 0.9}}, ["momentum = 0.9", "allowed: none"],
    ),
    "misspelt option": ({"optimizer": {"name": "SGD", "momentm": 0.9}}, ["own.optimizer.momentm", "mean 'momentum'"]),
    "nesterov": ({"optimizer": {"name": "SGD", "nesterov": True}}, ["nesterov = true", "momentum above 0"]),
    "data": ({"data": "digit"}, ["own.data", "digit", "cifar10, mnist", "FILE.py:function", "mean 'digits'"]),
    "streamed data": ({"data": "imagenet"}, ["own.data", "imagenet", "allowed: cifar10"]),
    "text without length": ({"data": "pydoc"}, ["own.data", "pydoc", "length: 64"]),
    "augmented": ({"data": {"name": "digits", "flip": True}}, ["own", "data", "crop, flip"]),
    "key of data": ({"data": {"name": "digits", "exampels": 9}}, ["own.data.exampels", "mean 'examples'"]),
    "squared error of a text": ({"data": {"name": "pydoc", "length": 8}, "loss": "mse"}, ["loss = 'mse'", "text"]),
    "large batch": ({"data": "digits", "batch_size": 5000}, ["batch_size = 5000", "1437"]),
    "one step": ({"steps": 1}, ["own.steps", "1", "2"]),
    "one seed": ({"seeds": 1}, ["own.seeds", "1", "at least 2"]),
    "a seed twice": ({"seeds": [3, 3]}, ["own.seeds", "[3, 3]", "repeat"]),
    "sharpness": ({"sharpness_at": -1}, ["own.sharpness_at", "-1"]),
    "no truth": ({"side_by_side": "always"}, ["own.side_by_side", "always", "boolean"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_fault_is_told_in_one_line(folder, fault):
    changes, words = BAD[fault]
    with pytest.raises(ConfigError) as raised:
        config(folder, **changes)
    line = str(raised.value)
    assert line.startswith("config: own") and "\n" not in line
    assert [word for word in words if word not in line] == [], line


def test_a_file_that_is_no_python_is_told_with_its_line(folder):
    (folder / "my_model.py").write_text("import torch\ndef make_model(:\n")
    with pytest.raises(ConfigError, match=r"own\.factory = .*my_model\.py is no Python in line 2"):
        config(folder)


def test_what_a_file_imports_as_a_whole_may_be_a_function(folder):
    (folder / "my_model.py").write_text("from elsewhere import *\n")
    assert own(folder).factory == f"{folder}/my_model.py:make_model"


@pytest.mark.parametrize("name", ["loss_of_tokens", "make_model", "width_of"])
def test_functions_are_found_that_are_made_or_imported(folder, name):
    assert own(folder, loss=f"my_model.py:{name}").paths["loss"] == str(folder / "my_model.py")


def test_a_target_without_the_block_says_how_to_write_one(folder):
    without, block = read_config(REPOSITORY, {}), config(folder)
    for target in (OWN, "results/laptop/own/transfer.csv"):
        with pytest.raises(ConfigError, match="no block 'own'; write one with factory, sizes.*docs/running.md"):
            check_target(target, without)
        check_target(target, block)
    check_target("fsf_fig1a", without)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_found_from_the_settings_that_name_them_or_from_the_working_folder(
    folder, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert own(folder).paths == dict.fromkeys(("factory", "data"), str(folder / "my_model.py"))
    (elsewhere / "loss.py").write_text("def loss(outputs, targets): ...\n")
    assert own(folder, loss="loss.py").paths["loss"] == str(elsewhere / "loss.py")
    monkeypatch.chdir(folder)
    word = "own={factory: my_model.py, data: my_model.py, sizes: [8, 16], learning_rates: [1, 2, 3], loss: mse," \
        " optimizer: sgd, steps: 5}"  # fmt: skip
    found = read_config(REPOSITORY, read_changes([], [word])).own
    assert found.factory == f"{folder}/my_model.py:make_model" and found.optimizer == "SGD"


def test_the_hash_is_of_the_files_and_what_they_import_from_their_folder(folder, tmp_path_factory):
    before = files_hash([folder / "my_model.py"])
    (folder / "other.py").write_text("# an edit\n")
    assert files_hash([folder / "my_model.py"]) == before
    for name in ("my_model.py", "helpers.py", "tools/__init__.py", "tools/widths.py", "tools/parts.py"):
        content = (folder / name).read_text()
        (folder / name).write_text(content + "# an edit\n")
        assert files_hash([folder / "my_model.py"]) != before, name
        (folder / name).write_text(content)
    moved = tmp_path_factory.mktemp("moved") / "here"
    folder.rename(moved)
    assert files_hash([moved / "my_model.py"]) == before


# --- settings of jobs -------------------------------------------------------------------------------------------------


def test_a_job_has_what_it_depends_on_and_no_more(folder, tmp_path_factory):
    spec = own(folder)
    more = own(folder, sizes=[8, 16, 32], sharpness_at=7)
    assert spec.training(8) == more.training(8) and spec.sharpness(8, 0.01) != more.sharpness(8, 0.01)
    seeds = own(folder, seeds=9, learning_rates=[0.01, 0.02, 0.04, 0.08])
    assert spec.training(8) != seeds.training(8) and spec.sharpness(8, 0.01) == seeds.sharpness(8, 0.01)
    assert own(folder, optimizer={"name": "adamw"}).training(8) == spec.training(8)
    assert str(folder) not in str((spec.training(8), spec.sharpness(8, 0.01), spec.grid()))
    decay = own(folder, optimizer={"name": "SGD", "momentum": 0.9, "weight_decay": 0.1}).training(8)["optimizer"]
    assert decay == {"name": "SGD", "momentum": 0.9, "weight_decay": 0.1}


def test_names_and_options_are_those_of_the_library():
    import inspect

    from featurespeed.own import named

    assert tuple(named.LOSSES) == LOSSES and {name.lower() for name in OPTIMIZERS} == set(named.OPTIMIZERS)
    for name, options in OPTIMIZERS.items():
        assert set(options) <= set(inspect.signature(named.OPTIMIZERS[name.lower()]).parameters)


def test_the_example_of_the_documentation_is_valid(tmp_path):
    text = (REPOSITORY / "docs/running.md").read_text(encoding="utf-8")
    section = text.split("## Your own model")[1].split("\n## ")[0]
    for name in ("my_model.py", "my.yaml"):
        block = re.search(rf"^    # {re.escape(name)}\n((?:    .*\n|\n(?=    ))+)", section, re.MULTILINE)[0]
        (tmp_path / name).write_text(textwrap.dedent(block))
    spec = read_config(REPOSITORY, read_changes([tmp_path / "my.yaml"])).own
    assert spec.sizes == [64, 128, 256, 512] and len(spec.seeds) == 5
    namespace: dict = {}
    exec((tmp_path / "my_model.py").read_text(), namespace)
    inputs, classes = namespace["make_data"]()
    assert namespace["make_model"](8)(inputs).shape == (len(classes), 5)
