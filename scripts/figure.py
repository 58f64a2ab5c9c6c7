"""Any figure: one artefact from its stage table to CSV, PDF, SVG and PNG.

Reads the long stage table of one artefact and, where its room has some, the points read off the published figure. The
room's functions make the artefact table and draw it. The CSV is written first and the figure is drawn from what was
written, so the file holds exactly what is drawn.

Inputs: ``table`` (Parquet), and ``style`` unless it is the one beside this script. Outputs: ``table``, ``pdf``,
``svg``, ``png``. Parameter: ``artefact``.
"""

from pathlib import Path

from featurespeed.drawing.making import Drawing, make_outputs
from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF
from featurespeed.pipeline.stage import Task, run_task
from featurespeed.records import read_table

STYLE = Path(__file__).resolve().with_name("figures.mplstyle")


def main(task: Task) -> None:
    """Make the artefact that the parameters name."""
    name = task.params.get("artefact")
    if name not in ARTEFACTS or not ARTEFACTS[name].drawn:
        drawn = ", ".join(artefact.id for artefact in ARTEFACTS.values() if artefact.drawn)
        raise SystemExit(f"figure.py: artefact = {name!r}: unknown or without a figure, allowed: {drawn}")
    artefact, room = ARTEFACTS[name], ROOM_OF[name]
    drawing = Drawing(room.function(artefact.tables), room.function(artefact.drawing), artefact.size)
    points = [room.folder / artefact.points] if artefact.points else []
    make_outputs(drawing, (read_table(task.inputs["table"]), *points), task.outputs, task.inputs.get("style", STYLE))


if __name__ == "__main__":
    run_task(main)
