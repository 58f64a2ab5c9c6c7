"""Figures and tables of arXiv:2402.17457: one artefact from its stage table to CSV, PDF, SVG and PNG.

Reads the long stage table of one artefact. The CSV is written first and the figure is drawn from what was written, so
the file holds exactly what is drawn.

Inputs: ``table`` (Parquet), and ``style`` unless it is the one beside this script. Outputs: ``table``, ``pdf``,
``svg``, ``png``. Parameter: ``artefact``.
"""

from pathlib import Path

from featurespeed.figures import (
    sc_bridge_draw,
    sc_bridge_tables,
    sc_curvature_draw,
    sc_curvature_tables,
    sc_draw,
    sc_edge_draw,
    sc_edge_tables,
    sc_spectra_draw,
    sc_spectra_tables,
    sc_tables,
    sc_theory_draw,
    sc_theory_tables,
    sc_transfer_draw,
    sc_transfer_tables,
)
from featurespeed.figures.making import Drawing, make_outputs
from featurespeed.records import read_table
from featurespeed.stage import Task, run_task

STYLE = Path(__file__).resolve().with_name("figures.mplstyle")

FIGURES: dict[str, Drawing] = {
    "sc_fig28": Drawing(sc_tables.tabulate_fig28, sc_draw.draw_fig28, (10.6, 11.4)),
    "sc_table1": Drawing(sc_tables.tabulate_table1, sc_draw.draw_table1, (9.0, 10.6)),
    "sc_sharpness_methods": Drawing(
        sc_curvature_tables.tabulate_sharpness_methods, sc_curvature_draw.draw_sharpness_methods, (11.4, 7.4)
    ),
    "sc_fig01": Drawing(sc_transfer_tables.tabulate_fig01, sc_transfer_draw.draw_fig01, (11.4, 6.6)),
    "sc_fig02": Drawing(sc_spectra_tables.tabulate_fig02, sc_spectra_draw.draw_fig02, (11.4, 6.0)),
    "sc_fig03": Drawing(sc_spectra_tables.tabulate_fig03, sc_spectra_draw.draw_fig03, (12.0, 6.0)),
    "sc_fig05": Drawing(sc_theory_tables.tabulate_fig05, sc_theory_draw.draw_fig05, (11.4, 8.6)),
    "sc_fig09": Drawing(sc_edge_tables.tabulate_fig09, sc_edge_draw.draw_fig09, (10.6, 3.6)),
    "sc_fig10": Drawing(sc_theory_tables.tabulate_fig10, sc_theory_draw.draw_fig10, (11.4, 9.0)),
    "sc_fig11": Drawing(sc_edge_tables.tabulate_fig11, sc_edge_draw.draw_fig11, (11.0, 3.9)),
    "sc_fig23": Drawing(sc_spectra_tables.tabulate_fig23, sc_spectra_draw.draw_fig23, (11.6, 5.6)),
    "sc_fig24": Drawing(sc_transfer_tables.tabulate_fig24, sc_transfer_draw.draw_fig24, (11.4, 6.6)),
    "sc_fig26": Drawing(sc_transfer_tables.tabulate_fig26, sc_transfer_draw.draw_fig26, (11.4, 6.6)),
    "sc_fig27": Drawing(sc_edge_tables.tabulate_fig27, sc_edge_draw.draw_fig27, (11.4, 3.8)),
    "sc_bridge": Drawing(sc_bridge_tables.tabulate_bridge, sc_bridge_draw.draw_bridge, (12.6, 8.6)),
    "sc_theory": Drawing(sc_theory_tables.tabulate_theory, sc_theory_draw.draw_theory, (11.4, 7.4)),
}


def main(task: Task) -> None:
    """Make the artefact that the parameters name."""
    sources = (read_table(task.inputs["table"]),)
    make_outputs(FIGURES[task.params["artefact"]], sources, task.outputs, task.inputs.get("style", STYLE))


if __name__ == "__main__":
    run_task(main)
