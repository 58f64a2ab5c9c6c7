"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

PART = ".part-"  # how the names of unfinished files and folders begin


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the name `path` at the end, or vanishes on an error.

    The suffix stays, because programs choose the format by it, and so does the folder, so that relative links hold.
    What a killed writer of the same file has left behind is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".part-*-{escape(path.name)}"):
        stale.unlink(missing_ok=True)
    part = path.with_name(f"{PART}{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def remove_parts(folder: Path | str) -> None:
    """Remove what killed processes left unfinished anywhere under `folder`."""
    for part in list(Path(folder).rglob(f"{PART}*")):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
