"""One data set, verified, as `<name>.npz` and `facts.json`: from a local folder, the network or an installed package.

The environment variable FEATURESPEED_DATA names the local folder, and FEATURESPEED_DATA_SHA256 (`cifar10=<hash>,...`)
allows content that is not known here. They are no parameters of the rule, so that a folder which has moved makes
nothing run again. See docs/data.md.

Outputs: `npz`, `facts`. Parameter: `dataset`.
"""

import os
from pathlib import Path

from featurespeed.data.content import DataError
from featurespeed.data.prepare import obtain, remove_downloads
from featurespeed.data.registry import DATASETS, DIGEST_VARIABLE, FOLDER_VARIABLE, parse_sha256
from featurespeed.data.store import write_facts, write_npz
from featurespeed.pipeline.stage import Task, run_task


def main(task: Task) -> None:
    """Bring the data set that the parameters name to where the outputs are."""
    name, npz = task.params["dataset"], task.outputs["npz"]
    folder, downloads = os.environ.get(FOLDER_VARIABLE), npz.parent / "downloads"
    try:
        if name not in DATASETS:
            raise DataError(f"dataset = {name!r}: unknown, allowed: {', '.join(DATASETS)}")
        allowed = parse_sha256(os.environ.get(DIGEST_VARIABLE, "")).get(name)
        arrays, facts = obtain(DATASETS[name], downloads, Path(folder) if folder else None, allowed)
    except ValueError as error:  # DataError, or a variable that is no list of hashes
        raise SystemExit(str(error)) from None
    write_npz(npz, DATASETS[name], arrays)
    write_facts(task.outputs["facts"], facts)
    remove_downloads(downloads)


if __name__ == "__main__":
    run_task(main)
