"""What a scale costs: operations against PyTorch's own count, shared jobs, schedules, the page, and faults."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from featurespeed.data.spec import DataSpec
from featurespeed.models.networks import build_network
from featurespeed.models.spec import ModelSpec
from featurespeed.parameterization import Parameterization
from featurespeed.pipeline import cost
from featurespeed.pipeline.config import ARTEFACTS, Config
from featurespeed.pipeline.cost import Job, makespan
from featurespeed.training.curvature_spec import CurvatureSpec, SharpnessSpec
from featurespeed.training.operations import gradient_flop, layers_of, layers_of_job
from featurespeed.training.spec import TrainingSpec
from tests.conftest import REPOSITORY

WIDTH, IMAGE, CLASSES, BATCH = 8, (3, 32, 32), 10, 4
MODELS = {
    "plain ConvNet": ModelSpec(kind="convnet", depth=3),
    "plain ConvNet, pooled readout, seldom halved": ModelSpec(
        kind="convnet", depth=5, pool_every=3, readout="pooled", smallest_side=16
    ),
    "strided ConvNet": cost.MEASURED_MODELS[True],
    "residual ConvNet": ModelSpec(kind="convnet", depth=7, tau=1),
    "residual ConvNet, two layers a block": ModelSpec(kind="convnet", depth=3, tau=1, layers_per_block=2),
    "MLP": ModelSpec(kind="mlp", depth=3),
    "residual MLP": ModelSpec(kind="mlp", depth=2, tau=1),
    "linear": ModelSpec(kind="two_layer_linear", depth=1),
}


def training(**changes) -> TrainingSpec:
    """A small job, with some settings changed."""
    settings = {
        "run": "job", "data": DataSpec(name="digits"), "model": ModelSpec(kind="convnet", depth=2), "width": WIDTH,
        "parameterization": "MUP", "learning_rates": [0.1, 0.2], "seeds": 3, "batch_size": 16, "steps": 50,
        "probe_steps": [0, 10, 20, 30, 40, 50], "seed": 0,
    }  # fmt: skip
    return TrainingSpec(**settings | changes)


def curvature(**settings) -> CurvatureSpec:
    return CurvatureSpec(**{"quantities": ["sharpness"], "images": 16, "cold_every": 3} | settings)


# --- operations -------------------------------------------------------------------------------------------------------


def test_operations_of_a_two_layer_convnet_by_hand():
    layers = layers_of(MODELS["plain ConvNet"].model_copy(update={"depth": 2}), WIDTH, IMAGE, CLASSES)
    first, hidden, readout = 2 * 32**2 * 9 * 3 * 8, 2 * 16**2 * 9 * 8 * 8, 2 * 8 * 16**2 * 10
    assert [layer.forward for layer in layers] == [first, hidden, readout]
    assert gradient_flop(layers) == 2 * first + 3 * hidden + 3 * readout


@pytest.mark.parametrize("parameterization", [Parameterization.MUP, Parameterization.RANDOM_FEATURES])
@pytest.mark.parametrize("name", MODELS)
def test_operations_and_weights_are_those_of_the_network_itself(name, parameterization):
    model = MODELS[name]
    layers = layers_of(model, WIDTH, IMAGE, CLASSES, parameterization)
    network = build_network(model, WIDTH, parameterization, input_shape=IMAGE, classes=CLASSES).initialise([0])
    counter = FlopCounterMode(display=False)
    with counter:
        network(torch.randn(1, BATCH, *IMAGE)).sum().backward()
    assert [layer.weights for layer in layers] == [layer.weight[0].numel() for layer in network.weighted.values()]
    assert gradient_flop(layers) * BATCH == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_images_are_those_that_the_network_sees():
    layers = layers_of_job(training(data=DataSpec(name="cifar10", downscale=2)))
    assert [layer.multiply_adds // layer.weights for layer in layers] == [16**2, 8**2, 1]


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_training_costs_images_times_networks():
    run, full = training(), training(batch_size=None, data=DataSpec(name="digits", examples=500))
    assert cost.training_job(run).flop == 50 * 16 * 6 * gradient_flop(layers_of_job(run))
    assert cost.training_job(full).flop == 50 * 500 * 6 * gradient_flop(layers_of_job(full))


def test_weights_on_the_disk_are_those_of_every_network_and_probe_step():
    numbers = sum(layer.weights for layer in layers_of_job(training()))
    tables = cost.training_job(training(probe_steps=[])).bytes
    assert cost.training_job(training()).bytes - tables == 4 * numbers * 6 * 6
    adaptive = training(optimizer={"name": "adam"})
    assert cost.training_job(adaptive).bytes - tables == 2 * 4 * numbers * 6 * 6  # and the second moments
    whole = adaptive.model_copy(update={"keep_state": True})
    assert cost.training_job(whole).bytes - tables == 3 * 4 * numbers * 6 * 6  # and the first ones


def test_weights_are_kept_at_measured_rates_alone(laptop):
    run = training()
    one_network = 4 * 6 * sum(layer.weights for layer in layers_of_job(run))
    nothing, half, everything = (cost.training_job(run, kept).bytes for kept in ([], [0.2], None))
    assert (half - nothing, everything - nothing) == (3 * one_network, 6 * one_network)
    trained = {job.name: job for job in cost.jobs_of(laptop, "sc_fig01") if job.after is None}
    for name, run in laptop.training_runs("sc_fig01").items():
        measured = [spec.learning_rates for spec in laptop.sharpness_runs().values() if spec.training.run == name]
        rates = {rate for found in measured for rate in found}
        assert 0 < len(rates) < len(run.learning_rates)
        assert trained[name].bytes == cost.training_job(run, sorted(rates)).bytes < cost.training_job(run).bytes


def test_only_measured_networks_are_counted():
    all_of_them = cost.measuring_job(SharpnessSpec(training=training(), curvature=curvature()))
    half = cost.measuring_job(SharpnessSpec(training=training(), curvature=curvature(), learning_rates=[0.2]))
    assert half.flop == all_of_them.flop / 2
    assert half.after == "job"


def test_measured_speeds_come_out_at_their_own_networks():
    run = training(data=DataSpec(name="cifar10"), width=512, batch_size=128, steps=1000, learning_rates=[0.1], seeds=8)
    images = 1000 * 128 * 8
    assert cost.training_job(run).hours - cost.JOB_START == pytest.approx(images / 36_056 / 3600)
    between = cost.speed({32: 1.0, 128: 4.0, 512: 8.0}, 64)
    assert between == pytest.approx(2.0)
    assert cost.speed({32: 1.0, 128: 4.0, 512: 8.0}, 16) == pytest.approx(0.5)
    assert cost.speed({32: 1.0, 128: 4.0, 512: 8.0}, 4096) == 8.0


CHAIN = {"data": DataSpec(name="cifar10"), "model": cost.MEASURED_MODELS[True], "batch_size": 128}


def test_strided_chains_have_speeds_of_their_own():
    run = training(**CHAIN, width=512, steps=1000, learning_rates=[0.1 * 2**index for index in range(8)], seeds=5)
    assert cost.training_job(run).hours - cost.JOB_START == pytest.approx(1000 * 0.005386 / 3600, rel=1e-4)
    run = training(**CHAIN, width=1024, tf32="all", learning_rates=[0.1, 0.2, 0.4], seeds=5)
    warm = cost.hours(15 * 1024 * cost.PRODUCT * gradient_flop(layers_of_job(run)), "products", True, run)
    assert warm == pytest.approx(0.0566 / 3600)


def test_no_step_takes_less_than_one_of_a_small_network():
    tiny = training(width=2, steps=1000)
    assert cost.training_job(tiny).hours - cost.JOB_START == pytest.approx(1000 * cost.SHORTEST_STEP / 3600)


def test_full_precision_takes_longer_than_tf32():
    runs = [training(width=512, tf32=tf32, data=DataSpec(name="cifar10")) for tf32 in ("off", "train", "all")]
    off, train, everything = [cost.training_job(run).hours for run in runs]
    assert off > train == everything
    off, train, everything = [
        cost.measuring_job(SharpnessSpec(training=run, curvature=curvature())).hours for run in runs
    ]
    assert off == train > everything


def test_a_measurement_in_parts_costs_the_same_and_ends_earlier(laptop):
    parted = laptop.model_copy(update={"training": laptop.training.model_copy(update={"pflop_per_measurement": 1e-4})})
    whole, parts = cost.jobs_of(laptop, "sc_fig02"), cost.jobs_of(parted, "sc_fig02")
    assert len(parts) > len(whole)
    assert sum(job.flop for job in parts) == pytest.approx(sum(job.flop for job in whole))
    assert max(job.hours for job in parts if job.after) < max(job.hours for job in whole if job.after)
    assert makespan(parts, 64) < makespan(whole, 64)


# --- a scale ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laptop() -> Config:
    return cost.config_of("laptop")


def cells(table: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_shared_jobs_count_once_in_the_sum(laptop):
    own, both = cost.jobs_of(laptop, "sc_fig02"), cost.jobs_of(laptop)
    assert {job.name for job in own} == {job.name for job in cost.jobs_of(laptop, "sc_fig03")}
    names = [job.name for job in both]
    assert len(names) == len(set(names)) and {job.name for job in own} <= set(names)
    rows = cells(cost.markdown(laptop))
    assert list(rows)[:-1] == [name for name in ARTEFACTS if laptop.training_runs(name)]
    assert int(rows["sc_fig02"][0]) == int(rows["sc_fig03"][0]) == len(own)
    assert int(rows["all, each job once"][0]) == len(names) < sum(int(row[0]) for row in list(rows.values())[:-1])


def test_a_free_gpu_takes_the_longest_job():
    jobs = [Job(str(hours), 0.0, hours, 0.0) for hours in (2.0, 3.0, 4.0, 5.0, 6.0)]
    assert makespan(jobs, 1) == 20
    assert makespan(jobs, 2) == 11  # 6, 3, 2 beside 5, 4
    assert makespan(jobs, 64) == 6
    assert makespan([], 8) == 0


def test_a_measurement_waits_for_its_training():
    jobs = [Job("a", 0.0, 3.0, 0.0), Job("b", 0.0, 1.0, 0.0), Job("c", 0.0, 4.0, 0.0, after="b")]
    assert makespan(jobs, 2) == 5  # b first, for c waits for it, though a is longer
    assert makespan(jobs, 1) == 8
    assert makespan(jobs[2:], 1) == 4  # its weights are there already


# --- the command and the page -----------------------------------------------------------------------------------------


def test_the_page_holds_what_the_command_prints():
    page = (REPOSITORY / "docs/cost.md").read_text(encoding="utf-8")
    assert cost.rewrite(page) == page, "python -m featurespeed.pipeline.cost --write docs/cost.md"
    command = [sys.executable, "-m", "featurespeed.pipeline.cost", "--scale", "gpu"]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert f"<!-- cost: gpu -->\n{printed.stdout}<!-- end -->" in page
    assert "<!-- cost: paper -->" in page


def test_write_makes_a_page_anew(tmp_path, laptop):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- cost: laptop -->\nold\n<!-- end -->\nafter\n")
    cost.main(["--write", str(page)])
    table = cost.markdown(laptop)
    assert page.read_text() == f"before\n<!-- cost: laptop -->\n{table}<!-- end -->\nafter\n"


def test_a_users_settings_count(tmp_path, laptop, capsys):
    mine = tmp_path / "my.yaml"
    mine.write_text("sc_fig01: {seeds: 9}\n")
    cost.main(["--scale", "laptop", "--configfile", str(mine)])
    changed = cells(capsys.readouterr().out)["sc_fig01"]
    assert changed != cells(cost.markdown(laptop))["sc_fig01"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "pper"], ["scale", "pper", "paper"]),
        ([], ["--scale", "--write"]),
        (["--write", "absent.md"], ["absent.md"]),
        (["--write", "README.md"], ["marker"]),
        (["--scale", "paper", "--configfile", "absent.yaml"], ["absent.yaml"]),
        (["--scale", "paper", "--configfile", "docs"], ["docs", "directory"]),
        (["--scale", "paper", "--configfile", "Makefile"], ["Makefile", "not YAML"]),
        (["--scale", "paper", "--configfile", "docs/img/fsf_fig1a.png"], ["fsf_fig1a.png", "not UTF-8"]),
    ],
)
def test_faults_end_in_one_line(arguments, words, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as fault:
        cost.main(arguments)
    message = str(fault.value)
    assert len(message.splitlines()) == 1
    assert [word for word in words if word not in message] == []
