"""One stage table from the tables of an artefact's jobs of scaled descent.

The series is the label of the network in the settings. Inputs: ``runs`` (list of tables).
"""

import pandas as pd

from featurespeed.homogeneous.spec import DescentSweepSpec
from featurespeed.pipeline.registry import spec_type
from featurespeed.pipeline.stage import Task, run_stage
from featurespeed.records import frame, read_table


def main(spec: DescentSweepSpec, task: Task) -> pd.DataFrame:
    """The rows of all jobs, in the order of the spec."""
    tables = task.by_name("runs")
    parts = [read_table(tables[job.run]).assign(series=label) for label, job in spec.jobs]
    return frame(pd.concat(parts, ignore_index=True))


if __name__ == "__main__":
    run_stage(main, spec_type)  # a room may have settings of its own
