"""What must be for a drawn problem: the measuring functions are right, or say in one line why they cannot be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from featurespeed import hessian_trace, measure_feature_speed, sharpness, spectral_density
from featurespeed.curvature.objective import CurvatureError
from featurespeed.probes.feature_speed import FeatureSpeed, backward_feature_angle
from tests.measuring.drawn import WHOLE_ONLY, Problem, changing, links_of, problem_of, weight_of
from tests.measuring.drawn_modules import CUT_OFF, DOUBLE, OVER_TIME, STATISTICS, TIME, Choice
from tests.measuring.drawn_truth import Motion, dense, motion

#: Rounding of the whole calculation, relative to the norm of the Hessian.
ROUNDING = {DOUBLE: 1e-9, torch.float32: 2e-5}
#: Of feature speeds, relative to the largest one.
SPEED_ERROR = {DOUBLE: 1e-5, torch.float32: 2e-2}
AMBIENT = {"gradients": nullcontext, "no gradients": torch.no_grad, "inference": torch.inference_mode}


#: A first value may be missed for the next one, close to it, which is off by so many tolerances at most, and rarely.
NEXT = 5.0
TINY = 1e-300


@dataclass(frozen=True)
class Options:
    """Arguments of the measuring functions that are no part of the problem."""

    k: int = 1
    smallest: bool = False
    matrix: str = "hessian"
    tol: float = 1e-3
    block: str = "all"
    rated: bool = False
    warm: bool = False
    ambient: str = "gradients"
    beside: str = "trace"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Question:
    """A problem with the arguments of a call, and what is true of them."""

    problem: Problem
    options: Options

    @cached_property
    def places(self) -> list[int]:
        """Of the parameters that count, among those that are trained."""
        count = len(self.problem.trained)
        wanted = {"all": range(count), "one": [self.options.seed % count], "last two": range(count)[-2:]}
        return list(wanted.get(self.options.block, [count - 1, 0] if count > 1 else [0]))

    @cached_property
    def sizes(self) -> list[int]:
        return [self.problem.trained[place].numel() for place in self.places]

    @property
    def arguments(self) -> dict[str, Any]:
        """Of all three functions."""
        choice, trained = self.problem.choice, self.problem.trained
        found: dict[str, Any] = {"micro_batch": choice.micro_batch, "seed": self.options.seed}
        if choice.weighted:
            found["batch_weight"] = weight_of
        if self.options.block != "all":
            named = [trained[place] for place in self.places]
            found["parameters"] = [*named, named[0]] if self.options.block == "twice" else named
        return found

    @cached_property
    def whole(self) -> Tensor:
        """The Hessian by all parameters that are trained."""
        return dense(self.problem, list(range(len(self.problem.trained))))

    @cached_property
    def hessian(self) -> Tensor:
        """That by those which count."""
        sizes = [parameter.numel() for parameter in self.problem.trained]
        parts = torch.arange(sum(sizes)).split(sizes)
        rows = torch.cat([parts[place] for place in self.places])
        return self.whole[rows][:, rows]

    @cached_property
    def rounding(self) -> float:
        """Of an eigenvalue: that of the whole calculation, relative to the norm of the whole Hessian."""
        return ROUNDING[DOUBLE if is_double(self.problem.choice) else torch.float32] * _norm(self.whole)

    @property
    def hopeless(self) -> bool:
        """Whether there is nothing to measure."""
        return changing(self.problem.choice)

    def refusals(self, matrix: str) -> set[str]:
        """Why a measurement may be refused."""
        choice, cut = self.problem.choice, is_cut(self.problem.choice)
        several = (len(choice.sizes) > 1 and not choice.weighted) or cut
        found = {
            "changes from call to call": self.hopeless,
            "no derivative": CUT_OFF & set(choice.twists),
            "compares examples": several and choice.loss in WHOLE_ONLY and not choice.loss_of_model,
            "mixes examples": cut and mixes_examples(choice),
            "statistics of one example": STATISTICS & set(choice.layers) and 1 in choice.sizes,
            "loss of the model, cut": choice.loss_of_model and choice.micro_batch is not None,
            "labels longer than the batch, cut": choice.flat and choice.inputs == "with labels" and cut,
            "labels that cannot be put together": several and choice.kind == "time first" and choice.flat,
            "not one tensor": matrix != "hessian" and (choice.loss_of_model or choice.outputs == "mapping"),
        }
        reasons = {reason for reason, holds in found.items() if holds}
        if not reasons and _norm(self.hessian) <= self.rounding:
            return {"nothing but rounding"}
        return reasons


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def is_double(choice: Choice) -> bool:
    """Whether everything is in float64."""
    return choice.dtype == DOUBLE and "mixed precision" not in choice.twists


def is_cut(choice: Choice) -> bool:
    """Whether a batch is measured in several pieces."""
    lengths = [TIME] if choice.kind == "time first" else choice.sizes
    return choice.micro_batch is not None and max(lengths) > choice.micro_batch


def mixes_examples(choice: Choice) -> bool:
    """Whether outputs of entries along the first dimension depend on others."""
    layers = set(choice.layers)
    return bool(STATISTICS & layers or (choice.kind == "time first" and OVER_TIME & layers))


def check(question: Question, tally: Counter) -> None:
    """Eigenvalues and one of the two others."""
    check_one(check_sharpness, question, tally)
    check_one(check_trace if question.options.beside == "trace" else check_density, question, tally)


def check_one(measure: Callable[[Question, Counter], None], question: Question, tally: Counter) -> None:
    """A function is right, or refuses for a reason; what it was given is as before."""
    before = _state(question.problem.model, question.problem.batches)
    try:
        measure(question, tally)
        assert not question.hopeless, "measured, although the model changes from call to call"
        tally["values"] += 1
    except CurvatureError as error:
        text = str(error)
        reasons = question.refusals(question.options.matrix if measure is check_sharpness else "hessian")
        assert reasons, f"refused: {text}"
        assert "\n" not in text and "allowed" in text, text
        tally["refused"] += 1
        tally.update(reasons)
    _assert_same_state(before, _state(question.problem.model, question.problem.batches))


def _called(function: Callable[..., Any], question: Question, *arguments: Any, **options: Any) -> Any:
    problem = question.problem
    with AMBIENT[question.options.ambient]():
        return function(problem.model, problem.loss, problem.given, *arguments, **question.arguments, **options)


def check_sharpness(question: Question, tally: Counter) -> None:
    """Eigenvalues are those of the dense matrix, each as often as it is there."""
    wish, sizes = question.options, question.sizes
    k, rates = min(wish.k, sum(sizes)), [0.3 + place % 3 for place in range(len(sizes))]
    options: dict[str, Any] = {"tol": wish.tol, "smallest": wish.smallest, "matrix": wish.matrix}
    options |= {"rates": rates} if wish.rated else {}
    found = _called(sharpness, question, k, **options)
    if wish.warm:
        found = _called(sharpness, question, k, start=found, **options)
    if question.hopeless:
        return
    matrix = dense(question.problem, question.places, wish.matrix)
    if wish.rated:
        root = torch.cat([torch.full((n,), rate**0.5, dtype=DOUBLE) for n, rate in zip(sizes, rates, strict=True)])
        matrix = root[:, None] * matrix * root
    values = torch.linalg.eigvalsh(matrix)
    wanted = values[:k] if wish.smallest else values.flip(0)[:k]
    tally["not converged"] += not found.converged
    if found.converged:
        allowed = wish.tol * wanted.abs() + question.rounding + ROUNDING[DOUBLE] * values.abs().max()
        assert found.values.shape == wanted.shape
        off = float(((found.values - wanted).abs() / allowed.clamp(min=TINY)).max())
        assert off <= NEXT, f"{found.values.tolist()}, right: {wanted.tolist()}"
        tally["missed"] += off > 1


def check_trace(question: Question, tally: Counter) -> None:
    """The trace is within what random signs leave open, which its standard error tells."""
    vectors = 20
    found = _called(hessian_trace, question, vectors)
    if question.hopeless:
        return
    matrix = question.hessian
    spread = math.sqrt(2 * float((matrix - matrix.diagonal().diag()).square().sum()) / vectors)
    rounding, wanted = question.rounding * len(matrix), float(matrix.trace())
    assert abs(found.value - wanted) <= 5 * spread + rounding, (found, wanted)
    assert found.standard_error <= 3 * spread + rounding, (found, spread)


def check_density(question: Question, tally: Counter) -> None:
    """Nodes within the spectrum, whose weighted mean is the trace over the dimension."""
    vectors = 2
    found = _called(spectral_density, question, vectors, 8)
    if question.hopeless:
        return
    values, rounding = torch.linalg.eigvalsh(question.hessian), question.rounding
    assert values[0] - rounding <= found.nodes.min() and found.nodes.max() <= values[-1] + rounding
    assert torch.allclose(found.weights.sum(1), torch.ones(vectors, dtype=DOUBLE), atol=1e-5)
    spread = math.sqrt(2 * float(values.var(correction=0)) / (len(values) + 2) / vectors)
    assert abs(found.mean() - float(values.mean())) <= 8 * spread + rounding, (found.mean(), float(values.mean()))


def _state(model: nn.Module, batches: Any) -> list[Any]:
    """What must be left alone."""
    flags = [module.training for module in model.modules()] + [p.grad is None for p in model.parameters()]
    return [flags, *_clones(list(model.state_dict().values())), *_clones(batches)]


def _clones(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree.clone()]
    entries = tree.values() if isinstance(tree, dict) else tree or ()
    return [tensor for entry in entries for tensor in _clones(entry)]


def _assert_same_state(before: list[Any], after: list[Any]) -> None:
    assert before[0] == after[0] and len(before) == len(after)
    assert all(torch.equal(a, b) for a, b in zip(before[1:], after[1:], strict=True))


# --- feature speed ----------------------------------------------------------------------------------------------------


def check_feature_speed(choice: Choice, rates: list[float] | None, tally: Counter) -> None:
    """Every number of the record is that of real steps; or the measurement is refused for a reason."""
    problem, links = problem_of(choice), links_of(choice)
    before = _state(nn.ModuleList(links), problem.batches)
    given = None if rates is None else [rates[place % len(rates)] for place in range(len(links))]
    try:
        found = measure_feature_speed(links, problem.loss, problem.given, given)
        assert not changing(choice), "measured, although a layer changes from call to call"
        tally["values"] += 1
    except ValueError as error:
        text = str(error)
        assert changing(choice) or len(problem.batches) > 1, f"refused: {text}"
        assert "\n" not in text and "allowed" in text, text
        tally["refused"] += 1
        return
    _assert_same_state(before, _state(nn.ModuleList(links), problem.batches))
    _assert_motion(found, motion(choice, links, problem.batches[0], found.learning_rate.tolist()), choice)


def _assert_motion(found: FeatureSpeed, wanted: Motion, choice: Choice) -> None:
    tol = SPEED_ERROR[DOUBLE if is_double(choice) else torch.float32]
    speeds, backward = (torch.stack([v.norm() for v in vs]) for vs in (wanted.velocities, wanted.backward))
    norms = torch.tensor(wanted.gradient_norms, dtype=DOUBLE)
    decay = (found.learning_rate * norms.square()).sum()
    _assert_close("feature speed", found.feature_speed, speeds, tol)
    _assert_close("backward norm", found.backward_norm, backward, tol)
    _assert_close("gradient norm", found.gradient_norm, norms, tol)
    _assert_close("loss decay", found.loss_decay[-1:], decay[None], tol)
    for place, (v, b) in enumerate(zip(wanted.velocities, wanted.backward, strict=True)):
        if v.norm() > 1e-3 * speeds.max() and b.norm() > 1e-3 * backward.max():
            angle = backward_feature_angle(v.flatten(), b.flatten())
            assert abs(found.angle[place] - angle) <= 1e3 * tol, (place, found.angle, angle)


def _assert_close(name: str, found: Tensor, wanted: Tensor, tol: float) -> None:
    assert (found - wanted).abs().max() <= tol * wanted.max(), f"{name}: {found.tolist()}, right: {wanted.tolist()}"
