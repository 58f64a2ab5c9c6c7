"""Images a second that are read from JPEG files, decoded and made into batches, by the number of worker processes.

    python benchmarks/loader.py --folder /path/to/tiny-imagenet-200     # its train/<class>/*.JPEG; two minutes
    python benchmarks/loader.py                                         # generated files of the same size
    python benchmarks/loader.py --train-rate 20000 --out loader.json    # workers for a GPU that trains so many a second
    python benchmarks/loader.py --smoke                                 # few files: a check, not a measurement

Two tables: files of 64 x 64 pixels, as in Tiny-ImageNet, from the folder if one is given; and generated ones of 500 x
375, the usual size in ImageNet, which become squares of 256. `decoding` turns bytes in memory into pixels. `files`
opens, reads and decodes them, and brings them to the device. `batches` are those of the stream that networks are
trained with: files, then cropped at random, flipped and standardised on the device by this process. This process reads
the files itself, or so many workers do.

Contestants take turns until the time of their table is over; a ratio is taken within a turn, and its median stands
beside its smallest and largest value. What this process does alone counts its CPU seconds. Where workers take part, it
is seconds on the wall, and numbers are too low on a machine that is used otherwise. Files were read before, so that
they come from the system's memory; a slow disk or a network is not in these numbers. `workers for ...` divides the rate
that a GPU trains at by what one process reads and decodes in a CPU second: each worker needs a core.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import reporting

from featurespeed.data.augment import Augmentation
from featurespeed.data.content import DataError
from featurespeed.data.folders import list_split
from featurespeed.data.pictures import Damaged, decode_square, read_file
from featurespeed.data.reader import ImageFiles, Reader
from featurespeed.data.streaming import FileStream, rows_from
from featurespeed.pipeline.stage import prepare_process

WARM_UP = 3  # batches before the clock starts: workers are there and their chunks ahead are used up
TRIAL = 4  # batches of the first turn, which says how many fill a turn
TURN_SECONDS = 2.0
WORKERS = (0, 1, 2)
RATIOS = (
    ("files, 0 workers", "decoding"),
    ("batches, 0 workers", "decoding"),
    ("batches, 0 workers", "files, 0 workers"),
    ("files, 2 workers", "files, 1 worker"),
    ("batches, 2 workers", "batches, 1 worker"),
    ("batches, 2 workers", "files, 2 workers"),
)
MOST_FILES = 20_000
Turn = Callable[[int], float]  # batches -> images a second


@dataclass(frozen=True)
class Row:
    """A median over turns and its extremes."""

    table: str
    case: str
    what: str
    value: float
    least: float
    most: float
    unit: str
    turns: int
    verdict: str = ""


@dataclass(frozen=True)
class Case:
    """Files of images of about `size` (height, width), the squares that they become, what a network sees, a batch."""

    title: str
    size: tuple[int, int]
    side: int
    view: int
    batch: int


CASES = (Case("tiny_imagenet", (64, 64), 64, 64, 256), Case("imagenet", (375, 500), 256, 224, 64))


# --- files ------------------------------------------------------------------------------------------------------------


def generate(folder: Path, case: Case, count: int) -> list[str]:
    """JPEG files of random smooth colours with some noise: about as many bytes a pixel as photographs have."""
    rng = np.random.default_rng(0)
    height, width = case.size
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.asarray(small).astype(np.int16) + rng.integers(-20, 21, (height, width, 3), dtype=np.int16)
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=75)
        (folder / f"{number}.JPEG").write_bytes(buffer.getvalue())
    return [f"{number}.JPEG" for number in range(count)]


def files_of(case: Case, root: Path, names: Sequence[str]) -> ImageFiles:
    """The files, each read once."""
    sizes = [len(read_file(root / name)) for name in names]
    return ImageFiles(root, np.array([os.fsencode(name) for name in names]), np.array(sizes), case.side)


def stream_of(case: Case, files: ImageFiles, workers: int, device: torch.device) -> FileStream:
    """The stream of a training with a random resized crop and flips."""
    moments = (np.tile(value * case.view**2, (len(files), 3)) for value in (100, 100**2 + 50**2))
    return FileStream(
        files, np.zeros(len(files), dtype=np.int64), tuple(moments), (3, case.view, case.view), seeds=[0],
        batch_size=min(case.batch, len(files)), augmentation=Augmentation(flip=True, resized_crop=case.view),
        device=device, pixels="imagenet", workers=workers,
    )  # fmt: skip


# --- measuring --------------------------------------------------------------------------------------------------------


def decoding(case: Case, files: ImageFiles) -> Turn:
    """From bytes in memory to pixels."""
    some = [read_file(files.root / os.fsdecode(name)) for name in files.names[:2000]]

    def turn(batches: int) -> float:
        started = time.process_time()
        for place in range(batches * case.batch):
            decode_square(some[place % len(some)], case.side)
        return batches * case.batch / (time.process_time() - started)

    return turn


def reading(files: ImageFiles, batch: int, workers: int, device: torch.device) -> Turn:
    """From files to pixels on the device, in the order of the stream."""

    def turn(batches: int) -> float:
        reader = Reader(files, rows_from(0, [0], len(files), batch), workers, device)
        rate = timed(lambda step: reader.gather(batch), batches, batch, workers, device)
        reader.close()  # else its workers would read on while others take their turn
        return rate

    return turn


def timed(bring: Callable[[int], object], batches: int, batch: int, workers: int, device: torch.device) -> float:
    """Images a second of `bring(step)` after the warm-up."""
    clock = time.perf_counter if workers or device.type == "cuda" else time.process_time
    for step in range(WARM_UP):
        bring(step)
    started = clock()
    for step in range(WARM_UP, WARM_UP + batches):
        bring(step)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return batches * batch / (clock() - started)


def pipeline(case: Case, files: ImageFiles, workers: int, device: torch.device) -> Turn:
    """From files to batches on the device."""
    stream = stream_of(case, files, workers, device)

    def turn(batches: int) -> float:
        rate = timed(stream.batch, batches, stream.batch_size, workers, device)
        stream.close()
        return rate

    return turn


def contestants(case: Case, files: ImageFiles, device: torch.device) -> dict[str, Turn]:
    """All of them by their names."""
    turns, batch = {"decoding": decoding(case, files)}, min(case.batch, len(files))
    for workers in WORKERS:
        turns[f"files, {workers} worker{'' if workers == 1 else 's'}"] = reading(files, batch, workers, device)
    for workers in WORKERS:
        turns[f"batches, {workers} worker{'' if workers == 1 else 's'}"] = pipeline(case, files, workers, device)
    return turns


def compete(turns: dict[str, Turn], deadline: float, seconds: float, batch: int) -> dict[str, list[float]]:
    """Rates of each contestant, in rounds, until the next round would end after the deadline (of time.monotonic)."""
    trials = {name: turn(TRIAL) for name, turn in turns.items()}
    batches = {name: max(1, round(rate * seconds / batch)) for name, rate in trials.items()}
    rates: dict[str, list[float]] = {name: [] for name in turns}
    started, rounds = time.monotonic(), 0
    while (now := time.monotonic()) + (now - started) / max(rounds, 1) < deadline:
        for name, turn in turns.items():
            rates[name].append(turn(batches[name]))
        rounds += 1
    return rates if rounds else {name: [rate] for name, rate in trials.items()}


def rows_of(case: Case, origin: str, rates: dict[str, list[float]], train_rate: float) -> Iterator[Row]:
    """Images a second; ratios; workers that a training needs."""

    def row(what: str, values: list[float], unit: str) -> Row:
        return Row(origin, case.title, what, median(values), min(values), max(values), unit, len(values))

    for name, values in rates.items():
        yield row(name, values, "img/s")
    for name, rival in RATIOS:
        yield row(f"{name} / {rival}", [a / b for a, b in zip(rates[name], rates[rival], strict=True)], "x")
    needed = [float(math.ceil(train_rate / rate)) for rate in rates["files, 0 workers"]]
    yield row(f"workers for {train_rate:,.0f} img/s", needed, "")


# --- the command ------------------------------------------------------------------------------------------------------


def lines_of(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown lines of one table."""
    yield f"| {rows[0].turns} turns | median | least | most |"
    yield "|---|---|---|---|"
    for row in rows:
        digits = ".2f" if row.unit == "x" else ",.0f"
        numbers = (format(value, digits) for value in (row.value, row.least, row.most))
        yield f"| {row.what}{', img/s' if row.unit == 'img/s' else ''} | {' | '.join(numbers)} |"


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reporting.add_options(parser, seconds=120.0)
    parser.add_argument("--folder", type=Path, help="class folders of Tiny-ImageNet, above train/")
    parser.add_argument("--train-rate", type=float, default=10_000.0, metavar="X", help="images/s; default: 10000")
    options = reporting.read_options(parser, arguments)
    if not options.train_rate > 0:
        parser.error(f"argument --train-rate: {options.train_rate:g}, allowed: more than 0")
    if options.folder is not None and not (options.folder / "train").is_dir():
        parser.error(f"argument --folder: {str(options.folder)!r}, allowed: a folder with train/<class>/*.JPEG")
    return options


def measure(case: Case, place: Path, options: argparse.Namespace, device: torch.device, deadline: float) -> list[Row]:
    """The rows of one table."""
    root, origin = place, "generated files"
    if options.folder is not None and case.title == "tiny_imagenet":
        listing = list_split(options.folder, "train")
        root, origin = listing.root, f"{len(listing.pairs()):,} files of {options.folder.name}"
        names = [path for _, path in listing.pairs()][:MOST_FILES]
    else:
        count = 40 if options.smoke else 4000 * 64 // case.size[0]
        names = generate(place, case, count)
    files = files_of(case, root, names)
    turns = contestants(case, files, device)
    rates = compete(turns, 0.0 if options.smoke else deadline, TURN_SECONDS, case.batch)
    return list(rows_of(case, origin, rates, options.train_rate))


def main(arguments: Sequence[str] | None = None) -> None:
    started = time.monotonic()
    options = read_options(arguments)
    prepare_process(threads=1)  # threads and allocator as every stage has them
    on_gpu = not options.smoke and (options.device == "cuda" or options.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if on_gpu else "cpu")
    facts, rows = reporting.facts_of(device, options) | {"cores": os.cpu_count(), "pillow": Image.__version__}, []
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    cases = [case for case in CASES if options.only in case.title]
    for index, case in enumerate(cases):
        left = started + options.seconds - time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            try:
                found = measure(case, Path(place), options, device, time.monotonic() + left / (len(cases) - index))
            except (DataError, Damaged) as error:
                sys.exit(str(error))
        rows += found
        print(f"\n{case.title}: {found[0].table}\n")
        print("\n".join(lines_of(found)), flush=True)
        if options.out is not None:
            reporting.write(options.out, facts, rows)


if __name__ == "__main__":
    main()
