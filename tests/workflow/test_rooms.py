"""A room is added, or edited: what follows from it, and nothing else, is made."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd
import pytest
import yaml

from featurespeed.pipeline.config import rooms_together
from tests.conftest import run_snakemake
from tests.workflow.test_workflow import STAGES, jobs_of

ARTEFACTS = """
    from featurespeed.papers.entries import Artefact
    from featurespeed.papers.super_consistency.added.spec import AddedSpec

    ARTEFACTS = (
        Artefact(
            id="sc_added", title="An added figure", place="Figure 99", shows="what a test has added", stage="added",
            spec=AddedSpec, tables="tables:tabulate", drawing="drawing:draw", reading="As it is.", settings=(),
            gpu=False,
        ),
    )
"""
SPEC = """
    from featurespeed.values import Spec


    class AddedSpec(Spec):
        artefact: str
        width: int
        seed: int
"""
STAGE = """
    from featurespeed.papers.super_consistency.added.spec import AddedSpec
    from featurespeed.pipeline.stage import run_stage
    from featurespeed.records import frame


    def main(spec):
        row = {"series": "one", "width": spec.width, "depth": 3, "input_dim": 1, "output_dim": 1, "seed": spec.seed}
        return frame([row | {"estimator": "theory", "quantity": "sharpness", "step": k, "value": k} for k in (1, 2)])


    if __name__ == "__main__":
        run_stage(main, AddedSpec)
"""
TABLES = """
    from featurespeed.drawing.tabulate import artefact_table, draws


    def tabulate(records):
        return artefact_table(draws(records, "step", "draws"))
"""
DRAWING = """
    def draw(table, figure):
        figure.add_subplot().plot(table["x"], table["y"])
"""


@pytest.fixture
def added(checkout: Path) -> Path:
    """The copy with one more room, its stage and its block in the configuration."""
    room = checkout / "featurespeed/papers/super_consistency/added"
    (room / "captions").mkdir(parents=True)
    files = {"__init__": "", "artefacts": ARTEFACTS, "spec": SPEC, "tables": TABLES, "drawing": DRAWING}
    for name, text in files.items():
        (room / f"{name}.py").write_text(textwrap.dedent(text))
    (room / "captions/sc_added.rst").write_text("An added figure.\n")
    (checkout / "scripts/added.py").write_text(textwrap.dedent(STAGE))
    config = checkout / "config.yaml"
    config.write_text(config.read_text() + yaml.safe_dump({"sc_added": {"width": 8, "seed": 1}}))
    return checkout


def test_a_room_and_its_settings_are_enough_for_a_figure(added, tmp_path):
    command = ("--cores", "1", "--config", "scale=smoke", "--", "sc_added")
    done = run_snakemake(*command, directory=tmp_path / "run", sources=added)
    assert done.returncode == 0, done.stderr[-3000:]
    results = tmp_path / "run/results/smoke"
    assert pd.read_csv(results / "tables/sc_added.csv")["y"].tolist() == [1, 2]
    assert all((results / f"figures/sc_added.{kind}").stat().st_size for kind in ("pdf", "svg", "png"))
    assert (results / "stages/sc_added.run.json").is_file()


def company_of(room: str) -> str:
    """The rule that draws a room at scale smoke, with others."""
    found = [name for name, rooms in rooms_together("paper").items() if room in {one.name for one in rooms}]
    return f"figures_{found[0]}"


def test_an_added_room_repeats_no_stage_of_another_and_no_figure_of_another_paper(added, smoke_run):
    """At scale smoke the figures of a paper are drawn by few processes, among which rooms are divided anew."""
    done = run_snakemake("-n", "--config", "scale=smoke", directory=smoke_run.directory, sources=added)
    assert done.returncode == 0, done.stderr
    figures = {rule for rule in jobs_of(done) if rule.startswith("figures_")}
    assert set(jobs_of(done)) - figures == {"added", "claims", "page", "all"}
    assert figures and all(rule.startswith("figures_sc_") for rule in figures)


def test_an_added_room_is_drawn_alone_where_rooms_are(added, tmp_path):
    done = run_snakemake("-n", "--config", "scale=laptop", directory=tmp_path, sources=added)
    assert done.returncode == 0, done.stderr
    assert {"sc_added", "figures_sc_adam"} < set(jobs_of(done))


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        ("edge/drawing.py", {company_of("sc_edge"), "page"}),
        ("edge/tables.py", {company_of("sc_edge"), "page"}),
        ("edge/claims.py", {"claims", "page"}),
        ("edge/claims.yaml", {"claims", "page"}),
        ("edge/captions/sc_fig09.rst", set()),
    ],
)
def test_an_edit_in_a_room_repeats_what_follows_from_it(checkout, smoke_run, file, rules):
    path = checkout / "featurespeed/papers/super_consistency" / file
    comment = "#" if path.suffix in (".py", ".yaml") else ".."
    path.write_text(f"{path.read_text()}\n{comment} an edit\n")
    done = run_snakemake("-n", "--config", "scale=smoke", directory=smoke_run.directory, sources=checkout)
    assert done.returncode == 0, done.stderr
    assert set(jobs_of(done)) - {"all"} == rules and not rules & STAGES
