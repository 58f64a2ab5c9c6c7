"""ConvNets beyond their edge: what counts as trained; planted reaches in table, figure, claims; failures are seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from featurespeed.drawing import making
from featurespeed.drawing.plotting import new_figure
from featurespeed.drawing.tabulate import ARTEFACT_COLUMNS, write_csv
from featurespeed.ledger.engine import STATISTICS, Verdict, ledger
from featurespeed.ledger.lint import faults
from featurespeed.papers.edge_of_stability import shared as beyond
from featurespeed.papers.edge_of_stability.bridge import analysis as beyond_bridge
from featurespeed.papers.edge_of_stability.bridge import claims as bridge
from featurespeed.papers.edge_of_stability.bridge.analysis import NETWORKS, SCALINGS, Gain, Reach
from featurespeed.papers.edge_of_stability.bridge.claims import ARTEFACT
from featurespeed.papers.edge_of_stability.bridge.drawing import draw_beos_bridge
from featurespeed.papers.edge_of_stability.bridge.tables import QUANTITIES, TRAINS, tabulate_beos_bridge
from featurespeed.records import frame
from tests.papers.cases import STYLE, criteria_of, drawing_of

DRAWING = drawing_of("beos_bridge")
CRITERIA = criteria_of("beos_bridge")
KAPPAS = (0.5, 1, 2, 4, 8, 16, 32)
STEPS = (20, 40, 60, 80)
#: Largest kappa at which a network of each scaling trains.
REACHES = {"none": 1.0, "rel1": 4.0, "fsf": 2.0}
LONGER = {"r = 0": 1.0, "r = 2": 2.0}  # factor of the pattern on it

Fate = Callable[[str, str, float, int], str]


def planted(network: str, scaling: str, kappa: float, seed: int) -> str:
    if kappa <= REACHES[scaling] * LONGER[network]:
        return "trains"
    return "dead" if scaling == "fsf" else "diverged"


def bridge_table(
    fate: Fate = planted, seeds: int = 3, kappas: tuple = KAPPAS, beyond_share: Callable[[float], float] | None = None
) -> pd.DataFrame:
    """The table as the stage gathers it; a network that fails has one record and one measurement."""
    share = beyond_share or (lambda kappa: 1 - 2 ** -max(kappa - 0.5, 0.0))
    groups = [(n, s, float(k), seed) for n in NETWORKS for s in SCALINGS for k in kappas for seed in range(seeds)]
    return frame([row for group in groups for row in network_rows(group, fate(*group), share(group[2]))])


def network_rows(group: tuple[str, str, float, int], fate: str, share: float) -> list[dict]:
    network, scaling, kappa, seed = group
    keys = {
        "series": network, "scaling": scaling, "case": "constant", "c": kappa, "seed": seed, "optimizer": "sgd",
        "parameterization": "MUP", "width": 8, "depth": 3, "input_dim": 64, "output_dim": 10, "n_inputs": 64,
        "learning_rate": 0.01 * kappa * (1 + 0.1 * seed),
    }  # fmt: skip
    ended = fate in ("trains", "chance")
    level = 2.5 if fate == "chance" else 0.1 + 0.01 * seed
    rows = [
        {"step": step, "quantity": quantity, "value": value, "estimator": "training"}
        for step in STEPS[: None if ended else 1]
        for quantity, value in (("training_loss", level), ("beyond_share", share))
    ]
    for step in (0, STEPS[-1])[: None if ended else 1]:
        rows.append({"step": step, "quantity": "sharpness", "value": 50 / kappa, "estimator": "Lanczos", "index": 1})
        rows += [
            {"step": step, "quantity": "participation_ratio", "value": layer * kappa, "estimator": "training",
             "layer": layer} for layer in (1, 2)
        ]  # fmt: skip
    if ended:
        accuracy = 0.1 if fate == "chance" else 0.9
        rows.append({"step": STEPS[-1], "quantity": "test_accuracy", "value": accuracy, "estimator": "training"})
    else:
        rows.append({"step": 31, "quantity": f"{fate}_step", "value": 31.0, "estimator": "training", "layer": 0})
    return [keys | row for row in rows]


def reach_of(trained: list[list[int]]) -> Reach:
    """Rows are seeds; kappas 1, 2, 4, ..."""
    values = np.array(trained, dtype=bool)
    return Reach(2.0 ** np.arange(values.shape[1]), np.arange(len(values)), values)


def runs(table: pd.DataFrame, network: str = "r = 0", scaling: str = "rel1"):
    return beyond.runs(table, network, scaling)


# --- what counts as trained, and how far that goes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fate", "expected"), [("trains", True), ("chance", False), ("dead", False), ("diverged", False)]
)
def test_trained_is_finite_alive_and_better_than_chance(fate, expected):
    trained = runs(bridge_table(lambda *group: fate, seeds=2)).trained
    assert trained.shape == (2, len(KAPPAS)) and (trained == expected).all()


def test_a_loss_that_has_exploded_is_not_trained_whatever_its_accuracy():
    """Far beyond the edge a loss of thousands can stay finite, with an accuracy better than chance."""
    table = bridge_table(lambda *group: "trains", seeds=2)
    table.loc[(table["quantity"] == "training_loss") & (table["c"] > 4), "value"] = 1000.0
    trained = runs(table).trained
    assert (trained == (np.array(KAPPAS) <= 4)).all()


def test_largest_kappa_is_where_all_seeds_train_there_and_below():
    assert reach_of([[1, 1, 1, 0], [1, 1, 0, 0]]).largest() == 2.0
    assert reach_of([[1, 1, 1, 0], [1, 1, 0, 0]]).largest([0]) == 4.0
    assert reach_of([[1, 0, 1, 0], [1, 1, 1, 0]]).largest() == 1.0  # what comes back after a gap does not count


def test_a_largest_kappa_at_an_end_of_the_grid_is_a_bound():
    everywhere, nowhere = reach_of([[1, 1], [1, 1]]), reach_of([[0, 1], [1, 1]])
    assert everywhere.bounds() == (2.0, math.inf) and everywhere.at_edge
    assert nowhere.bounds() == (0.0, 0.5) and nowhere.largest() == 0.5 and nowhere.at_edge
    assert reach_of([[1, 0], [1, 0]]).bounds() == (1.0, 1.0)


def test_every_seed_has_its_own_largest_kappa():
    reach = reach_of([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
    assert reach.of_each.tolist() == [4.0, 1.0, 8.0, 0.5]
    assert reach.open.tolist() == [False, False, True, True]


def test_gain_is_the_mean_of_the_seeds_differences_in_steps_of_two():
    one, other = reach_of([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]), reach_of([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    gain = Gain.of(one, other)
    assert gain.steps.tolist() == [3.0, 2.0] and not gain.is_bound
    found = gain.interval()
    assert (found.value, found.low, found.n) == (2.5, pytest.approx(2.5 - 12.706 * 0.5, abs=1e-3), 2)


def test_seeds_that_agree_know_their_gain_to_within_a_step_of_the_grid():
    found = Gain.of(reach_of([[1, 1, 1, 0]] * 3), reach_of([[1, 0, 0, 0]] * 3)).interval()
    assert (found.value, found.low, found.high, found.n) == (2.0, 1.0, 3.0, 3)


def test_gain_is_a_bound_where_more_than_a_fifth_of_the_seeds_are_at_an_end_of_the_grid():
    middle, end = [1, 1, 0], [1, 1, 1]
    assert not Gain.of(reach_of([middle] * 4 + [end]), reach_of([middle] * 5)).is_bound
    assert Gain.of(reach_of([middle] * 3 + [end] * 2), reach_of([middle] * 5)).is_bound
    assert Gain.of(reach_of([middle] * 3), reach_of([[0, 0, 0], middle, middle])).is_bound


def test_gain_uses_the_seeds_that_both_have():
    one = Reach(np.array([1.0, 2.0]), np.array([0, 1, 2]), np.array([[1, 1], [1, 1], [0, 0]], dtype=bool))
    assert Gain.of(one, reach_of([[1, 0], [1, 0]])).steps.tolist() == [1.0, 1.0]


def test_share_beyond_is_that_of_each_seed_at_its_own_largest_kappa():
    table = bridge_table(lambda n, s, kappa, seed: "trains" if kappa <= 2**seed else "diverged", beyond_share=float)
    assert beyond_bridge.beyond_at_reach(runs(table)).tolist() == [1.0, 2.0, 4.0]
    nowhere = beyond_bridge.beyond_at_reach(runs(bridge_table(lambda *group: "diverged")))
    assert np.isnan(nowhere).all()


# --- figure -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return tabulate_beos_bridge(bridge_table())


def draw(table: pd.DataFrame):
    figure = new_figure(STYLE, *DRAWING.size)
    draw_beos_bridge(table, figure)
    return figure


def texts(figure) -> str:
    return "\n".join(text.get_text() for ax in figure.axes for text in (*ax.texts, ax.title, ax._left_title))


def test_artefact_is_made_whatever_the_order_of_the_records(tmp_path):
    records = bridge_table(seeds=2)
    making.make(DRAWING, (records,), tmp_path / "a.csv", {"png": tmp_path / "a.png"}, STYLE)
    assert tuple(pd.read_csv(tmp_path / "a.csv").columns) == ARTEFACT_COLUMNS
    assert Image.open(tmp_path / "a.png").size == (2520, 1680)
    write_csv(tabulate_beos_bridge(records.sample(frac=1, random_state=1)), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_share_that_trains_counts_every_seed_at_every_kappa(table):
    own = table[(table["panel"] == f"{TRAINS} | r = 0") & (table["series"] == "rel1")].set_index("x")
    assert own["y"].to_dict() == {kappa: float(kappa <= 4) for kappa in KAPPAS} and set(own["n"]) == {3}


def test_quantities_are_means_of_the_seeds_that_got_to_the_end_and_failures_are_flagged():
    def one_fails(network, scaling, kappa, seed):
        return "diverged" if seed == 1 and kappa == 2 else "dead" if seed == 2 and kappa == 4 else "trains"

    table = tabulate_beos_bridge(bridge_table(one_fails))
    own = table[(table["panel"] == "training loss | r = 0") & (table["series"] == "fsf")].set_index("x")
    assert own.loc[2, ["y", "n", "flag"]].tolist() == [pytest.approx(0.11), 2, "diverged"]
    assert own.loc[4, ["y", "n", "flag"]].tolist() == [pytest.approx(0.105), 2, "dead"]
    assert own.loc[1, ["y", "n", "flag"]].tolist() == [pytest.approx(0.11), 3, ""]
    rank = table[(table["panel"] == "participation ratio | r = 0") & (table["series"] == "fsf")].set_index("x")
    assert rank.loc[8, "y"] == 16.0  # of the last hidden layer


def test_where_all_failed_only_the_share_of_steps_is_left(table):
    at = table[(table["x"] == 32) & (table["series"] == "rel1")]
    left = {panel.split(" | ")[0] for panel in at["panel"]}
    assert left == {TRAINS, "steps beyond the edge"} and set(QUANTITIES) > {"sharpness"}


def test_largest_kappas_and_gains_are_those_that_were_planted(table):
    for network, longer in LONGER.items():
        own = table[table["panel"] == f"largest kappa | {network}"].set_index("series")
        assert own["y"].to_dict() == {scaling: reach * longer for scaling, reach in REACHES.items()}
    gains = table[table["panel"] == "statistic"].set_index("series")["y"].to_dict()
    assert gains == {
        "rel1 over none, r = 0": 2.0, "fsf over none, r = 0": 1.0, "r = 2 over r = 0, none": 1.0,
        "r = 2 over r = 0, rel1": 1.0, "r = 2 over r = 0, fsf": 1.0,
    }  # fmt: skip


def test_figure_prints_the_statistics_and_the_largest_kappas(table):
    printed = texts(draw(table))
    assert "2.0 [1.0, 3.0]" in printed and "4, 91% beyond" in printed


def test_bounds_are_flagged_and_drawn_hollow():
    table = tabulate_beos_bridge(bridge_table(kappas=(0.5, 1, 2, 4)))
    gains = table[table["panel"] == "statistic"].set_index("series")
    assert gains["flag"].to_dict()["rel1 over none, r = 0"] == "grid edge"
    figure = draw(table)
    assert "at least 4, 91% beyond" in texts(figure)
    reach = next(ax for ax in figure.axes if "largest $" in ax._left_title.get_text())
    assert any(line.get_markerfacecolor() == "white" for line in reach.lines)


def test_runs_that_all_fail_and_runs_that_are_missing_are_drawn():
    draw(tabulate_beos_bridge(bridge_table(lambda *group: "diverged"))).draw_without_rendering()
    records = bridge_table()
    part = tabulate_beos_bridge(records[(records["series"] == "r = 0") & (records["scaling"] != "fsf")])
    draw(part).draw_without_rendering()
    assert set(part.loc[part["panel"] == "statistic", "series"]) == {"rel1 over none, r = 0"}


# --- claims -----------------------------------------------------------------------------------------------------------

SEEDS = 10


GROUPS = [(network, scaling) for network in NETWORKS for scaling in SCALINGS]
FAR = {("r = 0", "rel1"): 4, ("r = 0", "fsf"): 8, ("r = 2", "rel1"): 16, ("r = 2", "fsf"): 16}  # without a scaling 2


def scattered(network: str, scaling: str, kappa: float, seed: int) -> str:
    """Every group has its largest kappa; one seed of r = 0 without a scaling gets a step less."""
    group = network, scaling
    lower = group == ("r = 0", "none") and seed == 0
    return "trains" if kappa <= FAR.get(group, 2) / (1 + lower) else "dead"


def share(kappa: float) -> float:
    return 0.02 * kappa if kappa < 2 else 0.8


def judged(table: pd.DataFrame) -> pd.DataFrame:
    found = ledger(CRITERIA, {ARTEFACT: table}, "planted")[0].set_index("claim_id")
    return found.rename(index=lambda name: name.removeprefix("beos_bridge_"))


def scattered_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Shares of steps that differ a little from seed to seed."""
    own, group = table["quantity"] == "beyond_share", table["scaling"].map(SCALINGS.index)
    return table.assign(value=table["value"].where(~own, table["value"] * (1 + 0.01 * np.sin(table["seed"] + group))))


def table_of(fate: Fate = scattered, **changes) -> pd.DataFrame:
    return scattered_shares(bridge_table(fate, **({"seeds": SEEDS, "beyond_share": share} | changes)))


def verdicts(table: pd.DataFrame) -> Mapping[str, str]:
    return judged(table)["verdict"].to_dict()


def test_statistics_and_criteria_name_each_other():
    used = {c.compute for c in CRITERIA} | {c.control.compute for c in CRITERIA}
    assert used == {name for name, function in STATISTICS.items() if function.__module__ == bridge.__name__}
    assert all(c.source.startswith("ours") and c.kind == "ours" for c in CRITERIA)


def test_what_is_planted_is_confirmed_and_every_control_fails():
    found = judged(table_of())
    assert set(found["verdict"]) == {Verdict.CONFIRMED}, found[["value", "ci_low", "note"]]
    assert found["control"].str.contains("fails, as it must").all()
    assert found.loc["rel1", "value"] == 1 and found.loc["rel1", "ci_low"] == pytest.approx(0.025**0.1)
    assert found.loc["rel1", "note"].startswith("largest kappas, by seed, 4, 4, 4")


def test_the_lint_finds_no_fault_in_what_is_planted():
    assert not faults(CRITERIA, {ARTEFACT: table_of()})


def test_scalings_that_reach_no_further_and_patterns_that_do_not_help_contradict():
    def alike(network, scaling, kappa, seed):
        return "trains" if kappa <= (4 if seed == GROUPS.index((network, scaling)) else 2) else "diverged"

    found = verdicts(table_of(alike))
    assert {found[claim] for claim in ("rel1", "fsf", "quadratic")} == {Verdict.CONTRADICTED}


def test_networks_that_learn_nothing_do_not_count_as_reached():
    def asleep(network, scaling, kappa, seed):
        return "chance" if kappa > (2 if seed == GROUPS.index((network, scaling)) else 1) else "trains"

    assert judged(table_of(asleep)).loc["rel1", "verdict"] == Verdict.CONTRADICTED


def test_seeds_that_disagree_leave_it_open():
    def seedwise(network, scaling, kappa, seed):
        return "trains" if kappa <= (1 if scaling == "none" or seed % 2 else 8) else "diverged"

    row = judged(table_of(seedwise)).loc["rel1"]
    assert (row["value"], row["verdict"]) == (0.5, Verdict.INCONCLUSIVE)


def ended(rel1: float, none: float, undecided: int, largest: float = 2):
    """Largest kappas of r = 0 on a grid up to 2, of some seeds ``largest`` without a scaling."""

    def fate(network, scaling, kappa, seed):
        own = rel1 if scaling == "rel1" else largest if seed < undecided else none
        return "trains" if kappa <= (own if network == "r = 0" else 1) else "diverged"

    return judged(table_of(fate, kappas=(0.5, 1, 2))).loc["rel1"]


def test_a_bound_that_decides_counts():
    """With a scaling all networks train up to the end of the grid, or at none of its kappas."""
    assert ended(2, 1, 0)["value"] == 1
    assert ended(0.25, 1, 0)["value"] == 0
    assert ended(0.25, 1, 0)["verdict"] == Verdict.CONTRADICTED


def test_seeds_at_the_end_of_the_grid_with_both_networks_are_undecided():
    found = ended(2, 1, 2)
    assert (found["value"], found["ci_high"]) == (0.9, 1.0) and "2 seeds undecided" in found["note"]
    assert found["ci_low"] == pytest.approx(stats.binomtest(8, 10).proportion_ci(method="exact").low)


def test_a_grid_that_ends_too_early_for_many_seeds_decides_nothing():
    found = ended(2, 1, 3)
    assert found["verdict"] == Verdict.INCONCLUSIVE and "at least 2" in found["note"]
    assert "the grid ends too early to decide 3 of 10 seeds" in found["note"]


def test_a_table_without_a_final_training_loss_cannot_decide():
    table = table_of()
    lost = table[~((table["quantity"] == "training_loss") & (table["step"] == STEPS[-1]))]
    assert "no training loss after the last step" in judged(lost).loc["rel1", "note"]


def test_steps_below_the_edge_contradict_though_the_largest_kappa_gains():
    found = verdicts(table_of(beyond_share=lambda kappa: 0.1))
    assert found["rel1"] == Verdict.CONFIRMED and found["rel1_beyond"] == found["fsf_beyond"] == Verdict.CONTRADICTED


def test_missing_runs_and_networks_that_never_train_cannot_decide():
    records = table_of()
    row = judged(records[records["scaling"] != "fsf"]).loc["fsf"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "no networks r = 0 with scaling fsf" in row["note"]
    row = judged(table_of(lambda *group: "diverged")).loc["rel1_beyond"]
    assert row["verdict"] == Verdict.INCONCLUSIVE and "0 seed" in row["note"]
