"""The block ``own`` of a configuration: a model of the user's own, and whether its learning rate transfers over sizes.

It is checked at the door like any other block, the user's files included, which are read but not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from featurespeed.data.registry import DATASETS
from featurespeed.data.spec import TEXT_SETS, AnyData, TextSpec, check_batch
from featurespeed.machine.references import is_reference
from featurespeed.pipeline.own_files import checked_reference, file_of, files_hash, located, short
from featurespeed.values import (
    Count,
    Counts,
    Fraction,
    NonNegative,
    Positive,
    Replicates,
    Seed,
    Spec,
    Steps,
    did_you_mean,
    distinct,
)

LOSSES = ("cross_entropy", "mse")
#: Optimizers of PyTorch -> their options that settings may give.
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "SGD": ("weight_decay", "momentum", "dampening", "nesterov"),
    "Adam": ("weight_decay", "betas", "eps", "amsgrad"),
    "AdamW": ("weight_decay", "betas", "eps", "amsgrad"),
}
SETS = tuple(name for name, dataset in DATASETS.items() if not dataset.streamed)
#: Keys that may name a function of a user's file -> the function that is meant where only the file is named.
FUNCTIONS = {"factory": "make_model", "loss": "loss", "optimizer": "make_optimizer", "data": "make_data"}
FEWEST_SIZES, FEWEST_RATES, FEWEST_SEEDS = 2, 3, 2  # of a shift, of a parabola, of an interval
FILE = "FILE.py:function"


def _chosen(key: str, known: tuple[str, ...], text: str) -> str:
    """One of the names that are known here, whatever its case, or a function of a user's file."""
    if is_reference(text):
        return checked_reference(text, FUNCTIONS[key])
    by_case = {name.casefold(): name for name in known}
    if text.casefold() not in by_case:
        raise ValueError(f"unknown, allowed: {', '.join((*known, FILE))}{did_you_mean(text, known)}")
    return by_case[text.casefold()]


def _grid(least: int) -> Any:
    """At least so many values, ascending."""

    def checked(values: list) -> list:
        if len(values) < least:
            raise ValueError(f"at least {least} are needed")
        if any(a >= b for a, b in zip(values, values[1:], strict=False)):
            raise ValueError("values must ascend, each once")
        return values

    return AfterValidator(checked)


def _seeds(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if value < FEWEST_SEEDS:
        raise ValueError(f"at least {FEWEST_SEEDS} seeds are needed, or a list of them")
    return list(range(value))


def _short_data(value: Any) -> Any:
    """The name of a data set stands for it with its usual settings."""
    name = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or (value is name and is_reference(name)):
        return value
    if name not in SETS:
        raise ValueError(f"unknown data set, allowed: {', '.join((*SETS, FILE))}{did_you_mean(name, SETS)}")
    if value is name and name in TEXT_SETS:
        raise ValueError(f"a text needs the length of its sequences: data: {{name: {name}, length: 64}}")
    return {"name": value} if value is name else value


def _form(value: Any) -> str:
    return "[block]" if isinstance(value, Mapping | Spec) else "[text]"


_SEEDS = {"anyOf": [{"type": "integer", "minimum": 2}, {"type": "array", "items": {"type": "integer"}, "minItems": 2}]}
Factory = Annotated[str, AfterValidator(lambda text: checked_reference(text, FUNCTIONS["factory"]))]
OwnLoss = Annotated[str, AfterValidator(lambda text: _chosen("loss", LOSSES, text))]
OptimizerName = Annotated[str, AfterValidator(lambda text: _chosen("optimizer", tuple(OPTIMIZERS), text))]
Seeds = Annotated[
    list[Seed], BeforeValidator(_seeds), Field(min_length=2), AfterValidator(distinct), WithJsonSchema(_SEEDS)
]
Truth = Annotated[bool, Field(strict=True)]
Batches = Annotated[str, AfterValidator(lambda text: checked_reference(text, FUNCTIONS["data"]))]


class OwnOptimizer(Spec):
    """An optimizer with options of PyTorch's; those that are not given are as PyTorch has them.

    Attributes:
        name: a class of ``torch.optim``, or ``FILE.py:function``, a function of a model and a learning rate, which has
            its options inside.
    """

    name: OptimizerName
    weight_decay: NonNegative | None = None
    momentum: Fraction | None = None
    dampening: Fraction | None = None
    nesterov: Truth | None = None
    betas: tuple[Fraction, Fraction] | None = None
    eps: Positive | None = None
    amsgrad: Truth | None = None

    @model_validator(mode="after")
    def _takes_its_options(self) -> OwnOptimizer:
        allowed = OPTIMIZERS.get(self.name, ())
        for option, value in self.options.items():
            if option not in allowed:
                known = ", ".join(allowed) or "none, a function of your own has them inside"
                raise ValueError(f"{option} = {value}: no option of {self.name}, allowed: {known}")
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("nesterov = true: needs a momentum above 0, and no dampening")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Those that are given."""
        return self.model_dump(mode="json", exclude={"name"}, exclude_none=True)


Optimizer = Annotated[
    Annotated[OptimizerName, Tag("[text]")] | Annotated[OwnOptimizer, Tag("[block]")], Discriminator(_form)
]
OwnData = Annotated[
    Annotated[Batches, Tag("[text]")] | Annotated[AnyData, Tag("[block]")],
    Discriminator(_form),
    BeforeValidator(_short_data),
]


class OwnSpec(Spec):
    """A model of the user's own, trained at several sizes and learning rates.

    Attributes:
        factory: ``FILE.py:function``, a function ``size -> torch.nn.Module``.
        sizes: at least two, ascending: widths, depths, whatever grows. One job each.
        learning_rates: at least three, ascending, best a factor 2 apart or less.
        loss: ``cross_entropy``, ``mse`` or ``FILE.py:function``, a function of outputs and targets, or of ``model``
            and a batch.
        optimizer: ``SGD``, ``Adam``, ``AdamW``, one of them with options, or ``FILE.py:function``, a function of a
            model and a learning rate.
        data: ``FILE.py:function``, which returns a pair of tensors, a list of batches, a DataLoader or a function of
            the seed; or a data set of this project, by its name or with settings.
        batch_size: of tensors; None takes all examples at every step.
        steps: of training.
        seeds: how many, or a list of them.
        sharpness_at: at how many steps of one more run a size to measure the sharpness; 0 for none.
        side_by_side: True trains networks of a size side by side also where that is slower, False one after the other;
            None chooses.
    """

    factory: Factory
    sizes: Annotated[Counts, _grid(FEWEST_SIZES)]
    learning_rates: Annotated[list[Positive], _grid(FEWEST_RATES)]
    loss: OwnLoss
    optimizer: Optimizer
    data: OwnData
    batch_size: Count | None = None
    steps: Replicates
    seeds: Seeds = list(range(5))
    sharpness_at: Steps = 4
    side_by_side: Truth | None = None

    @model_validator(mode="after")
    def _fits_its_data(self) -> OwnSpec:
        if isinstance(self.data, str):
            return self
        if self.data.augmented:
            raise ValueError("data: images are not augmented here; set crop, flip, rotation and resized_crop to 0")
        if isinstance(self.data, TextSpec) and self.loss == "mse":
            raise ValueError(f"loss = 'mse': not with a text, allowed: cross_entropy, {FILE}")
        check_batch(self.batch_size, self.data)
        return self

    @property
    def dataset(self) -> str | None:
        """The data set of this project that is needed, if it is one."""
        return None if isinstance(self.data, str) else self.data.name

    @property
    def paths(self) -> dict[str, str]:
        """Key -> the file of the user that it names."""
        named = {"factory": self.factory, "loss": self.loss, "optimizer": self._optimizer.name, "data": self.data}
        return {key: str(file_of(text)) for key, text in named.items() if isinstance(text, str) and is_reference(text)}

    @property
    def files(self) -> str:
        """Hash of all code of the user that is run."""
        return files_hash(Path(path) for path in self.paths.values())

    def training(self, size: int) -> dict[str, Any]:
        """Settings of the job that trains one size; what they do not hold is no reason to train it again."""
        grid = {"sizes": [size], "learning_rates": self.learning_rates, "seeds": self.seeds}
        return self._recipe() | grid | {"side_by_side": self.side_by_side}

    def sharpness(self, size: int, rate: float) -> dict[str, Any]:
        """Settings of the job that measures the sharpness of one size along training, at one learning rate."""
        grid = {"sizes": [size], "learning_rates": [rate], "seeds": self.seeds[:1]}
        return self._recipe() | grid | {"sharpness_at": self.sharpness_at}

    def grid(self) -> dict[str, Any]:
        """The whole grid, as :class:`featurespeed.own.grid.Grid` has it."""
        kept = {"sizes": self.sizes, "rates": self.learning_rates, "seeds": self.seeds}
        return kept | {"steps": self.steps, "batch_size": self.batch_size}

    def _recipe(self) -> dict[str, Any]:
        """What is trained, without the folders of the user's files, which may move."""
        optimizer = self._optimizer
        return {
            "factory": short(self.factory),
            "loss": _shortened(self.loss),
            "optimizer": {"name": _shortened(optimizer.name)} | optimizer.options,
            "data": short(self.data) if isinstance(self.data, str) else self.data.model_dump(mode="json"),
            "batch_size": self.batch_size,
            "steps": self.steps,
        }

    @property
    def _optimizer(self) -> OwnOptimizer:
        return OwnOptimizer(name=self.optimizer) if isinstance(self.optimizer, str) else self.optimizer


def _shortened(text: str) -> str:
    return short(text) if is_reference(text) else text


def with_files(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Settings in which the files of the block ``own`` have their paths, found from the folder of these settings."""
    block = settings.get("own")
    if not isinstance(block, Mapping):
        return dict(settings)
    found = {key: _with_path(value, folder) if key in FUNCTIONS else value for key, value in block.items()}
    return {**settings, "own": found}


def _with_path(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_path(part, folder) if key == "name" else part for key, part in value.items()}
    return located(value, folder) if isinstance(value, str) and is_reference(value) else value
