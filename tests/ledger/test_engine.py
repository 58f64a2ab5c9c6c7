"""Verdicts: the one rule, its edges, its negative controls, and the criteria file at the door."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from featurespeed.ledger import engine
from featurespeed.ledger.criteria import CriteriaError, Names, Threshold, load_all, load_criteria
from featurespeed.ledger.engine import (
    CLAIM_COLUMNS,
    SENSITIVITY_COLUMNS,
    Condition,
    Estimate,
    MissingTable,
    Outcome,
    StageTables,
    Undecidable,
    Verdict,
    decide,
    judge,
    ledger,
)

BETWEEN = Threshold.parse({"between": [-1.0, 1.0]})
AT_MOST = Threshold.parse({"at_most": 1.0})
AT_LEAST = Threshold.parse({"at_least": 1.0})
IDENTITY = Threshold.parse({"at_most": 1e-6}, identity=True)
NAN, INF = math.nan, math.inf


def interval(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, n=5)


@pytest.mark.parametrize(
    ("threshold", "low", "high", "verdict"),
    [
        (BETWEEN, -0.5, 0.5, "confirmed"),
        (BETWEEN, -1.0, 1.0, "confirmed"),  # the region is closed
        (BETWEEN, -1.5, 0.5, "inconclusive"),
        (BETWEEN, 0.5, 1.5, "inconclusive"),
        (BETWEEN, -2.0, 2.0, "inconclusive"),  # the region inside the interval
        (BETWEEN, 1.0, 2.0, "inconclusive"),  # touches the bound
        (BETWEEN, 1.1, 2.0, "contradicted"),
        (BETWEEN, -2.0, -1.1, "contradicted"),
        (AT_MOST, 0.5, 0.9, "confirmed"),
        (AT_MOST, 0.5, 1.0, "confirmed"),
        (AT_MOST, 0.5, 1.5, "inconclusive"),
        (AT_MOST, 1.0, 1.5, "inconclusive"),
        (AT_MOST, 1.1, 1.5, "contradicted"),
        (AT_LEAST, 1.0, 1.5, "confirmed"),
        (AT_LEAST, 0.5, 1.5, "inconclusive"),
        (AT_LEAST, 0.5, 1.0, "inconclusive"),
        (AT_LEAST, 0.5, 0.9, "contradicted"),
    ],
)
def test_the_whole_interval_decides(threshold, low, high, verdict):
    assert decide(interval(low, high), threshold) == verdict


def test_an_open_interval_can_confirm_a_one_sided_claim():
    assert decide(Estimate(5.0, 2.0, INF), AT_LEAST) is Verdict.CONFIRMED
    assert decide(Estimate(5.0, 2.0, INF), AT_MOST) is Verdict.CONTRADICTED
    assert decide(Estimate(5.0, -INF, INF), AT_MOST) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("threshold", [BETWEEN, AT_MOST, AT_LEAST, IDENTITY])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_value_that_is_no_number_decides_nothing(threshold, value):
    assert decide(Estimate(value, -0.1, 0.1), threshold) is Verdict.INCONCLUSIVE
    assert decide(Estimate(value), threshold) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("threshold", [BETWEEN, AT_MOST, AT_LEAST])
@pytest.mark.parametrize(("low", "high"), [(NAN, NAN), (NAN, 0.1), (-0.1, NAN)])
def test_a_claim_with_an_interval_needs_both_bounds(threshold, low, high):
    assert decide(Estimate(0.0, low, high), threshold) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("error", "verdict"), [(0.0, "confirmed"), (1e-6, "confirmed"), (1.1e-6, "contradicted")])
def test_an_identity_compares_its_largest_error_and_ignores_intervals(error, verdict):
    assert decide(Estimate(error), IDENTITY) == verdict
    assert decide(Estimate(error, -5.0, 5.0), IDENTITY) == verdict


@pytest.mark.parametrize(("bounds", "fault"), [((1.0, -1.0), "upside down"), ((1.0, 2.0), "lies outside")])
def test_an_interval_that_cannot_be_is_a_bug(bounds, fault):
    with pytest.raises(ValueError, match=fault):
        Estimate(0.0, *bounds)


def test_verdicts_are_exclusive_and_monotone_in_the_threshold():
    """Widening a region can only move a verdict from contradicted over inconclusive to confirmed."""
    rank = {Verdict.CONTRADICTED: 0, Verdict.INCONCLUSIVE: 1, Verdict.CONFIRMED: 2}
    generator = np.random.default_rng(0)
    for _ in range(500):
        low, high = np.sort(generator.normal(size=2))
        half_widths = np.sort(generator.exponential(size=2))
        narrow, wide = (Threshold.parse({"between": [-float(h), float(h)]}) for h in half_widths)
        assert rank[decide(interval(low, high), narrow)] <= rank[decide(interval(low, high), wide)]


def test_negating_estimate_and_threshold_leaves_the_verdict():
    generator = np.random.default_rng(1)
    for _ in range(300):
        low, high = np.sort(generator.normal(size=2))
        bound = float(generator.normal())
        mirrored = decide(interval(-high, -low), Threshold.parse({"at_least": -bound}))
        assert decide(interval(low, high), Threshold.parse({"at_most": bound})) is mirrored


# --- controls ---------------------------------------------------------------------------------------------------------

GOOD, BAD, VAGUE = interval(-0.1, 0.1), interval(3.0, 4.0), interval(0.5, 1.5)


def test_confirmed_needs_a_control_that_fails_under_the_same_threshold():
    assert judge(Outcome(GOOD), Outcome(BAD), BETWEEN) == (Verdict.CONFIRMED, "")
    assert judge(Outcome(GOOD), Outcome(GOOD), BETWEEN) == (
        Verdict.INCONCLUSIVE,
        "the negative control does not fail: it is confirmed",
    )
    assert judge(Outcome(GOOD), Outcome(VAGUE), BETWEEN)[0] is Verdict.INCONCLUSIVE
    assert judge(Outcome(GOOD), Outcome(Estimate(NAN)), BETWEEN)[0] is Verdict.INCONCLUSIVE
    assert judge(Outcome(GOOD), None, BETWEEN) == (Verdict.INCONCLUSIVE, "no negative control")
    assert judge(Outcome(GOOD), Outcome(undecidable="too few"), BETWEEN)[1].endswith("too few")
    assert judge(Outcome(GOOD), Outcome(missing="no table"), BETWEEN)[0] is Verdict.INCONCLUSIVE


def test_a_contradicted_claim_stays_contradicted_whatever_its_control_does():
    for control in (None, Outcome(GOOD), Outcome(BAD)):
        assert judge(Outcome(BAD), control, BETWEEN)[0] is Verdict.CONTRADICTED


def test_without_an_estimate_the_reason_is_kept():
    assert judge(Outcome(undecidable="three depths only"), Outcome(BAD), BETWEEN) == (
        Verdict.INCONCLUSIVE,
        "three depths only",
    )
    assert judge(Outcome(missing="no table"), Outcome(BAD), BETWEEN) == (Verdict.NOT_RUN, "no table")
    assert "straddles" in judge(Outcome(VAGUE), Outcome(BAD), BETWEEN)[1]
    assert "not a finite number" in judge(Outcome(Estimate(NAN)), Outcome(BAD), BETWEEN)[1]


# --- halved and doubled thresholds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "halved", "doubled"),
    [
        ({"between": [-1.1, -0.9]}, (-1.05, -0.95), (-1.2, -0.8)),
        ({"at_most": 0.2}, (-INF, 0.1), (-INF, 0.4)),
        ({"at_least": 0.2}, (0.1, INF), (0.4, INF)),
        ({"at_least": 0.95, "ideal": 1.0}, (0.975, INF), (0.9, INF)),
        ({"between": [0.5, 2.0], "ideal": 1.0}, (0.75, 1.5), (0.0, 3.0)),
    ],
)
def test_thresholds_scale_about_their_ideal(entry, halved, doubled):
    threshold = Threshold.parse(entry)
    for factor, expected in ((0.5, halved), (2.0, doubled), (1.0, (threshold.low, threshold.high))):
        scaled = threshold.scaled(factor)
        assert (scaled.low, scaled.high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("entry", "identity"),
    [
        ({}, False),
        ({"below": 1}, False),
        ({"at_most": 1, "at_least": 0}, False),
        ({"between": [1, 0]}, False),
        ({"between": [0, 0]}, False),
        ({"between": [0]}, False),
        ({"between": 1}, False),
        ({"at_most": "a"}, False),
        ({"at_most": True}, False),
        ({"at_most": NAN}, False),
        ({"at_most": INF}, False),
        ({"between": [0, 1], "ideal": 1}, False),
        ({"at_least": 1.0}, True),
        ({"between": [-1, 1]}, True),
        ({"at_most": -1.0}, True),
        (0.5, False),
    ],
)
def test_a_threshold_that_means_nothing_is_refused(entry, identity):
    with pytest.raises(ValueError, match="threshold"):
        Threshold.parse(entry, identity)


def test_thresholds_read_as_text():
    assert str(BETWEEN) == "between -1 and 1"
    assert str(AT_MOST) == "at most 1"
    assert str(AT_LEAST) == "at least 1"
    assert str(IDENTITY) == "largest error at most 1e-06"


# --- the ledger -------------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """An empty registry with a few statistics of known outcome."""
    monkeypatch.setattr(engine, "STATISTICS", {})
    monkeypatch.setattr(engine, "PREMISES", {})
    engine.premise("beyond the edge")(lambda tables: Condition(True, "0.3 of the steps"))
    engine.premise("trained")(lambda tables: Condition(False, "loss 2.4"))
    engine.premise("measured")(lambda tables: Condition(len(tables["fsf_x"]) > 0))

    def undecidable(tables):
        raise Undecidable("two depths decide no slope")

    def bug(tables):
        raise ZeroDivisionError

    for name, function in {
        "near zero": lambda tables: Estimate(0.0, -0.1, 0.1, 7),
        "far": lambda tables: Estimate(3.0, 2.9, 3.1, 7),
        "as far": lambda tables: Estimate(3.0, 2.9, 3.1, 7),
        "one number": lambda tables: Estimate(0.5, 0.5, 0.5, 7, sample=(0.5,) * 7),
        "moderate": lambda tables: Estimate(0.7, 0.6, 0.8, 7, note="median of medians"),
        "error": lambda tables: Estimate(1e-9, n=12),
        "big error": lambda tables: Estimate(0.3, n=12),
        "nan": lambda tables: Estimate(NAN, NAN, NAN, 7),
        "undecidable": undecidable,
        "bug": bug,
        "reads table": lambda tables: Estimate(float(len(tables["fsf_x"])), 0, 9),
        "misspelt table": lambda tables: Estimate(float(len(tables["fsf_xx"])), 0, 9),
    }.items():
        engine.statistic(name)(function)
    return engine.STATISTICS


def entry(**changes) -> dict:
    base = {
        "claim_id": "c1",
        "artefact": "fsf_x",
        "kind": "paper",
        "source": "Thm 1",
        "statement": "zero",
        "statistic": "the mean",
        "compute": "near zero",
        "threshold": {"between": [-1, 1]},
        "control": {"compute": "as far", "description": "shifted by three"},
    }
    return {key: value for key, value in (base | changes).items() if value is not None}


def write(tmp_path: Path, *entries: dict) -> Path:
    path = tmp_path / "criteria.yaml"
    path.write_text(yaml.safe_dump({"paper": "arXiv:1", "claims": list(entries)}))
    return path


def read(path: Path) -> list:
    return load_criteria(path, Names(engine.STATISTICS, engine.PREMISES, ("fsf_x",)))


def judge_file(tmp_path, registry, *entries, tables=None):
    criteria = read(write(tmp_path, *entries))
    return ledger(criteria, tables if tables is not None else StageTables([], pd.read_csv, {"fsf_x"}), "laptop")


def test_ledger_has_the_public_columns_and_one_row_a_criterion_in_order(tmp_path, registry):
    entries = [
        entry(claim_id="z"),
        entry(claim_id="a", compute=None, threshold=None, control=None, not_run="no such model yet"),
        entry(claim_id="m", compute="reads table"),
    ]
    claims, sensitivity = judge_file(tmp_path, registry, *entries)
    assert tuple(claims.columns) == CLAIM_COLUMNS
    assert tuple(sensitivity.columns) == SENSITIVITY_COLUMNS
    assert list(claims.claim_id) == ["z", "a", "m"]
    assert list(claims.verdict) == ["confirmed", "not run", "not run"]
    assert list(claims.note) == ["", "no such model yet", "stage table fsf_x is not part of this run"]
    assert list(sensitivity.claim_id) == ["z"]
    assert set(claims.scale) == {"laptop"}
    assert set(claims.paper) == {"arXiv:1, Thm 1"}
    assert claims.control[0] == "shifted by three: 3 [2.9, 3.1], fails, as it must"


def test_an_identity_has_no_interval_in_the_ledger(tmp_path, registry):
    control = {"compute": "big error", "description": "layers shuffled"}
    identity = entry(compute="error", identity=True, threshold={"at_most": 1e-6}, control=control)
    claims, _ = judge_file(tmp_path, registry, identity)
    row = claims.iloc[0]
    assert row.verdict == "confirmed"
    assert math.isnan(row.ci_low) and math.isnan(row.ci_high)
    assert row.control == "layers shuffled: 0.3, fails, as it must"


@pytest.mark.parametrize(
    ("changes", "verdict", "note"),
    [
        ({"compute": "undecidable"}, "inconclusive", "two depths decide no slope"),
        ({"compute": "nan"}, "inconclusive", "not a finite number"),
        ({"compute": "one number"}, "inconclusive", "the interval has no width"),
        ({"compute": "far"}, "contradicted", ""),
        ({"premise": "beyond the edge"}, "confirmed", ""),
        ({"premise": "trained"}, "inconclusive", "premise: the run is not trained"),
        (
            {"premise": ["beyond the edge", "trained"], "compute": "far"},
            "inconclusive",
            "premise: the run is not trained",
        ),
        ({"premise": "measured"}, "inconclusive", "premise: the run is not measured"),
        ({"control": {"compute": "error", "description": "weak"}}, "inconclusive", "does not fail"),
        ({"control": {"compute": "undecidable", "description": "weak"}}, "inconclusive", "could not be computed"),
        ({"compute": "moderate", "note": "see text"}, "confirmed", "median of medians; see text"),
    ],
)
def test_every_outcome_carries_its_reason(tmp_path, registry, changes, verdict, note):
    row = judge_file(tmp_path, registry, entry(**changes))[0].iloc[0]
    assert row.verdict == verdict
    assert note in row.note


def test_other_errors_are_not_swallowed(tmp_path, registry):
    with pytest.raises(ZeroDivisionError):
        judge_file(tmp_path, registry, entry(compute="bug"))
    with pytest.raises(KeyError) as failure:
        judge_file(tmp_path, registry, entry(compute="misspelt table"))
    assert not isinstance(failure.value, MissingTable)


def test_the_ledger_shows_kind_premise_commit_and_who_is_fragile(tmp_path, registry):
    entries = [
        entry(claim_id="firm", premise="beyond the edge"),
        entry(claim_id="loose", compute="moderate", kind="ours"),
        entry(claim_id="none", compute=None, threshold=None, control=None, not_run="later", premise="trained"),
    ]
    criteria = read(write(tmp_path, *entries))
    claims, _ = ledger(criteria, StageTables([], pd.read_csv, {"fsf_x"}), "laptop", {"firm": "abc"})
    assert list(claims.kind) == ["paper", "ours", "paper"]
    assert list(claims.fragile) == ["no", "yes", ""]
    assert list(claims.premise) == ["beyond the edge: 0.3 of the steps, holds", "", "trained"]
    assert list(claims.criterion_commit) == ["abc", "", ""]


def test_a_broken_premise_also_unmakes_a_contradiction_and_every_scaled_threshold(tmp_path, registry):
    claims, moved = judge_file(tmp_path, registry, entry(compute="far", premise="trained"))
    assert list(claims.verdict) == list(moved.verdict_halved) == list(moved.verdict_doubled) == ["inconclusive"]
    assert list(claims.fragile) == ["no"]


def test_companion_table_shows_which_verdicts_move(tmp_path, registry):
    _, moved = judge_file(tmp_path, registry, entry(claim_id="firm"), entry(claim_id="loose", compute="moderate"))
    assert list(moved.moves) == ["no", "yes"]
    assert list(moved.verdict_halved) == ["confirmed", "contradicted"]
    assert list(moved.threshold_halved) == ["between -0.5 and 0.5"] * 2


def test_the_companion_asks_the_control_at_its_own_threshold(tmp_path, registry):
    """Doubled, the region takes in the control: the claim is no longer confirmed, though its own interval fits."""
    control = {"compute": "moderate", "description": "off by 0.7"}
    _, moved = judge_file(tmp_path, registry, entry(threshold={"between": [-0.4, 0.4]}, control=control))
    assert moved.verdict[0] == "confirmed"
    assert moved.verdict_doubled[0] == "inconclusive"


def test_stage_tables_are_read_once_and_only_when_asked(tmp_path):
    reads = []
    path = tmp_path / "fsf_x.parquet"
    path.touch()

    def read(where):
        reads.append(where)
        return pd.DataFrame({"value": [1.0]})

    tables = StageTables([path, tmp_path / "fsf_y.parquet"], read)
    assert reads == []
    assert tables["fsf_x"] is tables["fsf_x"]
    assert reads == [path]
    with pytest.raises(MissingTable):
        tables["fsf_y"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"treshold": 1}, r"claim 'c1': treshold = 1: unknown key, allowed: .*threshold"),
        ({"compute": "typo"}, r"claim 'c1': compute = 'typo': unknown, allowed: .*near zero"),
        ({"control": {"compute": "typo", "description": "d"}}, r"compute = 'typo': unknown"),
        ({"threshold": {"between": [2, 1]}}, r"claim 'c1': .*between = \[2, 1\].*ascending"),
        ({"threshold": None}, r"claim 'c1': threshold is missing: a computed claim has a threshold"),
        ({"control": None}, r"claim 'c1': control is missing: a computed claim has .* a control"),
        ({"statistic": None}, r"claim 'c1': statistic is missing"),
        ({"kind": None}, r"claim 'c1': kind: missing, allowed: central, paper, theorem, table, discrepancy, ours"),
        ({"kind": "main"}, r"claim 'c1': kind = 'main': unknown, allowed: central, paper, theorem"),
        (
            {"premise": "at rest"},
            r"claim 'c1': premise = 'at rest': unknown, allowed: beyond the edge, measured, trained",
        ),
        ({"artefact": "fsf_y"}, r"claim 'c1': artefact = 'fsf_y': unknown, allowed: fsf_x"),
        ({"statement": None}, r"claim 'c1': statement: missing, a value is required"),
        ({"compute": None}, r"claim 'c1': .*either compute or not_run"),
        ({"not_run": "why"}, r"claim 'c1': .*either compute or not_run"),
        ({"identity": "perhaps"}, r"claim 'c1': identity = 'perhaps'"),
        ({"paper": "arXiv:2"}, r"claim 'c1': paper = 'arXiv:2': stands at the top of the file"),
        ({"compute": "as far"}, r"claim 'c1': control.compute = 'as far': that of the claim itself"),
        ({"control": "far"}, r"claim 'c1': control = 'far': must have the keys compute and description"),
        ({"control": {"compute": "far", "description": ""}}, r"control.description = '': must not be empty"),
        ({"control": {"compute": "far", "description": "d", "why": 1}}, r"control.why = 1: unknown key, allowed: com"),
        ({"premise": 3}, r"claim 'c1': premise = 3: must be a name or a list of names"),
        ({"premise": ["trained", "trained"]}, r"premise = \['trained', 'trained'\]: a name stands twice"),
        ({"identity": 1}, r"claim 'c1': identity = 1: must be true or false"),
        ({"claim_id": "c 1"}, r"claim 'c 1': claim_id = 'c 1': must be letters, digits and underscores"),
        ({"threshold": {"at_least": 10**400}}, r"threshold at_least = 1000*\.*.*: must be a finite number"),
        ({"compute": None, "statistic": None, "not_run": "later"}, r"threshold: a claim that is not run has none"),
        ({"control": {"compute": "far"}}, r"claim 'c1': control.description: missing, a value is required"),
    ],
)
def test_a_fault_in_the_criteria_file_is_one_clear_line(tmp_path, registry, changes, message):
    with pytest.raises(CriteriaError) as failure:
        read(write(tmp_path, entry(**changes)))
    assert re.search(message, str(failure.value)), str(failure.value)
    assert "\n" not in str(failure.value)
    assert "criteria.yaml" in str(failure.value)


def test_a_key_of_a_claim_is_written_once(tmp_path, registry):
    path = write(tmp_path, entry())
    path.write_text(path.read_text().replace("  statement: zero\n", "  statement: one\n  statement: zero\n"))
    with pytest.raises(CriteriaError, match=r"criteria\.yaml: line \d+: claims\.0\.statement: written twice"):
        read(path)


def test_a_claim_id_is_used_once(tmp_path, registry):
    with pytest.raises(CriteriaError, match="claim_id = 'c1': used more than once"):
        read(write(tmp_path, entry(), entry()))


def central(tmp_path: Path, name: str, count: int, paper: str) -> Path:
    path = tmp_path / f"{name}.yaml"
    rows = [entry(claim_id=f"{name}_{number}", kind="central") for number in range(count)]
    path.write_text(yaml.safe_dump({"paper": paper, "claims": rows}))
    return path


def test_a_paper_has_at_most_five_central_claims(tmp_path, registry):
    names = Names(engine.STATISTICS, engine.PREMISES)
    files = [central(tmp_path, *own) for own in (("a", 3, "arXiv:1"), ("b", 2, "arXiv:1"), ("c", 5, "arXiv:2"))]
    assert len(load_all(files, names)) == 10
    with pytest.raises(CriteriaError, match="d.yaml.* kind = 'central': arXiv:1 has 6 of them, allowed: at most 5"):
        load_all([*files, central(tmp_path, "d", 1, "arXiv:1")], names)


def test_a_claim_stands_in_one_file_only(tmp_path, registry):
    (tmp_path / "other").mkdir()
    paths = [write(tmp_path, entry()), write(tmp_path / "other", entry())]
    with pytest.raises(CriteriaError, match="other/criteria.yaml: claim_id = 'c1': used in .*criteria.yaml already"):
        load_all(paths, Names(engine.STATISTICS))


@pytest.mark.parametrize(
    "text",
    [
        "- 1",
        "claims: []",
        "paper: p\nclaims: 3",
        "paper: [",
        "paper: p\nclaims: [3]",
        "paper: p\nclaims: []\nclaims: []",
        "paper: caf\xe9\nclaims: []",
    ],
)
def test_a_criteria_file_of_another_shape_is_refused(tmp_path, text):
    path = tmp_path / "criteria.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CriteriaError) as failure:
        read(path)
    assert "\n" not in str(failure.value)
