"""One stage table from the tables of an artefact's training jobs: their records, and the curvature along them.

Inputs: ``records`` and ``curvature`` (lists of tables).
"""

import pandas as pd

from featurespeed.records import read_table
from featurespeed.specs.curvature import SharpnessRunsSpec
from featurespeed.stage import Task, run_stage


def main(spec: SharpnessRunsSpec, task: Task) -> pd.DataFrame:
    """The rows of all jobs, in the order of the spec: first what training recorded, then what was measured."""
    runs = [run.run for run in spec.training_runs.values()]
    tables = [{path.stem: path for path in task.files(name)}[run] for run in runs for name in ("records", "curvature")]
    return pd.concat([read_table(path) for path in tables], ignore_index=True)


if __name__ == "__main__":
    run_stage(main, SharpnessRunsSpec)
