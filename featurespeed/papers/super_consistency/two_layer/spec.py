"""Specs of the two-layer linear network of arXiv:2402.17457: theory, runs on random data (Fig. 5), toy (Fig. 10)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from featurespeed.parameterization import Parameterization
from featurespeed.values import Count, Counts, Number, Positive, Replicates, Seed, Spec, Steps, Widths, distinct

#: Parameterizations that Sec. 5 compares; SP enters at initialisation only (App. C.3).
COMPARED = (Parameterization.MUP, Parameterization.NTP)


def _ascending(values: list) -> list:
    if sorted(set(values)) != values:
        raise ValueError("values must ascend and not repeat")
    return values


def _both(rates: dict) -> dict:
    if set(rates) != set(COMPARED):
        raise ValueError(f"give learning rates of {' and '.join(COMPARED)}, and of no other parameterization")
    return rates


WidthGrid = Annotated[Widths, Field(min_length=2), AfterValidator(_ascending)]
Rates = Annotated[list[Positive], Field(min_length=1), AfterValidator(_ascending)]
Share = Annotated[Number, Field(gt=0, lt=1)]
RatesOfBoth = Annotated[dict[Parameterization, Rates], AfterValidator(_both)]
RateOfBoth = Annotated[dict[Parameterization, Positive], AfterValidator(_both)]


class LawsSpec(Spec):
    """Evolution laws against gradient descent (Thm 5.1), and the curvature along these runs (Lemma 5.2).

    Attributes:
        gammas: values of ``gamma_0``.
        edge_share: the learning rate as a share of that at which the network becomes unstable, at initialisation or at
            the flattest minimiser, whichever is sharper.
        dense_widths: networks small enough for dense matrices by automatic differentiation.
    """

    widths: WidthGrid
    input_dims: Counts
    gammas: Rates
    edge_share: Share
    steps: Count
    dense_widths: WidthGrid

    _distinct = field_validator("input_dims")(distinct)


class EdgeSpec(Spec):
    """Runs up to and beyond the edge of stability (Prop. 5.3).

    Attributes:
        shares: how many learning rates, evenly spaced between ``lowest`` and ``highest`` times that at which the
            network becomes unstable, as in :class:`LawsSpec`.
        tolerance: a run has converged once ``|w - w*| <= tolerance |w*|``.
    """

    input_dim: Count
    widths: WidthGrid
    shares: Annotated[int, Field(ge=3, strict=True)]
    lowest: Positive
    highest: Positive
    steps: Count
    tolerance: Share

    @model_validator(mode="after")
    def _around_the_edge(self) -> EdgeSpec:
        if not self.lowest < 1.0 < self.highest:
            raise ValueError(f"lowest = {self.lowest}, highest = {self.highest}: must lie on both sides of 1")
        return self


class InitialisationSpec(Spec):
    """Concentration at initialisation (Prop. C.1, App. C.3); ``draws`` networks a width."""

    input_dim: Count
    widths: WidthGrid
    draws: Replicates


class LimitSpec(Spec):
    """Trajectories against those of infinite width (Cor. 5.4), at one learning rate for all widths."""

    input_dim: Count
    widths: WidthGrid
    learning_rate: Positive
    steps: Count


class SoftmaxSpec(Spec):
    """Hessian of the cross-entropy by the outputs as the fit gets perfect (App. D); margins of the true class."""

    classes: Annotated[int, Field(ge=2, strict=True)]
    margins: Annotated[list[Steps], Field(min_length=2), AfterValidator(_ascending)]


class TwoLayerTheorySpec(Spec):
    """Sec. 5 and App. C and D on small networks in float64 (artefact ``sc_theory``); the target is ``w* = 1``."""

    artefact: str
    laws: LawsSpec
    edge: EdgeSpec
    initialisation: InitialisationSpec
    limit: LimitSpec
    softmax: SoftmaxSpec
    seeds: Replicates
    seed: Seed


class TwoLayerRunsSpec(Spec):
    """Curvature along gradient descent on random data (Figure 5).

    Attributes:
        samples: Gaussian inputs, a data set for each seed; labels are ``1 . x`` and noise.
        noise: its standard deviation.
        learning_rates: base learning rate of each parameterization.
        probe_steps: after how many updates the curvature is measured; 0, the initialisation, is one of them.
    """

    artefact: str
    input_dim: Count
    samples: Replicates
    noise: Annotated[Number, Field(ge=0)]
    widths: WidthGrid
    learning_rates: RateOfBoth
    probe_steps: Annotated[list[Steps], Field(min_length=2), AfterValidator(_ascending)]
    seeds: Replicates
    seed: Seed

    @model_validator(mode="after")
    def _from_initialisation(self) -> TwoLayerRunsSpec:
        if self.probe_steps[0] != 0:
            raise ValueError(f"probe_steps = {self.probe_steps}: must begin with 0, to which the last one is compared")
        return self


class ToySpec(Spec):
    """Gradient descent on white inputs with the target ``w* = 1`` (Figure 10).

    Attributes:
        learning_rates: grid of base learning rates of each parameterization.
        shown: those whose loss and sharpness are kept at every probe step.
        probes: steps at which the sharpness of these is measured, spread over the first ``shown_steps``.
        steps: updates of every run; one that has converged or diverged stops earlier.
        tolerance: a run has converged once ``|w - w*| <= tolerance |w*|``.
    """

    artefact: str
    input_dim: Count
    widths: WidthGrid
    learning_rates: RatesOfBoth
    shown: RatesOfBoth
    shown_steps: Count
    probes: Annotated[int, Field(ge=2, strict=True)]
    steps: Count
    tolerance: Share
    seeds: Replicates
    seed: Seed

    @model_validator(mode="after")
    def _shown_is_run(self) -> ToySpec:
        for name, rates in self.shown.items():
            unknown = [rate for rate in rates if rate not in self.learning_rates[name]]
            if unknown:
                raise ValueError(f"shown = {unknown[0]}: not a learning rate of {name}: {self.learning_rates[name]}")
        if self.shown_steps > self.steps:
            raise ValueError(f"shown_steps = {self.shown_steps}: at most steps = {self.steps}")
        return self
