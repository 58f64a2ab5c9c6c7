"""Locks that the kernel gives back when a process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WAIT_SECONDS = 0.5
ATTEMPTS = 100  # to make a file in a folder that others remove when it is empty

_held: list[int] = []  # descriptors that stay open, and locked, as long as this process lives


def try_lock(path: Path) -> int | None:
    """An open descriptor that holds the lock on `path` alone, or None if another process holds it."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _opened(path: Path) -> int:
    """A descriptor of a file, which is made with its folder; another process may remove that while it is empty."""
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError, FileExistsError):  # the latter of a folder that went while it was looked at
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


@contextmanager
def held_lock(path: Path) -> Iterator[None]:
    """Hold the lock on `path` alone, waiting for another process to give it back; the file goes at the end."""
    descriptor = _take_lock(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take_lock(path: Path) -> int:
    while True:
        descriptor = try_lock(path)
        if descriptor is None:
            time.sleep(WAIT_SECONDS)
            continue
        # The file may have been removed, and made anew by a third process, between its opening and its locking.
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)


def clear_stale_locks(state: Path) -> bool:
    """Remove the workflow's lock files under `state` if the run that made them is dead; True if so.

    A workflow that is killed leaves its lock files behind. Every main process therefore holds a kernel lock on
    `state/main.lock` for life, shared with its like. Whoever can take it alone knows that no other run is alive on this
    machine; and if the last run was on this machine too, the lock files are stale. In doubt (another host's name in
    the file, none, or a file system without such locks) they stay, and `--unlock` is up to the user.
    """
    path, host = state / "main.lock", socket.gethostname()
    descriptor = try_lock(path)
    alone = descriptor is not None
    if alone:
        same_host = os.read(descriptor, 1024).decode(errors="replace").strip() == host
        stale = same_host and any((state / "locks").glob("*.lock"))
        if stale:
            shutil.rmtree(state / "locks")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, host.encode(), 0)
    else:
        stale, descriptor = False, os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _held.append(descriptor)
    except OSError:
        os.close(descriptor)
    return stale
