"""Figures and tables of arXiv:2402.17457: one artefact from its stage table to CSV, PDF, SVG and PNG.

Reads the long stage table of one artefact. The CSV is written first and the figure is drawn from what was written, so
the file holds exactly what is drawn.

Inputs: ``table`` (Parquet), and ``style`` unless it is the one beside this script. Outputs: ``table``, ``pdf``,
``svg``, ``png``. Parameter: ``artefact``.
"""

from pathlib import Path

from featurespeed.figures import sc_curvature_draw, sc_curvature_tables, sc_draw, sc_tables
from featurespeed.figures.making import Drawing, make
from featurespeed.records import read_table
from featurespeed.stage import Task, run_task

STYLE = Path(__file__).resolve().with_name("figures.mplstyle")

FIGURES: dict[str, Drawing] = {
    "sc_fig28": Drawing(sc_tables.tabulate_fig28, sc_draw.draw_fig28, (10.6, 11.4)),
    "sc_table1": Drawing(sc_tables.tabulate_table1, sc_draw.draw_table1, (9.0, 10.6)),
    "sc_sharpness_methods": Drawing(
        sc_curvature_tables.tabulate_sharpness_methods, sc_curvature_draw.draw_sharpness_methods, (11.4, 7.4)
    ),
}


def main(task: Task) -> None:
    """Make the artefact that the parameters name."""
    images = {kind: path for kind, path in task.outputs.items() if kind != "table"}
    sources = (read_table(task.inputs["table"]),)
    style = task.inputs.get("style", STYLE)
    make(FIGURES[task.params["artefact"]], sources, task.outputs["table"], images, style)


if __name__ == "__main__":
    run_task(main)
