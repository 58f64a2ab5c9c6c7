"""Gathering: the rows of every job, labelled by the networks that ask for it."""

from __future__ import annotations

import pandas as pd
import pytest

from featurespeed.errors import UserError
from featurespeed.pipeline.stage import Task
from featurespeed.records import frame, read_table, write_table
from featurespeed.sweeps.spec import SweepSpec
from featurespeed.training.curvature_operations import split_by_seeds
from tests.conftest import load_script
from tests.sweeps.spec_cases import NETWORK, SWEEP


def row(run: str, quantity: str, value: float) -> dict[str, object]:
    return {
        "run_id": run, "series": run, "width": 4, "depth": 2, "input_dim": 64, "output_dim": 10, "seed": 0,
        "estimator": "training", "quantity": quantity, "value": value,
    }  # fmt: skip


def test_gathering_labels_the_rows_of_every_job(tmp_path):
    networks = {"one": NETWORK, "again": NETWORK, "other": NETWORK | {"parameterization": "NTP"}}
    spec = SweepSpec.model_validate(SWEEP | {"networks": networks})
    inputs: dict[str, list] = {"records": [], "curvature": []}
    for place, found in enumerate(spec.measurements):
        run = found.training.run
        for kind, name, quantity in (("records", run, "training_loss"), ("curvature", found.name, "sharpness")):
            inputs[kind].append(tmp_path / kind / f"{name}.parquet")
            write_table(frame([row(run, quantity, float(place))]), inputs[kind][-1], {})
    table = load_script("gather").main(spec, Task(inputs, {}))
    counts = table.groupby(["series", "quantity"]).size()
    assert counts.to_dict() == {(label, q): 2 for label in networks for q in ("training_loss", "sharpness")}
    assert table[table["series"] == "one"]["run_id"].tolist() == table[table["series"] == "again"]["run_id"].tolist()
    assert isinstance(read_table(inputs["records"][0]), pd.DataFrame)


def test_what_was_measured_in_parts_is_gathered_whole_and_in_order(tmp_path):
    """A table for each seed; those of a network that another artefact measures otherwise are left out."""
    spec = SweepSpec.model_validate(SWEEP | {"networks": {"one": NETWORK}})
    changed = spec.model_copy(update={"curvature": spec.curvature.model_copy(update={"images": 32})})
    inputs: dict[str, list] = {"records": [], "curvature": []}

    def write(kind: str, name: str, quantity: str, **values) -> None:
        inputs[kind].append(tmp_path / kind / f"{name}.parquet")
        write_table(frame([row(name, quantity, 1.0) | values]), inputs[kind][-1], {})

    for whole, other in zip(spec.measurements, changed.measurements, strict=True):
        write("records", whole.training.run, "training_loss")
        for part in split_by_seeds(whole, 1.0):
            write("curvature", part.name, "sharpness", seed=part.seeds[0])
        write("curvature", other.name, "sharpness", seed=77)
    table = load_script("gather").main(spec, Task(inputs, {}))
    found = table[table["quantity"] == "sharpness"]
    assert len(table) == len(spec.jobs) * (1 + spec.seeds)
    assert found["seed"].tolist() == [*range(spec.seeds)] * len(spec.jobs)


@pytest.mark.parametrize("lacking", ["records", "curvature"])
def test_a_table_that_is_missing_is_named(tmp_path, lacking):
    """Curvature, too: without it the table of the stage would be a part of itself."""
    spec = SweepSpec.model_validate(SWEEP | {"networks": {"one": NETWORK}})
    measurement = spec.measurements[-1]
    names = {"records": measurement.training.run, "curvature": measurement.name}
    inputs: dict[str, list] = {"records": [], "curvature": []}
    for found in spec.measurements:
        for kind, name in (("records", found.training.run), ("curvature", found.name)):
            inputs[kind].append(tmp_path / kind / f"{name}.parquet")
            write_table(frame([row(name, "training_loss", 1.0)]), inputs[kind][-1], {})
    inputs[lacking].pop()
    with pytest.raises(UserError, match=f"^--input {lacking}=FOLDER/{names[lacking]}.parquet is needed$"):
        load_script("gather").main(spec, Task(inputs, {}))
