"""Claims about spectra and curves over the width: statistics find what is planted, controls can fail."""

from __future__ import annotations

import math
import random

import pandas as pd
import pytest

from featurespeed.ledger.engine import STATISTICS, Undecidable, Verdict, ledger
from featurespeed.papers.super_consistency.shared import NTP_CONTROL
from featurespeed.papers.super_consistency.spectra.claims import ORDERED
from tests.papers.cases import criteria_of, statistics_of, used_by
from tests.papers.super_consistency.spectra_cases import JACKKNIFED, all_tables
from tests.sweeps.cases import WIDTHS, sweep_table
from tests.sweeps.spectra_cases import (
    EDGE,
    PLAIN,
    RATE,
    SKIPS,
    SPECTRA,
    jitter,
    loss,
    ntk,
    reversed_spectrum,
    spectra,
    spectrum,
    trace,
)

ROOM = "sc_spectra"
CRITERIA = criteria_of(ROOM)
UNTOLD = "sc_discrepancy_fig2_skips"  # both settings show the same
NOT_THEIRS = {f"sc_fig{number}_published" for number in (2, 3, 23)}  # their settings: test_published.py
TABLES = all_tables()


def rows(*claims: str, **tables: pd.DataFrame) -> pd.DataFrame:
    """The ledger of the planted tables, some of them replaced; of some claims, or of all."""
    criteria = [c for c in CRITERIA if not claims or c.claim_id in claims]
    found, _ = ledger(criteria, TABLES | tables, "planted")
    return found.set_index("claim_id")


def verdicts(*claims: str, **tables: pd.DataFrame) -> dict[str, str]:
    return rows(*claims, **tables)["verdict"].to_dict()


def test_tables_as_claimed_confirm_every_claim():
    found = verdicts()
    assert {found.pop(claim) for claim in (UNTOLD, *NOT_THEIRS)} == {Verdict.INCONCLUSIVE}
    assert len(found) == 11 and set(found.values()) == {Verdict.CONFIRMED}, found


def test_every_control_fails_where_its_claim_holds():
    table = rows().drop(index=[UNTOLD, *NOT_THEIRS])
    assert table["control"].str.endswith("fails, as it must").all()


def test_statistics_and_criteria_name_each_other():
    assert used_by(CRITERIA) - {NTP_CONTROL} == statistics_of(ROOM)


# --- Figures 2, 3, 23 -------------------------------------------------------------------------------------------------


def assert_changed(change: dict, claims: dict[str, str], *artefacts: str) -> None:
    """Check what a change of formulas in some tables does to some claims."""
    labels = {"sc_fig23": (PLAIN, SKIPS)}
    seeds = {"sc_fig03": JACKKNIFED}
    tables = {name: spectra(labels.get(name, (PLAIN,)), seeds.get(name, 3), **change) for name in artefacts}
    assert verdicts(*claims, **tables) == claims


def test_a_first_eigenvalue_that_varies_more_contradicts_the_ordering():
    assert_changed(
        {"sharpness": reversed_spectrum}, {"sc_fig2_spectrum": "contradicted", "sc_fig2_ntk": "confirmed"}, "sc_fig02"
    )


def test_an_ntk_that_converges_contradicts_its_growth():
    def shrinking(label, width, rate, step, seed):
        return ntk(label, width, rate, 100 - step, seed)

    assert_changed({"ntk_eigenvalue": shrinking}, {"sc_fig2_ntk": "contradicted"}, "sc_fig02")


def test_a_loss_that_comes_closer_contradicts_its_growth():
    def closing(label, width, rate, step, seed):
        return 0.5 + 1 / step ** jitter(seed) / width

    assert_changed({"loss": closing}, {"sc_fig3_loss": "contradicted", "sc_fig3_order": "contradicted"}, "sc_fig03")


def test_distances_below_the_noise_floor_decide_nothing():
    def noisy(label, width, rate, step, seed):
        return loss(label, width, rate, step, seed) + random.Random(f"{width} {step} {seed}").gauss(0.0, 0.3)

    row = rows("sc_fig3_loss", sc_fig03=spectra(seeds=JACKKNIFED, loss=noisy)).loc["sc_fig3_loss"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "loss: below the noise floor of 5 seeds at N = " in row["note"]


def test_three_seeds_are_too_few_for_a_distance():
    row = rows("sc_fig3_loss", sc_fig03=spectra()).loc["sc_fig3_loss"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "a jackknife needs at least 5" in row["note"]


def test_a_loss_that_departs_faster_than_the_ntk_contradicts_their_order():
    def cubic(label, width, rate, step, seed):
        return (0.5 + 1e-6 * step**3 / width) * jitter(seed)

    assert_changed({"loss": cubic}, {"sc_fig3_order": "contradicted", "sc_fig3_loss": "confirmed"}, "sc_fig03")


def test_a_sharpness_that_departs_is_not_super_consistent():
    def departing(label, width, rate, step, seed):
        return [EDGE * (1 + 0.001 * step / math.sqrt(width)) * jitter(seed) / k for k in range(1, 11)]

    assert_changed({"sharpness": departing}, {"sc_fig3_sharpness": "contradicted"}, "sc_fig03")


def test_an_ntk_that_stays_close_takes_the_control_of_the_sharpness_away():
    def still(label, width, rate, step, seed):
        return [(3 + 1 / width) * jitter(seed) / k for k in range(1, 11)]

    assert_changed({"ntk_eigenvalue": still}, {"sc_fig3_sharpness": "inconclusive"}, "sc_fig03")


def test_the_printed_rate_is_that_of_distances_that_grow_with_the_width():
    def growing(label, width, rate, step, seed):
        return (0.5 if width == WIDTHS[-1] else 0.5 + 0.01 * math.sqrt(width)) * jitter(seed)

    table = spectra(seeds=JACKKNIFED, loss=growing)
    found = rows("sc_discrepancy_rate", sc_fig03=table).loc["sc_discrepancy_rate"]
    assert found["value"] == pytest.approx(0.5) and found["verdict"] == Verdict.CONTRADICTED
    assert "widths 8, 16, 32, proxy N = 128" in found["note"]


def test_a_trace_that_departs_contradicts_figure_23_alone():
    def departing(label, width, rate, step, seed):
        return trace(label, width, rate, 100 - step, seed)

    claims = {"sc_fig23_trace": "contradicted", "sc_fig23_trace_no_skips": "contradicted"}
    assert_changed({"hessian_trace": departing}, claims | {"sc_fig23_sharpness": "confirmed"}, "sc_fig23")


def test_a_sharpness_that_grows_with_the_width_contradicts_its_network_alone():
    def growing(label, width, rate, step, seed):
        factor = (width / 128) ** 0.3 if label == SKIPS else 1.0
        return [factor * value for value in spectrum(label, width, rate, step, seed)]

    claims = {"sc_fig23_sharpness": "contradicted", "sc_fig23_sharpness_no_skips": "confirmed"}
    assert_changed({"sharpness": growing}, claims, "sc_fig23")


def test_a_network_of_figure_23_that_begins_above_the_edge_does_not_have_the_premise():
    def above(label, width, rate, step, seed):
        factor = 2.0 if (label, step) == (SKIPS, 0) else 1.0
        return [factor * value for value in spectrum(label, width, rate, step, seed)]

    claims = {"sc_fig23_sharpness": "inconclusive", "sc_fig23_sharpness_no_skips": "confirmed"}
    assert_changed({"sharpness": above}, claims, "sc_fig23")


def test_a_trace_that_departs_like_the_ntk_takes_the_control_of_the_order_away():
    def departing(label, width, rate, step, seed):
        return ntk(label, width, rate, step, seed)[0]

    assert_changed({"hessian_trace": departing}, {"sc_fig3_order": "inconclusive"}, "sc_fig03")


@pytest.mark.parametrize(
    ("with_the_ordering", "verdict"), [(PLAIN, "confirmed"), (SKIPS, "contradicted"), ("", "inconclusive")]
)
def test_skip_connections_are_told_by_the_network_that_alone_has_the_ordering(with_the_ordering, verdict):
    def one(label, *place):
        return (spectrum if label == with_the_ordering else reversed_spectrum)(label, *place)

    assert_changed({"sharpness": one}, {"sc_discrepancy_fig2_skips": verdict}, "sc_fig23")


# --- what cannot be decided -------------------------------------------------------------------------------------------


def test_a_network_that_died_is_never_low_sharpness():
    def dying(label, width, rate, step, seed):
        return (
            math.nan if (label, width, seed) == (SKIPS, 16, 1) and step >= 60 else loss(label, width, rate, step, seed)
        )

    found = rows("sc_fig23_sharpness", "sc_fig23_sharpness_no_skips", sc_fig23=spectra((PLAIN, SKIPS), loss=dying))
    dead = found.loc["sc_fig23_sharpness"]
    assert dead["verdict"] == Verdict.INCONCLUSIVE
    assert dead["note"] == "tau = 1: at every measured learning rate some network diverged, died or ended at chance"
    assert found.loc["sc_fig23_sharpness_no_skips", "verdict"] == Verdict.CONFIRMED


def test_another_measured_rate_at_which_all_train_decides():
    def dying(label, width, rate, step, seed):
        return math.inf if rate > RATE else loss(label, width, rate, step, seed)

    table = sweep_table(dying, SPECTRA, (PLAIN,), WIDTHS, (RATE, 2 * RATE))
    assert verdicts("sc_fig2_spectrum", sc_fig02=table)["sc_fig2_spectrum"] == Verdict.CONFIRMED


def test_two_widths_and_two_seeds_are_judged_without_an_error_and_decide_nothing():
    def small(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["width"] <= 16) & (table["seed"] < 2)]

    found = rows(**{name: small(table) for name, table in TABLES.items() if name != "sc_fig01"})
    assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
    assert found.drop(index=list(NOT_THEIRS))["note"].str.contains("2 widths, at least 3 are needed").all()


def test_a_run_that_measured_something_else_says_what_is_missing():
    table = TABLES["sc_fig02"]
    few = table[table["index"] < 4]
    name = "early steepness in the width, eigenvalue 10 over eigenvalue 1"
    with pytest.raises(Undecidable, match="no sharpness 10 of tau = 0"):
        STATISTICS[name]({"sc_fig02": few})
    late = table[(table["step"] == 0) | (table["step"] > 25)]
    with pytest.raises(Undecidable, match="no probe step in the first quarter"):
        STATISTICS[name]({"sc_fig02": late})
    ends = TABLES["sc_fig23"][(TABLES["sc_fig23"]["step"] <= 80) | (TABLES["sc_fig23"]["quantity"] != "hessian_trace")]
    with pytest.raises(Undecidable, match="no probe step in the first or in the last tenth"):
        STATISTICS["steepness of the trace in the width, first tenth over last, tau = 1"]({"sc_fig23": ends})


def test_criteria_and_statistics_have_the_same_threshold_for_the_ordering_of_figure_2():
    own = {c.claim_id: c.threshold for c in CRITERIA}
    assert own["sc_fig2_spectrum"] == own[UNTOLD] == ORDERED


def test_a_widest_network_of_its_own_contradicts_that_the_proxy_does_not_matter():
    def leaving(label, width, rate, step, seed):
        """The widest network alone departs like t^2, so that the distance to it does, too."""
        return loss(label, width, rate, step, seed) - (4e-5 * step**2 if width == WIDTHS[-1] else 0)

    table = spectra(seeds=JACKKNIFED, loss=leaving)
    found = rows("sc_discrepancy_proxy", sc_fig03=table).loc["sc_discrepancy_proxy"]
    assert found["verdict"] == Verdict.CONTRADICTED and 0.5 < found["value"] <= 1.05
    assert "widths 8, 16, proxies N = 128 and 64" in found["note"]


@pytest.mark.parametrize(("lost", "left"), [(2, 10), (3, 0)])
def test_seeds_of_which_a_network_diverged_are_left_out_up_to_a_fifth(lost, left):
    def diverging(label, width, rate, step, seed):
        return math.inf if (width, step) == (WIDTHS[0], 60) and seed < lost else loss(label, width, rate, step, seed)

    networks = {"sc_fig02": (PLAIN,), "sc_fig03": (PLAIN,), "sc_fig23": (PLAIN, SKIPS)}
    found = rows(**{name: spectra(labels, seeds=12, loss=diverging) for name, labels in networks.items()})
    found = found.drop(index=[UNTOLD, *NOT_THEIRS])
    if left:
        assert set(found["verdict"]) == {Verdict.CONFIRMED} and set(found["n"]) == {left}
        assert found["note"].str.contains(f"without {lost} of 12 seeds, of which a network diverged").all()
    else:
        assert set(found["verdict"]) == {Verdict.INCONCLUSIVE}
        assert found["note"].str.contains("at every measured learning rate some network diverged").all()
