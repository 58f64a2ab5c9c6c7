"""The page of one run: gathered from the tables, the ledger and the sidecars, then poured into a template.

:func:`gather` reads files and returns plain values; :func:`render` needs nothing but those and the template. Images
travel inside the page, so the file can be sent on its own; PDF, SVG and CSV are linked relative to it.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from featurespeed.ledger.criteria import Kind
from featurespeed.ledger.engine import Verdict
from featurespeed.papers.entries import Setting
from featurespeed.parameterization import Parameterization
from featurespeed.pipeline.criteria_history import read_record
from featurespeed.pipeline.page_ledger import (
    Ledger,
    headlines,
    kept_ledgers,
    read_claims,
    runs_of,
    with_history,
)
from featurespeed.pipeline.registry import ARTEFACTS, PAPERS, ROOM_OF

VERDICTS = tuple(str(verdict) for verdict in Verdict)
MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}

#: Provenance and sidecar entries shown as they are, in this order.
RUN_KEYS = (
    "started", "commit", "host", "device", "processor", "platform", "python", "threads", "wall_seconds", "cpu_seconds",
    "peak_memory_mb",
)  # fmt: skip

#: What the page calls a notebook.
NOTEBOOKS = {
    "feature_speed": "the formula measured, step by step",
    "my_own_model": "does the learning rate of a small GPT transfer?",
}

#: What tells one point of a stage table from another, its seed and estimator aside.
POINT = ["case", "series", "scaling", "branch_scale", "width", "depth", "input_dim", "output_dim", "layer", "quantity"]


@dataclass(frozen=True)
class PageInputs:
    """Files of a run; artefacts are recognised by the stems of their files."""

    claims: Path
    sensitivity: Path
    published: Path
    tables: Sequence[Path]
    figures: Sequence[Path]
    stages: Sequence[Path]
    sidecars: Sequence[Path]  # of the stages, and of the jobs that trained and measured for them
    notebooks: Sequence[Path]
    jobs: Mapping[str, Sequence[str]] = field(default_factory=dict)  # artefact -> those of its jobs, by name
    record: Path | None = None  # which commit fixed each criterion
    kept: Sequence[Path] = ()  # the kept ledgers of other scales


def gather(inputs: PageInputs, page: Path, scale: str, read_table: Callable[[Path], pd.DataFrame]) -> dict[str, Any]:
    """Everything the template shows, as plain values.

    Args:
        inputs: files of the run.
        page: where the page will lie; links are relative to it.
        scale: name of the scale.
        read_table: reader of a stage table, with its provenance in ``attrs``.
    """
    sidecars = {path.name.split(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in inputs.sidecars}
    claims = _with_sensitivity(read_claims(inputs.claims), read_claims(inputs.sensitivity))
    runs = runs_of(sidecars, inputs.jobs, list(ARTEFACTS))
    claims = with_history(claims, scale, runs, read_record(inputs.record) if inputs.record else {})
    stages = {path.stem: path for path in inputs.stages}
    figures, tables = ({path.stem: path for path in paths} for paths in (inputs.figures, inputs.tables))
    points = pd.read_csv(inputs.published, dtype={"figure": str, "x": str}).to_dict(orient="records")
    sections, versions = [], {}
    for artefact in (name for name in ARTEFACTS if name in stages):
        records = read_table(stages[artefact])
        provenance = records.attrs.get("provenance", {})
        versions |= provenance.get("versions", {})
        own = [claim for claim in claims if claim["artefact"] == artefact]
        section = _section(artefact, records, provenance, sidecars.get(artefact, {}), own, scale)
        section |= _time([artefact, *inputs.jobs.get(artefact, ())], sidecars)
        compared = points if ARTEFACTS[artefact].points else []
        section["points"] = [point for point in compared if artefact.endswith(f"_fig{point['figure']}")]
        if artefact in figures:
            section |= _pictures(figures[artefact], tables[artefact], page)
        sections.append(section)
    groups = _by_paper(sections, claims)
    return {
        "scale": scale,
        "headlines": headlines(PAPERS, [*kept_ledgers(inputs.kept, scale, inputs.record), Ledger(scale, claims)]),
        "kinds": _kinds(claims),
        "papers": [group["paper"] for group in groups if group["paper"]],
        "groups": groups,
        "counts": _counts(claims),
        "claims": claims,
        "open_claims": sorted(
            (claim for claim in claims if claim["verdict"] != "confirmed"),
            key=lambda claim: VERDICTS.index(claim["verdict"]),
        ),
        "sections": sections,
        "machine": _machine(list(sidecars.values())),
        "versions": versions,
        "links": {
            "claims": _relative(inputs.claims, page),
            "sensitivity": _relative(inputs.sensitivity, page),
            "headline": _relative(inputs.claims.with_name("headline.csv"), page),
            "published": _relative(inputs.published, page),
            "notebooks": [(_relative(path, page), NOTEBOOKS.get(path.stem, path.stem)) for path in inputs.notebooks],
        },
    }


def _by_paper(sections: list[dict], claims: list[dict]) -> list[dict[str, Any]]:
    """Sections and claims of each paper, in the order of the papers; claims of no known paper come last."""
    groups: list[dict[str, Any]] = []
    for paper in PAPERS:
        own = [section for section in sections if ROOM_OF[section["id"]].paper == paper]
        stated = [claim for claim in claims if claim["paper"].startswith(f"arXiv:{paper.arxiv}")]
        groups.append({"paper": paper, "sections": own, "claims": stated})
    known = [claim for group in groups for claim in group["claims"]]
    groups.append({"paper": None, "sections": [], "claims": [claim for claim in claims if claim not in known]})
    return [group | {"counts": _counts(group["claims"])} for group in groups if group["sections"] or group["claims"]]


def _counts(claims: list[dict]) -> dict[str, int]:
    return {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in VERDICTS}


def _kinds(claims: list[dict]) -> list[tuple[str, dict[str, int]]]:
    """Counts of each kind of claim that there is."""
    by_kind = [(str(kind), [claim for claim in claims if claim["kind"] == kind]) for kind in Kind]
    return [(kind, _counts(own)) for kind, own in by_kind if own]


def render(template: str, content: Mapping[str, Any]) -> str:
    """The page as HTML; every value is escaped, and a name that the template misspells raises."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "duration": duration, "slug": lambda text: text.replace(" ", "-")}
    return environment.from_string(template).render(**content)


def number(value: float | str) -> str:
    """A measured number with three significant digits; nothing for a missing one, ∞ for a bound that is none."""
    return "" if value == "" or pd.isna(value) else f"{float(value):.3g}".replace("-", "−").replace("inf", "∞")


def duration(seconds: float) -> str:
    """Seconds as a reader would say them."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def compact(values: Sequence[Any]) -> str:
    """A list as a reader would write it: all of a few values, the ends and the number of many."""
    shown = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
    if len(shown) <= 6:
        return ", ".join(shown)
    return f"{shown[0]}, {shown[1]}, …, {shown[-1]} ({len(shown)} values)"


def setting_value(setting: Setting, records: pd.DataFrame, spec: Mapping[str, Any]) -> str:
    """This run's side of a comparison, from its records; see :mod:`featurespeed.papers.entries` for the sources."""
    source, _, name = setting.run.partition(":")
    if source == "text":
        return name
    if source == "spec":
        return _spec_value(spec, name)
    measured = records[records["estimator"] != "theory"]
    if source == "series":
        return compact([name.replace("beta", "β").replace("sqrt", "√") for name in measured["series"].unique()])
    if source == "column" and name == "parameterization":
        return compact([known.label for known in Parameterization if known in set(measured[name])])
    if source == "column":
        return compact(sorted(measured[name].unique().tolist()))
    if source == "seeds":
        return _seeds(measured if name == "any" else measured[measured["estimator"] == name])
    raise ValueError(f"setting {setting.label!r}: unknown source {setting.run!r}")


def _spec_value(spec: Mapping[str, Any], name: str) -> str:
    """A setting of the spec as text; ``block.key`` looks inside a block, and beside it for what is null there: a
    network without widths, steps or data of its own has those of the sweep. Where curvature is measured at some of the
    probe steps only, it is these that count.
    """
    measured = spec.get("curvature", {}).get("steps") if name == "probe_steps" else None
    if measured is not None:
        return compact(measured)
    found: Any = spec
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return "not in this run"
        found = found[part]
    found = spec.get(part) if found is None else found
    if isinstance(found, Mapping):
        return ", ".join(f"{key}: {value}" for key, value in found.items())
    return compact(found) if isinstance(found, list) else str(found)


def _seeds(records: pd.DataFrame) -> str:
    if records.empty:
        return "none"
    counts = records.groupby(POINT, dropna=False)["seed"].nunique()
    return str(counts.min()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def _section(
    artefact: str, records: pd.DataFrame, provenance: Mapping, sidecar: Mapping, claims: list[dict], scale: str
) -> dict[str, Any]:
    known = ARTEFACTS[artefact]
    spec = provenance.get("spec", {})
    settings = [(setting.label, setting.paper, setting_value(setting, records, spec)) for setting in known.settings]
    return {
        "id": artefact,
        "title": known.title,
        "place": known.place,
        "paper": f"arXiv:{ROOM_OF[artefact].paper.arxiv}",
        "room": ROOM_OF[artefact].path,
        "reading": known.reading,
        "settings": settings,
        "claims": claims,
        "rows": len(records),
        "estimators": sorted(records["estimator"].unique()),
        "provenance": {key: provenance[key] for key in ("script", "code_hash", "config_hash") if key in provenance},
        "seeds": provenance.get("seeds", {}),
        "versions": provenance.get("versions", {}),
        "spec": json.dumps(spec, indent=1, ensure_ascii=False),
        "run": {key.replace("_", " "): sidecar[key] for key in RUN_KEYS if key in sidecar},
        "commands": _commands(artefact, known.stage, known.drawn, scale),
        "image": None,
        "files": {},
    }


def _commands(artefact: str, stage: str, drawn: bool, scale: str) -> list[str]:
    table = f"results/{scale}/stages/{artefact}.parquet"
    target = artefact if drawn else table
    return [
        f"snakemake --cores all --config scale={scale} --forcerun {table} -- {target}",
        f"python scripts/{stage}.py --spec {table} --out again.parquet",
    ]


def _pictures(figure: Path, table: Path, page: Path) -> dict[str, Any]:
    data = base64.b64encode(figure.read_bytes()).decode()
    files = {kind.upper(): _relative(figure.with_suffix(f".{kind}"), page) for kind in ("pdf", "svg", "png")}
    files["CSV"] = _relative(table, page)
    return {"image": f"data:{MEDIA_TYPES[figure.suffix]};base64,{data}", "files": files}


def _relative(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()


def _with_sensitivity(claims: list[dict], sensitivity: list[dict]) -> list[dict]:
    """Each claim with its verdicts at half and at twice the threshold, empty where there is no estimate."""
    moved = {row["claim_id"]: row for row in sensitivity}
    keys = ("threshold_halved", "verdict_halved", "threshold_doubled", "verdict_doubled", "moves")
    rows = []
    for claim in claims:
        companion = moved.get(claim["claim_id"], {})
        rows.append(claim | {key: companion.get(key, "") for key in keys})
    return rows


def _time(jobs: Sequence[str], sidecars: Mapping[str, Mapping]) -> dict[str, Any]:
    """How long one artefact took, the jobs that it shares with others included; None where nothing is known."""
    known = [sidecars[name]["wall_seconds"] for name in jobs if "wall_seconds" in sidecars.get(name, {})]
    return {"wall": sum(known) if known else None, "jobs": len(jobs)}


def _machine(sidecars: list[dict]) -> dict[str, Any]:
    """Where and how long the jobs ran: distinct values of each fact, and the summed times."""

    def distinct(key: str) -> str:
        return ", ".join(sorted({str(sidecar[key]) for sidecar in sidecars if key in sidecar})) or "unknown"

    return {
        "host": distinct("host"),
        "device": distinct("device"),
        "processor": distinct("processor"),
        "platform": distinct("platform"),
        "python": distinct("python"),
        "threads": distinct("threads"),
        "started": min((str(sidecar["started"]) for sidecar in sidecars if "started" in sidecar), default="unknown")
        .replace("T", " ")
        .replace("+00:00", " UTC"),
        "wall": sum(sidecar.get("wall_seconds", 0.0) for sidecar in sidecars),
        "cpu": sum(sidecar.get("cpu_seconds", 0.0) for sidecar in sidecars),
        "jobs": len(sidecars),
    }
