"""Figures and tables of arXiv:2311.18718: one artefact from its stage table to CSV, PDF, SVG and PNG.

Reads the long stage table of one artefact and the points read off the paper's figures. The CSV is written first and the
figure is drawn from what was written, so the file holds exactly what is drawn.

Inputs: ``table`` (Parquet), ``published`` (CSV), and ``style`` unless it is the one beside this script. Outputs:
``table``, ``pdf``, ``svg``, ``png``. Parameter: ``artefact``.
"""

from pathlib import Path

from featurespeed.figures import fsf_draw, fsf_tables
from featurespeed.figures.making import Drawing, make_outputs
from featurespeed.published import read_published
from featurespeed.records import read_table
from featurespeed.stage import Task, run_task

STYLE = Path(__file__).resolve().with_name("figures.mplstyle")

FIGURES: dict[str, Drawing] = {
    "fsf_fig1a": Drawing(fsf_tables.tabulate_fig1a, fsf_draw.draw_fig1a, (7.2, 4.6)),
    "fsf_fig1b": Drawing(fsf_tables.tabulate_fig1b, fsf_draw.draw_fig1b, (7.2, 4.6)),
    "fsf_fig1c": Drawing(fsf_tables.tabulate_fig1c, fsf_draw.draw_fig1c, (7.2, 4.6)),
    "fsf_fig2a": Drawing(fsf_tables.tabulate_fig2a, fsf_draw.draw_fig2a, (7.6, 4.2)),
    "fsf_fig2b": Drawing(fsf_tables.tabulate_fig2b, fsf_draw.draw_fig2b, (7.6, 4.0)),
    "fsf_table1": Drawing(fsf_tables.tabulate_table1, fsf_draw.draw_scaling_table, (9.0, 8.6)),
    "fsf_table2": Drawing(fsf_tables.tabulate_table2, fsf_draw.draw_scaling_table, (9.0, 3.6)),
    "fsf_theory": Drawing(fsf_tables.tabulate_theory, fsf_draw.draw_theory_figure, (9.0, 3.6)),
}


def main(task: Task) -> None:
    """Make the artefact that the parameters name."""
    sources = read_table(task.inputs["table"]), read_published(task.inputs["published"])
    make_outputs(FIGURES[task.params["artefact"]], sources, task.outputs, task.inputs.get("style", STYLE))


if __name__ == "__main__":
    run_task(main)
