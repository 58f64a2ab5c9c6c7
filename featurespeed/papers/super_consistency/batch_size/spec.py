"""Settings of Figures 12, 13 and 14 of arXiv:2402.17457: late training, batch sizes, with and without augmentation."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.data.spec import DataSpec
from featurespeed.papers.super_consistency.spec import (
    RATES,
    check_alike,
    check_along_training,
    check_networks,
    check_over_width,
    check_same,
)
from featurespeed.sweeps.spec import SweepSpec, TransferSpec
from featurespeed.values import as_written

#: Labels of the networks, by which figures and claims know them.
PLAIN, AUGMENTED = "no augmentation", "augmentation"
#: The same of the batch sizes: label -> how many times the smallest.
BATCHES = {"B": 1, "2B": 2, "4B": 4}
#: Settings of the data that augment them.
MOVES = ("crop", "flip", "rotation")
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
        keys, only = [f"networks.{label}" for label in (PLAIN, AUGMENTED)], f"; only {', '.join(MOVES)} may differ"
        check_same(keys[0], one, keys[1], other, reason=only)
        check_same(f"{keys[0]}.data", plain, f"{keys[1]}.data", augmented, *MOVES, reason=only)
        return self


class BatchSpec(TransferSpec):
    """One network over the width, at a batch size, twice and four times it, for as many epochs (Figures 13 and 14)."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> BatchSpec:
        check_over_width(self, "sharpness")
        check_networks(self, tuple(BATCHES))
        self._check_that_steps_divide()
        first = self.networks["B"]
        if first.batch_size is None:
            raise ValueError("networks.B.batch_size = null: must be a number, of which the others are multiples")
        for label, times in BATCHES.items():
            own = self.networks[label]
            check_alike(self, "B", label, *RATES, "batch_size", "steps")
            if own.batch_size != times * first.batch_size:
                raise ValueError(
                    f"networks.{label}.batch_size = {as_written(own.batch_size)}: must be {times} times that of"
                    f" networks.B, {as_written(first.batch_size)}"
                )
            steps, longest = own.steps or self.steps, first.steps or self.steps
            if not _equal(times * steps, longest):
                needed = round(longest / times)
                raise ValueError(
                    f"networks.{label}.steps = {steps}: must be {needed}, as many epochs as networks.B has"
                )
        check_along_training(self)
        return self

    def _check_that_steps_divide(self) -> None:
        """Larger batches can have as many epochs in whole steps: without, no other change would help."""
        own = self.networks["B"].steps
        key, steps = ("steps", self.steps) if own is None else ("networks.B.steps", own)
        for label, times in BATCHES.items():
            if not _equal(times * round(steps / times), steps):
                raise ValueError(
                    f"{key} = {steps}: must be a multiple of {max(BATCHES.values())}, or networks.{label} would need"
                    f" {steps / times:g} steps for as many epochs"
                )


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
        given = f"crop = {data.crop}, flip = {as_written(data.flip)}, rotation = {data.rotation:g}"
        raise ValueError(f"{key}: {given}: must {'augment' if augmented else 'not augment'}, as the figure's text says")


def _equal(images: int, others: int) -> bool:
    """Whether two batch sizes see as many images; ``others`` of the smallest one."""
    return abs(images / others - 1) <= EQUAL
