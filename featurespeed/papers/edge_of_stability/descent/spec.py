"""Settings of Figures 1 to 5 and Table 1 of training beyond the edge of stability (ours)."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.homogeneous.spec import DescentSweepSpec
from featurespeed.values import check_labels


class MapSpec(DescentSweepSpec):
    """Runs whose labels can be told apart in tables: Figure 1, Table 1."""

    @model_validator(mode="after")
    def _labels_can_be_read(self) -> MapSpec:
        check_labels("networks", self.networks)
        return self


class ConstantSpec(MapSpec):
    """Runs of which a figure shows those with a constant step size (Figure 3)."""

    @model_validator(mode="after")
    def _some_are_constant(self) -> ConstantSpec:
        if not self.scalings:
            raise ValueError("scalings = {}: the figure shows runs with a constant step size, give a scaling")
        return self


class CurvesSpec(ConstantSpec):
    """The same along training, at the kappas that are shown (Figures 2 and 4)."""

    @model_validator(mode="after")
    def _some_are_shown(self) -> CurvesSpec:
        run = sorted({kappa for runs in self.scalings.values() for kappa in runs.kappas or self.kappas})
        if not set(self.shown) & set(run):
            raise ValueError(f"shown = {self.shown}: no scaling trains at any of them, but at {run}")
        return self


class AwareSpec(MapSpec):
    """Runs with the geometry-aware schedule, beside constant ones (Figure 5)."""

    @model_validator(mode="after")
    def _some_are_aware(self) -> AwareSpec:
        if self.geometry_aware is None:
            raise ValueError("geometry_aware = null: the figure is about these runs, give their settings")
        return self
