"""A user's script on the command line: its file is loaded by its path, its functions by their names."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from featurespeed.errors import UserError
from featurespeed.machine.references import split_reference
from featurespeed.measuring.errors import first_line


class Scripts:
    """Files of a user that are loaded once each, inside :func:`loaded_scripts`."""

    def __init__(self) -> None:
        self._modules: dict[Path, ModuleType] = {}

    def function(self, argument: str, text: str, default: str) -> Callable[..., Any]:
        """The function that ``FILE.py:name`` names; ``FILE.py`` alone means the name ``default``."""
        file, name = split_reference(argument, text, default)
        found = self.find(argument, file, name)
        if found is None:
            known = ", ".join(functions_of(self._modules[file])) or "none"
            raise UserError(f"{argument}: {file} has no function {name!r}, allowed: its functions ({known})")
        return found

    def find(self, argument: str, file: Path, name: str) -> Callable[..., Any] | None:
        """A function of a file by its name; None if there is no such name."""
        found = getattr(self._module(argument, file), name, None)
        if found is not None and not callable(found):
            raise UserError(f"{argument}: {name} in {file} is a {type(found).__name__}, allowed: a function")
        return found

    def where(self, error: BaseException) -> str:
        """Innermost line of these files at which an error, or one behind it, was raised: ``FILE.py:12``; else empty."""
        files = {str(file.resolve()) for file in self._modules}
        chain: BaseException | None = error
        place = ""
        while chain is not None:
            frames = [f for f in traceback.extract_tb(chain.__traceback__) if os.path.realpath(f.filename) in files]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else place
            chain = chain.__cause__ or chain.__context__
        return place

    def _module(self, argument: str, file: Path) -> ModuleType:
        if file not in self._modules:
            if not file.is_file():
                raise UserError(f"{argument}: {file} is no file, allowed: FILE.py:function")
            self._modules[file] = _load(argument, file)
        return self._modules[file]


@contextmanager
def loaded_scripts() -> Iterator[Scripts]:
    """Scripts whose folders are on ``sys.path`` meanwhile, as they are when Python runs a script."""
    path, modules = list(sys.path), dict(sys.modules)
    scripts = Scripts()
    try:
        yield scripts
    finally:
        added = [folder for folder in sys.path if folder not in path]
        sys.path[:] = path
        for name in [name for name in sys.modules if name not in modules]:
            if _is_beside(sys.modules[name], added):  # another script may have a neighbour of the same name
                del sys.modules[name]


def _is_beside(module: ModuleType, folders: list[str]) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and str(Path(file).parent) in folders


def functions_of(module: ModuleType) -> list[str]:
    """Names of the functions and classes that a script defines itself."""
    own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", None) == module.__name__]
    return [name for name in own if not name.startswith("_")]


def takes_an_argument(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with one argument; one with a default value counts."""
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        return False
    return True


def _load(argument: str, file: Path) -> ModuleType:
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = file.stem if file.stem not in sys.modules else f"{file.stem}_of_the_command_line"
    location = importlib.util.spec_from_file_location(name, file.resolve())
    assert location is not None and location.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(location)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        location.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{argument}: {error.filename or file}:{error.lineno}: {first_line(error)}") from error
    except SystemExit as error:
        raise UserError(f"{argument}: {file} ends the program when loaded, allowed: under __main__ only") from error
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file.resolve())]
        line = f":{frames[-1].lineno}" if frames else ""
        raise UserError(f"{argument}: {file}{line} raised {first_line(error)}") from error
    return module
