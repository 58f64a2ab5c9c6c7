"""A picture of the package as it imports: the wings, the parts of the library, and the rooms of every paper.

Made by ``python -m featurespeed.pipeline.generate`` from the import statements of the code; an arrow points from a part
to what it imports.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from featurespeed.pipeline.provenance import PACKAGE, imports_of
from featurespeed.pipeline.registry import PAPERS, ROOMS

#: Parts of the package that are no library.
WINGS = ("ledger", "drawing", "papers", "pipeline")
INK, QUIET, LINE, WASH = "#1f2328", "#5c6570", "#9aa4af", "#f3f5f8"


def part_of(module: str) -> str:
    """``featurespeed.models.mlp`` -> ``models``; the package itself -> the empty text."""
    return module.split(".")[1] if "." in module else ""


def import_counts(base: Path) -> Counter[tuple[str, str]]:
    """``(part, part that it imports)`` -> number of modules that do; ``scripts`` is a part, too."""
    counts: Counter[tuple[str, str]] = Counter()
    files = [(part_of(_module(path, base)), path) for path in sorted((base / PACKAGE).rglob("*.py"))]
    files += [("scripts", path) for path in sorted((base / "scripts").glob("*.py"))]
    for part, path in files:
        module = "" if part == "scripts" else _module(path, base)
        found = {part_of(name) for name in imports_of(path, module)} - {part, ""}
        counts.update((part, other) for other in found if part)
    return counts


def _module(path: Path, base: Path) -> str:
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(name for name in parts if name != "__init__")


def wing_of(part: str) -> str:
    """The wing that a part belongs to: itself, or the library."""
    return part if part in (*WINGS, "scripts") else "library"


def rows_of_library(needs: Mapping[str, set[str]]) -> list[list[str]]:
    """Parts of the library in rows: each stands above all that it imports.

    Raises:
        ValueError: parts import each other in a circle.
    """
    rows: list[list[str]] = []
    left = set(needs)
    while left:
        ready = sorted(part for part in left if not needs[part] & left)
        if not ready:
            raise ValueError(f"imports in a circle: {', '.join(sorted(left))}")
        rows.append(ready)
        left -= set(ready)
    return rows


def direct_needs(needs: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """What each part imports, without what it has through another part that it imports."""

    def all_of(part: str) -> set[str]:
        return needs[part].union(*(all_of(other) for other in needs[part]))

    return {part: own - set().union(*(all_of(other) for other in own)) for part, own in needs.items()}


def picture(base: Path) -> str:
    """The picture as SVG, the same on every machine with the locked packages.

    Raises:
        ValueError: wings import each other in a way that the picture has no arrow for.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    counts = import_counts(base)
    parts = {part for pair in counts for part in pair if wing_of(part) == "library"}
    needs = {part: {other for one, other in counts if one == part} for part in parts}
    wings = {(wing_of(one), wing_of(other)) for one, other in counts} - {(wing, wing) for wing in ("library", *WINGS)}
    unknown = wings - set(ARROWS)
    if unknown:
        raise ValueError(f"imports against the arrows: {sorted(unknown)}")
    with matplotlib.rc_context({"svg.hashsalt": PACKAGE, "svg.fonttype": "none", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(9.6, 6.6))
        ax = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        ax.set(xlim=(-0.2, 12.2), ylim=(-3.4, 5.4))
        ax.axis("off")
        _draw_library(ax, rows_of_library(needs), direct_needs(needs))
        _draw_wings(ax)
        for pair in sorted(wings):
            _draw_path(ax, ARROWS[pair], dashed=pair == ("pipeline", "papers"))
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


#: (wing, wing that it may import) -> corners of the arrow between them.
ARROWS = {
    ("scripts", "pipeline"): [(4.1, 4.9), (7.4, 4.9)],
    ("scripts", "papers"): [(2.5, 4.65), (2.5, 4.1)],
    ("pipeline", "papers"): [(9.0, 4.65), (9.0, 4.1)],
    ("papers", "ledger"): [(2.5, 2.1), (2.5, 1.55)],
    ("papers", "drawing"): [(6.9, 2.1), (6.9, 1.55)],
    ("papers", "library"): [(4.7, 2.1), (4.7, 0.45)],
    ("ledger", "library"): [(2.5, 1.05), (2.5, 0.45)],
    ("drawing", "library"): [(6.9, 1.05), (6.9, 0.45)],
    ("scripts", "library"): [(1.2, 4.75), (0.1, 4.75), (0.1, 0.45)],
    ("scripts", "ledger"): [(1.2, 4.85), (0.3, 4.85), (0.3, 1.3), (1.2, 1.3)],
    ("scripts", "drawing"): [(1.2, 4.95), (-0.1, 4.95), (-0.1, 1.75), (6.2, 1.75), (6.2, 1.55)],
    ("pipeline", "library"): [(10.6, 4.85), (11.9, 4.85), (11.9, 0.45)],
    ("pipeline", "ledger"): [(10.6, 4.95), (11.7, 4.95), (11.7, 0.75), (3.3, 0.75), (3.3, 1.05)],
}


def _draw_library(ax, rows: list[list[str]], needs: Mapping[str, set[str]]) -> None:
    """Boxes of the library, the lowest row at the bottom, with arrows to what each imports directly."""
    _frame(ax, 0.0, -3.3, 12.0, 3.75, "library: knows no paper and no workflow")
    step = 3.1 / max(len(rows), 1)
    places = {}
    for level, parts in enumerate(rows):
        width = 12.0 / len(parts)
        for place, part in enumerate(parts):
            places[part] = (width * (place + 0.5), -3.0 + step * level)
            _box(ax, *places[part], 1.6, 0.34, part)
    for part, own in sorted(needs.items()):
        for other in sorted(own):
            (x, y), (u, v) = places[part], places[other]
            _draw_path(ax, [(x, y - 0.17), (u, v + 0.17)], color=LINE, width=0.7)


def _draw_wings(ax) -> None:
    """Boxes of the other wings above the library."""
    for x, y, text in (
        (2.65, 4.9, "scripts: stages, one figure.py"),
        (9.0, 4.9, "pipeline: registry, config, page"),
        (2.5, 1.3, "ledger: verdicts"),
        (6.9, 1.3, "drawing: plots"),
    ):
        _box(ax, x, y, 3.2 if y > 2 else 2.6, 0.5, text)
    _frame(ax, 0.5, 2.1, 11.0, 2.0, "papers: rooms, one for each family of figures")
    for place, paper in enumerate(PAPERS):
        x = (0.75, 4.3, 8.9)[place] if len(PAPERS) == 3 else 0.75 + 10.5 / len(PAPERS) * place
        names = [room.folder.name for room in ROOMS if room.paper == paper]
        ax.text(x, 3.55, paper.short, color=INK, fontsize=8.5, weight="bold")
        ax.text(x, 3.42, _lines(names, 3), color=QUIET, fontsize=7.5, va="top", linespacing=1.35)
    ax.text(9.12, 4.37, "by name only", color=QUIET, fontsize=7.5, va="center", style="italic")


def _lines(names: Iterable[str], each: int) -> str:
    names = list(names)
    return "\n".join(", ".join(names[start : start + each]) for start in range(0, len(names), each))


def _frame(ax, x: float, y: float, width: float, height: float, title: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=WASH, ec="none", zorder=0))
    ax.text(x + 0.12, y + height - 0.1, title, color=QUIET, fontsize=8.5, va="top", style="italic", zorder=5)


def _box(ax, x: float, y: float, width: float, height: float, text: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.06"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc="white", ec=INK, lw=0.8, zorder=3))
    ax.text(x, y, text, color=INK, fontsize=8.5, ha="center", va="center", zorder=4)


def _draw_path(
    ax, corners: list[tuple[float, float]], dashed: bool = False, color: str = INK, width: float = 1.1
) -> None:
    """A line along the corners with an arrow head at its end."""
    for start, end in zip(corners, corners[1:], strict=False):
        last = end == corners[-1]
        style = {"arrowstyle": "-|>" if last else "-", "lw": width, "color": color, "shrinkA": 0, "shrinkB": 0}
        style |= {"mutation_scale": 8, "linestyle": "--" if dashed else "-"}
        ax.annotate("", xy=end, xytext=start, arrowprops=style, zorder=2)
