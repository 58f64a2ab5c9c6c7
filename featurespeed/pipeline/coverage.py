"""What is computed of every figure, table and theorem of the papers, at which scale, and how their claims came out.

The tracker ``docs/coverage.md`` is made of the registry, the criteria of the rooms and the kept ledgers; nothing in it
is written by hand.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurespeed.ledger.criteria import Criterion, Kind
from featurespeed.ledger.engine import Verdict
from featurespeed.ledger.headline import disagreements
from featurespeed.papers.entries import Artefact, Paper, Planned
from featurespeed.pipeline.criteria import all_criteria
from featurespeed.pipeline.registry import ARTEFACTS, PAPERS, PLANNED, ROOM_OF

#: Scales in the table, and whether anybody can run them in minutes on two cores.
SHOWN = {"laptop": True, "gpu": False, "paper": False}
#: Why a figure without claims of its own is not run.
NO_STAGE = "its stage is not part of this version"
THEOREM = re.compile(r"(Thm|Prop\.|Lemma|Cor\.) [A-Z]?[0-9.]+[0-9]")
NAMES = {"Thm": "Theorem", "Prop.": "Proposition", "Cor.": "Corollary", "Lemma": "Lemma"}
INTRODUCTION = """# Coverage

Every figure, table and theorem of the three papers: what is computed here, and how its claims came out. This page is
made by `python -m featurespeed.pipeline.generate` of the rooms, their criteria and the kept ledgers in
`results/reference`.

- **here**: `make figures` computes it on two cores; **kept**: a GPU has computed it and the tables are in
  `results/reference`, for `snakemake reference_figures` to draw; **ready**: its settings at this scale stand in
  `workflow/scales`, no results of it are kept; **not run**: it is not computed here yet.
- Numbers are those of claims by verdict in the kept ledger of that scale: confirmed / contradicted / inconclusive.
  Claims that a run did not judge are left out; a dash means that none was judged.
- *fragile*: the verdict moves when the threshold is halved or doubled; see [claims.md](claims.md).
"""


@dataclass(frozen=True)
class Ledger:
    """Rows of the kept ledger of a scale by claim, and which artefacts have kept tables there."""

    rows: Mapping[str, Mapping[str, str]]
    kept: frozenset[str]

    @property
    def verdicts(self) -> dict[str, str]:
        """Claim -> verdict."""
        return {claim: row["verdict"] for claim, row in self.rows.items()}


def read_ledger(folder: Path) -> Ledger:
    """The kept ledger in ``results/reference/<scale>``; empty where there is none."""
    kept = frozenset(path.stem for path in (folder / "stages").glob("*.parquet"))
    path = folder / "claims.csv"
    if not path.is_file():
        return Ledger({}, kept)
    with path.open(encoding="utf-8", newline="") as file:
        return Ledger({row["claim_id"]: row for row in csv.DictReader(file)}, kept)


def coverage(base: Path) -> str:
    """The page, for the repository ``base``."""
    ledgers = {scale: read_ledger(base / "results/reference" / scale) for scale in SHOWN}
    criteria = all_criteria()
    parts = [INTRODUCTION]
    for paper in PAPERS:
        own = [criterion for criterion in criteria if ROOM_OF[criterion.artefact].paper == paper]
        parts.append(_heading(paper))
        parts.append(_central(own, ledgers))
        parts.append(_by_kind(own, ledgers))
        parts.append(_figures(paper, own, ledgers))
        theorems = _theorems(own, ledgers)
        if theorems:
            parts.append(theorems)
    parts.append(_across_scales(criteria, ledgers))
    return "\n".join(parts)


def _heading(paper: Paper) -> str:
    code = f" Code of the authors: `{paper.repository}`." if paper.repository else ""
    return f"## {paper.title}\n\n{paper.authors}, arXiv:{paper.arxiv}. Known to us: {paper.known}.{code}\n"


def _central(criteria: Sequence[Criterion], ledgers: Mapping[str, Ledger]) -> str:
    """What the abstract says, at every scale side by side."""
    own = [criterion for criterion in criteria if criterion.kind is Kind.CENTRAL]
    rows = [[claim.statement, f"`{claim.claim_id}`", *(_verdict(claim, ledgers[s]) for s in SHOWN)] for claim in own]
    return _table(["central claims", "id", *SHOWN], rows)


def _verdict(claim: Criterion, ledger: Ledger) -> str:
    """Verdict, estimate and n of one claim in a kept ledger."""
    row = ledger.rows.get(claim.claim_id)
    if row is None or row["verdict"] == Verdict.NOT_RUN:
        return "—"
    numbers = [f"{float(row[key]):.3g}" for key in ("value", "ci_low", "ci_high") if row[key]]
    estimate = f", {numbers[0]}" + (f" [{numbers[1]}, {numbers[2]}]" if len(numbers) == 3 else "") if numbers else ""
    fragile = ", *fragile*" if row.get("fragile") == "yes" else ""
    return f"{row['verdict']}{fragile}{estimate}, n = {row['n']}" if numbers else row["verdict"]


def _by_kind(criteria: Sequence[Criterion], ledgers: Mapping[str, Ledger]) -> str:
    """Verdicts by kind of claim."""
    by_kind = [(kind, [criterion for criterion in criteria if criterion.kind is kind]) for kind in Kind]
    rows = [
        [str(kind), *(_counts(own, ledgers[scale]) or "—" for scale in SHOWN), str(len(own))]
        for kind, own in by_kind
        if own
    ]
    return _table(["kind", *SHOWN, "claims"], rows)


def _across_scales(criteria: Sequence[Criterion], ledgers: Mapping[str, Ledger]) -> str:
    """Claims that one scale confirms and another one contradicts."""
    known = {criterion.claim_id: criterion for criterion in criteria}
    verdicts = {scale: ledger.verdicts for scale, ledger in ledgers.items()}
    found = [claim for claim in disagreements(verdicts) if claim in known]
    text = (
        "## Where scales disagree\n\nClaims that one scale confirms and another one contradicts;"
        " the larger scale speaks for the paper.\n\n"
    )
    if not found:
        return text + "None.\n"
    rows = [
        [f"`{claim}`", known[claim].statement, *(_judged(verdicts[scale].get(claim)) for scale in SHOWN)]
        for claim in found
    ]
    return text + _table(["claim", "statement", *SHOWN], rows)


def _judged(verdict: str | None) -> str:
    return "—" if verdict in (None, Verdict.NOT_RUN) else str(verdict)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figures(paper: Paper, criteria: Sequence[Criterion], ledgers: Mapping[str, Ledger]) -> str:
    known = [entry for entry in (*ARTEFACTS.values(), *PLANNED.values()) if ROOM_OF[entry.id].paper == paper]
    rows = []
    for entry in sorted(known, key=_place):
        claims = [criterion for criterion in criteria if criterion.artefact == entry.id]
        cells = [_state(entry, scale, ledgers[scale], claims) for scale in SHOWN]
        if isinstance(entry, Planned):
            cells = [f"not run: {next((claim.not_run for claim in claims), NO_STAGE)}", *cells[1:]]
        rows.append([entry.place, _shows(entry), f"`{entry.id}`", _room_link(entry.id), *cells, str(len(claims))])
    return _table(["in the paper", "what", "id", "room", *SHOWN, "claims"], rows)


def _place(entry: Artefact | Planned) -> tuple[bool, bool, int, str]:
    """Figures by number, then tables, then the rest."""
    number = re.search(r"\d+", entry.place)
    is_figure, is_table = entry.place.startswith("Figure"), entry.place.startswith("Table")
    return not is_figure, not is_table, int(number[0]) if number and (is_figure or is_table) else 0, entry.id


def _shows(entry: Artefact | Planned) -> str:
    text = entry.shows or (entry.title if isinstance(entry, Artefact) else "")
    return text if text else entry.place


def _room_link(name: str) -> str:
    room = ROOM_OF[name]
    return f"[{room.folder.name}](../{room.path})"


def _state(entry: Artefact | Planned, scale: str, ledger: Ledger, claims: Sequence[Criterion]) -> str:
    if isinstance(entry, Planned):
        return "not run"
    word = "here" if SHOWN[scale] else "kept" if entry.id in ledger.kept else "ready"
    counts = _counts(claims, ledger)
    return f"{word}, {counts}" if counts else word


def _counts(claims: Sequence[Criterion], ledger: Ledger) -> str:
    found = [ledger.verdicts.get(claim.claim_id) for claim in claims]
    numbers = [found.count(str(verdict)) for verdict in (Verdict.CONFIRMED, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE)]
    return " / ".join(map(str, numbers)) if any(numbers) else ""


def _theorems(criteria: Sequence[Criterion], ledgers: Mapping[str, Ledger]) -> str:
    found: dict[str, list[Criterion]] = {}
    for criterion in criteria:
        match = THEOREM.match(criterion.source)
        if match:
            found.setdefault(match[0].replace(match[1], NAMES[match[1]]), []).append(criterion)
    if not found:
        return ""
    rows = []
    for name, claims in sorted(found.items()):
        rooms = ", ".join(dict.fromkeys(_room_link(claim.artefact) for claim in claims))
        counts = [_counts(claims, ledgers[scale]) or "—" for scale in SHOWN]
        rows.append([name, rooms, *counts, str(len(claims))])
    return _table(["theorem", "room", *SHOWN, "claims"], rows)
