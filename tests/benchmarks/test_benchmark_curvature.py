"""The benchmark of curvature: what it counts and calls an error, and that it runs; how fast it is, no test says."""

import csv
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from torch.nn import functional

from tests.benchmarks.test_benchmark import tables_of
from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks/curvature.py"
CPU = torch.device("cpu")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def curvature() -> ModuleType:
    """The module of the benchmark; it finds the others beside it."""
    location = importlib.util.spec_from_file_location("benchmark_of_curvature", SCRIPT)
    module = importlib.util.module_from_spec(location)
    sys.modules[location.name] = module  # dataclasses look their module up there
    location.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def networks(curvature) -> ModuleType:
    return importlib.import_module("curvature_networks")


@pytest.fixture(scope="module")
def peers(curvature) -> ModuleType:
    return importlib.import_module("curvature_peers")


@pytest.fixture(scope="module")
def points(networks):
    """A short trajectory of a tiny network."""
    return list(networks.trajectory(networks.Problem("convnet", 3, 8, batch=12, steps=(0, 2, 4))))


# --- what is measured -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["convnet", "mlp"])
def test_the_plain_module_is_the_network_of_the_package(networks, kind):
    network = networks.make_network(kind, 4, 3, (3, 8, 8), members=2)
    inputs = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = networks.plain_network(network)
    torch.testing.assert_close(plain(inputs[0]), network(inputs)[0], rtol=1e-5, atol=1e-6)


def test_exact_eigenvalues_are_those_of_the_dense_hessian(networks):
    model = networks.plain_network(networks.make_network("mlp", 3, 2, (1, 4, 4))).double()
    stream = torch.Generator().manual_seed(0)
    batch = torch.randn(8, 1, 4, 4, generator=stream, dtype=torch.float64), torch.randint(10, (8,), generator=stream)
    parameters = list(model.parameters())
    slopes = torch.autograd.grad(functional.cross_entropy(model(batch[0]), batch[1]), parameters, create_graph=True)
    flat = torch.cat([slope.flatten() for slope in slopes])
    rows = [torch.autograd.grad(entry, parameters, retain_graph=True) for entry in flat]
    dense = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    largest = torch.linalg.eigvalsh(dense).flip(0)[: networks.MOST]
    torch.testing.assert_close(networks.exact_eigenvalues(model, batch), largest, rtol=1e-8, atol=1e-12)


def test_training_lowers_the_loss_and_keeps_the_weights_of_every_step(networks, points, monkeypatch):
    assert [point.step for point in points] == [0, 2, 4]
    losses = [functional.cross_entropy(point.model(point.batch[0]), point.batch[1]) for point in points]
    assert losses[0] != losses[1] != losses[2]
    monkeypatch.setattr(networks, "exact_eigenvalues", lambda model, batch: None)
    problem = networks.Problem("mlp", 16, "digits", batch=64, rate=1.0, steps=(0, 100))
    first, last = (functional.cross_entropy(p.model(p.batch[0]), p.batch[1]) for p in networks.trajectory(problem))
    assert last < 0.7 * first


# --- contestants ------------------------------------------------------------------------------------------------------


def test_all_ways_to_one_product_agree(peers, points):
    point = points[1]
    found = {}
    for name, way in peers.products(point.model, point.batch).items():
        made = way()
        parts = made[1].values() if name.startswith("torch.func") else [made] if torch.is_tensor(made) else made
        found[name] = torch.cat([part.detach().flatten() for part in parts])
    assert {"ours", "fresh double backward", "torch.func, forward over reverse"} <= set(found)
    assert len(found) == 6 - len(peers.absent())
    for name, product in found.items():
        torch.testing.assert_close(product, found["ours"], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("k", [1, 10])
def test_contestants_find_the_eigenvalues_and_their_products_are_counted(peers, points, k):
    for contestant in [*peers.ours(), *peers.rivals(k)]:
        name = contestant.name
        if k == 10 and "PyHessian" in name or name == "hessian-eigenthings, defaults":
            continue  # power iteration: some of ten are negative, those largest in magnitude; 2 k products: far too few
        done = peers.call(contestant, contestant.start(k, 0), points[2], k)
        assert done.error < 0.05, name
        assert done.products > k and done.seconds > 0
        if name == "hessian-eigenthings, tuned":
            assert done.products == (15 if k == 1 else 50)


def test_a_matrix_of_three_columns_counts_as_three_products(peers, points):
    library = pytest.importorskip("curvlinops")
    (contestant,) = (one for one in peers.rivals(1) if one.name == "curvlinops + eigsh, tuned")
    model, batch = points[0].model, points[0].batch
    operator = library.HessianLinearOperator(
        model, torch.nn.CrossEntropyLoss(), list(model.parameters()), [batch], check_deterministic=False
    )
    with peers.counting(contestant) as counter:
        operator @ torch.randn(operator.shape[1], 3)
    assert counter.products == 3


def test_pyhessian_leaves_no_gradients_behind(peers, points):
    pytest.importorskip("pyhessian")
    contestant = peers.rivals(1)[0]
    peers.call(contestant, contestant.start(1, 0), points[0], 1)
    assert contestant.name == "PyHessian, defaults"
    assert all(parameter.grad is None for parameter in points[0].model.parameters())


def test_libraries_that_are_not_installed_have_no_contestants(peers, monkeypatch, points):
    monkeypatch.setattr(peers, "installed", lambda library: False)
    assert peers.rivals(1) == [] and peers.absent() == list(peers.LIBRARIES)
    assert len(peers.products(points[0].model, points[0].batch)) == 3


def test_an_error_is_that_of_the_worst_value_in_any_order(peers):
    exact = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    assert peers.error_of([4.0], exact, 1) == 0.0
    assert peers.error_of([2.0, 4.4], exact, 2) == pytest.approx(0.1)
    assert peers.error_of([-5.0], exact, 1) == pytest.approx(2.25)  # the largest in magnitude is another eigenvalue
    assert peers.error_of([4.0], exact, 2) == math.inf
    assert math.isnan(peers.error_of([math.nan], exact, 1))


# --- transformers in runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers(curvature) -> ModuleType:
    return importlib.import_module("curvature_transformers")


def test_transformers_are_those_of_the_figures_side_by_side_and_alone(transformers):
    cases = [case for case, _ in transformers.cases(smoke=False)]
    kinds = ["vit", "gpt", "post_ln"]
    assert [case.run.model.kind for case in cases if case.members > 1] == kinds
    assert [case.run.model.kind for case in cases if case.members == 1] == 2 * kinds
    assert len({case.title for case in cases}) == len(cases)


@pytest.mark.parametrize("kind", ["vit", "gpt", "post_ln"])
def test_what_is_timed_of_a_transformer_is_its_gradient_and_a_product_of_its_hessian(transformers, kind):
    together, alone, *_ = (case for case, _ in transformers.cases(smoke=True) if case.run.model.kind == kind)
    assert together.members > 1 and alone.members == 1
    found = []
    for case in (together, alone):
        ways, within = transformers.ways(case)
        assert set(ways) - set(within) == {transformers.IN_TRAINING}
        gradient, product, first, (_, trained) = (way() for way in ways.values())
        torch.testing.assert_close(gradient, torch.cat([part.flatten(1) for part in trained], dim=1))
        assert torch.equal(product, first)
        found.append((gradient, product))
    for both, one in zip(*found, strict=True):
        torch.testing.assert_close(both[:1], one)
        assert not torch.equal(both[0], both[1])


def test_tables_of_transformers_state_products_in_gradients(curvature, tmp_path, capsys):
    out = tmp_path / "curvature.csv"
    curvature.main(["--smoke", "--only", "transformer: gpt", "--out", str(out)])
    tables = tables_of(capsys.readouterr().out)
    assert len(tables) == 4
    for heading, (head, *lines) in tables:
        assert heading == "one product, transformer"
        assert head[1:4] == ["CPU ms", "/ gradient", "/ gradient in training"]
        assert [line[0] for line in lines] == [
            "gradient", "product", "first product, with its graph", "gradient in training"
        ]  # fmt: skip
        assert [line[4] for line in lines] == ["", "<= 2.5 / gradient", "", ""]
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 4 * 8 and all(float(row["least"]) > 0 for row in rows)


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_misses_are_counted_and_ratios_taken_within_a_turn(curvature, peers):
    call = peers.Call
    calls = {
        peers.COLD: {0: call(1e-6, 10, 1.0, False), 1: call(1e-6, 12, 2.0, False), 2: call(1e-6, 14, 4.0, False)},
        peers.WARM: {1: call(2e-3, 5, 1.0, True), 2: call(1e-6, 7, 1.0, False)},
        peers.SAME_ERROR: {
            0: call(5e-3, 30, 2.0, False), 1: call(2.0, 9, 8.0, False), 2: call(math.nan, 9, 20.0, False)
        },
    }  # fmt: skip
    table = curvature.Table("beside others", "case", lambda deadline: iter(()))
    found = [curvature.row_of(table, one) for one in curvature.findings(calls, 1, peers.COLD)]
    rows = {(row.what, row.unit): row for row in found}
    versus = f"/ {peers.COLD}"
    warm, theirs = rows[peers.WARM, versus], rows[peers.SAME_ERROR, versus]
    assert (warm.value, warm.least, warm.most, warm.turns) == (0.375, 0.25, 0.5, 2)
    assert (theirs.value, theirs.least, theirs.most, theirs.turns) == (4.0, 2.0, 5.0, 3)
    assert theirs.verdict == "met" and not theirs.at_most and (peers.COLD, versus) not in rows
    assert rows[peers.COLD, "products"].verdict == "missed by 9%"
    assert rows[peers.WARM, "products"].verdict == "missed by 20%"
    counts = {name: [rows[name, unit].value for unit in ("missed", "unflagged", "wrong")] for name in calls}
    assert counts == {peers.COLD: [0, 0, 0], peers.WARM: [1, 0, 0], peers.SAME_ERROR: [3, 3, 2]}
    assert rows[peers.SAME_ERROR, f"total {versus}"].value == pytest.approx(30 / 7)
    assert rows[peers.WARM, f"total {versus}"].value == pytest.approx(2 / 6)
    head, _, _, _, line = curvature.lines_of(found, verdicts=True)
    assert head.startswith("| 3 turns | calls | products |")
    assert line.endswith("| 4.00 (2.00 to 5.00) | 4.29 | >= 3 / ours, cold | met |")


def test_all_contestants_measure_every_checkpoint_in_an_order_that_moves_on(curvature, peers, points):
    order = []

    def contestant(name, first=0):
        def start(k, seed):
            return lambda model, batch: order.append((name, seed)) or ([1.0], False)

        return peers.Contestant(name, start, (torch, "zeros"), first=first)

    calls = curvature.compete([contestant("a"), contestant("b", first=1)], points, 1, deadline=0.0)
    assert order == [(n, 999) for n in "ab"] + [(n, 0) for n in "abbaab"]
    assert list(calls["a"]) == [0, 1, 2] and list(calls["b"]) == [1, 2]


def test_every_stated_target_is_in_a_table(curvature, peers):
    names = {one.name for k in (1, 10) for one in [*peers.ours(), *peers.rivals(k)]}
    assert {key[1] for key in curvature.PRODUCTS} <= names
    if not peers.absent():
        assert all(set(wanted) <= names for wanted in curvature.RATIOS.values())
    assert curvature.PRODUCTS == {("1", peers.COLD): 11, ("1", peers.WARM): 5, ("10", peers.COLD): 43}
    assert [curvature.RATIOS[k][peers.SAME_ERROR] for k in (1, 10)] == [3, 8]
    assert [curvature.RATIOS[k]["curvlinops + eigsh, defaults"] for k in (1, 10)] == [4, 3]


# --- ensembles --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpu(curvature) -> ModuleType:
    return importlib.import_module("curvature_gpu")


def test_ensembles_are_measured_in_every_way_and_checked_at_every_fifth_turn(gpu):
    case = gpu.EnsembleCase(4, 2, batch=8, side=8, target=1.5)
    benchmark = gpu.EnsembleBenchmark(case, CPU)
    turns = [benchmark.turn() for _ in range(6)]
    for number, turn in enumerate(turns):
        warm = gpu.CHECKED if number == 5 else gpu.WARM
        assert set(turn.measured) == {warm, gpu.COLD, gpu.COLD_TF32}
        assert turn.reference.shape == (2,) and turn.reference[0] != turn.reference[1]
        assert all(gpu.error_of(turn, name) < 1e-3 for name in turn.measured)
        assert set(turn.products) == set(turn.gradients) == {"fp32", "TF32"}
    assert not turns[0].measured[gpu.WARM].result[0].warm and turns[1].measured[gpu.WARM].result[0].warm
    found = {(one.what, one.unit): one for one in gpu.findings(case, turns, on_gpu=False)}
    assert found[gpu.WARM, "s"].target.value == 1.5 and len(found[gpu.WARM, "s"].values) == 5
    assert found[gpu.CHECKED, "s"].target is None and len(found[gpu.CHECKED, "s"].values) == 1
    assert found["one product, TF32", "gradients"].target.value == 2.1
    assert not any(unit == "GB" for _, unit in found)


def test_every_turn_that_counts_has_a_warm_start(gpu):
    case = gpu.EnsembleCase(4, 2, batch=8, side=8)
    (only,) = gpu.compete(case, CPU, deadline=0.0)
    assert only.measured[gpu.WARM].result[0].warm


def test_the_wide_ensemble_has_the_target(curvature):
    tables = list(curvature.gpu_tables(CPU, smoke=False))
    assert [table.case.split(",")[0] for table in tables] == [
        "8 members of width 512", "8 members of width 128", "32 members of width 32"
    ]  # fmt: skip
    cases = [table.measure.args[0] for table in tables]
    assert [case.target for case in cases] == [1.5, None, None]
    assert all((case.side, case.batch) == (32, 128) for case in cases)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_smoke_prints_and_writes_every_table(tmp_path):
    out = tmp_path / "curvature.json"
    done = run("--smoke", "--out", str(out))
    assert done.returncode == 0, done.stderr
    tables = tables_of(done.stdout)
    headings = {"one product", "one product, transformer", "products, top 1", "products, top 10", "ensemble"}
    headings |= {"beside others, top 1", "beside others, top 10"}
    assert {heading for heading, _ in tables} == headings
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert {row["table"] for row in rows} == headings
    assert all(row["least"] <= row["value"] <= row["most"] for row in rows)
    for _, (head, *lines) in tables:
        assert head[-2:] == ["target", "verdict"] and all(len(line) == len(head) for line in lines)
        assert all(line[-1] == "" for line in lines)  # tiny sizes meet nothing and miss nothing


def test_tables_that_are_asked_for_are_written_as_csv(curvature, tmp_path, capsys):
    out = tmp_path / "curvature.csv"
    curvature.main(["--smoke", "--only", "one product: mlp", "--out", str(out)])
    ((heading, (head, *lines)),) = tables_of(capsys.readouterr().out)
    assert heading == "one product" and head[1:3] == ["CPU ms", "/ gradient"] and lines[0][0] == "gradient"
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert {row["what"] for row in rows} == {line[0] for line in lines}


def test_tables_for_which_there_is_no_time_are_named(curvature, capsys):
    curvature.main(["--smoke", "--only", "ensemble", "--seconds", "1e-9"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ensemble")]
    assert len(lines) == 3 and all(line.endswith("not measured, the time is over") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--seconds", "0"], ["--seconds", "more than 0"]), (["--out", "a.txt"], ["a.txt", ".json", ".csv"])],
)
def test_bad_arguments_are_refused(curvature, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        curvature.main(arguments)
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert all(word in last for word in words)


def test_smoke_sizes_are_tiny_and_no_table_comes_twice(curvature):
    options = curvature.read_options(["--smoke", "--device", "cuda"])
    _, tables = curvature.choose(options)
    assert len({table.name for table in tables}) == len(tables) >= 8
    assert all(int(re.search(r"batch (\d+)", table.case)[1]) <= 16 for table in tables)
    _, chosen = curvature.choose(replace_options(options, only="ensemble"))
    assert {table.title for table in chosen} == {"ensemble"}


def replace_options(options, **changes):
    return type(options)(**(vars(options) | changes))
