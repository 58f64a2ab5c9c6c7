"""Taylor coefficients of the loss along a scaled gradient step (ours, for arXiv:2502.13110): are they right, and how
far do they reach?

Everything is computed in float64. Cases of the rows:

- ``autodiff``: small random networks of all scalings, both losses, several depths, width patterns and activations:
  errors of c0 to c3 against nested automatic differentiation;
- ``identity``: the same networks: errors of what must hold between the coefficients, the Hessian and the backward pass;
- ``predicted``: at probe steps of a training run, the change of the minibatch's loss along its own scaled gradient,
  predicted by orders 1 to 3 and measured; ``c`` is the step over ``-c1/|c2|``, the edge where ``c2 > 0``. In the series
  ``measured, linear region`` the slopes of the activation stay what they were.

Errors are relative; where terms may cancel, relative to the sum of their absolute values. The series is the
coefficient, the identity or the order; those that end in ``another network's`` are controls, with one side taken from
the next network of the same architecture. The seed is the number of the network.

Input: ``data`` (npz).
"""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from featurespeed.curvature.lanczos import largest_eigenvalues
from featurespeed.curvature.operators import Hessian
from featurespeed.data.batches import BatchStream
from featurespeed.data.store import ImageData, load_dataset
from featurespeed.errors import UserError
from featurespeed.homogeneous.losses import OUTPUT_LOSSES
from featurespeed.homogeneous.minibatch import Minibatch, autodiff_errors, identity_errors
from featurespeed.homogeneous.network import HomogeneousMLP, inputs_of
from featurespeed.homogeneous.scalings import dead_layers
from featurespeed.homogeneous.spec import GradientScaling
from featurespeed.homogeneous.widths import hidden_widths
from featurespeed.papers.edge_of_stability.coefficients.spec import TaylorSpec
from featurespeed.pipeline.stage import Task, progress, run_stage
from featurespeed.randomness import derive_seed, generator
from featurespeed.records import frame
from featurespeed.training.setup import input_shape, make_stream

Row = dict[str, object]
EXACT = torch.float64
SCALINGS = list(GradientScaling)
ACTIVATIONS = ((0.5, 0.5), (0.0, 1.0), (0.7, 0.3), (1.0, 0.25))  # ReLU, absolute value, two leaky ones
LARGEST_BASE = {0: 10, 1: 5, 2: 3}  # exponent of the width pattern -> largest base width of a random network
FEWEST_UNITS = 2
DRAWS = 500  # of one network: a narrow ReLU network often has a dead layer
EDGE_TOL = 1e-3  # of lambda_Xi, which sets the learning rate
COMMON: Row = {"parameterization": "EOC", "optimizer": "sgd", "estimator": "training"}


# --- random networks --------------------------------------------------------------------------------------------------


def random_minibatch(spec: TaylorSpec, number: int) -> tuple[Minibatch, Row]:
    """One architecture with all of its networks, none of them dead, and the columns that say which it is."""
    scaling = SCALINGS[number % len(SCALINGS)]
    loss = list(OUTPUT_LOSSES)[number // len(SCALINGS) % len(OUTPUT_LOSSES)]
    pattern, layers = number % len(LARGEST_BASE), 2 + number % 5
    draw = generator(spec.seed, "architecture", number)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=draw))

    a, b = ACTIVATIONS[whole(0, len(ACTIVATIONS) - 1)]
    widths = hidden_widths(pattern, whole(FEWEST_UNITS, LARGEST_BASE[pattern]), layers - 1)
    sizes, examples = [whole(3, 8), *widths, whole(2, 5)], whole(4, 12)
    net = HomogeneousMLP(sizes, spec.cases.networks, (a, b)).to(EXACT)
    x, y = alive(net, examples, derive_seed(spec.seed, "network", number))
    keys = {
        "run_id": f"{loss}, a = {a:g}, b = {b:g}, r = {pattern}", "scaling": str(scaling), "width": widths[0],
        "depth": layers, "input_dim": sizes[0], "output_dim": sizes[-1], "n_inputs": examples,
    }  # fmt: skip
    return Minibatch.of(net, x, y, scaling, OUTPUT_LOSSES[loss]), keys


def alive(net: HomogeneousMLP, examples: int, root: int) -> tuple[Tensor, Tensor]:
    """Weights, and a Gaussian batch for every member; a member with a dead layer draws both again."""
    draws = [0] * net.members
    for _ in range(DRAWS):
        seeds = [derive_seed(root, member, draw) for member, draw in enumerate(draws)]
        streams = [generator(seed, "batch") for seed in seeds]
        x = torch.stack([torch.randn(examples, net.sizes[0], generator=s, dtype=EXACT) for s in streams])
        y = torch.stack([torch.randint(net.sizes[-1], (examples,), generator=s) for s in streams])
        dead = dead_layers(net.initialise(seeds).hidden_features(x)) > 0
        if not dead.any():
            return inputs_of(x), y
        draws = [draw + int(again) for draw, again in zip(draws, dead, strict=True)]
    raise FloatingPointError(f"a network of {net.sizes} units had a dead layer in each of {DRAWS} draws")


def case_rows(spec: TaylorSpec, number: int) -> Iterator[Row]:
    """Rows of all networks of one architecture."""
    batch, keys = random_minibatch(spec, number)
    first, starts = number * spec.cases.networks, derive_seed(spec.seed, "eigenvalues", number)
    for case, found in (("autodiff", autodiff_errors(batch)), ("identity", identity_errors(batch, starts))):
        for series, errors in found:
            own = COMMON | keys | {"case": case, "series": series, "quantity": "relative_error"}
            for member, value in enumerate(errors.tolist()):
                yield own | {"seed": first + member, "value": value}


# --- along training ---------------------------------------------------------------------------------------------------


class Training:
    """All seeds side by side; those that fail stop, with a row that says when."""

    def __init__(self, spec: TaylorSpec, data: ImageData):
        self.spec, self.loss, self.members = spec, OUTPUT_LOSSES[spec.loss], list(range(spec.seeds))
        channels, height, width = input_shape(data, spec.data)
        sizes = [channels * height * width, *spec.hidden, data.classes]
        self.stream = self._stream(data)
        net = HomogeneousMLP(sizes, spec.seeds, (spec.activation.a, spec.activation.b)).to(EXACT)
        self.net = net.initialise(self._seeds())
        self.rates = spec.kappa * self._first_edge()
        self.keys = COMMON | {
            "case": "predicted", "run_id": spec.artefact, "scaling": str(spec.scaling), "width": spec.hidden[0],
            "depth": spec.layers, "input_dim": sizes[0], "output_dim": sizes[-1], "n_inputs": spec.batch_size,
        }  # fmt: skip

    def rows(self) -> Iterator[Row]:
        """Loss changes at the probe steps, and the step at which a network failed."""
        for step in progress(range(self.spec.probe_steps[-1] + 1), self.spec.artefact):
            probed = step in self.spec.probe_steps
            x, y = self.stream.for_seeds(self._seeds()).batch(step)
            batch = Minibatch.of(self.net, inputs_of(x), y, self.spec.scaling, self.loss, 3 if probed else 1)
            failures = self._failures(batch, step)
            yield from failures.values()
            kept = [place for place in range(len(self.members)) if place not in failures]
            if probed and kept:
                yield from self._changes(batch, step, kept)
            if not kept:
                return
            self._update(batch, kept)

    def _seeds(self) -> list[int]:
        return [derive_seed(self.spec.seed, "member", member) for member in self.members]

    def _stream(self, data: ImageData) -> BatchStream:
        try:
            return make_stream(data, self.spec, torch.device("cpu"))
        except ValueError as error:
            raise UserError(f"{self.spec.artefact}: {data.name}: {error}") from None

    def _first_edge(self) -> Tensor:
        """``2 / lambda_Xi(0)`` on the fixed batch, ``[E]``."""
        x, y = self.stream.fixed_batch(self.spec.edge_images, derive_seed(self.spec.seed, "curvature"))
        x, y = inputs_of(x.expand(self.spec.seeds, *x.shape)), y.expand(self.spec.seeds, -1)
        batch = Minibatch.of(self.net, x, y, self.spec.scaling, self.loss, order=1)
        for seed, layer in enumerate(dead_layers(batch.found.activations[1:]).tolist()):
            if layer:
                raise UserError(
                    f"{self.spec.artefact}: seed {seed}: layer {layer} has no active unit at initialisation"
                )
        starts = [derive_seed(seed, "eigenvalue") for seed in self._seeds()]
        operator = batch.scaled_hessian(Hessian(batch.objective()))
        found = largest_eigenvalues(operator, tol=EDGE_TOL, seed=starts)
        return torch.tensor([2 / record.eigenvalue for record in found], dtype=EXACT)

    def _failures(self, batch: Minibatch, step: int) -> dict[int, Row]:
        """Place -> row, of networks whose loss or scaling is not finite, or that have a dead layer."""
        dead = dead_layers(batch.found.activations[1:]).tolist()
        finite = (torch.isfinite(batch.taylor.c0) & torch.isfinite(batch.factors).all(1)).tolist()
        found = {}
        for place in range(len(self.members)):
            if dead[place] or not finite[place]:
                what = {"quantity": "dead_step" if dead[place] else "diverged_step", "layer": dead[place]}
                found[place] = self.keys | what | self._place(place, step) | {"series": "run", "value": float(step)}
        return found

    def _place(self, place: int, step: int) -> Row:
        return {"seed": self.members[place], "step": step, "learning_rate": float(self.rates[place])}

    def _changes(self, batch: Minibatch, step: int, kept: list[int]) -> Iterator[Row]:
        """Predicted and measured changes of the loss at all step sizes."""
        unit = batch.taylor.c1.abs() / batch.taylor.c2.abs()
        for size in self.spec.step_sizes:
            s = size * unit
            changes = {f"order {order}": batch.taylor.change(s, order) for order in (1, 2, 3)}
            changes |= {"measured": batch.change(s), "measured, linear region": batch.change(s, linear=True)}
            for series, values in changes.items():
                for place in kept:
                    value = {"series": series, "c": size, "value": float(values[place])}
                    yield self.keys | {"quantity": "loss_change"} | self._place(place, step) | value

    def _update(self, batch: Minibatch, kept: list[int]) -> None:
        """One step ``W_k <- W_k - eta xi_k G_k``, and on with those that are kept."""
        for matrix, direction in zip(self.net.matrices, batch.directions, strict=True):
            matrix.data -= self.rates[:, None, None] * direction
        if len(kept) < len(self.members):
            self.net, self.rates = self.net.take(kept), self.rates[kept]
            self.members = [self.members[place] for place in kept]


def main(spec: TaylorSpec, task: Task) -> pd.DataFrame:
    """All random networks, then the training runs, as a long table."""
    rows = [row for number in progress(range(spec.cases.architectures), "cases") for row in case_rows(spec, number)]
    rows += Training(spec, load_dataset(task.inputs["data"])).rows()
    return frame(rows)


if __name__ == "__main__":
    run_stage(main, TaylorSpec)
