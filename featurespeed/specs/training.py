"""Specs of training: data, model, optimizer, and one job that trains all learning rates and seeds of one size."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from featurespeed.data.registry import DATASETS
from featurespeed.parameterization import (
    Form,
    LayerRole,
    OptimizerName,
    Parameterization,
    ParameterizationError,
    check_covered,
    scaling_rule,
)
from featurespeed.specs.values import Count, Number, Positive, Seed, Spec, Width, distinct

IMAGE_SETS = tuple(name for name, dataset in DATASETS.items() if dataset.kind == "images")
ImageSet = Literal[IMAGE_SETS]  # type: ignore[valid-type]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Steps = Annotated[int, Field(ge=0, strict=True)]


def training_images(name: str) -> int:
    """Number of training images of a data set in its complete version."""
    return max(version.count for version in DATASETS[name].versions_of("train"))


class DataSpec(Spec):
    """Which images, and what happens to them before the network.

    Attributes:
        name: data set.
        examples: size of a stratified, seeded subset of the training set; None takes all of it.
        downscale: side of the squares that are averaged into one pixel, once.
        pixels: between 0 and 1 and ``centred`` by channel, or also ``standardised`` to unit variance. With the first,
            the best learning rates of the second paper's ConvNets are near those that it gives. Or without the mean
            image of the training set, ``mean_image_removed``: each pixel loses its own mean.
        crop, flip, rotation: augmentation: pixels of padding before a random crop, horizontal flips, degrees either
            way.
    """

    name: ImageSet
    examples: Count | None = None
    downscale: Count = 1
    pixels: Literal["centred", "standardised", "mean_image_removed"] = "centred"
    crop: Annotated[int, Field(ge=0, strict=True)] = 0
    flip: bool = False
    rotation: Annotated[Number, Field(ge=0, le=180)] = 0.0

    @model_validator(mode="after")
    def _fits_the_images(self) -> DataSpec:
        known = DATASETS[self.name]
        most = training_images(self.name)
        if self.examples is not None and self.examples > most:
            raise ValueError(f"examples = {self.examples}: {self.name} has {most} training images")
        channels, height, width = known.shape
        if height % self.downscale or width % self.downscale:
            raise ValueError(f"downscale = {self.downscale}: must divide the image of {height} x {width}")
        return self

    @property
    def available(self) -> int:
        """Number of training images that this spec uses, as far as is known without opening the file."""
        return self.examples or training_images(self.name)

    @property
    def augmented(self) -> bool:
        """Whether images are changed at random."""
        return bool(self.crop or self.flip or self.rotation)


class ModelSpec(Spec):
    """Architecture but for its width.

    Attributes:
        kind: ``two_layer_linear`` (``depth`` is 1), ``mlp`` or ``convnet`` (3x3, stride 1).
        depth: of a plain network (``tau = 0``) the weight layers before the readout, the input layer included: the
            2-layer ConvNet of the second paper (input convolution, one hidden convolution, readout) has depth 2. Of a
            residual network the number of residual blocks; input layer and readout do not count: 6 blocks, depth 6.
        tau: weight of the skip connection, 0 for plain and 1 for residual networks.
        layers_per_block: weight layers in a residual branch.
        alpha: residual branches are multiplied with ``L^-alpha``; None takes that of the parameterization.
        pool_every: 2x2 average pooling after so many layers; None is the paper's rule: plain networks after every layer
            but the last, residual ones after every third block, there followed by one more convolution; 0 is never.
        smallest_side: no pooling to images smaller than this.
        readout: from the flattened features (``flat``) or from their mean over the image (``pooled``).
        activation: phi.
    """

    kind: Literal["two_layer_linear", "mlp", "convnet"]
    depth: Count
    tau: NonNegative = 0.0
    layers_per_block: Count = 1
    alpha: Number | None = None
    pool_every: Annotated[int, Field(ge=0, strict=True)] | None = None
    smallest_side: Count = 1
    readout: Literal["flat", "pooled"] = "flat"
    activation: Literal["relu", "gelu", "tanh", "linear"] = "relu"

    @property
    def residual(self) -> bool:
        """Whether there are skip connections."""
        return self.tau != 0

    @model_validator(mode="after")
    def _one_architecture(self) -> ModelSpec:
        if self.kind == "two_layer_linear" and (self.depth != 1 or self.residual):
            raise ValueError(f"depth = {self.depth}, tau = {self.tau:g}: a two-layer linear network has depth 1, tau 0")
        if not self.residual and (self.alpha is not None or self.layers_per_block != 1):
            raise ValueError(
                f"alpha = {self.alpha}, layers_per_block = {self.layers_per_block}:"
                " only residual networks (tau = 1) have branches; leave both out"
            )
        if self.kind != "convnet" and (self.pool_every or self.readout != "flat"):
            raise ValueError(f"pool_every = {self.pool_every}, readout = {self.readout!r}: only a convnet pools")
        return self


class OptimizerSpec(Spec):
    """Optimizer but for its learning rate.

    Attributes:
        name: sgd, adam or adamw.
        momentum: of SGD.
        betas: of Adam.
        epsilon: of Adam, added to the square root of the second moment.
        epsilon_by_layer: multiply epsilon with the size of each layer's gradient (``epsilon_scale`` of the table),
            which keeps it as small beside the gradient at every width and in both forms of a parameterization.
        weight_decay: decoupled, ``W <- (1 - eta_0 weight_decay) W``; not for Adam, whose decay is AdamW.
        decay_follows_layer: multiply the decay with the layer's factor on the learning rate, too, as PyTorch's AdamW
            does with parameter groups; the two forms of a parameterization then differ.
        warmup_steps: the learning rate rises linearly over so many steps.
    """

    name: OptimizerName = OptimizerName.SGD
    momentum: Fraction = 0.0
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: NonNegative = 1e-8
    epsilon_by_layer: bool = True
    weight_decay: NonNegative = 0.0
    decay_follows_layer: bool = False
    warmup_steps: Steps = 0

    @model_validator(mode="after")
    def _belongs_to_the_optimizer(self) -> OptimizerSpec:
        if self.momentum and self.name != OptimizerName.SGD:
            raise ValueError(f"momentum = {self.momentum}: only sgd has one; {self.name} has betas")
        if self.weight_decay and self.name == OptimizerName.ADAM:
            raise ValueError(f"weight_decay = {self.weight_decay}: adam has none; use adamw")
        return self


class TrainingSpec(Spec):
    """One training job: one architecture and size, all learning rates x seeds.

    Attributes:
        run: id of the job, part of its file names.
        learning_rates: base learning rates ``eta_0``.
        seeds: number of initialisations; for a seed every learning rate sees the same weights and batches.
        batch_size: None is the whole training set at every step, in order.
        loss: mean cross-entropy, or half of the mean squared distance to the one-hot label.
        record_every: steps between two records of the loss.
        probe_steps: steps after which the weights are kept for later stages; 0 is the initialisation.
        tf32: where a GPU may round to TF32: nowhere, in training steps, or in later measurements, too.
    """

    run: str
    data: DataSpec
    model: ModelSpec
    width: Width
    parameterization: Parameterization
    form: Form = Form.MULTIPLIERS
    gamma0: Positive = 1.0
    optimizer: OptimizerSpec = OptimizerSpec()
    learning_rates: Annotated[list[Positive], Field(min_length=1)]
    seeds: Count
    batch_size: Count | None
    steps: Count
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    record_every: Count = 10
    probe_steps: list[Steps] = []
    tf32: Literal["off", "train", "all"] = "train"
    dtype: Literal["float32", "float64"] = "float32"
    seed: Seed

    _distinct = field_validator("learning_rates", "probe_steps")(distinct)

    @model_validator(mode="after")
    def _rules_across_keys(self) -> TrainingSpec:
        check_training(self)
        if self.probe_steps and max(self.probe_steps) > self.steps:
            raise ValueError(f"probe_steps = {max(self.probe_steps)}: training ends at steps = {self.steps}")
        return self

    @property
    def members(self) -> list[tuple[float, int]]:
        """``(learning rate, seed index)`` of every network of the job, in the order of the records."""
        return [(rate, seed) for seed in range(self.seeds) for rate in self.learning_rates]


def check_model(parameterization: Parameterization, model: ModelSpec) -> None:
    """Raise if the parameterization does not cover the model, with the remedy."""
    if parameterization == Parameterization.DEPTH_MUP and not model.residual:
        raise ParameterizationError(
            f"parameterization = {parameterization}: scales residual branches, but tau = {model.tau:g} has none;"
            " set tau: 1, or use MUP"
        )
    if parameterization == Parameterization.DEPTH_MUP and model.alpha not in (None, 0.5):
        raise ParameterizationError(f"alpha = {model.alpha}: {parameterization} has 0.5; leave alpha out, or use MUP")


def check_training(spec: TrainingSpec) -> None:
    """Raise if parameterization, model, optimizer, batch and data do not go together."""
    check_covered(spec.parameterization, spec.optimizer.name)
    check_model(spec.parameterization, spec.model)
    scaling_rule(spec.parameterization, LayerRole.READOUT, 2, optimizer=spec.optimizer.name, gamma0=spec.gamma0)
    check_batch(spec.batch_size, spec.data)


def check_batch(batch_size: int | None, data: DataSpec) -> None:
    """Raise if a batch is larger than the data, or if a full batch should be augmented."""
    if batch_size is None:
        if data.augmented:
            raise ValueError("batch_size = null: the full batch is not augmented; set crop, flip and rotation to 0")
    elif batch_size > data.available:
        raise ValueError(f"batch_size = {batch_size}: larger than the {data.available} training images")


def check_images(key: str, images: int, data: DataSpec) -> None:
    """Raise if a fixed batch of training images is larger than the data."""
    if images > data.available:
        raise ValueError(f"{key} = {images}: larger than the {data.available} training images")


def run_id(artefact: str, *parts: object) -> str:
    """Name of a training job: letters, digits and underscores only, so that it is a file name and a wildcard."""
    return re.sub(r"[^a-z0-9]+", "_", "_".join(map(str, (artefact, *parts))).lower()).strip("_")


def digest(settings: object) -> str:
    """Eight hex digits that name some settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
