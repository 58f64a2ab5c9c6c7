"""One job of a transfer check that settings describe: a part of its grid, prepared, with a folder to go on from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featurespeed.errors import UserError
from featurespeed.machine.device import acquire_device
from featurespeed.machine.references import is_reference, split_reference
from featurespeed.measuring.errors import MeasurementError, first_line
from featurespeed.own.grid import Grid
from featurespeed.own.making import MakeOptimizer
from featurespeed.own.named import LOSSES, OPTIMIZERS, token_cross_entropy, with_options
from featurespeed.own.preparing import PART, prepared
from featurespeed.own.resume import LENGTH, Folder
from featurespeed.own.scripts import Scripts, loaded_scripts, takes_an_argument
from featurespeed.own.seeds import own_streams, seed_everything
from featurespeed.own.training import Recipe
from featurespeed.own.whole_sets import whole_set
from featurespeed.training.resumable import resumable


@dataclass(frozen=True)
class Job:
    """What a job has to train.

    Attributes:
        recipe, grid: as in a check; the grid is that of the job.
        folder: where it keeps what it has done, until it has ended well.
    """

    recipe: Recipe
    grid: Grid
    folder: Folder


@contextmanager
def job(
    settings: Mapping[str, Any], paths: Mapping[str, str], data: Path | None, folder: Path, identity: str
) -> Iterator[Job]:
    """While inside, the job may be trained; it goes on where it was killed.

    Args:
        settings: ``factory``, ``loss``, ``optimizer``, ``data``, ``batch_size``, ``steps``, ``sizes``,
            ``learning_rates`` and ``seeds`` of this job, as the block ``own`` of a configuration gives them.
        paths: key of the settings -> the user's file that is meant.
        data: file of one of this project's data sets, if the settings name one.
        folder: of what is kept, removed at a good end.
        identity: of the job: settings, code, the user's files.

    Raises:
        UserError: one line that names what is wrong, and where in the user's file.
    """
    name = hashlib.sha256(identity.encode()).hexdigest()[:LENGTH]
    with (
        ExitStack() as at_end,
        loaded_scripts() as scripts,
        _told_with_place(scripts),
        resumable(folder, identity, at_end) as kept,
        acquire_device() as device,
        _part(Chosen(settings, paths, scripts), data, device) as (recipe, grid),
    ):
        yield Job(recipe, grid, Folder(kept.folder / name, kept.seconds))


def _part(chosen: Chosen, data: Path | None, device: torch.device) -> AbstractContextManager[tuple[Recipe, Grid]]:
    """What a job trains, prepared."""
    settings = chosen.settings
    return prepared(
        chosen.function("factory"), settings["sizes"], settings["learning_rates"], chosen.loss(),
        chosen.data(data, device), chosen.optimizer(), settings["steps"], settings["seeds"],
        batch_size=settings["batch_size"], device=device, fewest=PART,
    )  # fmt: skip


@contextmanager
def _told_with_place(scripts: Scripts) -> Iterator[None]:
    """What is wrong, with the line of the user's file in which it was raised."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(f"{first_line(error)}: smaller sizes or batches may fit") from error
    except UserError as error:
        text, place = " ".join(str(error).split()), scripts.where(error)
        raise UserError(f"{text} ({place})" if place and place not in text else text) from error


@dataclass(frozen=True)
class Chosen:
    """What settings name: functions of a user's files, losses, optimizers and data sets."""

    settings: Mapping[str, Any]
    paths: Mapping[str, str]
    scripts: Scripts

    def function(self, key: str, reference: str = "") -> Callable[..., Any]:
        """A function of a user's file."""
        _, name = split_reference(key, reference or self.settings[key], "")
        return self.scripts.function(key, f"{self.paths[key]}:{name}", name)

    def loss(self) -> Callable[..., torch.Tensor]:
        """A named loss, of a text for every token; or the user's."""
        named = self.settings["loss"]
        if is_reference(named):
            return self.function("loss")
        return token_cross_entropy if named == "cross_entropy" and self._is_text else LOSSES[named]

    def optimizer(self) -> MakeOptimizer:
        """A class of PyTorch with its options, or the user's function."""
        options = dict(self.settings["optimizer"])
        name = options.pop("name")
        return (
            self.function("optimizer", name) if is_reference(name) else with_options(OPTIMIZERS[name.lower()], options)
        )

    def data(self, npz: Path | None, device: torch.device) -> Any:
        """A data set of this project, or what the user's function returns."""
        named = self.settings["data"]
        if isinstance(named, str):
            return data_of(self.function("data"))
        assert npz is not None  # the rule asks for it
        return whole_set(npz, named, self.settings["loss"] == "mse", device)

    @property
    def _is_text(self) -> bool:
        return isinstance(self.settings["data"], Mapping) and "length" in self.settings["data"]


def data_of(make: Callable[..., Any]) -> Any:
    """What a user's function of the data returns; of the seed 0, if it takes one.

    One that returns batches which can be had once is itself a function ``seed -> iterable of batches``.
    """
    seeded = takes_an_argument(make)
    with own_streams():
        seed_everything(0, "data")
        try:
            found = make(0) if seeded else make()
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            raise MeasurementError(f"data: it raised {first_line(error)}") from error
    return make if isinstance(found, Iterator) and seeded else found
