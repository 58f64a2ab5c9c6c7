"""Everything in the repository that follows from the rooms and the configuration, made anew by one command.

    python -m featurespeed.pipeline.generate            # write what is out of step
    python -m featurespeed.pipeline.generate --check    # only say what is, and fail if anything is

Made are ``workflow/schemas/config.schema.json``, the targets that ``make`` knows, ``docs/coverage.md``,
``docs/img/imports.svg``, and in other pages the parts between ``<!-- NAME -->`` and ``<!-- end -->``: the artefacts in
the README, the columns of all tables in ``docs/tables.md``, the costs in ``docs/cost.md``, in ``docs/claims.md`` how
many seeds the central claims need.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from featurespeed.ledger.criteria import CriteriaError
from featurespeed.pipeline import architecture, cost, coverage, power_table
from featurespeed.pipeline.asked import OWN
from featurespeed.pipeline.config import ConfigError, config_schema
from featurespeed.pipeline.registry import ARTEFACTS, PAPERS, ROOM_OF, ROOMS, Room, groups

REPOSITORY = Path(__file__).resolve().parents[2]


def schema(base: Path) -> str:
    """JSON schema of the configuration, for editors."""
    return json.dumps(config_schema(), indent=2) + "\n"


def make_targets(base: Path) -> str:
    """What ``make figures ARTEFACT=`` may name; Make reads it before anything is installed."""
    drawn = [name for name, artefact in ARTEFACTS.items() if artefact.drawn]
    names = " ".join(["all", OWN, *groups(), *drawn])
    return f"# Made by python -m featurespeed.pipeline.generate.\nARTEFACTS := {names}\n"


def pictures() -> str:
    """The figures that the README shows: those kept of the run that a caption is about, or those in ``docs/img``."""
    parts = []
    for name, artefact in ARTEFACTS.items():
        if artefact.showcase:
            scale = artefact.showcase_scale
            path = f"results/reference/{scale}/figures/{name}.png" if scale else f"docs/img/{name}.png"
            parts.append(f"![{artefact.title}]({path})\n\n*{artefact.showcase}*\n")
    return "\n".join(parts)


def readme_table() -> str:
    """Every figure and table: id, place in its paper, what it shows."""
    lines = ["| id | in the paper | what it shows |", "|---|---|---|"]
    for paper in PAPERS:
        lines.append(f"| | *{paper.title}* | |")
        for name, artefact in ARTEFACTS.items():
            if artefact.drawn and ROOM_OF[name].paper == paper:
                lines.append(f"| `{name}` | {artefact.place} | {artefact.shows} |")
    return "\n".join(lines) + "\n"


def columns_of_rooms() -> str:
    """What panel, series, x and y are in the tables of every room, as the rooms say it."""
    parts = []
    for paper in PAPERS:
        rooms = [room for room in ROOMS if room.paper == paper and room.file("tables.md")]
        parts += [f"### {paper.title}\n", *(_columns(room) for room in rooms)]
    return "\n" + "\n".join(parts) + "\n"


def _columns(room: Room) -> str:
    names = ", ".join(f"`{artefact.id}`" for artefact in room.artefacts)
    text = (room.folder / "tables.md").read_text(encoding="utf-8")
    return f"#### [{room.folder.name}](../{room.path}): {names}\n\n{text}"


def between(page: str, name: str, made: str) -> str:
    """The page with what stands between its markers ``<!-- name -->`` and ``<!-- end -->`` replaced.

    Raises:
        SystemExit: the page has no such markers.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"generate: no marker <!-- {name} --> with its <!-- end --> in the page")
    return pattern.sub(lambda match: match[1] + made + match[2], page)


def readme(base: Path) -> str:
    """The README with its pictures and its table of artefacts."""
    page = (base / "README.md").read_text(encoding="utf-8")
    return between(between(page, "pictures", pictures()), "artefacts", readme_table())


#: File -> how it is made for a repository.
GENERATED: Mapping[str, Callable[[Path], str]] = {
    "workflow/schemas/config.schema.json": schema,
    "workflow/targets.mk": make_targets,
    "docs/coverage.md": coverage.coverage,
    "docs/img/imports.svg": architecture.picture,
    "README.md": readme,
    "docs/tables.md": lambda base: between(
        (base / "docs/tables.md").read_text(encoding="utf-8"), "rooms", columns_of_rooms()
    ),
    "docs/claims.md": lambda base: between(
        (base / "docs/claims.md").read_text(encoding="utf-8"), "power", power_table.power_table(base)
    ),
    "docs/cost.md": lambda base: cost.rewrite((base / "docs/cost.md").read_text(encoding="utf-8"), base),
}


def out_of_step(base: Path = REPOSITORY) -> dict[str, str]:
    """File -> its right content, of those that have another one or are absent."""
    right = {name: make(base) for name, make in GENERATED.items()}
    return {
        name: text
        for name, text in right.items()
        if not (base / name).is_file() or (base / name).read_text(encoding="utf-8") != text
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write, or only check."""
    parser = argparse.ArgumentParser(
        prog="python -m featurespeed.pipeline.generate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything is out of step")
    arguments = parser.parse_args(argv)
    try:
        stale = out_of_step()
    except (ConfigError, CriteriaError, cost.CostError) as error:
        sys.exit(str(error))
    if arguments.check and stale:
        sys.exit(f"generate: out of step: {', '.join(stale)}; run python -m featurespeed.pipeline.generate")
    for name, text in stale.items():
        path = REPOSITORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"made {name}")


if __name__ == "__main__":
    main()
