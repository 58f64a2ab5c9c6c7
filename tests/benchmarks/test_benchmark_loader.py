"""The benchmark of reading files runs and prints every row; how fast anything is, no test says."""

from __future__ import annotations

import csv
import os

import pytest

from tests import forked
from tests.benchmarks.test_benchmark import run, tables_of
from tests.conftest import REPOSITORY
from tests.data.folder_cases import jpeg, write

SCRIPT = REPOSITORY / "benchmarks/loader.py"


def test_smoke_prints_and_writes_every_row(tmp_path):
    for number in range(30):
        write(tmp_path / f"images/train/n01/{number}.JPEG", jpeg(number, 64, 64))
    out = tmp_path / "loader.csv"
    done = run("--smoke", "--folder", str(tmp_path / "images"), "--train-rate", "1e9", "--out", str(out), script=SCRIPT)
    assert done.returncode == 0, done.stderr
    tables = tables_of(done.stdout)
    assert [heading for heading, _ in tables] == ["tiny_imagenet", "imagenet"]
    assert "30 files of images" in done.stdout and "imagenet: generated files" in done.stdout
    for _, (head, *lines) in tables:
        names = [line[0].removesuffix(", img/s") for line in lines]
        each = [f"{what}, {many}" for what in ("files", "batches") for many in ("0 workers", "1 worker", "2 workers")]
        assert head == ["1 turns", "median", "least", "most"] and names[:7] == ["decoding", *each]
        assert names[-1] == "workers for 1,000,000,000 img/s" and len(lines) == 14
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 28 and all(float(row["value"]) > 0 for row in rows)
    for case in ("tiny_imagenet", "imagenet"):
        rate, needed = (
            next(float(row["value"]) for row in rows if row["case"] == case and row["what"].startswith(what))
            for what in ("files, 0 workers", "workers for")
        )
        assert 0 <= needed - 1e9 / rate < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train-rate", "0"], ["--train-rate", "more than 0"]),
        (["--folder", "/nowhere"], ["--folder", "/nowhere", "train/<class>/*.JPEG"]),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    what = {"script": str(SCRIPT)}
    done = forked.run(what, *arguments, libraries=forked.SCIENTIFIC, cwd=REPOSITORY, environment=os.environ)
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr.splitlines()[-1] for word in words)
