"""Descent with depth-wise scaled gradients: all kappas and seeds of one network side by side, with what is recorded.

``W_k <- W_k - eta xi_k G_k``; what diverges or dies is frozen and recorded with its step, and the others go on. Batches
and weights are functions of seed and step, eigenvalues start from random vectors of their own, so a job that was killed
goes on with the numbers that it would have had. Reconstruction (ours) of the experiments of arXiv:2502.13110.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurespeed.data.batches import BatchStream
from featurespeed.homogeneous.losses import OUTPUT_LOSSES
from featurespeed.homogeneous.network import DescentNetwork, Evaluation
from featurespeed.homogeneous.probes import ProbeBatches, probe_rows
from featurespeed.homogeneous.spec import DescentSpec, Schedule
from featurespeed.homogeneous.steps import DEAD, first_failure, update
from featurespeed.machine.device import tf32
from featurespeed.randomness import derive_seed
from featurespeed.training.checkpoint import Checkpoint
from featurespeed.training.evaluate import scores_on_test_set
from featurespeed.training.job import Row
from featurespeed.training.progress import Progress

FIRST, LARGEST, NORM = "first loss", "largest loss", "step norm"


@dataclass
class Window:
    """What the steps since the last look have given, one tensor ``[E]`` a step for each name."""

    values: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, **numbers: Tensor) -> None:
        """The numbers of one step."""
        for name, value in numbers.items():
            self.values.setdefault(name, []).append(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> ``[E, steps]``."""
        return {name: torch.stack(values, 1).double().cpu().numpy() for name, values in self.values.items()}


@dataclass
class State:
    """Members that still train, and all that they need to go on.

    Attributes:
        members: their numbers in ``spec.members``.
        step: updates done.
        network: of these members.
        moved: ``W_t - W_0``, one tensor a layer.
        rates: constant learning rate of each member, ``[E]``; NaN with the geometry-aware schedule.
        totals: name -> float64 ``[E]``: loss on the first minibatch, the largest one so far, and the largest
            ``|dW_k| / eta`` so far over steps and layers.
    """

    members: list[int]
    step: int
    network: DescentNetwork
    moved: list[Tensor]
    rates: Tensor
    totals: dict[str, np.ndarray]

    def keep(self, places: Sequence[int]) -> State:
        """The same for some of the members, by their places."""
        places = [int(place) for place in places]
        return State(
            [self.members[place] for place in places], self.step, self.network.take(places),
            [moved[places] for moved in self.moved], self.rates[places],
            {name: values[places] for name, values in self.totals.items()},
        )  # fmt: skip


class Descent:
    """One job; :meth:`run` trains it, from the checkpoint if there is one.

    Args:
        spec: the job.
        make_network: number of members -> uninitialised network on the device of the job.
        stream: its batches, for any seeds (:func:`featurespeed.training.setup.make_stream`).
        checkpoint: where to go on from, and to save to every ``checkpoint_seconds``; None saves nothing.
    """

    def __init__(
        self,
        spec: DescentSpec,
        make_network: Callable[[int], DescentNetwork],
        stream: BatchStream,
        checkpoint: Checkpoint | None = None,
        checkpoint_seconds: float = 600.0,
    ):
        self.spec, self.make_network, self.stream = spec, make_network, stream
        self.loss = OUTPUT_LOSSES[spec.loss]
        self.checkpoint, self.checkpoint_seconds = checkpoint, checkpoint_seconds
        self.probe_batches = ProbeBatches.of(spec, stream)
        self.rows: list[Row] = []
        self.progress = Progress(spec.run, len(spec.members) * spec.steps, spec.batch_size)
        self._saved = time.monotonic()

    def run(self) -> list[Row]:
        """Rows of all members, each with the number of its ``member`` and its ``step``."""
        state = self._restored() or self._begun()
        with tf32(self.spec.tf32):
            while state.members and state.step < self.spec.steps:
                state = self._stretch(state)
                if state.members and state.step in self.spec.probe_steps:
                    self._probe(state)
                self._save_if_due(state)
        self._finish(state)
        self.progress.close()
        return self.rows

    # --- beginning ----------------------------------------------------------------------------------------------------

    def _begun(self) -> State:
        members = list(range(len(self.spec.members)))
        network = self.make_network(len(members)).initialise(self._seeds(members))
        moved = [torch.zeros_like(weight.detach()) for weight in network.weights]
        totals = {name: np.zeros(len(members)) for name in (FIRST, LARGEST, NORM)}
        rates = torch.full((len(members),), math.nan, device=self.stream.device, dtype=self.stream.dtype)
        state = State(members, 0, network, moved, rates, totals)
        edges = self._first_probe(network)
        if self.spec.schedule == Schedule.GEOMETRY_AWARE:
            return state
        state.rates.copy_(torch.from_numpy(edges * [kappa for kappa, _ in self.spec.members]))
        for member in np.flatnonzero(np.isnan(edges)):  # no edge: some layer is silent from the beginning on
            self._tell(member, 0, [{"quantity": DEAD, "value": 0.0}])
        return state.keep(np.flatnonzero(np.isfinite(edges)))

    def _first_probe(self, network: DescentNetwork) -> np.ndarray:
        """``2 / lambda_Xi(0)`` of every member, NaN where there is none; members of one seed start equal."""
        seeds = [seed for _, seed in self.spec.members]
        distinct = list(dict.fromkeys(seeds))
        alone = network.take([seeds.index(seed) for seed in distinct])
        found = dict(zip(distinct, probe_rows(alone, self.spec, self.probe_batches, distinct, 0), strict=True))
        for member, seed in enumerate(seeds):
            self._tell(member, 0, found[seed])
        return np.array([edge_of(found[seed]) for seed in seeds])

    def _seeds(self, members: Sequence[int]) -> list[int]:
        """Root seed of every member: those that differ in kappa alone have the same one, and so the same batches."""
        return [derive_seed(self.spec.seed, "member", self.spec.members[member][1]) for member in members]

    # --- steps --------------------------------------------------------------------------------------------------------

    def _stretch(self, state: State) -> State:
        """The steps until the next record, then a look at them: records, failures, and who goes on."""
        seeds, window = self._seeds(state.members), Window()
        streams = list(dict.fromkeys(seeds))
        batches, order = self.stream.for_seeds(streams), [streams.index(seed) for seed in seeds]
        for _ in range(self.spec.record_every):
            x, y = batches.batch(state.step)
            found = state.network.evaluate(x[order], y[order], self.spec.scaling, self.loss)
            rates = self._rates(state, found)
            cosine, norm = update(state.network.weights, state.moved, found, rates)
            ratio = torch.where(found.c1 == 0, 0.0, -rates * found.c2 / found.c1)
            window.add(loss=found.losses, ratio=ratio, cosine=cosine, norm=norm, rate=rates, dead=found.dead_layer)
            state.step += 1
        return self._look(state, window.arrays())

    def _rates(self, state: State, found: Evaluation) -> Tensor:
        if self.spec.schedule == Schedule.CONSTANT:
            return state.rates
        kappas = torch.tensor([self.spec.members[member][0] for member in state.members]).to(state.rates)
        edges = torch.where(found.c2 > 0, -found.c1 / found.c2, math.inf)
        return kappas * edges.clamp(max=self.spec.largest_rate)

    def _look(self, state: State, window: Mapping[str, np.ndarray]) -> State:
        """Rows of the steps in the window; a failed member ends with the step before its failure."""
        begin = state.step - self.spec.record_every
        kept = []
        for place, member in enumerate(state.members):
            own = {name: values[place] for name, values in window.items()}
            failure = first_failure(own)
            used = self.spec.record_every if failure is None else failure[1]
            self._count(state, place, own, begin, used)
            if used:
                self._tell(member, begin + used, self._records(own, begin, used))
            if failure is None:
                kept.append(place)
                continue
            what, offset, layer = failure
            self._tell(member, begin + offset, [{"quantity": what, "value": float(begin + offset), "layer": layer}])
            self._close(state, place, begin + offset)
        self._show(state, kept, window["loss"][:, -1])
        return state if len(kept) == len(state.members) else state.keep(kept)

    def _count(self, state: State, place: int, own: Mapping[str, np.ndarray], begin: int, used: int) -> None:
        losses = own["loss"][: used + 1]  # that of the failing step, too, if it is a number
        totals = state.totals
        if begin == 0:
            totals[FIRST][place] = losses[0]
        totals[LARGEST][place] = max([totals[LARGEST][place], *losses[np.isfinite(losses)]])
        totals[NORM][place] = max([totals[NORM][place], *own["norm"][:used]])

    def _records(self, own: Mapping[str, np.ndarray], begin: int, used: int) -> Iterator[Row]:
        """Means over the steps of the window that a member has done."""
        ratio, cosines = own["ratio"][:used], own["cosine"][:used]
        numbers = {
            "training_loss": own["loss"][:used].mean(),
            "curvature_ratio": ratio.mean(),
            "beyond_share": (ratio > 1).mean(),
            "update_cosine": cosines[1 if begin == 0 else 0 :].mean() if begin + used > 1 else math.nan,
        }
        if self.spec.schedule == Schedule.GEOMETRY_AWARE:
            numbers["step_size"] = own["rate"][:used].mean()
        yield from ({"quantity": name, "value": float(value)} for name, value in numbers.items() if np.isfinite(value))

    def _probe(self, state: State) -> None:
        seeds = [self.spec.members[member][1] for member in state.members]
        with tf32(False):
            found = probe_rows(state.network, self.spec, self.probe_batches, seeds, state.step)
        for member, rows in zip(state.members, found, strict=True):
            self._tell(member, state.step, rows)

    def _show(self, state: State, kept: Sequence[int], losses: np.ndarray) -> None:
        self.progress.count(len(state.members) * self.spec.record_every)
        self.progress.skip((len(state.members) - len(kept)) * (self.spec.steps - state.step))
        finite = losses[kept] if kept else np.array([math.nan])
        self.progress.tell(finite.min(), finite.max(), len(self.spec.members) - len(kept), state.step)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _close(self, state: State, place: int, step: int) -> None:
        """What is known of a member over all of its steps."""
        first, largest, norm = (float(state.totals[name][place]) for name in (FIRST, LARGEST, NORM))
        rows = [{"quantity": "step_norm", "value": norm}]
        if first > 0:
            rows.append({"quantity": "largest_loss_ratio", "value": largest / first})
        self._tell(state.members[place], step, rows)

    def _finish(self, state: State) -> None:
        """The members that got to the end, on the test set."""
        if not state.members:
            return
        scores = scores_on_test_set([(state.members, state.network)], self.stream, self.spec.loss)
        for place, member in enumerate(state.members):
            self._close(state, place, state.step)
            found = scores.get(member, {})
            self._tell(member, state.step, [{"quantity": name, "value": value} for name, value in found.items()])

    def _tell(self, member: int, step: int, rows: Iterable[Row]) -> None:
        self.rows += [{"member": int(member), "step": step} | row for row in rows]

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _save_if_due(self, state: State) -> None:
        if self.checkpoint is None or time.monotonic() - self._saved < self.checkpoint_seconds:
            return
        self.checkpoint.save(
            {
                "members": state.members,
                "step": state.step,
                "weights": [weight.detach().cpu() for weight in state.network.weights],
                "moved": [moved.cpu() for moved in state.moved],
                "rates": state.rates.cpu(),
                "totals": {name: torch.from_numpy(values) for name, values in state.totals.items()},
                "rows": json.dumps(self.rows),
            }
        )
        self._saved = time.monotonic()

    def _restored(self) -> State | None:
        saved: dict[str, Any] | None = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return None
        self.rows = json.loads(saved["rows"])
        network, device = self.make_network(len(saved["members"])), self.stream.device
        for weight, kept in zip(network.weights, saved["weights"], strict=True):
            weight.data.copy_(kept)
        left = len(saved["members"]) * (self.spec.steps - saved["step"])
        self.progress.skip(len(self.spec.members) * self.spec.steps - left)
        totals = {name: values.numpy().copy() for name, values in saved["totals"].items()}
        moved = [part.to(device) for part in saved["moved"]]
        return State(saved["members"], saved["step"], network, moved, saved["rates"].to(device), totals)


def edge_of(rows: Iterable[Row]) -> float:
    """``2 / lambda_Xi`` from the rows of one probe; NaN where there is none."""
    found = [row["value"] for row in rows if row["quantity"] == "scaled_sharpness"]
    return 2 / found[0] if found and found[0] > 0 else math.nan
