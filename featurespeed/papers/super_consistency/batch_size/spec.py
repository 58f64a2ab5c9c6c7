"""Settings of Figures 12, 13 and 14 of arXiv:2402.17457: late training, batch sizes, with and without augmentation."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from featurespeed.data.spec import DataSpec
from featurespeed.papers.super_consistency.spec import (
    RATES,
    check_alike,
    check_along_training,
    check_networks,
    check_over_width,
    differing_setting,
)
from featurespeed.sweeps.spec import SweepSpec, TransferSpec

#: Labels of the networks, by which figures and claims know them.
PLAIN, AUGMENTED = "no augmentation", "augmentation"
#: The same of the batch sizes: label -> how many times the smallest.
BATCHES = {"B": 1, "2B": 2, "4B": 4}
EQUAL = 0.01  # relative difference of the images that two batch sizes see: epochs end with a whole batch


class LateSpec(SweepSpec):
    """One network over the width, trained for long with and without augmentation (Figure 12)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> LateSpec:
        check_over_width(self, "sharpness")
        check_networks(self, (PLAIN, AUGMENTED))
        check_along_training(self)
        plain, augmented = (self.networks[label].data or self.data for label in (PLAIN, AUGMENTED))
        _check_augmented(f"networks.{PLAIN}.data", plain, False)
        _check_augmented(f"networks.{AUGMENTED}.data", augmented, True)
        one, other = (self.networks[label].model_copy(update={"data": None}) for label in (PLAIN, AUGMENTED))
        differing = differing_setting(one, other)
        if differing or _images(plain) != _images(augmented):
            raise ValueError(
                f"networks.{AUGMENTED}.{differing or 'data'}: must differ from networks.{PLAIN} in crop, flip and"
                " rotation only"
            )
        return self


class BatchSpec(TransferSpec):
    """One network over the width, at a batch size, twice and four times it, for as many epochs (Figures 13 and 14)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> BatchSpec:
        check_over_width(self, "sharpness")
        check_networks(self, tuple(BATCHES))
        first = self.networks["B"]
        for label, times in BATCHES.items():
            own = self.networks[label]
            check_alike(self, "B", label, *RATES, "batch_size", "steps")
            if None in (first.batch_size, own.batch_size) or own.batch_size != times * first.batch_size:
                raise ValueError(
                    f"networks.{label}.batch_size = {own.batch_size}: must be {times} times that of networks.B,"
                    f" {first.batch_size}"
                )
            steps, longest = own.steps or self.steps, first.steps or self.steps
            if abs(times * steps / longest - 1) > EQUAL:
                raise ValueError(
                    f"networks.{label}.steps = {steps}: must be {longest / times:g}, as many epochs as networks.B has"
                )
        check_along_training(self)
        return self


class AugmentedBatchSpec(BatchSpec):
    """With augmentation (Figure 13, as the text has it)."""

    @model_validator(mode="after")
    def _augments(self) -> AugmentedBatchSpec:
        _check_augmented("data", self.networks["B"].data or self.data, True)
        return self


class PlainBatchSpec(BatchSpec):
    """Without augmentation (Figure 14, as the text has it)."""

    @model_validator(mode="after")
    def _does_not_augment(self) -> PlainBatchSpec:
        _check_augmented("data", self.networks["B"].data or self.data, False)
        return self


def _check_augmented(key: str, data: DataSpec, augmented: bool) -> None:
    if data.augmented != augmented:
        given = f"crop = {data.crop}, flip = {str(data.flip).lower()}, rotation = {data.rotation:g}"
        raise ValueError(f"{key}: {given}: must {'augment' if augmented else 'not augment'}, as the figure's text says")


def _images(data: DataSpec) -> dict[str, Any]:
    """Which images there are before they are augmented."""
    return data.model_dump(exclude={"crop", "flip", "rotation"})
