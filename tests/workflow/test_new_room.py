"""One more room, through the real workflow: it gets its figure, its ledger row, its section, and nothing else runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import copy_of_the_sources, run_snakemake

ROOM_FILES = {
    "__init__.py": '"""A room that a test makes."""\n',
    "spec.py": (
        "from featurespeed.sweeps.spec import SweepSpec\n"
        "from featurespeed.values import Positive\n\n\n"
        "class ScaledSpec(SweepSpec):\n    factor: Positive\n"
    ),
    "artefacts.py": (
        "from featurespeed.papers.entries import Artefact, Setting\n"
        "from featurespeed.papers.super_consistency.extra.spec import ScaledSpec\n\n"
        "ARTEFACTS = (\n    Artefact(\n"
        '        id="sc_extra", title="An extra figure", place="Figure 99", shows="the loss, scaled",\n'
        '        stage="gather", spec=ScaledSpec, tables="tables:tabulate", drawing="drawing:draw", size=(4.0, 3.0),\n'
        '        gpu=False, reading="The loss, scaled.", settings=(Setting("Factor", "1", "spec:factor"),),\n'
        "    ),\n)\n"
    ),
    "tables.py": (
        "from featurespeed.drawing.tabulate import artefact_table, summaries, median\n\n\n"
        "def tabulate(records):\n"
        '    factor = records.attrs["provenance"]["spec"]["factor"]\n'
        '    losses = records[records["quantity"] == "training_loss"]\n'
        '    scaled = losses.assign(value=factor * losses["value"])\n'
        '    return artefact_table(summaries(scaled, "step", "loss", median))\n'
    ),
    "drawing.py": 'def draw(table, figure):\n    figure.add_subplot().plot(table["x"], table["y"], ".")\n',
    "claims.py": (
        "from featurespeed.ledger.engine import Estimate, statistic\n\n\n"
        '@statistic("number of extra losses")\n'
        "def losses(tables):\n"
        '    count = float((tables["sc_extra"]["quantity"] == "training_loss").sum())\n'
        "    return Estimate(count, count, count, int(count))\n\n\n"
        '@statistic("number of extra losses, negative")\n'
        "def negative(tables):\n    return Estimate(-1.0, -1.0, -1.0, 1)\n"
    ),
    "claims.yaml": (
        "paper: arXiv:2402.17457\nclaims:\n\n"
        "- claim_id: sc_extra_losses\n  artefact: sc_extra\n  kind: ours\n  source: ours\n"
        "  statement: There are losses.\n  statistic: their number\n  compute: number of extra losses\n"
        "  threshold: {at_least: 1}\n"
        "  control: {compute: 'number of extra losses, negative', description: a negative number}\n"
    ),
    "tables.md": (
        "| artefact | panel | series | x | y |\n|---|---|---|---|---|\n| `sc_extra` | `loss` | width | step | loss |\n"
    ),
    "captions/sc_extra.rst": "An extra figure.\n",
}


@pytest.fixture(scope="session")
def with_room(smoke_run, tmp_path_factory) -> tuple[Path, Path]:
    """A copy of the sources with one more room, and a copy of the finished smoke run."""
    folder = tmp_path_factory.mktemp("with_room")
    copy_of_the_sources(folder / "checkout")
    shutil.copytree(smoke_run.directory, folder / "run")
    room = folder / "checkout/featurespeed/papers/super_consistency/extra"
    for name, text in ROOM_FILES.items():
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        (room / name).write_text(text)
    config = folder / "checkout/config.yaml"
    config.write_text(config.read_text() + "\nsc_extra: {like: sc_fig01, factor: 2}\n")
    return folder / "checkout", folder / "run"


def test_a_new_room_gets_its_figure_its_ledger_row_and_its_section(with_room):
    checkout, run = with_room
    done = run_snakemake("--cores", "2", "--config", "scale=smoke", directory=run, sources=checkout)
    assert done.returncode == 0, done.stderr[-3000:]
    results = run / "results/smoke"
    assert {path.suffix for path in (results / "figures").glob("sc_extra.*")} == {".pdf", ".svg", ".png"}
    table = pd.read_csv(results / "tables/sc_extra.csv")
    stage = pd.read_parquet(results / "stages/sc_extra.parquet")
    losses = stage[stage["quantity"] == "training_loss"]
    assert table["y"].max() == pytest.approx(2 * losses.groupby(["series", "step"])["value"].median().max(), rel=1e-5)
    ledger = pd.read_csv(results / "claims.csv").set_index("claim_id")
    assert ledger.loc["sc_extra_losses", ["artefact", "verdict"]].tolist() == ["sc_extra", "confirmed"]
    page = (results / "index.html").read_text()
    assert '<section id="sc_extra">' in page and "An extra figure" in page
    train = [line for line in done.stderr.splitlines() if re.match(r"(local)?rule (train|sharpness)", line)]
    assert train == []  # like sc_fig01: its jobs are there
    again = run_snakemake("-n", "--config", "scale=smoke", "--", "sc_extra", directory=run, sources=checkout)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_pages_and_targets_follow_a_new_room(with_room):
    checkout, _ = with_room
    call = [sys.executable, "-m", "featurespeed.pipeline.generate"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    before = subprocess.run([*call, "--check"], cwd=checkout, env=environment, capture_output=True, text=True)
    assert before.returncode == 1 and "README.md" in before.stderr and "workflow/targets.mk" in before.stderr
    subprocess.run(call, cwd=checkout, env=environment, check=True)
    for name in ("README.md", "docs/tables.md", "docs/coverage.md", "workflow/targets.mk", "docs/cost.md"):
        assert "sc_extra" in (checkout / name).read_text(), name
    assert '"factor"' in (checkout / "workflow/schemas/config.schema.json").read_text()
    after = subprocess.run([*call, "--check"], cwd=checkout, env=environment, capture_output=True, text=True)
    assert after.returncode == 0, after.stderr


def test_settings_of_a_room_are_checked_before_anything_runs(with_room, tmp_path):
    checkout, _ = with_room
    for change, words in (("sc_extra={factor: -1}", ["sc_extra.factor", "-1"]), ("sc_extra={facter: 2}", ["factor"])):
        done = run_snakemake("-n", "--config", "scale=smoke", change, directory=tmp_path, sources=checkout)
        assert done.returncode != 0 and all(word in done.stderr for word in words), done.stderr
