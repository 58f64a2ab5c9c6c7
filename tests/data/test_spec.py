"""Settings of the data: what goes together, and that new choices leave the names of old runs alone."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from featurespeed.data.spec import DataSpec, check_batch


def test_an_unused_choice_is_not_part_of_the_settings():
    assert DataSpec(name="cifar10").model_dump(mode="json") == {
        "name": "cifar10", "examples": None, "downscale": 1, "pixels": "centred", "crop": 0, "flip": False,
        "rotation": 0.0,
    }  # fmt: skip
    used = DataSpec(name="cifar10", resized_crop=True)
    assert used.model_dump(mode="json")["resized_crop"] is True and used.augmented
    assert DataSpec.model_validate(used.model_dump(mode="json")) == used


@pytest.mark.parametrize(
    ("name", "shape", "count", "streamed"),
    [
        ("tiny_imagenet_40", (3, 64, 64), 4000, False),
        ("tiny_imagenet", (3, 64, 64), 100_000, True),
        ("imagenet", (3, 224, 224), 1_281_167, True),
    ],
)
def test_shapes_and_counts_of_the_sets_in_class_folders(name, shape, count, streamed):
    data = DataSpec(name=name, pixels="imagenet")
    assert (data.shape, data.available, data.streamed) == (shape, count, streamed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cifar10", "crop": 4, "resized_crop": True}, "crop = 4: must be 0 with resized_crop = true"),
        ({"name": "mnist", "pixels": "imagenet"}, "pixels = imagenet: needs images of 3 channels, and mnist has 1"),
        ({"name": "imagenet", "downscale": 2}, "downscale = 2: must be 1 for imagenet, which is read from its files"),
        ({"name": "tiny_imagenet", "pixels": "mean_image_removed"}, "tiny_imagenet is read from its files and has no"),
        ({"name": "tiny_imagenet", "examples": 100_001}, "tiny_imagenet has 100000 training images"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        DataSpec(**settings)


def test_full_batches_of_files_or_of_random_crops_are_refused():
    with pytest.raises(ValueError, match="batch_size = null: imagenet is read from its files, a batch at a time"):
        check_batch(None, DataSpec(name="imagenet"))
    with pytest.raises(ValueError, match="set crop, flip, rotation and resized_crop to 0"):
        check_batch(None, DataSpec(name="cifar10", resized_crop=True))
    check_batch(None, DataSpec(name="tiny_imagenet_40"))
