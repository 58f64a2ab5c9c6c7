"""The command line: what it prints, what it refuses in one line, and that a user's file is loaded and left again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from featurespeed import sharpness
from featurespeed.own import doctor
from featurespeed.own.command import main
from featurespeed.own.coordinates import coordinate_check
from featurespeed.own.doctor import Finding, examine
from featurespeed.own.printing import as_json, as_text, plain
from tests.conftest import REPOSITORY

SCRIPT = """
import torch
from torch import nn
from neighbour import FEATURES

print("loaded")

def make_model(width=16):
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, 3))

def fixed():
    return make_model(4)

def sized(width):
    return make_model(width)

loss = nn.CrossEntropyLoss()

def other_loss(outputs, targets):
    return 2 * loss(outputs, targets)

def make_batch():
    x = torch.arange(60.0).reshape(10, 6) / 30 - 1
    return x, torch.arange(10) % 3

def make_optimizer(model, learning_rate=0.01):
    return torch.optim.Adam(model.parameters(), lr=learning_rate)

def three(seed):
    return [make_batch() for _ in range(3)]

def endless(seed):
    while True:
        yield make_batch()

def random_batch():
    return torch.randn(10, 6), torch.arange(10) % 3

def broken(width=3):
    nothing = {}
    return nothing["weights"]

NUMBER = 3
"""


@pytest.fixture
def script(tmp_path):
    """A file with all that commands look for, beside a module that it imports."""
    (tmp_path / "neighbour.py").write_text("FEATURES = 6\n")
    file = tmp_path / "own_script.py"
    file.write_text(SCRIPT)
    return file


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code and both streams."""
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def loaded(script: Path) -> dict[str, object]:
    """The script's names, run by hand, with the folder of its neighbour on the path."""
    sys.path.insert(0, str(script.parent))
    try:
        names: dict[str, object] = {}
        exec(compile(script.read_text(), str(script), "exec"), names)  # noqa: S102
    finally:
        sys.path.remove(str(script.parent))
        sys.modules.pop("neighbour", None)
    return names


# --- sharpness --------------------------------------------------------------------------------------------------------


def test_sharpness_is_that_of_python_and_json_is_all_on_the_standard_output(script, capsys):
    code, out, err = run(capsys, "sharpness", f"{script}:make_model", "--json", "--k", 2)
    found = json.loads(out)
    assert code == 0 and out.count("\n") == 1 and "loaded" in err
    names = loaded(script)
    from featurespeed.own.making import made_model

    model = made_model(lambda _none: names["make_model"](), "", 0)
    expected = sharpness(model, names["loss"], names["make_batch"](), 2)
    assert np.allclose([row["eigenvalue"] for row in found["table"]], expected.values.numpy(), rtol=1e-5)
    assert found["converged"] is True and found["eigenvalue"] == found["table"][0]["eigenvalue"]


def test_text_is_a_table_and_a_sentence(script, capsys):
    code, out, _ = run(capsys, "sharpness", script)
    table, sentence = out.strip().split("\n\n")
    assert code == 0 and table.split() == ["eigenvalue", "residual", *table.split()[2:]] and len(table.split()) == 4
    assert sentence.startswith("largest eigenvalue of the Hessian: ") and "stable up to the learning rate" in sentence


def value(capsys, *arguments: object) -> float:
    code, out, err = run(capsys, "sharpness", *arguments, "--json", "--tol", 1e-5)
    assert code == 0, err
    return json.loads(out)["eigenvalue"]


def test_losses_sizes_seeds_data_and_functions_by_their_names(script, capsys):
    own = value(capsys, script)
    assert value(capsys, script, "--loss", "cross_entropy") == pytest.approx(own, rel=1e-3)
    assert value(capsys, script, "--loss", "other_loss") == pytest.approx(2 * own, rel=1e-3)
    assert value(capsys, script, "--loss", f"{script}:other_loss") == pytest.approx(2 * own, rel=1e-3)
    assert value(capsys, script, "--size", 16) == pytest.approx(own, rel=1e-6)
    assert value(capsys, script, "--size", 17) != pytest.approx(own, rel=1e-3)
    assert value(capsys, script, "--seed", 1) != pytest.approx(own, rel=1e-3)
    assert value(capsys, script, "--data", "three") == pytest.approx(own, rel=1e-3)
    assert value(capsys, script, "--data", "endless", "--batches", 2) == pytest.approx(own, rel=1e-3)
    assert value(capsys, f"{script}:fixed") > 0
    drawn = [value(capsys, script, "--batch", "random_batch", "--seed", seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_mean_squared_error_and_a_file_without_a_loss(tmp_path, capsys):
    file = tmp_path / "regression.py"
    file.write_text(
        "import torch\nmake_model = lambda: torch.nn.Linear(2, 1, bias=False)\n"
        "make_batch = lambda: (torch.eye(2), torch.zeros(2, 1))\n"
    )
    assert value(capsys, file, "--loss", "mse") == pytest.approx(1.0, rel=1e-4)  # the Hessian of |w|^2 / 2
    code, out, err = run(capsys, "sharpness", file)
    assert code == 2 and not out
    message = f"--loss: not given, and {file} has no loss, allowed: cross_entropy, mse, FILE.py:function"
    assert err == f"featurespeed: {message}\n"


# --- coordinates ------------------------------------------------------------------------------------------------------


def test_check_coordinates_is_the_check_of_python(script, capsys, tmp_path):
    picture = tmp_path / "check.png"
    common = ("check-coordinates", script, "--widths", 8, 16, 32, "--seeds", 2, "--nodes", "0", "2")
    code, out, err = run(capsys, *common, "--optimizer", "sgd", "--learning-rate", 0.1, "--json", "--plot", picture)
    assert code == 0, err
    found = json.loads(out)
    names = loaded(script)
    expected = coordinate_check(
        names["make_model"], [8, 16, 32], names["loss"], [names["make_batch"]()] * 3, torch.optim.SGD,
        seeds=2, learning_rate=0.1, nodes=["0", "2"],
    )  # fmt: skip
    assert pd.DataFrame(found["table"]).equals(expected.table)
    assert found["verdict"] == expected.verdict and found["sentence"] == expected.sentence
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_check_coordinates_with_the_optimizer_and_the_data_of_the_file(script, capsys):
    common = ("check-coordinates", script, "--widths", 8, 16, 32, "--seeds", 2, "--json")
    by_file = json.loads(run(capsys, *common)[1])
    named = ("--optimizer", "make_optimizer", "--learning-rate", 0.01, "--data", "endless", "--steps", 3)
    assert json.loads(run(capsys, *common, *named)[1]) == by_file
    assert {row["step"] for row in by_file["rows"]} == {0, 1, 2, 3}


# --- what is refused --------------------------------------------------------------------------------------------------

RAISES = 1 + SCRIPT.splitlines().index('    return nothing["weights"]')

REFUSED = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "an unknown command": (["sharpnes", "{file}"], "argument COMMAND: invalid choice: 'sharpnes'"),
    "an unknown option": (["sharpness", "{file}", "--lost"], "unrecognized arguments: --lost"),
    "no number": (["sharpness", "{file}", "--tol", "small"], "argument --tol: invalid float value"),
    "a seed below 0": (["sharpness", "{file}", "--seed", "-1"], "argument --seed: "),
    "no step": (["check-coordinates", "{file}", "--widths", "1", "2", "3", "--steps", "0"], "--steps: 0, allowed"),
    "no file": (["sharpness", "missing.py"], "FILE.py:make_model: missing.py is no file, allowed: FILE.py:function"),
    "no script": (["sharpness", "model"], "FILE.py:make_model: 'model', allowed: FILE.py:function"),
    "no function": (["sharpness", "{file}:net"], "has no function 'net', allowed: its functions (make_model, fixed"),
    "no such loss": (["sharpness", "{file}", "--loss", "hinge"], "--loss: {file} has no function 'hinge'"),
    "a number": (["sharpness", "{file}:NUMBER"], "NUMBER in {file} is a int, allowed: a function"),
    "an error in a function": (["sharpness", "{file}:broken"], "KeyError: 'weights'"),
    "the line of an error": (["sharpness", "{file}:broken"], f"(own_script.py:{RAISES})"),
    "no size": (["sharpness", "{file}:sized"], "--size: not given, and make_model takes one"),
    "a size too much": (["sharpness", "{file}:fixed", "--size", "3"], "--size: 3, and make_model takes none"),
    "widths of what has none": (["check-coordinates", "{file}:fixed", "--widths", "1", "2", "3"], "takes no size"),
    "few widths": (["check-coordinates", "{file}", "--widths", "8", "16"], "widths: 2 of them, allowed: at least 3"),
    "no such matrix": (["sharpness", "{file}", "--matrix", "jacobian"], "matrix = 'jacobian': allowed: hessian"),
    "no picture": (["sharpness", "{file}", "--plot", "x.txt"], "--plot: x.txt, allowed: a file that ends in .png"),
    "no base": (["autoscale", "{file}", "--size", "8", "--scheme", "mup"], "--base: not given, allowed with mup"),
    "a base too much": (["autoscale", "{file}", "--size", "8", "--base", "4"], "--base: 4, allowed with mup"),
    "no such device": (["sharpness", "{file}", "--device", "gpu"], "--device: gpu (RuntimeError: "),
    "no folder": (["sharpness", "{file}", "--plot", "none/x.png"], "--plot: none is no folder"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments, message, script, capsys, monkeypatch):
    monkeypatch.chdir(script.parent)
    code, out, err = run(capsys, *[argument.format(file=script) for argument in arguments])
    lines = [line for line in err.splitlines() if line != "loaded"]
    assert code == 2 and not out
    assert len(lines) == 1 and lines[0].startswith("featurespeed: ") and message.format(file=script) in lines[0], err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", [["sharpness"], ["autoscale"], ["check-coordinates", "--widths", "8", "16", "32"]])
def test_a_gpu_that_is_not_there_is_one_line(command, script, capsys):
    code, out, err = run(capsys, command[0], script, *command[1:], "--device", "cuda")
    assert code == 2 and not out and err.count("\n") == 1
    assert err.startswith("featurespeed: --device: cuda (") and err.endswith("), allowed here: cpu\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = (", "own.py:2: SyntaxError"),
        ("x = 1\nx.nothing", "own.py:2 raised AttributeError: 'int' object has no attribute 'nothing'"),
        ("import no_such_package", "own.py:1 raised ModuleNotFoundError: No module named 'no_such_package'"),
        ("import sys\nsys.exit(3)", "own.py ends the program when loaded"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_the_line(text, message, tmp_path, capsys):
    (tmp_path / "own.py").write_text(text)
    code, out, err = run(capsys, "sharpness", tmp_path / "own.py")
    assert code == 2 and not out and err.count("\n") == 1 and message in err


def test_a_traceback_is_shown_when_it_is_asked_for(script, capsys):
    code, _, err = run(capsys, "sharpness", f"{script}:broken", "--debug")
    assert code == 2 and "Traceback" in err and 'nothing["weights"]' in err and err.splitlines()[-1].startswith("feat")


def test_paths_and_modules_are_as_before_and_another_file_of_the_same_name_is_another_one(script, tmp_path, capsys):
    path, modules = list(sys.path), set(sys.modules)
    first = value(capsys, script)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "neighbour.py").write_text("FEATURES = 6\n")
    (other / script.name).write_text(SCRIPT.replace("width=16", "width=5"))
    assert value(capsys, other / script.name) != first
    assert sys.path == path and not {"neighbour", "own_script"} & (set(sys.modules) - modules)


def test_help_and_version(capsys):
    assert run(capsys, "--version") == (0, "featurespeed 0.1.0\n", "")
    code, out, _ = run(capsys, "check-coordinates", "--help")
    assert code == 0 and "--learning-rate" in out


def test_as_a_program(script):
    command = [sys.executable, "-m", "featurespeed", "sharpness", script, "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["eigenvalue"] > 0
    wrong = subprocess.run([*command, "--size", "x"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_reports_and_finds_nothing_to_put_right_here(capsys):
    code, out, _ = run(capsys, "doctor")
    topics = [line.split()[1] for line in out.splitlines() if line.split()]
    assert code == 0, out
    assert {"python", "featurespeed", "torch", "gpu", "threads", "disk", "data"} <= set(topics)
    assert str(REPOSITORY / "featurespeed") in out and out.endswith("no problems\n")
    found = json.loads(run(capsys, "doctor", "--json")[1])
    assert found["problems"] == 0 and len(found["findings"]) == len(out.splitlines()) - 2


def test_doctor_exits_with_1_for_what_must_be_put_right(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LEAST_DISK", 2**80)
    monkeypatch.setenv("FEATURESPEED_DATA", str(tmp_path / "nowhere"))
    code, out, _ = run(capsys, "doctor")
    assert code == 1 and out.endswith("2 problems\n") and out.count("problem ") == 2


def test_doctor_finds_data_sets_without_reading_them(monkeypatch, tmp_path):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar10.npz").write_bytes(b"")
    monkeypatch.setenv("FEATURESPEED_DATA", str(tmp_path))
    found = {finding.topic: finding for finding in examine(tmp_path)}
    assert found["data cifar10"] == Finding("data cifar10", f"found in {tmp_path / 'cifar10' / 'cifar10.npz'}")
    assert found["data mnist"].kind == "note"


def test_versions_are_compared_by_their_numbers():
    assert doctor._numbers("2.13.0+cpu") == (2, 13, 0) > doctor._numbers("2.6")
    assert doctor._numbers("1.0.0a5") == (1, 0, 0)
    assert doctor._name_and_least("snakemake >=9.20 ") == ("snakemake", "9.20")
    assert doctor._name_and_least("psutil") == ("psutil", "0")


# --- printing ---------------------------------------------------------------------------------------------------------


def test_numbers_that_json_does_not_know_are_null():
    record = {"a": float("nan"), "b": np.float32("inf"), "c": torch.tensor([1.0, float("nan")]), "d": np.int64(3)}
    assert json.loads(as_json(record)) == {"a": None, "b": None, "c": [1.0, None], "d": 3}
    assert json.loads(as_json(pd.DataFrame({"x": [1.5, np.nan], "ok": [True, False]}))) == {
        "value": [{"x": 1.5, "ok": True}, {"x": None, "ok": False}]
    }


def test_what_is_no_number_is_left_out():
    assert plain({"model": nn.Linear(2, 2), "large": torch.zeros(5000), "n": 1, "list": [1, nn.ReLU()]}) == {
        "n": 1, "list": [1],
    }  # fmt: skip
    assert as_text({"n": 1, "rates": [0.1, 0.2]}) == "n: 1\nrates: 0.1, 0.2"
