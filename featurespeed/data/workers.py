"""How many processes open image files beside the one that trains."""

from __future__ import annotations

import os

from featurespeed.data.content import DataError

WORKERS_VARIABLE = "FEATURESPEED_LOADER_WORKERS"
MOST_BY_DEFAULT = 16  # more only where the variable says so: on a large machine other jobs want cores, too


def loader_workers() -> int:
    """The number in FEATURESPEED_LOADER_WORKERS, else that of the cores of this process, at most 16; 0 starts none.

    Raises DataError, one line, if the variable is no such number.
    """
    text = os.environ.get(WORKERS_VARIABLE, "").strip()
    if not text:
        return min(_cores(), MOST_BY_DEFAULT)
    if not (text.isascii() and text.isdecimal()):
        raise DataError(f"{WORKERS_VARIABLE} = {text!r}: must be a whole number of processes, 0 or more")
    return int(text)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
