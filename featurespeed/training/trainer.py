"""Training of all members of a job, in groups, with records, probes, frozen members and checkpoints.

Batches and augmentation are functions of (seed, step), so a checkpoint needs no state of a random generator: a job that
was killed goes on with the numbers that it would have had.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurespeed.errors import UserError
from featurespeed.machine.device import tf32
from featurespeed.models.networks import Network
from featurespeed.training.checkpoint import Checkpoint
from featurespeed.training.ensemble import Ensemble, fast_kernels
from featurespeed.training.groups import OutOfMemory, chunks, plan_groups
from featurespeed.training.job import Batches, Job, Probe, Row, Training
from featurespeed.training.progress import Progress

CHECK_EVERY = 20  # steps between two looks at the losses, which on a GPU cost a synchronisation
SILENT_STEPS = 20  # steps with outputs of 0 after which a network counts as dead
DIVERGED, DEAD = "diverged", "dead"


class TooLarge(UserError, MemoryError):
    """One member alone does not fit into the memory of the GPU."""


@dataclass
class Group:
    """Members that train side by side, and how far they are.

    ``window`` holds the losses ``[E]`` of the steps since the last look; ``probed`` is the last step that was probed;
    ``stored`` are weights and optimizer, on the CPU, of a group that has begun and waits.
    """

    members: list[int]
    step: int = 0
    probed: int = -1
    stored: dict[str, Any] | None = None
    retried: bool = False
    ensemble: Ensemble | None = None
    batches: Batches | None = None
    order: Tensor | None = None
    captured: bool = False
    window: list[Tensor] = field(default_factory=list)


class Trainer:
    """One training job; :meth:`run` trains it, from the checkpoint if there is one.

    Args:
        job: what to train.
        checkpoint: where to go on from, and to save to every ``checkpoint_seconds``; None saves nothing.
        on_probe: called at every probe step with the members that still train; checkpoints keep the rows it returns.
        cuda_graph: on a GPU, replay the step as one graph.
    """

    def __init__(
        self,
        job: Job,
        *,
        checkpoint: Checkpoint | None = None,
        checkpoint_seconds: float = 600.0,
        on_probe: Callable[[Probe], Iterable[Row]] | None = None,
        cuda_graph: bool = True,
    ):
        self.job, self.spec = job, job.spec
        self.checkpoint, self.checkpoint_seconds, self.on_probe = checkpoint, checkpoint_seconds, on_probe
        self.cuda_graph = cuda_graph and job.device.type == "cuda"
        self.losses = np.full((len(self.spec.members), self.spec.steps), np.nan)
        self.frozen: dict[int, tuple[str, int]] = {}
        self.rows: list[Row] = []
        self.groups: list[Group] = []
        self.final: list[tuple[list[int], Network]] = []
        self.progress = Progress(self.spec.run, self.losses.size, job.batch_size, job.unit)
        self._saved = time.monotonic()

    def run(self) -> Training:
        """Train all members to the end.

        Raises:
            TooLarge: a single member does not fit into the memory of the GPU.
        """
        state = self.checkpoint.load() if self.checkpoint else None
        if state is None:
            plan = plan_groups(self.spec, self.job.device, self._bytes_per_member)
            self.groups = [Group(members) for members in plan]
        else:
            self._restore(state)
        with fast_kernels(self.spec.tf32 != "off"):
            while self.groups:
                self._train_first_group()
        self.progress.close()
        return Training(self.losses, self.frozen, self.rows, self.final)

    # --- one group ----------------------------------------------------------------------------------------------------

    def _train_first_group(self) -> None:
        group = self.groups[0]
        try:
            self._start(group)
            while group.members and group.step < self.spec.steps:
                self._look(group)
                if group.members:
                    self._update(group)
            self._look(group)
            fits = True
        except OutOfMemory:  # nothing more in here: the exception keeps what the failed step had allocated
            fits = False
        if not fits:
            self._split(group)
            return
        self.groups.pop(0)
        if group.members:
            self.final.append((group.members, group.ensemble.network.cpu()))

    def _start(self, group: Group) -> None:
        """Network, optimizer and batches of a group that has none of them yet."""
        seeds = self.job.seeds(group.members)
        if group.ensemble is None:
            network = self.job.make_network(len(group.members))
            ensemble = Ensemble(network, self.spec.optimizer, self._rates(group.members), self.spec.loss)
            if group.stored is None:
                network.initialise(seeds)
            else:
                ensemble.load(group.stored)
            group.ensemble, group.stored = ensemble, None  # only now: memory may run out before
        if group.batches is None:
            streams = list(dict.fromkeys(seeds))
            group.batches = self.job.make_batches(streams)
            order = [streams.index(seed) for seed in seeds]
            # Each stream in turn for as many members: the network's first layer then shares the batches itself.
            regular = [index for index in range(len(streams)) for _ in range(len(seeds) // len(streams))]
            group.order = None if order == regular else torch.tensor(order, device=self.job.device)

    def _rates(self, members: Sequence[int]) -> list[float]:
        return [self.spec.members[member][0] for member in members]

    def _batch(self, group: Group) -> tuple[Tensor, Tensor]:
        x, y = group.batches.batch(group.step)
        return (x, y) if group.order is None else (x[group.order], y[group.order])

    def _update(self, group: Group) -> None:
        x, y = self._batch(group)
        if self.cuda_graph and not group.captured:
            group.ensemble.capture(x, y)
            group.captured = True
        group.window.append(group.ensemble.step(x, y, group.step))
        group.step += 1

    def _look(self, group: Group) -> None:
        """At every few steps, at probe steps and at the end: record, freeze, probe, save."""
        probing = group.step in self.spec.probe_steps and group.probed < group.step
        if not (probing or group.step % CHECK_EVERY == 0 or group.step == self.spec.steps):
            return
        self._record(group)
        if probing and group.members:
            self._probe(group)
        self._save_if_due()

    def _probe(self, group: Group) -> None:
        if self.on_probe is not None:
            x, y = (t.repeat_interleave(len(group.members) // len(t), 0) for t in self._batch(group))
            state = group.ensemble.optimizer.moments()
            probe = Probe(self.job, group.step, group.members, group.ensemble.network, (x, y), state)
            with tf32(self.spec.tf32 == "all"):
                self.rows += list(self.on_probe(probe))
        group.probed = group.step

    def _split(self, group: Group) -> None:
        """Halves of a group that did not fit go on from where it was; no update is lost.

        A single network gets a second try: what earlier groups left may be given back only now.
        """
        members = len(group.members)
        if members == 1 and group.retried:
            raise self._too_large() from None
        if members > 1:
            print(f"{self.spec.run}: {members} networks do not fit into memory, they go on in halves", flush=True)
        self._store(group)
        stored = group.stored if group.ensemble is None else group.ensemble.state()
        group.ensemble = group.batches = None
        gc.collect()
        torch.cuda.empty_cache()
        self.groups[:1] = [
            Group(
                [group.members[index] for index in kept],
                group.step,
                group.probed,
                stored and {name: [tensor[kept] for tensor in tensors] for name, tensors in stored.items()},
                retried=members == 1,
            )
            for kept in chunks(range(len(group.members)), -(-len(group.members) // 2))
        ]

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"run {self.spec.run}: one network of width {self.spec.width} does not fit into the memory of the device"
            f" {self.job.device}; reduce width, batch_size or the depth of the model"
        )

    def _bytes_per_member(self) -> int:
        """Peak memory of one update of one member, measured."""
        torch.cuda.reset_peak_memory_stats(self.job.device)
        before = torch.cuda.memory_allocated(self.job.device)
        trial = Group([0])
        try:
            self._start(trial)
            with fast_kernels(self.spec.tf32 != "off"):
                trial.ensemble.step(*self._batch(trial), 0)
        except OutOfMemory:
            raise self._too_large() from None
        return torch.cuda.max_memory_allocated(self.job.device) - before

    # --- losses, frozen members ---------------------------------------------------------------------------------------

    def _store(self, group: Group) -> None:
        """Move the losses of the window into the records."""
        if group.window:
            window = torch.stack(group.window, dim=1).double().cpu().numpy()
            self.losses[group.members, group.step - window.shape[1] : group.step] = window
            group.window = []
            self.progress.count(window.size)

    def _record(self, group: Group) -> None:
        """Record the losses, and freeze members that diverged or died.

        Memory may run out in here: members are looked at again by the halves of the group, which are at the same step,
        so nothing is registered before all that could fail is done.
        """
        if group.step == 0:
            return
        self._store(group)
        first = max(group.step - CHECK_EVERY, 0)  # what came before was looked at
        recent = self.losses[group.members, first : group.step]
        fate = {index: (DIVERGED, first + step) for index, step in _first_not_finite(recent).items()}
        fate |= {index: (DEAD, step) for index, step in self._dead(group).items() if index not in fate}
        kept = [index for index in range(len(group.members)) if index not in fate]
        ensemble = group.ensemble.take(kept) if fate and kept else None
        for index, (what, step) in fate.items():
            self.frozen[group.members[index]] = (what, step)
            self.losses[group.members[index], step + (what == DEAD) :] = np.nan
        self._tell(group, recent)
        if fate:
            self._keep(group, kept, ensemble)

    def _dead(self, group: Group) -> dict[int, int]:
        """Members whose outputs and gradients are exactly 0 -> the step since when.

        A network without biases whose ReLUs are all off has zero outputs, so its loss is the same number on every
        batch: only members whose last losses are all equal are looked at more closely. Fewer would not do: a network
        whose units are off on a few batches often finds an image, or has the momentum, to come back.
        """
        last = self.losses[group.members, max(group.step - SILENT_STEPS, 0) : group.step]
        constant = [
            index for index, losses in enumerate(last) if len(losses) == SILENT_STEPS and (losses == losses[0]).all()
        ]
        if not constant:
            return {}
        x, y = self._batch(group)
        outputs = group.ensemble.network(x).detach()
        _, gradients = group.ensemble.gradients(x, y)
        found = {}
        for index in constant:
            if not outputs[index].any() and not any(gradient[index].any() for gradient in gradients):
                losses = self.losses[group.members[index], : group.step]
                differing = np.flatnonzero(losses != losses[-1])
                found[index] = int(differing[-1]) + 1 if len(differing) else 0
        return found

    def _keep(self, group: Group, kept: list[int], ensemble: Ensemble | None) -> None:
        lost = len(group.members) - len(kept)
        self.progress.skip(lost * (self.spec.steps - group.step))
        group.members = [group.members[index] for index in kept]
        group.ensemble, group.batches, group.captured = ensemble, None, False
        if kept:
            self._start(group)

    def _tell(self, group: Group, recent: np.ndarray) -> None:
        finite = recent[:, -1][np.isfinite(recent[:, -1])]
        lowest, highest = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
        self.progress.tell(lowest, highest, len(self.frozen), group.step)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _save_if_due(self) -> None:
        if self.checkpoint is None or time.monotonic() - self._saved < self.checkpoint_seconds:
            return
        self.checkpoint.save(
            {
                "losses": torch.from_numpy(self.losses),
                "frozen": {member: list(fate) for member, fate in self.frozen.items()},
                "rows": json.dumps(self.rows, default=_plain),
                "groups": [_group_state(group) for group in self.groups],
                "final": [(members, network.state_dict()) for members, network in self.final],
            }
        )
        self._saved = time.monotonic()

    def _restore(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"].numpy().copy()
        self.frozen = {member: (what, step) for member, (what, step) in state["frozen"].items()}
        self.rows = json.loads(state["rows"])
        groups = [Group(*stored) for stored in state["groups"]]
        self.groups = [group for group in groups if group.members]  # saved just after the last of them was frozen
        for members, weights in state["final"]:
            network = self.job.make_network(len(members)).cpu()
            network.load_state_dict(weights)
            self.final.append((members, network))
        todo = sum(len(group.members) * (self.spec.steps - group.step) for group in self.groups)
        self.progress.skip(self.losses.size - todo)


def _plain(value: Any) -> Any:
    """A number of numpy or torch as one of Python: a checkpoint is read back without running code."""
    if isinstance(value, np.generic | Tensor):
        return value.item()
    raise TypeError(f"a row holds a {type(value).__name__}; numbers and text only")


def _first_not_finite(window: np.ndarray) -> dict[int, int]:
    bad = ~np.isfinite(window)
    return {index: int(bad[index].argmax()) for index in np.flatnonzero(bad.any(1))}


def _group_state(group: Group) -> tuple[list[int], int, int, dict[str, Any] | None]:
    """The first fields of a group, as a checkpoint keeps them."""
    stored = group.stored if group.ensemble is None else group.ensemble.state()
    return group.members, group.step, group.probed, stored
