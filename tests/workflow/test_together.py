"""Several small jobs in one process: each has its log, and whoever asks for one alone repeats nothing."""

from __future__ import annotations

import pytest

from featurespeed.pipeline.registry import ARTEFACTS
from tests.conftest import run_snakemake
from tests.workflow.test_workflow import jobs_of, smoke_config


def test_every_job_has_a_log_of_its_own(smoke_run):
    config, logs = smoke_config(), smoke_run.directory / "logs/smoke"
    expected = {
        "figures": [name for name, artefact in ARTEFACTS.items() if artefact.drawn],
        "train": config.training_runs(),
        "sharpness": config.sharpness_runs(),
        "descent": config.descents(),
    }
    for folder, names in expected.items():
        assert {path.stem for path in (logs / folder).iterdir()} == set(names)
    for name, artefact in ARTEFACTS.items():
        assert (logs / artefact.stage / f"{name}.log").is_file()


@pytest.mark.parametrize("target", ["sc_fig24", "beos_fig2", "results/smoke/stages/sc_fig24.parquet", "sc"])
def test_whoever_asks_for_a_part_of_what_is_made_repeats_nothing(smoke_run, target):
    done = run_snakemake("-n", "--config", "scale=smoke", "--", target, directory=smoke_run.directory)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_long_jobs_stay_alone(snakemake):
    """At the scales of GPUs one job that fails takes no other along."""
    rules = set(jobs_of(snakemake("-n", "--config", "scale=gpu")))
    assert {"gather", "sc_fig24", "train"} <= rules
    assert not [rule for rule in rules if rule.startswith("figures_")]


def test_a_figure_that_is_asked_for_comes_without_those_beside_it(snakemake):
    jobs = jobs_of(snakemake("-n", "--config", "scale=smoke", "--", "sc_fig24", "sc_fig26"))
    assert {rule for rule in jobs if rule.startswith(("sc_", "figures_"))} == {"sc_fig24", "sc_fig26"}
    assert jobs["gather"] == 2
