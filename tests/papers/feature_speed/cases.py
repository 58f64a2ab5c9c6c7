"""Small stage tables of the first paper's figures, and what must hold of every figure made from one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from featurespeed.drawing import making
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from featurespeed.records import frame
from tests.papers.cases import STYLE, drawing_of, points_of


def record(**changes) -> dict:
    base = {
        "series": "beta=1", "branch_scale": 1.0, "width": 16, "depth": 8, "input_dim": 4, "output_dim": 1, "layer": 7,
        "seed": 0, "estimator": "jvp", "quantity": "bfa", "value": 0.5,
    }  # fmt: skip
    return base | changes


def angle_records(places: list[dict], seeds: int = 8) -> pd.DataFrame:
    """Random angles of every estimator at every place (keys of the stage table)."""
    generator = np.random.default_rng(3)
    counts = {"jvp": 2, "finite step": 2, "sampler": seeds, "theory": 1}
    rows = []
    for place, (estimator, count) in itertools.product(places, counts.items()):
        values = generator.uniform(0.2, 1.4, size=count)
        rows += [record(**place, estimator=estimator, seed=seed, value=v) for seed, v in enumerate(values)]
    return frame(rows)


def planted(rows: list[dict], **common) -> pd.DataFrame:
    """Records of sampled angles at the size of Figure 1, where ``rows`` say nothing else."""
    base = {"branch_scale": 1.0, "width": 200, "depth": 200, "input_dim": 10, "output_dim": 1, "layer": 199}
    return frame(base | {"estimator": "sampler", "quantity": "bfa"} | common | row for row in rows)


def assert_made_in_all_formats(artefact: str, records: pd.DataFrame, folder: Path) -> None:
    """The artefact comes out in all formats, undated, whatever the order of the records."""
    drawing, points = drawing_of(artefact), points_of(artefact)
    paths = {kind: folder / f"a.{kind}" for kind in ("pdf", "svg", "png")}
    making.make(drawing, (records, *points), folder / "a.csv", paths, STYLE)
    assert tuple(pd.read_csv(folder / "a.csv").columns) == ARTEFACT_COLUMNS
    assert paths["pdf"].read_bytes().startswith(b"%PDF") and b"CreationDate" not in paths["pdf"].read_bytes()
    assert b"<svg" in paths["svg"].read_bytes() and b"<dc:date>" not in paths["svg"].read_bytes()
    assert Image.open(paths["png"]).size == tuple(round(200 * inches) for inches in drawing.size)
    # The order of the records is nobody's business.
    write_csv(drawing.tabulate(records.sample(frac=1, random_state=1), *points), folder / "b.csv")
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
