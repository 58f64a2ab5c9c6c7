"""The subcommands: a user's functions and the options of the command line become calls of the public functions."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd
import torch
from torch import nn

from featurespeed.curvature.stability import Sharpness
from featurespeed.errors import UserError
from featurespeed.machine.references import split_reference
from featurespeed.measuring.errors import first_line
from featurespeed.own.coordinate_runs import optimizers, streams
from featurespeed.own.making import made_model
from featurespeed.own.named import LOSSES, OPTIMIZERS
from featurespeed.own.scripts import Scripts, takes_an_argument

TITLES = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix", "residual": "Hessian minus Gauss-Newton"}
STEPS = 3  # of a coordinate check that gets one batch
MODEL, LOSS, BATCH, DATA, OPTIMIZER = "make_model", "loss", "make_batch", "make_data", "make_optimizer"


@dataclass(frozen=True, eq=False)
class PrintedSharpness:
    """What is printed of :class:`featurespeed.curvature.stability.Sharpness`, in the form of the other records."""

    sentence: str
    table: pd.DataFrame
    eigenvalue: float
    residual: float
    products: int
    converged: bool
    threshold: float
    edge: float
    draw: Callable[[], Any]

    def plot(self) -> Any:
        """How near every block is to the edge of stability."""
        return self.draw()


class Asked:
    """The functions that a command line names; where it names none, those of the usual names in the model's file."""

    def __init__(self, options: argparse.Namespace, scripts: Scripts):
        self.options, self._scripts = options, scripts
        _check_device(options.device)
        self._file, _ = split_reference("FILE.py:make_model", options.model, MODEL)
        self.make_model = scripts.function("FILE.py:make_model", options.model, MODEL)

    def loss(self) -> Callable[..., torch.Tensor]:
        """One of the named losses, or the user's."""
        named = self.options.loss
        if named in LOSSES:
            return LOSSES[named]
        return self._function("--loss", named, LOSS, f"{', '.join(LOSSES)}, FILE.py:function")

    def model(self, size: int | None) -> nn.Module:
        """A network, of a size where the function takes one."""
        sized, make = takes_an_argument(self.make_model), self.make_model
        if size is None and not _callable_alone(make):
            raise UserError(f"--size: not given, and {MODEL} takes one, allowed: a whole number")
        if size is not None and not sized:
            raise UserError(f"--size: {size}, and {MODEL} takes none, allowed: no size")
        # An empty text in place of a size, so that messages read `make_model(): ...`.
        given: Any = "" if size is None else size
        model = made_model(make if size is not None else lambda _none: make(), given, self.options.seed)
        return model if self.options.device is None else model.to(self.options.device)

    def sized_model(self) -> Callable[[int], nn.Module]:
        """``size -> network``, on the device that was asked for."""
        if not takes_an_argument(self.make_model):
            raise UserError(f"FILE.py:make_model: {MODEL} takes no size, allowed: a function size -> torch.nn.Module")
        make, device = self.make_model, self.options.device
        return make if device is None else lambda size: make(size).to(device)

    def optimizer(self) -> Callable[..., torch.optim.Optimizer]:
        """A class of PyTorch, or the user's function."""
        named = self.options.optimizer
        if named in OPTIMIZERS:
            return OPTIMIZERS[named]
        return self._function("--optimizer", named, OPTIMIZER, f"{', '.join(OPTIMIZERS)}, FILE.py:function")

    def optimizer_of(self, model: nn.Module, only_if_asked: bool = False) -> torch.optim.Optimizer | None:
        """A live optimizer of a network; None if none is asked for and (or) the file has none."""
        if self.options.optimizer is None and (only_if_asked or self._found(OPTIMIZER) is None):
            return None
        return optimizers(self.optimizer(), self.options.learning_rate)(model)

    def batch(self) -> Any:
        """One batch: the user's, or the first of the user's data."""
        if self.options.batch is not None or self._found(BATCH) is not None:
            return self._called(self._function("--batch", self.options.batch, BATCH, "FILE.py:function"))
        if self.options.data is None and self._found(DATA) is None:
            raise UserError(f"--batch: not given, and {self._file} has no {BATCH} or {DATA}, allowed: FILE.py:function")
        first = next(iter(self._data_of(self.options.seed, 1)), None)
        if first is None:
            raise UserError(f"--data: {DATA} returned no batch, at least 1 is needed")
        return first

    def batches(self, most: int | None) -> Any:
        """Several batches: the user's data, so many of them; or the one batch."""
        if self.options.data is None and (self.options.batch is not None or self._found(DATA) is None):
            return self.batch()
        return list(self._data_of(self.options.seed, most))

    def batches_by_seed(self, steps: int | None) -> Any:
        """``seed -> batches``: as many as there are steps; the one batch again and again where there is but one."""
        if self.options.data is None and (self.options.batch is not None or self._found(DATA) is None):
            return [self.batch()] * (STEPS if steps is None else steps)
        return lambda seed: list(self._data_of(seed, steps))

    def data(self) -> Any:
        """What the user's function of the data returns."""
        return self._called(self._function("--data", self.options.data, DATA, "FILE.py:function"))

    def _data_of(self, seed: int, most: int | None) -> Iterable[Any]:
        found = self._called(self._function("--data", self.options.data, DATA, "FILE.py:function"), seed)
        if isinstance(found, tuple):  # all examples as one batch
            return [found]
        if isinstance(found, (dict, torch.Tensor)) or not isinstance(found, Iterable):
            raise UserError(f"--data: returned {type(found).__name__}, allowed: a list of batches, a DataLoader, ...")
        return found if most is None else islice(found, most)

    def _called(self, make: Callable[..., Any], seed: int | None = None) -> Any:
        """With the seed, if the function takes one."""
        seed = self.options.seed if seed is None else seed
        with streams(seed, "data"):
            return make(seed) if takes_an_argument(make) else make()

    def _found(self, name: str) -> Callable[..., Any] | None:
        return self._scripts.find("FILE.py:make_model", self._file, name)

    def _function(self, argument: str, named: str | None, usual: str, allowed: str) -> Callable[..., Any]:
        """The function that was named; a name alone is one of the model's file."""
        if named is None:
            found = self._found(usual)
            if found is None:
                raise UserError(f"{argument}: not given, and {self._file} has no {usual}, allowed: {allowed}")
            return found
        text = f"{self._file}:{named}" if named.isidentifier() else named
        return self._scripts.function(argument, text, usual)


def _check_device(named: str | None) -> None:
    """Before anything is loaded: can tensors be made there?"""
    try:
        torch.empty(0, device=named)
    except Exception as error:
        there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise UserError(f"--device: {named} ({first_line(error)}), allowed here: {', '.join(there)}") from error


def _callable_alone(make: Callable[..., Any]) -> bool:
    try:
        inspect.signature(make).bind()
    except TypeError:
        return False
    except ValueError:  # it does not tell
        return True
    return True


# --- subcommands ------------------------------------------------------------------------------------------------------


def run_measure(asked: Asked) -> Any:
    """``featurespeed measure``."""
    from featurespeed.own.measure import measure

    model = asked.model(asked.options.size)
    return measure(model, asked.loss(), asked.batch(), asked.optimizer_of(model), asked.options.nodes)


def run_sharpness(asked: Asked) -> Any:
    """``featurespeed sharpness``; with an optimizer only if one is named, which makes it another number."""
    from featurespeed.curvature.measure import sharpness

    options = asked.options
    model = asked.model(options.size)
    optimizer = asked.optimizer_of(model, only_if_asked=True)
    found = sharpness(
        model, asked.loss(), asked.batches(options.batches), options.k, options.tol, matrix=options.matrix,
        micro_batch=options.micro_batch, seed=options.seed, optimizer=optimizer, blocks=_blocks(options.blocks),
    )  # fmt: skip
    return _printed(found, options.matrix)


def _blocks(named: list[str] | None) -> list[str] | str | None:
    """``layers`` alone is all of them."""
    return "layers" if named == ["layers"] else named


def _printed(found: Sharpness, matrix: str) -> PrintedSharpness:
    value = found.eigenvalue
    of = TITLES[matrix] + ("" if found.optimizer is None else f" in units of {found.optimizer}")
    sentence = f"largest eigenvalue of the {of}: {value:.6g}, {found.products} products"
    if not found.converged:
        sentence += ", NOT converged"
    if found.optimizer is not None:
        sentence += f"; {found.edge:.3g} of its threshold {found.threshold:.4g}"
    elif value > 0 and matrix == "hessian":
        sentence += f"; gradient descent is stable up to the learning rate {2 / value:.4g}"
    table = pd.DataFrame({"eigenvalue": found.values.tolist(), "residual": found.residuals.tolist()})
    return PrintedSharpness(
        sentence, found.table if found.blocks else table, value, found.residual, found.products,
        bool(found.converged), found.threshold, found.edge, found.plot,
    )  # fmt: skip


def run_check_coordinates(asked: Asked) -> Any:
    """``featurespeed check-coordinates``."""
    from featurespeed.own.coordinates import coordinate_check

    options = asked.options
    return coordinate_check(
        asked.sized_model(), options.widths, asked.loss(), asked.batches_by_seed(options.steps), asked.optimizer(),
        seeds=options.seeds, learning_rate=options.learning_rate, nodes=options.nodes,
    )  # fmt: skip


def run_check_transfer(asked: Asked) -> Any:
    """``featurespeed check-transfer``."""
    from featurespeed.own.transfer import transfer_check

    options = asked.options
    return transfer_check(
        asked.sized_model(), options.sizes, options.learning_rates, asked.loss(), asked.data(), asked.optimizer(),
        options.steps, options.seeds, batch_size=options.batch_size, folder=options.folder,
        sharpness_at=options.sharpness_at, device=options.device, progress=not options.json,
    )  # fmt: skip


def run_autoscale(asked: Asked) -> Any:
    """``featurespeed autoscale``."""
    from featurespeed.own.scale import PARAMETERIZATIONS, autoscale

    options = asked.options
    if options.scheme in PARAMETERIZATIONS and options.base is None:
        raise UserError(f"--base: not given, allowed with {options.scheme}: the size at which learning rates are known")
    if options.scheme == "fsc" and options.base is not None:
        raise UserError(f"--base: {options.base}, allowed with {', '.join(PARAMETERIZATIONS)}; fsc measures the model")
    base = None if options.base is None else asked.model(options.base)
    return autoscale(asked.model(options.size), asked.loss(), asked.batch(), options.scheme, base)


RUNS: dict[str, Callable[[Asked], Any]] = {
    "measure": run_measure,
    "sharpness": run_sharpness,
    "check-coordinates": run_check_coordinates,
    "check-transfer": run_check_transfer,
    "autoscale": run_autoscale,
}
