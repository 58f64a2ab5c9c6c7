"""Criteria of the claims ledger: what would confirm and what would contradict each claim, written before the run."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError, model_validator

from featurespeed.machine.yaml_files import YamlError, read_yaml

LISTED = 20  # names that a message lists in full
REGIONS = ("between", "at_most", "at_least")
MOST_CENTRAL = 5  # claims of a paper: what its abstract says


class Kind(StrEnum):
    """What a claim is about; tallies are by kind, and the headline of a paper is its central claims."""

    CENTRAL = "central"  # what the abstract says, at most five a paper
    PAPER = "paper"  # what a figure or the text says
    THEOREM = "theorem"
    TABLE = "table"  # a stated exponent or rule
    DISCREPANCY = "discrepancy"  # what is printed does not hold, and what does
    OURS = "ours"  # stands in no paper


class CriteriaError(ValueError):
    """A fault in a criteria file; ``str(error)`` is one line with the file, the claim, the key and what is allowed."""


@dataclass(frozen=True)
class Threshold:
    """The closed region [low, high] in which a claim holds.

    Attributes:
        low, high: bounds; infinite on the open side of ``at_least`` and ``at_most``.
        ideal: the number from which the bounds are measured when the threshold is halved or doubled: the centre of
            ``between``, otherwise 0 unless the criterion says so (1 for a share of points that should be all of them).
        identity: the value itself, not an interval, is compared with the region.
    """

    low: float
    high: float
    ideal: float = 0.0
    identity: bool = False

    @classmethod
    def parse(cls, entry: Mapping[str, Any], identity: bool = False) -> Threshold:
        """Read ``{between: [a, b]}``, ``{at_most: x}`` or ``{at_least: x}``, each with an optional ``ideal``.

        Raises:
            ValueError: with the offending value and what is allowed.
        """
        kinds = [key for key in entry if key != "ideal"] if isinstance(entry, Mapping) else []
        if len(kinds) != 1 or kinds[0] not in REGIONS:
            raise ValueError(f"threshold = {entry!r}: must have one of {', '.join(REGIONS)} (and maybe ideal)")
        kind, value = kinds[0], entry[kinds[0]]
        if kind == "between":
            pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
            if not pair or value[0] >= value[1]:
                raise ValueError(f"threshold between = {value!r}: must be two finite numbers, ascending")
            low, high = map(float, value)
        else:
            if not _is_number(value):
                raise ValueError(f"threshold {kind} = {value!r}: must be a finite number")
            low, high = (-math.inf, float(value)) if kind == "at_most" else (float(value), math.inf)
        if identity and (kind != "at_most" or value < 0):
            raise ValueError(f"threshold {kind} = {value!r}: an identity has a tolerance, at_most a number >= 0")
        ideal = entry.get("ideal", (low + high) / 2 if kind == "between" else 0.0)
        if not _is_number(ideal) or (kind == "between" and not low < ideal < high):
            raise ValueError(f"threshold ideal = {ideal!r}: must be a finite number, inside the bounds of between")
        return cls(low, high, float(ideal), identity)

    def scaled(self, factor: float) -> Threshold:
        """The threshold with its distance from ``ideal`` multiplied by ``factor``; infinite bounds stay."""
        low, high = (self.ideal + factor * (bound - self.ideal) for bound in (self.low, self.high))
        return Threshold(low, high, self.ideal, self.identity)

    def __str__(self) -> str:
        if self.identity:
            return f"largest error at most {self.high:.4g}"
        if math.isinf(self.low):
            return f"at most {self.high:.4g}"
        if math.isinf(self.high):
            return f"at least {self.low:.4g}"
        return f"between {self.low:.4g} and {self.high:.4g}"


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _one_text(value: Any) -> Any:
    """Collapse the line breaks of folded YAML text: ledger cells hold one line."""
    return " ".join(value.split()) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_one_text), Field(min_length=1)]
OptionalText = Annotated[str, BeforeValidator(_one_text)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Control(_Entry):
    """A computation in which the claim must fail."""

    compute: Text
    description: Text


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Criterion(_Entry):
    """One row of the ledger: ``compute``, ``threshold`` and ``control``, or else ``not_run`` says why there are none.

    ``premise`` names the conditions without which a run says nothing about the claim.
    """

    claim_id: Annotated[Text, Field(pattern=r"^\w+$")]
    artefact: Text
    kind: Kind
    paper: Text
    source: Text
    statement: Text
    statistic: OptionalText = ""
    compute: Text | None = None
    threshold: Threshold | None = None
    identity: StrictBool = False
    premise: Annotated[tuple[Text, ...], BeforeValidator(_one_or_several)] = ()
    control: Control | None = None
    not_run: OptionalText = ""
    note: OptionalText = ""

    @property
    def cited(self) -> str:
        """Paper and place in it, as the ledger prints it."""
        return f"{self.paper}, {self.source}"

    @model_validator(mode="before")
    @classmethod
    def _parse_threshold(cls, entry: dict) -> dict:
        if entry.get("threshold") is not None:
            identity = entry.get("identity", False)
            return entry | {"threshold": Threshold.parse(entry["threshold"], identity is True)}
        return entry

    @model_validator(mode="after")
    def _computed_or_not_run(self) -> Criterion:
        if bool(self.not_run) == (self.compute is not None):
            raise ValueError("give either compute or not_run, not both and not neither")
        for key in ("threshold", "control") if self.not_run else ():
            if getattr(self, key):
                raise ValueError(f"{key}: a claim that is not run has none")
        if len(set(self.premise)) < len(self.premise):
            raise ValueError(f"premise = {list(self.premise)}: a name stands twice")
        if self.control and self.control.compute == self.compute:
            raise ValueError(f"control.compute = {self.compute!r}: that of the claim itself; another one is needed")
        for key in ("threshold", "statistic", "control") if self.compute is not None else ():
            if not getattr(self, key):
                raise ValueError(f"{key} is missing: a computed claim has a threshold, a statistic and a control")
        return self


class _Anything(Collection):
    """Holds every name: for who reads criteria without the statistics that they name."""

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


ANY: Collection[str] = _Anything()


@dataclass(frozen=True)
class Names:
    """What criteria may name."""

    statistics: Collection[str] = ()
    premises: Collection[str] = ()
    artefacts: Collection[str] = ANY


def load_all(paths: Sequence[Path], names: Names) -> list[Criterion]:
    """The criteria of several files, in order; a claim stands once, and a paper has at most five central ones.

    Raises:
        CriteriaError: one line that names the file, the claim, the key and what is allowed.
    """
    criteria: list[Criterion] = []
    place: dict[str, Path] = {}
    for path in paths:
        for criterion in load_criteria(path, names):
            if criterion.claim_id in place:
                raise CriteriaError(
                    f"{path}: claim_id = {criterion.claim_id!r}: used in {place[criterion.claim_id]} already"
                )
            place[criterion.claim_id] = path
            criteria.append(criterion)
    for paper in dict.fromkeys(criterion.paper for criterion in criteria):
        central = [c.claim_id for c in criteria if c.paper == paper and c.kind is Kind.CENTRAL]
        if len(central) > MOST_CENTRAL:
            raise CriteriaError(
                f"{place[central[-1]]}: claim {central[-1]!r}: kind = 'central': {paper} has {len(central)} of them,"
                f" allowed: at most {MOST_CENTRAL} a paper ({', '.join(central)})"
            )
    return criteria


def load_criteria(path: Path, names: Names) -> list[Criterion]:
    """Read one criteria file: a mapping with ``paper`` and ``claims``, a list of entries.

    Args:
        path: the YAML file.
        names: what ``compute``, ``premise`` and ``artefact`` may name.

    Raises:
        CriteriaError: one line that names the file, the claim, the key and what is allowed.
    """
    try:
        content = read_yaml(path)
    except YamlError as error:
        raise CriteriaError(str(error)) from None
    if not isinstance(content, dict) or set(content) != {"paper", "claims"} or not isinstance(content["claims"], list):
        raise CriteriaError(f"{path}: must have the keys paper and claims (a list), and no others")
    criteria: list[Criterion] = []
    for number, entry in enumerate(content["claims"], start=1):
        criteria.append(_criterion(path, number, entry, content["paper"], names))
    ids = [criterion.claim_id for criterion in criteria]
    repeated = sorted({claim for claim in ids if ids.count(claim) > 1})
    if repeated:
        raise CriteriaError(f"{path}: claim_id = {repeated[0]!r}: used more than once")
    return criteria


def _criterion(path: Path, number: int, entry: Any, paper: str, names: Names) -> Criterion:
    if not isinstance(entry, dict):
        raise CriteriaError(f"{path}: claim {number}: must be a mapping, got {entry!r}")
    where = f"{path}: claim {entry.get('claim_id', number)!r}"
    if "paper" in entry:
        raise CriteriaError(f"{where}: paper = {entry['paper']!r}: stands at the top of the file, for all its claims")
    try:
        criterion = Criterion.model_validate(entry | {"paper": paper})
    except ValidationError as error:
        raise CriteriaError(f"{where}: {_first_fault(error)}") from None
    computed = [name for name in (criterion.compute, criterion.control and criterion.control.compute) if name]
    asked = [("compute", name, names.statistics) for name in computed]
    asked += [("premise", name, names.premises) for name in criterion.premise]
    asked.append(("artefact", criterion.artefact, names.artefacts))
    for key, name, allowed in asked:
        if name not in allowed:
            raise CriteriaError(f"{where}: {key} = {name!r}: unknown, allowed: {_known(name, allowed)}")
    return criterion


def _known(name: str, allowed: Collection[str]) -> str:
    """All names, or of many those closest to the wrong one."""
    if len(allowed) <= LISTED:
        return ", ".join(sorted(allowed)) or "none, there are none"
    close = difflib.get_close_matches(name, allowed, n=3) or sorted(allowed)[:3]
    return f"one of {len(allowed)}, such as {', '.join(map(repr, close))}"


#: Type of a fault that pydantic names -> what to say instead.
_SAID = {
    "missing": "missing, a value is required",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must be letters, digits and underscores",
    "bool_type": "must be true or false",
    "tuple_type": "must be a name or a list of names",
    "model_type": "must have the keys compute and description",
}


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    key, kind = ".".join(map(str, fault["loc"])), fault["type"]
    message = _SAID.get(kind, fault["msg"].removeprefix("Value error, "))
    if kind == "extra_forbidden":
        model = Control if key.startswith("control.") else Criterion
        message = f"unknown key, allowed: {', '.join(name for name in model.model_fields if name != 'paper')}"
    if key == "kind":
        message = f"{'missing' if kind == 'missing' else 'unknown'}, allowed: {', '.join(Kind)}"
    value = f" = {_short(fault['input'])}" if key and kind != "missing" else ""
    return f"{key}{value}: {message}" if key else message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
