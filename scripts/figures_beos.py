"""Figures and tables of arXiv:2502.13110: one artefact from its stage table to CSV, PDF, SVG and PNG.

Reads the long stage table of one artefact. The CSV is written first and the figure is drawn from what was written, so
the file holds exactly what is drawn.

Inputs: ``table`` (Parquet), and ``style`` unless it is the one beside this script. Outputs: ``table``, ``pdf``,
``svg``, ``png``. Parameter: ``artefact``.
"""

from pathlib import Path

from featurespeed.figures import (
    beos_bridge_draw,
    beos_bridge_tables,
    beos_cosines_draw,
    beos_curves_draw,
    beos_draw,
    beos_map_draw,
    beos_table1_draw,
    beos_tables,
    beos_taylor_draw,
    beos_taylor_tables,
)
from featurespeed.figures.making import Drawing, make_outputs
from featurespeed.records import read_table
from featurespeed.stage import Task, run_task

STYLE = Path(__file__).resolve().with_name("figures.mplstyle")

FIGURES: dict[str, Drawing] = {
    # Sizes but those of Figure 3 follow from the number of networks and scalings.
    "beos_fig1": Drawing(beos_tables.tabulate_fig1, beos_map_draw.draw_fig1, (13.0, 5.6)),
    "beos_fig2": Drawing(beos_tables.tabulate_fig2, beos_curves_draw.draw_fig2, (13.0, 9.0)),
    "beos_fig3": Drawing(beos_tables.tabulate_fig3, beos_draw.draw_fig3, (13.4, 6.2)),
    "beos_fig4": Drawing(beos_tables.tabulate_fig4, beos_cosines_draw.draw_fig4, (13.0, 8.0)),
    "beos_fig5": Drawing(beos_tables.tabulate_fig5, beos_curves_draw.draw_fig5, (13.0, 5.6)),
    "beos_fig6": Drawing(beos_taylor_tables.tabulate_taylor, beos_taylor_draw.draw_taylor, (12.4, 8.4)),
    "beos_bridge": Drawing(beos_bridge_tables.tabulate_beos_bridge, beos_bridge_draw.draw_beos_bridge, (12.6, 8.4)),
    "beos_table1": Drawing(beos_tables.tabulate_table1, beos_table1_draw.draw_table1, (16.0, 10.0)),
}


def main(task: Task) -> None:
    """Make the artefact that the parameters name."""
    sources = (read_table(task.inputs["table"]),)
    make_outputs(FIGURES[task.params["artefact"]], sources, task.outputs, task.inputs.get("style", STYLE))


if __name__ == "__main__":
    run_task(main)
