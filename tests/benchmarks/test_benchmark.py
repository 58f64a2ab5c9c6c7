"""The benchmarks run and print every row; how fast anything is, no test says."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from tests import forked
from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks/feature_speed.py"
TRAINING = REPOSITORY / "benchmarks/training.py"
CPU = torch.device("cpu")


def run(*arguments: str, script=SCRIPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=300)


def refusal(*arguments: str, script=SCRIPT) -> subprocess.CompletedProcess[str]:
    """Of arguments that are looked at before anything is measured."""
    what = {"script": str(script)}
    return forked.run(what, *arguments, libraries=forked.SCIENTIFIC, cwd=REPOSITORY, environment=os.environ)


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """The module of the training benchmark."""
    location = importlib.util.spec_from_file_location("benchmark_of_training", TRAINING)
    module = importlib.util.module_from_spec(location)
    sys.modules[location.name] = module  # dataclasses look their module up there
    location.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sides(training) -> ModuleType:
    """The module beside it, with both ways to train."""
    return importlib.import_module("training_sides")


def tables_of(text: str) -> list[tuple[str, list[list[str]]]]:
    """Heading of each table, and its lines of cells, the heads of the columns first."""
    parts = text.split("\n\n")
    found = []
    for heading, part in zip(parts, parts[1:], strict=False):
        if part.startswith("|"):
            head, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in part.strip().splitlines())
            found.append((heading.partition(":")[0], [head, *lines]))
    return found


@pytest.mark.slow
def test_smoke_prints_every_row():
    done = run("--smoke", "--repeats", "2")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert header == ["what", "value", "floor", "ratio", "target", "verdict"]
    assert [row[0] for row in rows] == [
        "dense float32, exact tangent",
        "dense float32, exact tangent: peak memory",
        "dense float32, finite step instead",
        "exact-law sampler",
        "exact-law sampler: peak memory",
        "sampler, one beta of Fig. 1b at a million units, 20 depths to 200",
        "sampler at a million units: peak memory",
    ]
    assert [row[4] for row in rows] == ["<= 45 CPU s", "", "", "<= 6 CPU s", "", "<= 60 s", "<= 2 GB"]
    for row in rows:
        assert float(row[1].split()[0]) >= 0 and len(row) == 6
        assert bool(row[2]) == bool(row[3]) == ("memory" not in row[0])
        assert row[5] == ""  # tiny sizes meet nothing and miss nothing
    for job in ("dense", "finite", "sampler", "wide"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{job}: ")]
        assert len(line.split(": ")[-1].split(", ")) == 2


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--repeats", "0"], ["--repeats", "0", "1 or more"]), (["--fast"], ["--fast"])]
)
def test_bad_arguments_are_refused(arguments, words):
    done = refusal(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr.splitlines()[-1] for word in words)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "convnet"},
        {"kind": "convnet", "parameterization": "SP"},
        {"kind": "mlp", "depth": 3, "data": "digits"},
        {"kind": "mlp", "depth": 3, "data": "digits", "optimizer": "adam"},
        {"kind": "simple_convnet", "convention": "authors", "rotation": 10},
        {"kind": "simple_convnet", "convention": "authors", "data": "digits", "strides": (1, 2)},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_all_contestants_train_the_same_network(training, sides, changes):
    case = training.Case(width=4, batch=4, images=32, **changes)
    contestants = [training.PLAIN, training.ONE, training.ALL]
    contestants += [replace(one, channels_last=True) for one in contestants]
    found = []
    for contestant in contestants:
        stamps = []
        train = training.plain_losses if contestant.plain else training.trainer_losses
        losses = train(case, contestant, CPU, 15, lambda stamps=stamps: stamps.append(time.perf_counter()))
        assert len(stamps) == 2 and losses.shape == (contestant.members, sides.WARM_UP + 15)
        found.append(losses[0].double())
    first = found[0]
    assert first.isfinite().all() and first[0] != first[-1]
    for other in found[1:]:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-5)


def both_sides_with_16_members(training, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses ``[16, steps]`` of the authors' network: of two seeds and eight rates."""
    case = replace(training.AUTHORS, width=8, batch=4, images=32)
    contestants = [training.Contestant("many", 16, plain=plain) for plain in (True, False)]
    plain, ours = (
        (training.plain_losses if one.plain else training.trainer_losses)(case, one, device, 15, lambda: None)
        for one in contestants
    )
    return plain.double().cpu(), ours.double()


def test_plain_loops_of_many_members_train_each_of_them(training):
    plain, ours = both_sides_with_16_members(training, CPU)
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-5)
    assert len({tuple(losses) for losses in plain.tolist()}) == 16
    assert len(set(plain[:, 0].tolist())) == 2  # before the first update members differ in their seed alone


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_plain_loops_recorded_as_a_graph_train_the_same_networks(training):
    plain, ours = both_sides_with_16_members(training, torch.device("cuda"))
    torch.testing.assert_close(plain, ours, rtol=1e-2, atol=1e-3)  # TF32 differs between kernels


def test_the_plain_network_of_the_authors_has_their_layers(training, sides):
    case = replace(training.AUTHORS, width=4)
    network = sides.make_job(case, sides.make_spec(case, 1, 1), CPU).make_network(1)
    plain = sides.PlainNetwork(network, 0)
    first, second, readout = plain.layers
    assert [first.stride, second.stride] == [(2, 2), (4, 4)] and readout.in_features == 4
    assert [type(pool) for pool in plain.pools] == [torch.nn.MaxPool2d] * 2


def test_weights_with_channels_last_are_the_same_numbers(training, sides):
    case = training.Case("convnet", 4, batch=4, images=32)
    spec = sides.make_spec(case, 8, 1)
    layouts = [training.Contestant("", 8, channels_last=last) for last in (False, True)]
    networks = [sides.make_job(case, spec, CPU, one).make_network(8).initialise([0] * 8) for one in layouts]
    for usual, last in zip(*(network.weighted.values() for network in networks), strict=True):
        assert torch.equal(usual.weight, last.weight)
        assert (usual.weight.stride() == last.weight.stride()) == (usual.weight.ndim == 3)
        if last.weight.ndim == 5:
            assert last.weight.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_operations_are_those_of_a_gradient(training):
    case = training.Case("convnet", 512)
    by_hand = 4 * 32**2 * 9 * 3 * 512 + 6 * 16**2 * 9 * 512**2 + 6 * 16**2 * 512 * 10
    assert case.flops == by_hand
    assert 26_700 * case.flops == pytest.approx(99e12, rel=0.01)  # a published pair of images a second and TFLOP/s
    assert training.AUTHORS.flops == 4 * 16**2 * 27 * 64 + 6 * 2**2 * 9 * 64**2 + 6 * 64 * 10


def test_ratios_are_taken_within_a_turn_and_targets_judged_by_the_median(training):
    table = training.Table(
        "conv",
        training.Case("convnet", 512),
        (training.PLAIN, training.ONE),
        (("one member", "plain"),),
        ((("one member", "plain"), 2.5), (("one member", "TFLOP/s"), 1.0)),
        count_flops=True,
    )
    rates = {"plain": (100.0, 200.0, 400.0), "one member": (200.0, 200.0, 1200.0)}
    turns = {name: [training.Turn(rate) for rate in values] for name, values in rates.items()}
    rows = {(row.what, row.unit): row for row in training.rows_of(table, turns, on_gpu=False)}
    ratio = rows["one member / plain", "x"]
    assert (ratio.value, ratio.least, ratio.most, ratio.turns) == (2.0, 1.0, 3.0, 3)
    assert ratio.verdict == "missed by 20%"
    tera = rows["one member", "TFLOP/s"]
    assert tera.value == pytest.approx(200.0 * table.case.flops / 1e12) and tera.verdict == "missed by 26%"
    assert rows["plain", "img/s"].value == 200.0 and rows["plain", "img/s"].verdict == ""
    memory = [row.unit for row in training.rows_of(table, turns, on_gpu=True) if row.unit.startswith("GB")]
    assert memory == ["GB in tensors", "GB reserved"] * 2
    head, _, plain, one = training.lines_of(list(rows.values()), verdicts=True)
    assert head == "| 3 turns | img/s | TFLOP/s | / plain | target | verdict |"
    assert "| 2.00 (1.00 to 3.00) | >= 1 TFLOP/s; >= 2.5 x | missed by 26%; missed by 20% |" in one


def test_every_table_compares_contestants_that_it_has_with_targets_that_it_reports(training):
    for table in (*training.cpu_tables(), *training.gpu_tables(False), *training.gpu_tables(True)):
        names = {contestant.name for contestant in table.contestants}
        turns = {name: [training.Turn(1.0)] for name in names}
        rows = list(training.rows_of(table, turns, on_gpu=False))
        assert len(names) == len(table.contestants)
        assert sum(row.target is not None for row in rows) == len(table.targets), table.name


def test_targets_on_a_gpu(training):
    tables = [table for table in training.gpu_tables(False) if table.title != "GPU, authors' ConvNet"]
    targets = {(table.case.kind, table.case.width): dict(table.targets) for table in tables}
    assert targets == {
        ("convnet", 32): {("32 members", "plain"): 10.0, ("32 members", "img/s"): 550_000.0},
        ("convnet", 128): {("8 members", "plain"): 3.0},
        ("convnet", 512): {("8 members", "TFLOP/s"): 95.0},
        ("simple_convnet", 64): {("16 members", "plain"): 5.0},
        ("simple_convnet", 512): {("8 members", "plain"): 1.5},
        ("simple_convnet", 1024): {},
    }


def test_members_are_those_of_the_tables(training, sides):
    tables = [table for table in (*training.cpu_tables(), *training.gpu_tables(False)) if "authors" in table.title]
    members = {(table.title, table.case.width): max(one.members for one in table.contestants) for table in tables}
    assert members == {
        ("digits, authors' network", 8): 50,
        ("digits, authors' network", 32): 50,
        ("GPU, authors' network", 64): 16,
        ("GPU, authors' network", 512): 8,
        ("GPU, authors' network", 1024): 40,
        ("GPU, authors' ConvNet", 32): 40,
        ("GPU, authors' ConvNet", 64): 40,
        ("GPU, authors' ConvNet", 128): 10,
        ("GPU, authors' ConvNet", 256): 10,
    }
    rates = {count: len(sides.make_spec(training.AUTHORS, count, 1).learning_rates) for count in (16, 8, 10, 40, 50)}
    assert rates == {16: 8, 8: 8, 10: 1, 40: 8, 50: 5}
    turned = {table.case.data: sides.make_spec(table.case, 1, 1).data.rotation for table in tables}
    assert turned == {"digits": 0, "cifar10": 10}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_smoke_of_training_prints_and_writes_every_table(training, tmp_path, suffix):
    out = tmp_path / f"training.{suffix}"
    done = run("--smoke", "--channels-last", "--seconds", "20", "--out", str(out), script=TRAINING)
    assert done.returncode == 0, done.stderr
    tables = tables_of(done.stdout)
    headings = {"conv", "tiny", "side by side, digits", "side by side, cifar10", "GPU conv"}
    headings |= {"digits, authors' network", "GPU, authors' network", "GPU, authors' ConvNet"}
    assert {heading for heading, _ in tables} == headings
    text = out.read_text(encoding="utf-8")
    rows = json.loads(text)["rows"] if suffix == "json" else list(csv.DictReader(text.splitlines()))
    assert {row["table"] for row in rows} == headings
    assert all(float(row["least"]) <= float(row["value"]) <= float(row["most"]) for row in rows)
    for _, (head, *lines) in tables:
        assert head[-2:] == ["target", "verdict"] and len(lines) >= 2
        assert all(len(line) == len(head) for line in lines)
        assert all(line[-1] == "" for line in lines)  # tiny sizes meet nothing and miss nothing


def test_tables_for_which_there_is_no_time_are_named():
    done = run("--smoke", "--only", "GPU", "--seconds", "0.001", script=TRAINING)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line][1:]
    assert len(lines) == 8 and all(line.endswith("not measured, the time is over") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--seconds", "0"], ["--seconds", "more than 0"]), (["--out", "a.txt"], ["a.txt", ".json", ".csv"])],
)
def test_bad_arguments_of_training_are_refused(arguments, words):
    done = refusal(*arguments, script=TRAINING)
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr.splitlines()[-1] for word in words)
