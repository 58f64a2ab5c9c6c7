"""Checkpoints: all that a job needs to go on after it was killed, in one file that is replaced in one move."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from featurespeed.machine.files import atomic_path


class Checkpoint:
    """A file that holds the state of one job, and for which job it is.

    Args:
        path: of the file; outside the outputs of a rule, which are deleted before a rule runs again.
        identity: of the job: settings, data and code. The file of another job is not read.
    """

    def __init__(self, path: Path, identity: str):
        self.path, self.identity = Path(path), identity

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file; a kill at any moment leaves the old one or the new one, whole."""
        with atomic_path(self.path) as part, part.open("wb") as file:
            torch.save({"identity": self.identity, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())

    def load(self) -> dict[str, Any] | None:
        """The state of this job, or None if there is none; the file of another job, or one not readable, is removed."""
        if not self.path.exists():
            return None
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
            identity, state = stored["identity"], stored["state"]
        except Exception as error:  # whatever is wrong with the file, the job can start afresh
            print(f"{self.path}: not readable ({type(error).__name__}), the job starts anew", flush=True)
            identity, state = None, None
        if identity == self.identity:
            return state
        self.remove()
        return None

    def remove(self) -> None:
        """The job has ended."""
        self.path.unlink(missing_ok=True)
