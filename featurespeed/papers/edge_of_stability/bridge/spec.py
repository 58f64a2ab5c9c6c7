"""Settings of the ConvNets of arXiv:2402.17457 beyond their edge of stability: what is compared with what."""

from __future__ import annotations

from pydantic import model_validator

from featurespeed.homogeneous.spec import DescentSweepSpec

UNIFORM, QUADRATIC = "r = 0", "r = 2"
NETWORKS = (UNIFORM, QUADRATIC)
SCALINGS = ("none", "rel1", "fsf")


class ReachSpec(DescentSweepSpec):
    """Runs of which two can be compared: with a scaling and without, or of the two patterns."""

    @model_validator(mode="after")
    def _two_can_be_compared(self) -> ReachSpec:
        trained = {(label, str(name)) for name, runs in self.scalings.items() for label in runs.networks}
        scaled = any({(UNIFORM, "none"), (UNIFORM, name)} <= trained for name in SCALINGS[1:])
        patterns = any({(UNIFORM, name), (QUADRATIC, name)} <= trained for name in SCALINGS)
        if not scaled and not patterns:
            raise ValueError(
                f"scalings = {sorted({name for _, name in trained})} of networks = {sorted({n for n, _ in trained})}:"
                f" nothing to compare; {UNIFORM!r} must train with none and with rel1 or fsf, or as {QUADRATIC!r} does"
            )
        return self
