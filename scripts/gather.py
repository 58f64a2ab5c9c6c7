"""One stage table from the tables of an artefact's training jobs: their records, and the curvature along them.

The series is the label of the network in the settings. Inputs: ``records`` and ``curvature`` (lists of tables), one of
each for a job, or several of curvature that hold some seeds each.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from featurespeed.pipeline.registry import spec_type
from featurespeed.pipeline.stage import Task, run_stage
from featurespeed.records import frame, read_table
from featurespeed.sweeps.spec import SweepSpec


def curvature_tables(spec: SweepSpec, task: Task) -> dict[str, list[Path]]:
    """Training job -> the tables of what was measured along it; UserError where there are none."""
    tables, found = task.by_name("curvature"), {}
    for measurement in spec.measurements:
        own = [path for name, path in tables.items() if measurement.is_named(name)]
        found[measurement.training.run] = own or [tables[measurement.name]]  # to ask for what is missing tells its name
    return found


def main(spec: SweepSpec, task: Task) -> pd.DataFrame:
    """The rows of all jobs, in the order of the spec: first what training recorded, then what was measured."""
    records, measured = task.by_name("records"), curvature_tables(spec, task)

    def tables() -> Iterator[pd.DataFrame]:
        for label, run in spec.jobs:
            for path in (records[run.run], *measured[run.run]):
                yield read_table(path).assign(series=label)

    return frame(pd.concat(tables(), ignore_index=True))


if __name__ == "__main__":
    run_stage(main, spec_type)  # a room may have settings of its own
