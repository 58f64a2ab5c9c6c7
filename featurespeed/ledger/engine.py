"""The claims ledger: criteria read at the door, statistics looked up by name, and one function that decides verdicts.

A criterion is an entry of a reviewed file (a room's ``claims.yaml``) written before its run. A statistic is a
function of the stage tables, registered with :func:`statistic`; a premise, registered with :func:`premise`, says
whether a run is of the kind that a claim is about. :func:`decide` compares an estimate with the threshold; the same
function judges the negative control and the claim at half and at twice its threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import pandas as pd

from featurespeed.ledger.criteria import Control, Criterion, Threshold

#: Columns of ``claims.csv``, a public interface.
CLAIM_COLUMNS = (
    "claim_id", "artefact", "paper", "statement", "scale", "statistic", "value", "ci_low", "ci_high", "threshold",
    "control", "verdict", "n", "note", "kind", "fragile", "premise", "criterion_commit",
)  # fmt: skip

#: Columns of ``claims_sensitivity.csv``: the verdicts at half and at twice the threshold.
SENSITIVITY_COLUMNS = (
    "claim_id", "artefact", "value", "ci_low", "ci_high", "threshold_halved", "verdict_halved", "threshold", "verdict",
    "threshold_doubled", "verdict_doubled", "moves",
)  # fmt: skip


class Verdict(StrEnum):
    """What a run says about a claim."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


class Undecidable(Exception):
    """Raised by a statistic when the scale of the run cannot decide the claim; the text is the reason."""


class MissingTable(LookupError):
    """A stage table that a statistic needs was not part of this run."""

    def __init__(self, artefact: str) -> None:
        super().__init__(f"stage table {artefact} is not part of this run")


@dataclass(frozen=True)
class Estimate:
    """A measured number with its evidence.

    Attributes:
        value: the point estimate; for an identity the largest error.
        ci_low, ci_high: 95% confidence interval; NaN for an identity, which has none.
        n: number of independent units behind the interval (seeds, points, checks).
        note: what a reader should know about it.
        sample: what the units gave, by which the lint tells the same data in two places; not written anywhere.

    Raises:
        ValueError: the interval is upside down, or the value lies outside of it.
    """

    value: float
    ci_low: float = math.nan
    ci_high: float = math.nan
    n: int = 0
    note: str = ""
    sample: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.ci_low > self.ci_high:
            raise ValueError(f"interval [{self.ci_low}, {self.ci_high}] is upside down")
        slack = 1e-9 * abs(self.value)
        if self.value < self.ci_low - slack or self.value > self.ci_high + slack:
            raise ValueError(f"value {self.value} lies outside of its interval [{self.ci_low}, {self.ci_high}]")


@dataclass(frozen=True)
class Condition:
    """Whether a premise holds in a run, and what was seen of it."""

    holds: bool
    note: str = ""


Statistic = Callable[[Mapping[str, pd.DataFrame]], Estimate]
Premise = Callable[[Mapping[str, pd.DataFrame]], Condition]
Function = TypeVar("Function", bound=Callable)
STATISTICS: dict[str, Statistic] = {}
PREMISES: dict[str, Premise] = {}


def statistic(name: str) -> Callable[[Statistic], Statistic]:
    """Register a function of the stage tables (artefact -> long table) under the name that criteria use."""
    return _registrar("statistic", STATISTICS, name)


def premise(name: str) -> Callable[[Premise], Premise]:
    """Register a function of the stage tables that says whether a run is of the kind that a claim is about.

    The name completes "the claim holds for runs ...", as in "beyond the edge on a fifth of the steps".
    """
    return _registrar("premise", PREMISES, name)


def _registrar(kind: str, registry: dict[str, Function], name: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        if name in registry:
            raise ValueError(f"{kind} {name!r} is registered twice")
        registry[name] = function
        return function

    return register


class StageTables(Mapping[str, pd.DataFrame]):
    """Stage tables by artefact, each read once, at its first use; what statistics make of them is kept, too.

    A known artefact without a file raises :class:`MissingTable`; a name that no criterion knows is a slip in a
    statistic and raises a plain ``KeyError``, so that it cannot pass for a part that was not run.
    """

    def __init__(self, paths: Iterable[Path], read: Callable[[Path], pd.DataFrame], known: Iterable[str] = ()) -> None:
        self._paths = {path.stem: path for path in map(Path, paths)}
        self._known = set(known) | set(self._paths)
        self._read = read
        self._tables: dict[str, pd.DataFrame] = {}
        self._outcomes: dict[str, tuple[Outcome, frozenset[str]]] = {}
        self._conditions: dict[str, Condition] = {}
        self._asked: set[str] = set()

    @classmethod
    def of(cls, tables: Mapping[str, pd.DataFrame]) -> StageTables:
        """Tables that are read already."""
        if isinstance(tables, cls):
            return tables
        made = cls([], lambda path: pd.DataFrame(), tables)
        made._tables = dict(tables)
        return made

    def evaluated(self, name: str) -> tuple[Outcome, frozenset[str]]:
        """A statistic on these tables, computed once, and the artefacts that it read."""
        if name not in self._outcomes:
            self._asked = set()
            self._outcomes[name] = _computed(name, self), frozenset(self._asked)
        return self._outcomes[name]

    def condition(self, name: str) -> Condition:
        """A premise on these tables, looked at once."""
        if name not in self._conditions:
            self._conditions[name] = _condition(name, self)
        return self._conditions[name]

    def __getitem__(self, artefact: str) -> pd.DataFrame:
        if artefact not in self._known:
            raise KeyError(artefact)
        self._asked.add(artefact)
        if artefact not in self._tables:
            path = self._paths.get(artefact)
            if path is None or not path.exists():
                raise MissingTable(artefact)
            self._tables[artefact] = self._read(path)
        return self._tables[artefact]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._paths, *self._tables}))

    def __len__(self) -> int:
        return len({*self._paths, *self._tables})


def decide(estimate: Estimate, threshold: Threshold) -> Verdict:
    """The one rule behind every verdict.

    The 95% interval is compared with the closed region of the threshold: inside it the claim is confirmed, disjoint
    from it contradicted, otherwise inconclusive. An identity has no interval: its largest error stands on one side of
    the tolerance. A value or a bound that is not a number is never evidence.
    """
    if not _is_usable(estimate, threshold):
        return Verdict.INCONCLUSIVE
    low, high = (estimate.value,) * 2 if threshold.identity else (estimate.ci_low, estimate.ci_high)
    if threshold.low <= low and high <= threshold.high:
        return Verdict.CONFIRMED
    if high < threshold.low or low > threshold.high:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def _is_usable(estimate: Estimate, threshold: Threshold) -> bool:
    """Whether the value is finite and, unless the claim is an identity, both bounds of the interval are numbers."""
    bounded = threshold.identity or not (math.isnan(estimate.ci_low) or math.isnan(estimate.ci_high))
    return math.isfinite(estimate.value) and bounded


@dataclass(frozen=True)
class Outcome:
    """An estimate, or the reason why there is none."""

    estimate: Estimate | None = None
    missing: str = ""
    undecidable: str = ""


def evaluate(name: str, tables: Mapping[str, pd.DataFrame]) -> Outcome:
    """Compute a registered statistic; a missing table and :class:`Undecidable` are outcomes, other errors are bugs."""
    return tables.evaluated(name)[0] if isinstance(tables, StageTables) else _computed(name, tables)


def _computed(name: str, tables: Mapping[str, pd.DataFrame]) -> Outcome:
    try:
        return Outcome(estimate=STATISTICS[name](tables))
    except MissingTable as missing:
        return Outcome(missing=str(missing))
    except Undecidable as undecidable:
        return Outcome(undecidable=str(undecidable))


def evaluate_premise(name: str, tables: Mapping[str, pd.DataFrame]) -> Condition:
    """Whether a registered premise holds; what cannot be computed does not."""
    return tables.condition(name) if isinstance(tables, StageTables) else _condition(name, tables)


def _condition(name: str, tables: Mapping[str, pd.DataFrame]) -> Condition:
    try:
        return PREMISES[name](tables)
    except (MissingTable, Undecidable) as reason:
        return Condition(False, str(reason))


Conditions = Mapping[str, Condition]  # name of a premise -> whether it holds


def judge(
    claim: Outcome, control: Outcome | None, threshold: Threshold, conditions: Conditions | None = None
) -> tuple[Verdict, str]:
    """Verdict of a claim in the light of its premises and its negative control, and the reason where it is not plain.

    A run without the premise of a claim decides nothing about it. ``confirmed`` needs a control that is contradicted
    under the same threshold: a test that nothing can fail is no evidence.
    """
    if claim.estimate is None:
        reason = claim.missing or claim.undecidable
        return (Verdict.NOT_RUN if claim.missing else Verdict.INCONCLUSIVE), reason
    broken = [name for name, condition in (conditions or {}).items() if not condition.holds]
    if broken:
        return Verdict.INCONCLUSIVE, f"premise: the run is not {broken[0]}"
    if _says_nothing(claim.estimate, threshold):
        return Verdict.INCONCLUSIVE, "all seeds gave one number, so that the interval has no width"
    verdict = decide(claim.estimate, threshold)
    if verdict is Verdict.INCONCLUSIVE:
        usable = _is_usable(claim.estimate, threshold)
        return verdict, "the interval straddles the threshold" if usable else "the estimate is not a finite number"
    if verdict is Verdict.CONFIRMED:
        doubt = _doubt(control, threshold)
        return (Verdict.INCONCLUSIVE, doubt) if doubt else (verdict, "")
    return verdict, ""


def _says_nothing(estimate: Estimate, threshold: Threshold) -> bool:
    """Whether an interval has no width because all units agree: nothing is known of other seeds."""
    flat = estimate.ci_low == estimate.ci_high and not threshold.identity
    return flat and len(estimate.sample) > 1 and len(set(estimate.sample)) == 1


def _doubt(control: Outcome | None, threshold: Threshold) -> str:
    if control is None:
        return "no negative control"
    if control.estimate is None:
        return f"the negative control could not be computed: {control.missing or control.undecidable}"
    verdict = decide(control.estimate, threshold)
    return "" if verdict is Verdict.CONTRADICTED else f"the negative control does not fail: it is {verdict}"


def ledger(
    criteria: Iterable[Criterion],
    tables: Mapping[str, pd.DataFrame],
    scale: str,
    commits: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge every criterion.

    Args:
        criteria: entries of one or more criteria files; those with ``not_run`` are listed, not computed.
        tables: artefact -> long stage table.
        scale: name of the scale of this run, written into every row.
        commits: claim -> commit in which its criterion and settings last changed, as far as it is on record.

    Returns:
        The rows of ``claims.csv`` and of ``claims_sensitivity.csv``, in the order of the criteria.
    """
    tables, claims, sensitivity = StageTables.of(tables), [], []  # many criteria share a control, or a premise
    for criterion in criteria:
        row, moved = _judge_criterion(criterion, tables)
        claims.append(row | {"scale": scale, "criterion_commit": (commits or {}).get(criterion.claim_id, "")})
        if moved:
            sensitivity.append(moved)
    companion = pd.DataFrame(sensitivity, columns=list(SENSITIVITY_COLUMNS))
    return pd.DataFrame(claims, columns=list(CLAIM_COLUMNS)), companion


def _judge_criterion(criterion: Criterion, tables: Mapping[str, pd.DataFrame]) -> tuple[dict, dict | None]:
    row = {
        "claim_id": criterion.claim_id, "artefact": criterion.artefact, "paper": criterion.cited,
        "statement": criterion.statement, "statistic": criterion.statistic,
        "value": math.nan, "ci_low": math.nan, "ci_high": math.nan,
        "threshold": str(criterion.threshold or ""), "control": "", "n": 0,
        "kind": str(criterion.kind), "fragile": "", "premise": "; ".join(criterion.premise),
    }  # fmt: skip
    if criterion.compute is None or criterion.threshold is None:
        return row | {"verdict": str(Verdict.NOT_RUN), "note": _join(criterion.not_run, criterion.note)}, None
    threshold = criterion.threshold
    claim = evaluate(criterion.compute, tables)
    control = evaluate(criterion.control.compute, tables) if criterion.control else None
    conditions = {} if claim.missing else {name: evaluate_premise(name, tables) for name in criterion.premise}
    verdict, reason = judge(claim, control, threshold, conditions)
    row["control"] = describe_control(criterion.control, control, threshold)
    row["premise"] = _join(*(_described(*item) for item in conditions.items())) or row["premise"]
    note = claim.estimate.note if claim.estimate else ""
    row |= {"verdict": str(verdict), "note": _join(reason, note, criterion.note)}
    if claim.estimate is None:
        return row, None
    row |= {key: getattr(claim.estimate, key) for key in ("value", "ci_low", "ci_high", "n")}
    if threshold.identity:
        row |= {"ci_low": math.nan, "ci_high": math.nan}
    moved = _sensitivity_row(row, threshold, lambda bound: judge(claim, control, bound, conditions)[0])
    return row | {"fragile": moved["moves"]}, moved


def _sensitivity_row(row: dict, threshold: Threshold, verdict_at: Callable[[Threshold], Verdict]) -> dict:
    halved, doubled = threshold.scaled(0.5), threshold.scaled(2.0)
    at_half, at_double = verdict_at(halved), verdict_at(doubled)
    return {key: row[key] for key in ("claim_id", "artefact", "value", "ci_low", "ci_high", "threshold", "verdict")} | {
        "threshold_halved": str(halved),
        "verdict_halved": str(at_half),
        "threshold_doubled": str(doubled),
        "verdict_doubled": str(at_double),
        "moves": "no" if at_half == at_double == row["verdict"] else "yes",
    }


def _described(name: str, condition: Condition) -> str:
    return f"{name}: {condition.note + ', ' if condition.note else ''}{'holds' if condition.holds else 'does not hold'}"


def describe_control(control: Control | None, outcome: Outcome | None, threshold: Threshold) -> str:
    """What the negative control was and how it came out, for a reader of the ledger."""
    if control is None or outcome is None:
        return "none"
    if outcome.estimate is None:
        return f"{control.description}: not computed ({outcome.missing or outcome.undecidable})"
    verdict = decide(outcome.estimate, threshold)
    fate = "fails, as it must" if verdict is Verdict.CONTRADICTED else f"does not fail ({verdict})"
    return f"{control.description}: {_numbers(outcome.estimate, threshold)}, {fate}"


def _numbers(estimate: Estimate, threshold: Threshold) -> str:
    if threshold.identity or math.isnan(estimate.ci_low) or math.isnan(estimate.ci_high):
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} [{estimate.ci_low:.3g}, {estimate.ci_high:.3g}]"


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
