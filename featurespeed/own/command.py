"""The command line: tools for one's own networks, whose functions lie in a file of one's own.

    featurespeed sharpness train.py:make_model --loss cross_entropy
    featurespeed check-coordinates train.py:make_model --widths 64 128 256 512 --optimizer adam --learning-rate 1e-3
    featurespeed doctor

The file holds ``make_model``, without argument or with a size, and may hold ``loss``, ``make_batch``, ``make_data`` and
``make_optimizer``, which are taken where no option names others; functions of data may take a seed. With ``--json``
one JSON object is all that goes to the standard output. Errors are one line and the exit code 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import featurespeed

PICTURES = (".png", ".pdf", ".svg")
#: Subcommand -> module that it needs.
MODULES = {
    "measure": "featurespeed.own.measure",
    "sharpness": "featurespeed.curvature.measure",
    "check-coordinates": "featurespeed.own.coordinates",
    "check-transfer": "featurespeed.own.transfer",
    "autoscale": "featurespeed.own.scale",
}


class CommandError(Exception):
    """What is wrong with the command line itself."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    os.environ.setdefault("MPLBACKEND", "agg")  # figures go to files
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:  # --help, --version
        return int(stop.code or 0)
    except CommandError as error:
        return _failed(str(error))
    try:
        return _doctor(options) if options.command == "doctor" else _run(options)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    except BrokenPipeError:  # whoever read the output has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        return _failed(f"out of memory ({error}): smaller sizes or batches may fit")


def _run(options: argparse.Namespace) -> int:
    from featurespeed.own.scripts import loaded_scripts

    with loaded_scripts() as scripts:
        try:
            if importlib.util.find_spec(MODULES[options.command]) is None:
                raise CommandError(f"{options.command}: not part of featurespeed {featurespeed.__version__}")
            picture = _picture(options.plot)
            with redirect_stdout(sys.stderr):  # what a user's file prints is not the result
                result = _result(options, scripts)
                if picture is not None:
                    _draw(result, picture)
        except Exception as error:
            if options.debug:
                traceback.print_exc()
            return _failed(_told(error, scripts.where(error)))
    _print(result, options.json)
    return 0


def _result(options: argparse.Namespace, scripts: Any) -> Any:
    from featurespeed.own.command_runs import RUNS, Asked

    return RUNS[options.command](Asked(options, scripts))


def _print(result: Any, as_object: bool) -> None:
    from featurespeed.own.printing import as_json, as_text

    print(as_json(result) if as_object else as_text(result), flush=True)


def _told(error: Exception, place: str) -> str:
    """One line; the line of the user's file in which it was raised, if any."""
    from featurespeed.errors import UserError
    from featurespeed.measuring.errors import first_line

    known = isinstance(error, (UserError, CommandError))
    text = " ".join(str(error).split()) if known else first_line(error)
    return f"{text} ({place})" if place and place not in text else text


def _failed(text: str, code: int = 2) -> int:
    print(f"featurespeed: {text}", file=sys.stderr)
    return code


def _picture(named: str | None) -> Path | None:
    """The file of a figure, before anything is computed."""
    if named is None:
        return None
    path = Path(named)
    if path.suffix.lower() not in PICTURES:
        raise CommandError(f"--plot: {named}, allowed: a file that ends in {', '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise CommandError(f"--plot: {path.parent} is no folder, allowed: one that exists")
    return path


def _draw(result: Any, path: Path) -> None:
    if not callable(getattr(result, "plot", None)):
        raise CommandError("--plot: this result has no figure, allowed: no --plot")
    result.plot().savefig(path, dpi=150)


def _doctor(options: argparse.Namespace) -> int:
    """The report; 1 if something must be put right."""
    from featurespeed.own.doctor import PROBLEM, examine

    with redirect_stdout(sys.stderr):
        findings = examine()
    problems = sum(finding.kind == PROBLEM for finding in findings)
    if options.json:
        import json
        from dataclasses import asdict

        print(json.dumps({"problems": problems, "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(f"{finding.kind:8} {finding.topic:24} {finding.text}")
        print(f"\n{problems or 'no'} {'problem' if problems == 1 else 'problems'}")
    return 1 if problems else 0


# --- options ----------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; {self.prog} --help tells more")


def parser() -> argparse.ArgumentParser:
    """All subcommands and their options."""
    whole = _Parser(prog="featurespeed", description="Measure and check the networks of a file of yours.")
    whole.add_argument("--version", action="version", version=f"featurespeed {featurespeed.__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = _with_model(commands, "measure", "speeds, angles and loss decay at the nodes of a network")
    _one_model(one)
    _optimizer(one)
    one.add_argument("--nodes", nargs="+", metavar="NAME", help="names or shell patterns of modules")

    one = _with_model(commands, "sharpness", "largest eigenvalues of the Hessian of the loss")
    _one_model(one)
    _optimizer(one)
    one.add_argument("--k", type=int, default=1, help="how many eigenvalues (1)")
    one.add_argument("--tol", type=float, default=1e-3, help="relative accuracy (1e-3)")
    one.add_argument("--matrix", default="hessian", help="hessian, gauss_newton or residual")
    one.add_argument(
        "--blocks", nargs="+", metavar="NAME", help="diagonal blocks, too: names or patterns of parts, or layers"
    )
    one.add_argument("--micro-batch", type=int, help="so many examples at a time")
    one.add_argument("--batches", type=_count, help="so many batches of make_data; all without it")

    one = _with_model(commands, "check-coordinates", "whether updates keep their size as a network gets wider")
    one.add_argument("--widths", type=int, nargs="+", required=True, metavar="N")
    one.add_argument("--steps", type=_count, help="so many batches of make_data; 3 of a single batch without it")
    one.add_argument("--seeds", type=int, default=3, help="networks a width (3)")
    _optimizer(one)
    one.add_argument("--nodes", nargs="+", metavar="NAME", help="names or shell patterns of modules")

    one = _with_model(commands, "check-transfer", "whether the best learning rate stays the same as a network grows")
    one.add_argument("--sizes", type=int, nargs="+", required=True, metavar="N")
    one.add_argument("--learning-rates", type=float, nargs="+", required=True, metavar="RATE")
    one.add_argument("--steps", type=_count, required=True, help="of training, a network")
    one.add_argument("--seeds", type=int, default=5, help="networks a size and rate (5)")
    one.add_argument("--optimizer", metavar="NAME", help="sgd, adam, adamw or FILE.py:function; else make_optimizer")
    one.add_argument("--batch-size", type=_count)
    one.add_argument("--folder", help="where finished networks are kept, so that a run can go on")
    one.add_argument("--sharpness-at", type=int, default=4, help="at so many steps of training (4)")

    one = _with_model(commands, "autoscale", "initialisation and learning rates of every layer by a scheme")
    _one_model(one)
    one.add_argument("--scheme", default="fsc", help="fsc, mup, depth_mup or ntp")
    one.add_argument("--base", type=int, metavar="N", help="size of the network at which learning rates are known")

    doctor = commands.add_parser("doctor", help="versions, GPUs, disk, data sets, extras, and what to put right")
    doctor.add_argument("--json", action="store_true", help="one JSON object")
    return whole


def _with_model(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A subcommand with the options that all have which get a network."""
    one: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    one.add_argument("model", metavar="FILE.py:make_model", help="FILE.py alone means its function make_model")
    one.add_argument("--loss", metavar="NAME", help="cross_entropy, mse or FILE.py:function; else loss of the file")
    one.add_argument(
        "--batch", metavar="NAME", help="FILE.py:function that returns a batch; else make_batch of the file"
    )
    one.add_argument("--data", metavar="NAME", help="FILE.py:function that returns batches; else make_data of the file")
    one.add_argument("--device", help="cpu, cuda, ...; else where make_model puts it")
    one.add_argument("--seed", type=_seed, default=0, help="of weights and data (0)")
    one.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    one.add_argument("--plot", metavar="FILE.png", help="a figure, too")
    one.add_argument("--debug", action="store_true", help="errors with their traceback")
    return one


def _one_model(one: argparse.ArgumentParser) -> None:
    one.add_argument("--size", type=int, metavar="N", help="what make_model gets, if it takes a size")


def _optimizer(one: argparse.ArgumentParser) -> None:
    one.add_argument("--optimizer", metavar="NAME", help="sgd, adam, adamw or FILE.py:function; else make_optimizer")
    one.add_argument("--learning-rate", type=float, metavar="RATE")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}, allowed: a whole number from 1 on")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}, allowed: a whole number from 0 on")
    return value
