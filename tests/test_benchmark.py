"""The benchmark runs and prints every row; how fast it is, no test says."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks/feature_speed.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_smoke_prints_every_row():
    done = run("--smoke", "--repeats", "2")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert header == ["what", "value", "floor", "ratio", "target", "verdict"]
    assert [row[0] for row in rows] == [
        "dense float32, exact tangent",
        "dense float32, exact tangent: peak memory",
        "dense float32, finite step instead",
        "exact-law sampler",
        "exact-law sampler: peak memory",
        "sampler, one beta of Fig. 1b at a million units, 20 depths to 200",
        "sampler at a million units: peak memory",
    ]
    assert [row[4] for row in rows] == ["<= 45 CPU s", "", "", "<= 6 CPU s", "", "<= 60 s", "<= 2 GB"]
    for row in rows:
        assert float(row[1].split()[0]) >= 0 and len(row) == 6
        assert bool(row[2]) == bool(row[3]) == ("memory" not in row[0])
        assert row[5] == ""  # tiny sizes meet nothing and miss nothing
    for job in ("dense", "finite", "sampler", "wide"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{job}: ")]
        assert len(line.split(": ")[-1].split(", ")) == 2


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--repeats", "0"], ["--repeats", "0", "1 or more"]), (["--fast"], ["--fast"])]
)
def test_bad_arguments_are_refused(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr.splitlines()[-1] for word in words)
