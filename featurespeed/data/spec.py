"""Which images or which text a network is trained on, and what happens to them before the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from featurespeed.data.registry import DATASETS
from featurespeed.values import Count, Number, Spec, did_you_mean

IMAGE_SETS = tuple(name for name, dataset in DATASETS.items() if dataset.kind in ("images", "files"))
TEXT_SETS = tuple(name for name, dataset in DATASETS.items() if dataset.kind == "text")
ImageSet = Literal[IMAGE_SETS]  # type: ignore[valid-type]
TextSet = Literal[TEXT_SETS]  # type: ignore[valid-type]


def training_images(name: str) -> int:
    """Number of training images of a data set in its complete version."""
    return max(version.count for version in DATASETS[name].versions_of("train"))


class DataSpec(Spec):
    """Which images, and what happens to them before the network.

    Attributes:
        name: data set.
        examples: size of a stratified, seeded subset of the training set; None takes all of it.
        downscale: side of the squares that are averaged into one pixel, once.
        pixels: between 0 and 1 and ``centred`` by channel, or also ``standardised`` to unit variance. Or without the
            mean image of the training set, ``mean_image_removed``: each pixel loses its own mean. Or ``symmetric``,
            between -1 and 1, as the authors of the second paper have them. Or ``imagenet``, standardised by mean and
            deviation that are usual for ImageNet, not by those of these images.
        crop, flip, rotation: augmentation: pixels of padding before a random crop, horizontal flips, degrees either
            way.
        resized_crop: in the place of ``crop``, a random box of 8% to 100% of the image, scaled to the image's size.
    """

    name: ImageSet
    examples: Count | None = None
    downscale: Count = 1
    pixels: Literal["centred", "standardised", "mean_image_removed", "symmetric", "imagenet"] = "centred"
    crop: Annotated[int, Field(ge=0, strict=True)] = 0
    flip: bool = False
    rotation: Annotated[Number, Field(ge=0, le=180)] = 0.0
    resized_crop: bool = False

    @model_validator(mode="after")
    def _fits_the_images(self) -> DataSpec:
        known = DATASETS[self.name]
        most = training_images(self.name)
        if self.examples is not None and self.examples > most:
            raise ValueError(f"examples = {self.examples}: {self.name} has {most} training images")
        channels, height, width = known.shape
        if height % self.downscale or width % self.downscale:
            raise ValueError(f"downscale = {self.downscale}: must divide the image of {height} x {width}")
        side = min(height, width) // self.downscale
        if self.crop >= side:
            raise ValueError(f"crop = {self.crop}: must be below the side of the image, {side} pixels")
        if self.crop and self.resized_crop:
            raise ValueError(f"crop = {self.crop}: must be 0 with resized_crop = true, which crops as well")
        if self.pixels == "imagenet" and channels != 3:
            raise ValueError(f"pixels = imagenet: needs images of 3 channels, and {self.name} has {channels}")
        if self.streamed:
            _check_streamed(self)
        return self

    @model_serializer(mode="wrap")
    def _without_unused_choices(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs are named, and kept, by their settings: one from before these choices stays the same run."""
        settings = serialise(self)
        if not self.resized_crop:
            settings.pop("resized_crop", None)
        return settings

    @property
    def streamed(self) -> bool:
        """Whether images are read from their files during training."""
        return DATASETS[self.name].streamed

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that the network sees."""
        channels, height, width = DATASETS[self.name].shape
        return channels, height // self.downscale, width // self.downscale

    @property
    def available(self) -> int:
        """Number of training images that this spec uses, as far as is known without opening the file.

        Of a set of files damaged ones are left out, so that they may be fewer.
        """
        return self.examples or training_images(self.name)

    @property
    def augmented(self) -> bool:
        """Whether images are changed at random."""
        return bool(self.crop or self.flip or self.rotation or self.resized_crop)


def _check_streamed(data: DataSpec) -> None:
    """Raise for what needs all pixels of the set at once."""
    if data.downscale != 1:
        raise ValueError(f"downscale = {data.downscale}: must be 1 for {data.name}, which is read from its files")
    if data.pixels == "mean_image_removed":
        raise ValueError(
            f"pixels = mean_image_removed: {data.name} is read from its files and has no mean image; allowed: centred, "
            "standardised, symmetric, imagenet"
        )


class TextSpec(Spec):
    """Which text: sequences of ``length`` tokens, one after the other, each with the token that follows as the answer.

    Attributes:
        name: data set.
        length: of a sequence, in tokens: words of WikiText-2, characters of a manual.
        tokens: take so many tokens of the training text, the first ones; None takes all of it.
    """

    name: TextSet
    length: Count
    tokens: Count | None = None

    @model_validator(mode="after")
    def _fits_the_text(self) -> TextSpec:
        most = DATASETS[self.name].training_tokens
        if self.tokens is not None and self.tokens > most:
            raise ValueError(f"tokens = {self.tokens}: {self.name} has {most} training tokens")
        if self.available < 1:
            given = self.tokens or most
            raise ValueError(f"length = {self.length}: a sequence and its last answer are longer than {given} tokens")
        return self

    @property
    def shape(self) -> tuple[int]:
        """Tokens of a sequence."""
        return (self.length,)

    @property
    def available(self) -> int:
        """Number of training sequences, as far as is known without opening the file."""
        return sequences(self.tokens or DATASETS[self.name].training_tokens, self.length)

    @property
    def augmented(self) -> bool:
        """Whether examples are changed at random."""
        return False


def sequences(tokens: int, length: int) -> int:
    """Sequences without a common token, each with an answer to its last token, in so many tokens."""
    return (tokens - 1) // length


def _name_of(value: Any) -> Any:
    return value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)


def _kind_of(value: Any) -> str:
    return "[text]" if _name_of(value) in TEXT_SETS else "[images]"


def _known(value: Any) -> Any:
    name = _name_of(value)
    if isinstance(name, str) and name not in DATASETS:
        known = (*IMAGE_SETS, *TEXT_SETS)
        raise ValueError(f"name = {name!r}: unknown data set, allowed: {', '.join(known)}{did_you_mean(name, known)}")
    return value


#: Data of either kind, told apart by their name.
AnyData = Annotated[
    Annotated[DataSpec, Tag("[images]")] | Annotated[TextSpec, Tag("[text]")],
    Discriminator(_kind_of),
    BeforeValidator(_known),
]
_ANY_DATA: TypeAdapter[DataSpec | TextSpec] = TypeAdapter(AnyData)


def data_spec(settings: Mapping[str, Any]) -> DataSpec | TextSpec:
    """The spec of data that are given by their settings, as a table stores them."""
    return _ANY_DATA.validate_python(settings)


def check_batch(batch_size: int | None, data: DataSpec | TextSpec) -> None:
    """Raise if a batch is larger than the data, or if a full batch should be augmented."""
    if batch_size is None:
        if data.augmented:
            keys = "crop, flip, rotation and resized_crop" if data.resized_crop else "crop, flip and rotation"
            raise ValueError(f"batch_size = null: the full batch is not augmented; set {keys} to 0")
        if isinstance(data, DataSpec) and data.streamed:
            raise ValueError(f"batch_size = null: {data.name} is read from its files, a batch at a time; give a number")
    elif batch_size > data.available:
        raise ValueError(f"batch_size = {batch_size}: larger than the {data.available} training {unit_of(data)}")


def check_images(key: str, images: int, data: DataSpec | TextSpec) -> None:
    """Raise if a fixed batch of training examples is larger than the data."""
    if images > data.available:
        raise ValueError(f"{key} = {images}: larger than the {data.available} training {unit_of(data)}")


def unit_of(data: DataSpec | TextSpec) -> str:
    """What an example of the data is called."""
    return "sequences" if isinstance(data, TextSpec) else "images"
