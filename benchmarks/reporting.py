"""What the benchmarks share: their options, the facts of a run, and the file of their rows."""

from __future__ import annotations

import argparse
import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch


def add_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """The options that all of them have; ``seconds`` is the default for all tables."""
    add = parser.add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="which tables; default: auto")
    add("--seconds", type=float, default=seconds, metavar="S", help=f"for all tables; default: {seconds:g}")
    add("--only", default="", metavar="WORDS", help="tables whose title or case holds the words")
    add("--out", type=Path, metavar="FILE", help=".json or .csv, written after every table")
    add("--smoke", action="store_true", help="tiny sizes, all tables, on the CPU; no verdicts")


def read_options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, or an end with one line that names the wrong one."""
    options = parser.parse_args(arguments)
    if not options.seconds > 0:
        parser.error(f"argument --seconds: {options.seconds:g}, allowed: more than 0")
    if options.out is not None and options.out.suffix not in (".json", ".csv"):
        parser.error(f"argument --out: {str(options.out)!r}, allowed: a name that ends in .json or .csv")
    if options.device == "cuda" and not options.smoke and not torch.cuda.is_available():
        parser.error("argument --device: cuda, but PyTorch finds no GPU; allowed here: auto, cpu")
    return options


def facts_of(device: torch.device, options: argparse.Namespace) -> dict[str, object]:
    """What the numbers depend on."""
    facts: dict[str, object] = {"device": device.type, "torch": torch.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        facts |= {"cudnn": torch.backends.cudnn.version(), "cudnn_search": torch.backends.cudnn.benchmark}
    return facts | {"threads": torch.get_num_threads(), "seconds": options.seconds, "smoke": options.smoke}


def write(path: Path, facts: dict[str, object], rows: Sequence[Any]) -> None:
    """The rows, dataclasses with a ``verdict``, as .csv, or with the facts of the run as .json."""
    records = [asdict(row) | {"verdict": row.verdict} for row in rows]
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".json":
            json.dump(facts | {"rows": records}, file, indent=2)
            file.write("\n")
            return
        writer = csv.DictWriter(file, [*(column.name for column in fields(rows[0])), "verdict"])
        writer.writeheader()
        writer.writerows(records)
