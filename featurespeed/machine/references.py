"""``FILE.py:name``: how settings and command lines name a function of a user's file."""

from __future__ import annotations

from pathlib import Path

from featurespeed.errors import UserError


def is_reference(text: str) -> bool:
    """Whether a text names a Python file, with a function or without one."""
    return text.endswith(".py") or ".py:" in text


def split_reference(argument: str, text: str, default: str) -> tuple[Path, str]:
    """File and name of ``FILE.py:name``; of ``FILE.py`` alone the name is the default.

    Raises:
        UserError: the text names no Python file.

    >>> split_reference("--data", "train.py:batches", "make_data")
    (PosixPath('train.py'), 'batches')
    """
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        file, name = text, default
    if not file.endswith(".py"):
        raise UserError(f"{argument}: {text!r}, allowed: FILE.py:function, such as train.py:{default}")
    return Path(file), name
