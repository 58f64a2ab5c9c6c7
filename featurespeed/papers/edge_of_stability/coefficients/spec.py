"""Spec of the Taylor coefficients: against automatic differentiation, and along a training run (``beos_fig6``).

For arXiv:2502.13110, of which only the abstract is known to us: these settings are our reconstruction.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from featurespeed.data.spec import DataSpec, check_batch, check_images
from featurespeed.homogeneous.spec import ActivationSpec, GradientScaling, Kappas, Layers, NetworkSpec
from featurespeed.values import Count, Positive, Replicates, Seed, Spec, Steps

#: Every scaling with both losses: fewer architectures would leave a pair out.
FEWEST_ARCHITECTURES = 2 * len(GradientScaling)


class RandomNetworks(Spec):
    """Random networks whose coefficients are compared with automatic differentiation: the product of the two.

    Attributes:
        architectures: draws of depth, widths, activation, scaling, loss and sizes of the batch.
        networks: draws of weights and data for each of them; two at least, each the control of the one before.
    """

    architectures: Annotated[int, Field(ge=FEWEST_ARCHITECTURES, strict=True)]
    networks: Annotated[int, Field(ge=2, strict=True)]


class TaylorSpec(Spec):
    """Coefficients of random networks, and loss changes predicted and measured along training.

    Attributes:
        cases: random networks.
        data, layers, activation, network, loss, scaling: of the training runs.
        kappa: learning rate of the runs, ``eta = kappa 2/lambda_Xi(0)``.
        probe_steps: after how many updates loss changes are predicted and measured; 0, the initialisation, is one.
        edge_images: size of the fixed batch of training images on which ``lambda_Xi(0)`` is measured.
        step_sizes: steps along the scaled gradient at which the loss is measured, multiples of the edge ``-c1/c2`` of
            the minibatch.
        seeds: initialisations, each with its own batches.
    """

    artefact: str
    cases: RandomNetworks
    data: DataSpec
    layers: Layers
    activation: ActivationSpec = ActivationSpec()
    network: NetworkSpec
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    scaling: GradientScaling
    kappa: Positive
    batch_size: Count
    steps: Count
    probe_steps: Annotated[list[Steps], Field(min_length=1)]
    edge_images: Count
    step_sizes: Kappas
    seeds: Replicates
    seed: Seed

    @model_validator(mode="after")
    def _rules_across_keys(self) -> TaylorSpec:
        for key in ("probe_steps", "step_sizes"):
            values = getattr(self, key)
            if values != sorted(set(values)):
                raise ValueError(f"{key} = {values}: must ascend and not repeat")
        if self.probe_steps[0] != 0:
            raise ValueError(f"probe_steps = {self.probe_steps}: must begin with 0, where no network has failed yet")
        if self.probe_steps[-1] > self.steps:
            raise ValueError(f"probe_steps = {self.probe_steps[-1]}: training ends at steps = {self.steps}")
        if self.network.kind != "mlp":
            raise ValueError(f"network.kind = {self.network.kind!r}: the coefficients are those of an mlp")
        if self.network.data is not None:
            raise ValueError(f"network.data = {self.network.data.name!r}: give data beside network, leave it out here")
        check_batch(self.batch_size, self.data)
        check_images("edge_images", self.edge_images, self.data)
        _ = self.hidden
        return self

    @property
    def dtype(self) -> str:
        """Precision of batches: all of the stage is float64."""
        return "float64"

    @property
    def hidden(self) -> list[int]:
        """Widths ``m_1 .. m_{l-1}`` of the trained networks."""
        return self.network.hidden(self.layers, self.data)
