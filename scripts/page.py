"""The page of a run: every figure, claim and setting of ``results/<scale>/`` in one self-contained HTML file.

Inputs: ``claims``, ``sensitivity``, ``published``, ``template``, and lists of ``tables``, ``figures`` (PNG or SVG,
embedded), ``stages``, ``sidecars`` and, where there are any, ``notebook``, ``kept`` (the ledgers of other scales that
are kept) and ``record`` (which commit fixed each criterion). Output: ``page``. Parameters: ``scale`` and, if there are
any, ``jobs``: artefact -> names of the jobs that trained and measured for it.
"""

from pathlib import Path

from featurespeed.pipeline.page import PageInputs, gather, render
from featurespeed.pipeline.stage import Task, run_task
from featurespeed.records import read_table


def main(task: Task) -> None:
    """Gather, render, write."""
    several = {name: task.files(name) for name in ("tables", "figures", "stages", "sidecars")}
    ledgers = {name: task.inputs[name] for name in ("claims", "sensitivity", "published")}
    optional = {"record": next(iter(task.files("record")), None), "kept": task.files("kept")}
    inputs = PageInputs(
        **ledgers, notebooks=task.files("notebook"), jobs=task.params.get("jobs", {}), **several, **optional
    )
    page = task.outputs["page"]
    content = gather(inputs, page, task.params["scale"], read_table)
    template = Path(task.inputs["template"]).read_text(encoding="utf-8")
    page.write_text(render(template, content), encoding="utf-8")


if __name__ == "__main__":
    run_task(main)
