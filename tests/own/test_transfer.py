"""The transfer check: networks that transfer and others that do not, its tables, its figure, what it refuses."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from featurespeed import sharpness
from featurespeed.measuring.errors import MeasurementError
from featurespeed.own import along
from featurespeed.own.data import source_of
from featurespeed.own.making import made_model
from featurespeed.own.transfer import transfer_check
from tests.own.transfer_cases import CLASSES, INPUTS, RATES, SIZES, Mlp, check, net, task

GRID = [2.0**k for k in range(-11, -1)]
WIDTHS = [16, 32, 64, 128]


def mup_adam(model: Mlp, rate: float) -> torch.optim.Optimizer:
    """Adam under muP (arXiv:2203.03466, Table 3): layers with width inputs learn at rates in 1 / width."""
    first, *others = model.layers
    wide = [layer.weight for layer in others]
    return torch.optim.Adam(
        [{"params": [first.weight]}, {"params": wide, "lr": rate * WIDTHS[0] / len(first.weight)}], rate
    )


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mup():
    return transfer_check(
        lambda width: Mlp(width, readout_power=1.0), WIDTHS, GRID, nn.functional.cross_entropy, task(), mup_adam,
        steps=120, seeds=4, batch_size=64, sharpness_at=3, progress=False,
    )  # fmt: skip


def test_under_mup_the_best_rate_of_adam_transfers(mup):
    assert mup.verdict == "transfers"
    assert -1 <= mup.shift.low <= mup.shift.value <= mup.shift.high <= 1
    assert str(mup) == mup.sentence and mup.sentence.startswith("from size 16 to 128 your best learning rate moves by ")
    assert mup.sentence.endswith(" octaves: it transfers")
    assert 0 <= mup.excess_loss.value < 0.05


def test_under_the_standard_parameterization_the_best_rate_of_adam_falls_with_the_width(mup):
    standard = transfer_check(
        Mlp, WIDTHS, GRID, nn.functional.cross_entropy, task(), torch.optim.Adam, steps=120, seeds=4, batch_size=64,
        sharpness_at=0, progress=False,
    )  # fmt: skip
    assert standard.verdict != "transfers"
    assert standard.shift.high < mup.shift.low and standard.shift.value < -1
    assert standard.excess_loss.value > mup.excess_loss.value


def test_tables_hold_every_run_and_agree_with_the_losses(mup):
    assert mup.losses.shape == (4, len(WIDTHS), len(GRID), 120)
    assert len(mup.table) == 4 * len(WIDTHS) * len(GRID) and not mup.table.isna().any().any()
    row = mup.table[(mup.table["size"] == 64) & (mup.table["seed"] == 3) & (mup.table["learning_rate"] == GRID[4])]
    assert row["final_loss"].item() == pytest.approx(mup.losses[3, 2, 4, -12:].mean())
    assert row["start_loss"].item() == mup.losses[3, 2, 4, 0]
    assert mup.table.groupby(["size", "seed"])["best"].sum().eq(1).all()
    assert set(mup.table.loc[mup.table["common"], "learning_rate"]) == {mup.common_rate}
    curve = mup.curves[(mup.curves["size"] == 32) & (mup.curves["seed"] == 1)]["loss"]
    assert np.array_equal(curve, mup.losses[1, 1, GRID.index(mup.common_rate)])
    best = mup.table[mup.table["best"]].merge(mup.best, on=["size", "seed"])
    assert (np.abs(np.log2(best["learning_rate_x"] / best["learning_rate_y"])) <= 1 + 1e-9).all()


def test_sharpness_is_that_of_the_runs_at_the_common_rate(mup):
    """In units of Adam, which has none before its first step: the first look is after that."""
    assert list(mup.sharpness["step"]) == [1, 60, 120] * len(WIDTHS)
    assert mup.sharpness["converged"].all() and (mup.sharpness["eigenvalue"] > 0).all()
    assert not mup.sharpness_reasons
    batch = next(source_of(task(), 64).stream(0))
    model = made_model(lambda width: Mlp(width, readout_power=1.0), 32, 0)
    adam = mup_adam(model, mup.common_rate)
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    adam.step()
    expected = sharpness(model, nn.functional.cross_entropy, batch, optimizer=adam)
    first = mup.sharpness[(mup.sharpness["size"] == 32) & (mup.sharpness["step"] == 1)]
    assert first["eigenvalue"].item() == pytest.approx(expected.eigenvalue, rel=1e-2)
    assert first["edge"].item() == pytest.approx(expected.eigenvalue * mup.common_rate / 38, rel=1e-2)


def test_an_optimizer_without_known_units_has_a_sharpness_but_no_edge():
    found = check(optimizer=torch.optim.RMSprop, sharpness_at=2, steps=6).sharpness
    assert list(found["step"]) == [0, 6] * 2
    assert (found["eigenvalue"] > 0).all() and found["edge"].isna().all() and found["threshold"].isna().all()


def test_the_figure_has_three_panels_and_two_without_sharpness(mup):
    figure = mup.plot()
    assert isinstance(figure, Figure) and len(figure.axes) == 3
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert labels == ["step", "step", "learning rate"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [str(width) for width in WIDTHS]
    figure.canvas.draw()
    assert len(check(learning_rates=(0.01, 0.1, 1e4), optimizer=torch.optim.SGD).plot().axes) == 2


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_what_one_gets_by_hand():
    """Independent of the package: the loop that everybody writes."""
    inputs, classes = task(64, torch.float64)
    found = check(data=(inputs, classes), steps=5, side_by_side=False)
    from featurespeed.randomness import derive_seed

    torch.manual_seed(derive_seed(1, "model"))
    model = net(16)
    adam, losses = torch.optim.Adam(model.parameters(), lr=0.02), []
    for _ in range(5):
        adam.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), classes)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert found.losses[1, 1, 1] == pytest.approx(losses, rel=1e-12)


def test_all_rates_and_sizes_of_a_seed_see_the_same_batches():
    seen: dict[object, list[float]] = {}

    def loss(model, batch):
        first = model[0].weight
        seen.setdefault((first.shape[0], float(first.detach()[0, 0])), []).append(float(batch[0].sum()))
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    found = check(loss=loss, side_by_side=False, optimizer=lambda m, lr: torch.optim.SGD(m.parameters(), lr=0.0 * lr))
    by_run = [sums[:12] for sums in seen.values()]
    assert len({tuple(sums) for sums in by_run}) == 2  # one order a seed
    assert np.allclose(found.losses[:, 0, 0], found.losses[:, 0, 2])


def test_a_run_that_diverges_or_ends_above_its_start_has_failed_and_is_kept():
    found = check(learning_rates=(0.01, 0.1, 5.0, 1e200), optimizer=torch.optim.SGD, steps=20, side_by_side=False)
    failed = found.table.groupby("learning_rate")["failed"].mean()
    assert failed.loc[0.01] == failed.loc[0.1] == 0 and failed.loc[1e200] == 1
    assert len(found.table) == 2 * 2 * 4
    lost = found.table[found.table["learning_rate"] == 1e200]
    assert lost["final_loss"].isna().all() and not lost["best"].any()
    assert found.common_rate <= 5.0


def test_a_network_that_fails_everywhere_leaves_it_undecided():
    found = check(learning_rates=(1e200, 2e200, 4e200), optimizer=torch.optim.SGD)
    assert found.verdict == "undecided" and math.isnan(found.shift.value)
    assert "fail at every learning rate" in found.sentence
    assert found.best["learning_rate"].isna().all()
    assert len(found.plot().axes) == 2


def test_best_rates_at_an_end_of_the_grid_ask_for_more_rates():
    found = check(learning_rates=(1e-6, 2e-6, 4e-6))
    assert found.verdict == "undecided" and found.best["censored"].all() and np.isinf(found.best["high"]).all()
    assert "learning rates larger than 4e-06" in found.sentence


def test_random_numbers_and_loaders_of_the_caller_go_on_as_before():
    own = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(*task(64, torch.float64)), batch_size=16, shuffle=True, generator=own)
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(2), random.random(), np.random.rand(), torch.Generator().manual_seed(5).get_state()  # noqa: NPY002
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    with torch.no_grad():
        check(data=loader)
    found = torch.rand(2), random.random(), np.random.rand(), own.get_state()  # noqa: NPY002
    assert torch.equal(found[0], expected[0]) and found[1:3] == expected[1:3] and torch.equal(found[3], expected[3])


def test_progress_is_one_line_a_unit():
    lines: list[str] = []
    check(progress=lines.append, side_by_side=True)
    assert len(lines) == 2 and lines[0].startswith("size 8, seeds 0 to 1, 3 learning rates: ")
    assert "100% done" in lines[1]
    lines.clear()
    check(progress=lines.append, side_by_side=False)
    assert len(lines) == 2 * 2 * 3 and lines[-1].startswith("size 16, seed 1, learning rate 0.1: 100% done")


def test_where_the_threshold_of_the_optimizer_is_known_the_edge_is_told_and_drawn(monkeypatch):
    real, asked = along.sharpness, []

    def with_edge(model, loss, batch, *, optimizer=None):
        asked.append(optimizer)
        found = real(model, loss, batch)
        threshold = 2 / optimizer.param_groups[0]["lr"]
        return SimpleNamespace(
            eigenvalue=found.eigenvalue, threshold=threshold, edge=found.eigenvalue / threshold, residual=0.0,
            converged=True,
        )  # fmt: skip

    monkeypatch.setattr(along, "sharpness", with_edge)
    found = check(optimizer=torch.optim.SGD, sharpness_at=2)
    assert all(isinstance(optimizer, torch.optim.SGD) for optimizer in asked)
    expected = found.sharpness["eigenvalue"] * found.common_rate / 2
    assert found.sharpness["edge"].to_numpy() == pytest.approx(expected.to_numpy())
    assert found.plot().axes[0].get_ylabel() == "sharpness / edge of stability"


def test_a_model_that_the_sharpness_refuses_is_checked_all_the_same():
    class Rounded(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.body, self.calls = net(width), 0

        def forward(self, x):
            self.calls += 1
            return self.body(x) * (1 + 0.1 * (self.calls % 2))

    found = check(Rounded, sharpness_at=2, side_by_side=False)
    assert set(found.sharpness_reasons) == set(SIZES) and "two passes" in found.sharpness_reasons[8]
    assert len(found.table) == 12


def test_a_transformer_of_transformers_is_trained(torchvision_loads):
    transformers = pytest.importorskip("transformers")

    def gpt(width: int) -> nn.Module:
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=20, n_positions=8, n_embd=width, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
            )
        )

    tokens = torch.randint(20, (32, 8), generator=torch.Generator().manual_seed(0))
    found = check(
        gpt, {"input_ids": tokens, "labels": tokens}, loss=lambda model, batch: model(**batch).loss, batch_size=8,
        optimizer=torch.optim.AdamW, steps=4, sharpness_at=1,
    )  # fmt: skip
    assert np.isfinite(found.losses).all() and len(found.table) == 12
    assert not found.ways["side_by_side"].any() and (found.ways["reason"] != "").all()
    assert len(found.sharpness) == 2


# --- what is refused --------------------------------------------------------------------------------------------------

PAIR = task(64, torch.float64)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sizes": [8]}, "sizes: 1 of them, allowed: at least 2"),
        ({"learning_rates": [0.1, 0.2]}, "learning_rates: 2 of them, allowed: at least 3"),
        ({"learning_rates": [0.1, 0.2, -1]}, "learning_rates: -1, allowed"),
        ({"seeds": 1}, r"seeds: \[0\], allowed: at least 2 different ones"),
        ({"steps": 0}, "steps = 0: allowed: at least 2"),
        ({"steps": 2.5}, "steps = 2.5: allowed: an integer"),
        ({"batch_size": 65, "data": PAIR}, "batch_size: 65, allowed: 1 to 64"),
        ({"batch_size": 0, "data": PAIR}, "batch_size = 0"),
        ({"batch_size": 4, "data": [PAIR]}, "batch_size: 4 with list .* allowed: with tensors alone"),
        ({"data": (PAIR[0], PAIR[1][:5])}, r"data: tensors of \[5, 64\] entries"),
        ({"data": []}, "data: an empty list"),
        ({"data": 3}, "data: int 3, allowed"),
        ({"data": TensorDataset(*PAIR)}, r"data: the data set TensorDataset, allowed: DataLoader"),
        ({"data": iter([PAIR])}, "data: list_iterator yields its batches once"),
        ({"data": lambda seed: []}, "data: no batch for seed 0"),
        ({"data": lambda seed: 1 / 0}, "data: for seed 0 it raised ZeroDivisionError"),
        ({"data": lambda seed: [(torch.randn(4, INPUTS).double().mul_(random.SystemRandom().random()),
                                 torch.zeros(4).long())]}, "data: other batches for seed 0 at a second call"),
        ({"optimizer": "adam"}, "optimizer: 'adam', allowed: a class"),
        ({"optimizer": torch.optim.LBFGS}, "optimizer: step.. raised TypeError"),
        ({"loss": nn.CrossEntropyLoss}, "loss: the class CrossEntropyLoss, allowed: an instance"),
        ({"loss": lambda outputs, targets: outputs}, "loss: returns shape"),
        ({"loss": lambda outputs, targets: outputs.detach().mean()}, "loss: it does not depend on the model"),
        ({"make_model": net(8)}, "make_model: Sequential, allowed: a function"),
        ({"make_model": lambda size: 3}, "make_model.8.: returned int 3"),
        ({"make_model": lambda size: nn.Linear(3, CLASSES).double()}, "model: called with a tensor"),
        ({"device": "nowhere"}, "device: 'nowhere'"),
        ({"folder": 3}, "folder: int 3, allowed: a path, None"),
        ({"side_by_side": 1}, "side_by_side = 1: allowed: True, False"),
        ({"progress": "yes"}, "progress: 'yes'"),
        ({"sharpness_at": -1}, "sharpness_at = -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_one_line(changes, line):
    with pytest.raises(MeasurementError, match=line) as caught:
        check(**({"make_model": net} | changes))
    assert "\n" not in str(caught.value)


def test_one_model_returned_again_is_refused():
    kept = net(8)
    with pytest.raises(MeasurementError, match="returned an earlier model, allowed: a new one at every call"):
        check(lambda size: kept)


def test_the_defaults_of_the_case_are_those_of_the_grid():
    found = check()
    assert sorted(found.table["size"].unique()) == list(SIZES)
    assert sorted(found.table["learning_rate"].unique()) == list(RATES)
