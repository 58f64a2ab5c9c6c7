"""The table of seeds that central claims need, from kept ledgers."""

from __future__ import annotations

import csv

import pytest

from featurespeed.pipeline import power_table
from featurespeed.pipeline.criteria import all_criteria

CLAIM = "sc_fig4a_transfer"
CRITERION = next(criterion for criterion in all_criteria() if criterion.claim_id == CLAIM)


@pytest.mark.parametrize(("low", "shown"), [("0.4", True), ("-inf", False), ("", False)])
def test_only_intervals_with_two_ends_tell_how_far_seeds_are_apart(tmp_path, low, shown):
    folder = tmp_path / "results/reference/gpu"
    folder.mkdir(parents=True)
    row = {"claim_id": CLAIM, "threshold": CRITERION.threshold, "n": 10, "ci_low": low, "ci_high": "0.7"}
    with (folder / "claims.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    (line,) = (line for line in power_table.power_table(tmp_path).splitlines() if CLAIM in line)
    assert ("| gpu | 10 |" in line) is shown
