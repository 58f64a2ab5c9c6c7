"""Jobs that go on after a kill: where such a job keeps what it has done, until it has ended well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from featurespeed.machine.locks import held_lock
from featurespeed.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Resumable:
    """What is kept of one job while it runs.

    Attributes:
        folder: of all that the job needs after a kill.
        checkpoint: a file in it.
        seconds: between two saves.
    """

    folder: Path
    checkpoint: Checkpoint
    seconds: float


@contextmanager
def resumable(folder: Path, identity: str, at_end: ExitStack) -> Iterator[Resumable]:
    """The folder of a job, for this process alone until ``at_end`` is unwound; then it goes, if the job has ended well.

    Args:
        folder: outside the outputs of a rule, which are deleted before a rule runs again.
        identity: of the job: settings, code and inputs.
        at_end: unwound once the table of the job is written.
    """
    at_end.callback(_remove_if_empty, folder.parent)
    # A job that has outlived its killed workflow may still be at work on the same files.
    at_end.enter_context(held_lock(folder.with_name(f"{folder.name}.lock")))
    minutes = float(os.environ.get("FEATURESPEED_CHECKPOINT_MINUTES", "10"))
    yield Resumable(folder, Checkpoint(folder / "state.pt", identity), 60.0 * minutes)
    at_end.callback(shutil.rmtree, folder, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    """The folder of all checkpoints goes with the last job."""
    with suppress(OSError):
        folder.rmdir()
