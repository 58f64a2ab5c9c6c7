"""Settings of the comparison of conventions: networks, and those that differ from them in one choice."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from featurespeed.models.plan import plan_network
from featurespeed.papers.super_consistency.spec import check_over_width, check_same
from featurespeed.sweeps.spec import TransferSpec
from featurespeed.values import did_you_mean

_OWN = ("model", "learning_rates", "measured")  # what a variant may have of its own


class ConventionsSpec(TransferSpec):
    """Networks over the width, each a base or one that differs from its base.

    Attributes:
        base: label -> label of the network from which it differs: in one choice, or in all of them by its convention.
            A base has none itself; it and all that differ from it are a family.
    """

    base: Annotated[dict[str, str], Field(min_length=1)]

    @model_validator(mode="after")
    def _variants_have_a_base(self) -> ConventionsSpec:
        check_over_width(self, "sharpness")
        if 0 not in self.probe_steps:
            raise ValueError(f"probe_steps = {self.probe_steps}: must hold 0, where the sharpness is looked at")
        self._check_families()
        for label, base in self.base.items():
            self._check_training(label, base)
            self._check_model(label, base)
        return self

    def _check_families(self) -> None:
        """Every network is a base, or has one that is."""
        for label, base in self.base.items():
            for name in (label, base):
                if name not in self.networks:
                    known, hint = "; ".join(self.networks), did_you_mean(name, self.networks)
                    raise ValueError(f"base.{label}: unknown network {name!r}, allowed: {known}{hint}")
            if base in self.base:
                raise ValueError(
                    f"base.{label} = {base!r}: has a base of its own, {self.base[base]!r}; allowed: one without"
                )
        alone = [label for label in self.networks if label not in (*self.base, *self.base.values())]
        if alone:
            raise ValueError(f"base: nothing is said of network {alone[0]!r}; give its base, or leave it out")

    def _check_training(self, label: str, base: str) -> None:
        """A variant is trained like its base."""
        own, other = self.networks[label], self.networks[base]
        alike = other.model_copy(update={name: getattr(own, name) for name in _OWN})
        reason = "; only the model and its learning rates may differ"
        check_same(f"its base {base!r}", alike, f"networks.{label}", own, reason=reason)

    def _check_model(self, label: str, base: str) -> None:
        """A variant is another network than its base, by one choice or by its convention."""
        own, other = self.networks[label].model, self.networks[base].model
        different = [name for name in type(own).model_fields if getattr(own, name) != getattr(other, name)]
        if own.convention == other.convention and len(different) > 1:
            raise ValueError(
                f"networks.{label}.model: differs from its base {base!r} in {' and '.join(different)}; allowed: one of"
                " them"
            )
        if self._built(label) == self._built(base):
            height, width = (self.networks[label].data or self.data).shape[1:]
            raise ValueError(
                f"networks.{label}.model: the same network as its base {base!r} on images of {height} x {width};"
                " change a choice that matters there, or leave it out"
            )

    def _built(self, label: str) -> object:
        """All that tells a network from others: its layers, and how residual branches are scaled."""
        network = self.networks[label]
        model, width = network.model, (network.widths or self.widths)[0]
        plan = plan_network(model, width, (network.data or self.data).shape, classes=1)
        return plan, (model.alpha, model.counted_depth) if model.residual else None
