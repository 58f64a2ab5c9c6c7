"""Whether networks of one size are trained side by side or one by one: what is exact, what fits, what is faster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import islice
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from featurespeed.measuring.batches import Part
from featurespeed.measuring.errors import MeasurementError, first_line
from featurespeed.own.ensemble import NotSideBySide, SideBySide
from featurespeed.own.training import Alone, Beginning, Recipe, held

CHECKED = 2  # steps at which networks side by side must do what one alone does
TIMED = (3, 12)  # further steps of both ways, in turns, of which the fastest counts: at least, at most
PATIENCE = 2.0  # seconds after which no more than the fewest are timed
MOST = 64  # networks side by side
MEMORY = 0.25  # share of the free memory that they may take
COPIES = 7  # of the weights: themselves, gradients, two of the optimizer, before a step, two on the way
#: Largest relative difference of losses, gradients and steps, by precision: matrix products in another order.
SAME = {torch.float64: 1e-8, torch.float32: 2e-3}
ROUGH = 2e-2
NEGLIGIBLE = {torch.float64: 1e-11, torch.float32: 1e-5}  # part of the whole gradient in which rounding may be all


@dataclass(frozen=True)
class Way:
    """How networks of one size are trained.

    Attributes:
        size: theirs.
        side_by_side: whether several are trained at a time.
        reason: why so, or why not.
        seeds, rates: how many of each are trained at a time, at most.
        alone: seconds that one network takes for a step alone; NaN where that was not timed.
        together: the same side by side, each network's share.
    """

    size: int
    side_by_side: bool
    reason: str
    seeds: int = 1
    rates: int = 1
    alone: float = float("nan")
    together: float = float("nan")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_note(cls, note: Any, size: int) -> Way | None:
        """What :meth:`as_dict` gave; None if it is something else."""
        own = isinstance(note, dict) and note.keys() == {field.name for field in fields(cls)} and note["size"] == size
        return cls(**note) if own else None


def choose(recipe: Recipe, size: int, seeds: Sequence[int], rates: Sequence[float], side_by_side: bool | None) -> Way:
    """The way to train the networks of one size.

    Args:
        side_by_side: False for one by one; True for side by side wherever that is exact, also with an optimizer that is
            only seen to be proportional to its learning rate in the first steps; None for the faster of both, with an
            optimizer of which it is known.

    Raises:
        MeasurementError: side by side was asked for, and is not possible.
    """
    if side_by_side is False:
        return Way(size, False, "as asked for")
    if len(seeds) * len(rates) < 2:
        return Way(size, False, "one network only")
    try:
        return _tried(recipe, size, seeds, rates, bool(side_by_side))
    except NotSideBySide as error:
        if side_by_side:
            raise MeasurementError(f"side_by_side = True: at size {size} {error}; allowed: None, False") from error
        return Way(size, False, str(error))


def _tried(recipe: Recipe, size: int, seeds: Sequence[int], rates: Sequence[float], asked: bool) -> Way:
    few = seeds[:2] if recipe.source.several else seeds[:1]
    together = _refusing(lambda: SideBySide(recipe, size, few, [rates[0], rates[-1]], asked))
    corners = {(0, 0): Alone(recipe, size, few[0], rates[0])}
    corners[len(few) - 1, 1] = Alone(recipe, size, few[-1], rates[-1])
    for step, parts in enumerate(islice(together.parts(0), CHECKED)):
        _check_step(together, corners, parts, step, recipe.beginning)
    alone = corners[0, 0]
    (part,) = next(alone.parts(0))
    each = _bytes_each(recipe, alone, part)
    del together, corners
    seeds_each, rates_each = chunk(len(seeds), len(rates), each, _free(alone.model), recipe.source.several)
    if seeds_each * rates_each < 2:
        raise NotSideBySide("two networks do not fit into a quarter of the free memory")
    return _timed(recipe, size, seeds[:seeds_each], rates[:rates_each], alone, asked)


def _refusing(call: Callable[[], Any]) -> Any:
    """What a call returns; what it raises says why networks cannot be trained side by side."""
    try:
        return call()
    except (NotSideBySide, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise NotSideBySide(f"it raised {first_line(cause)}") from error


# --- that it is exact -------------------------------------------------------------------------------------------------


def _check_step(
    together: SideBySide,
    corners: Mapping[tuple[int, int], Alone],
    parts: Sequence[Part],
    step: int,
    beginning: Beginning,
) -> None:
    """One step of both ways from the same weights, by the same gradients.

    The gradients come first: those of the stack must be those of each network. Then every optimizer gets those of the
    stack, so that rounding of gradients that are 0, of which Adam makes whole steps, does not count as a difference.

    Args:
        corners: networks alone, by the places of their seed and rate in the stack.
        beginning: of the loss.

    Raises:
        NotSideBySide: they differ.
    """
    losses = _refusing(lambda: together.differentiate(list(parts)))
    if beginning.is_left:
        raise NotSideBySide("the loss keeps something from step to step")
    before = {place: [weight.clone() for weight in own.weights()] for place, own in corners.items()}
    for place, own in corners.items():
        buffers = {name: tensor.clone() for name, tensor in own.model.named_buffers()}
        loss = own.differentiate(parts[place[0]], step)
        _check_buffers(own.model, buffers)
        _check_losses(losses[place], loss)
        found = together.gradients(*place)
        _check_gradients(found, [parameter.grad for parameter in own.model.parameters()])
        for parameter, gradient in zip(own.model.parameters(), found, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
    _refusing(together.move)
    for place, own in corners.items():
        own.move()
        _check_moves(before[place], together.weights(*place), own.weights())
        _copy(together.weights(*place), own)


def _check_buffers(model: nn.Module, before: dict[str, Tensor]) -> None:
    changed = [name for name, tensor in model.named_buffers() if name in before and not _equal(tensor, before[name])]
    if changed or len(before) != len(list(model.named_buffers())):
        raise NotSideBySide(f"buffers change in training ({(changed or ['new ones'])[0]}), as those of BatchNorm do")


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def _check_gradients(found: Sequence[Tensor | None], own: Sequence[Tensor | None]) -> None:
    if any((a is None) != (b is None) for a, b in zip(found, own, strict=True)):
        raise NotSideBySide("other parameters have gradients")
    pairs = [(a, b) for a, b in zip(found, own, strict=True) if a is not None and b is not None]
    whole = math.hypot(*(float(b.norm()) for _, b in pairs))
    for a, b in pairs:
        apart, size = float((a - b).norm()), float(b.norm())
        if not apart <= _same(b) * size + NEGLIGIBLE[b.dtype] * whole:
            raise NotSideBySide(f"gradients differ by {apart / max(size, 1e-300):.1g} of their size")


def _check_moves(before: Sequence[Tensor], found: Sequence[Tensor], own: Sequence[Tensor]) -> None:
    for old, a, b in zip(before, found, own, strict=True):
        if not old.is_floating_point() or not old.numel():
            continue
        rounding = 4 * torch.finfo(old.dtype).eps * float(old.abs().max())
        apart, size = float((a - b).abs().max()), float((b - old).abs().max())
        if not apart <= _same(b) * size + rounding:
            raise NotSideBySide(f"steps of the optimizer differ by {apart / max(size, 1e-300):.1g} of their size")


def _check_losses(found: Tensor, own: Tensor) -> None:
    if not torch.isfinite(own):
        raise NotSideBySide("losses are not finite in the first steps")
    if not float((found - own).abs()) <= _same(own) * float(own.abs()):
        raise NotSideBySide(f"losses differ: {float(found):.6g} and {float(own):.6g}")


def _same(tensor: Tensor) -> float:
    same = SAME.get(tensor.dtype, ROUGH)
    return ROUGH if tensor.is_cuda and tensor.dtype == torch.float32 else same  # factors may be rounded to TF32


@torch.no_grad()
def _copy(weights: Sequence[Tensor], other: Alone) -> None:
    for parameter, value in zip(other.model.parameters(), weights, strict=True):
        parameter.copy_(value)


# --- that it fits -----------------------------------------------------------------------------------------------------


def chunk(seeds: int, rates: int, each: float, free: float, several: bool = True) -> tuple[int, int]:
    """How many seeds and learning rates to train at a time.

    Args:
        seeds, rates: how many there are.
        each: bytes a network.
        free: bytes that are free.
        several: whether batches of several seeds can be had at a time.

    >>> chunk(5, 8, each=1e6, free=1e9)
    (5, 8)
    >>> chunk(5, 40, each=1e6, free=1e9)
    (1, 40)
    >>> chunk(5, 8, each=1e6, free=2e7)
    (1, 5)
    """
    most = max(1, min(MOST, int(MEMORY * free / max(each, 1.0))))
    if not several:
        seeds = 1
    return (max(1, min(seeds, most // rates)), rates) if rates <= most else (1, most)


def _bytes_each(recipe: Recipe, alone: Alone, part: Part) -> float:
    """Bytes of one network: copies of its weights, and what its forward pass keeps for the backward pass."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        recipe.value(alone.model, part)
    return COPIES * sum(t.numel() * t.element_size() for t in held(alone.model).values()) + 2 * kept


def _free(model: nn.Module) -> float:
    device = next(model.parameters()).device
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


# --- that it is faster ------------------------------------------------------------------------------------------------


def _timed(recipe: Recipe, size: int, seeds: Sequence[int], rates: Sequence[float], alone: Alone, asked: bool) -> Way:
    together, count = _refusing(lambda: SideBySide(recipe, size, seeds, rates, asked)), len(seeds) * len(rates)
    batches = list(islice(together.parts(0), TIMED[0]))
    single, whole = _race(
        lambda k: alone.step([batches[k % TIMED[0]][0]], k),
        lambda k: _refusing(lambda: together.step(batches[k % TIMED[0]], k)),
        alone.model,
    )
    share = whole / count
    if share < single:
        reason = f"{single / share:.1f} times as fast as one by one"
        return Way(size, True, reason, len(seeds), len(rates), single, share)
    reason = f"{share / single:.1f} times as slow as one by one"
    if asked:
        return Way(size, True, f"as asked for, {reason}", len(seeds), len(rates), single, share)
    return Way(size, False, f"side by side is {reason}", 1, 1, single, share)


def _race(first: Callable[[int], Any], second: Callable[[int], Any], model: nn.Module) -> tuple[float, float]:
    """Seconds of the fastest step of each; in turns, so that other work on the machine slows both."""
    device, times, start = next(model.parameters()).device, [], time.perf_counter()
    for k in range(TIMED[1]):
        times.append([_seconds(partial(step, k), device) for step in (first, second)])
        if len(times) >= TIMED[0] and time.perf_counter() - start > PATIENCE:
            break
    ones, others = zip(*times, strict=True)
    return min(ones), min(others)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
