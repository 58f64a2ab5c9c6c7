"""Networks trained side by side do what each does alone; where they would not, they are trained one by one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from featurespeed.measuring.errors import MeasurementError
from featurespeed.own import choosing
from featurespeed.own.choosing import chunk
from tests.own.transfer_cases import CLASSES, INPUTS, check, net, task


def groups(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """AdamW with one group at half the rate and with decay, and one at a rate of its own that stays."""
    return torch.optim.AdamW(
        [
            {"params": [model[0].weight], "lr": rate / 2, "weight_decay": 0.3},
            {"params": [model[0].bias, model[2].bias], "lr": 0.003},
            {"params": [model[2].weight], "betas": (0.5, 0.9)},
        ],
        lr=rate,
    )


OPTIMIZERS = {
    "SGD": torch.optim.SGD,
    "momentum": lambda m, rate: torch.optim.SGD(m.parameters(), rate, 0.9, weight_decay=0.01, nesterov=True),
    "Adam": torch.optim.Adam,
    "AdamW": lambda m, rate: torch.optim.AdamW(m.parameters(), rate, weight_decay=0.1),
    "amsgrad": lambda m, rate: torch.optim.Adam(m.parameters(), rate, weight_decay=0.1, amsgrad=True),
    "groups": groups,
    "rates of the weights": lambda m, rate: torch.optim.Adam(m.parameters(), rate * float(m[0].weight.std())),
    "readout only": lambda m, rate: torch.optim.Adam(m[2].parameters(), rate),
    "RMSprop": lambda m, rate: torch.optim.RMSprop(m.parameters(), rate, momentum=0.5, eps=1e-4),
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "Adamax": torch.optim.Adamax,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_side_by_side_is_one_by_one(name):
    both = [check(optimizer=OPTIMIZERS[name], side_by_side=way, steps=15) for way in (True, False)]
    assert [found.ways["side_by_side"].all() for found in both] == [True, False]
    assert np.isfinite(both[0].losses).all()
    assert both[0].losses == pytest.approx(both[1].losses, rel=1e-9)
    assert both[0].losses.std(2)[..., -1].min() > 1e-6  # rates differ


def test_a_network_that_diverges_leaves_the_others_alone():
    both = [
        check(optimizer=torch.optim.SGD, side_by_side=way, learning_rates=(0.01, 0.1, 1e80), steps=15)
        for way in (True, False)
    ]
    assert np.isfinite(both[0].losses[:, :, :2]).all() and np.isnan(both[0].losses[:, :, 2, -1]).all()
    assert both[0].losses[:, :, :2] == pytest.approx(both[1].losses[:, :, :2], rel=1e-9)
    assert both[0].table["failed"].equals(both[1].table["failed"])


class Tied(nn.Module):
    """An embedding that is its own readout, attention and layer norms."""

    def __init__(self, width: int):
        super().__init__()
        self.embedding = nn.Embedding(11, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.readout = nn.Linear(width, 11, bias=False)
        self.readout.weight = self.embedding.weight
        self.register_buffer("scale", torch.tensor(width**-0.5))

    def forward(self, tokens):
        return self.readout(self.block(self.embedding(tokens) * self.scale * 8)) * self.scale


def next_token(model, batch):
    return nn.functional.cross_entropy(model(batch["tokens"]).flatten(0, 1), batch["next"].flatten())


def test_a_transformer_with_tied_weights_and_a_loss_of_model_and_batch():
    tokens = torch.randint(11, (24, 7), generator=torch.Generator().manual_seed(0))
    data = {"tokens": tokens[:, :-1], "next": tokens[:, 1:]}
    both = [
        check(lambda width: Tied(width).double(), data, loss=next_token, batch_size=6, side_by_side=way, steps=6)
        for way in (True, False)
    ]
    assert both[0].losses == pytest.approx(both[1].losses, rel=1e-7)


def test_batches_of_several_shapes_and_frozen_weights():
    inputs, classes = task(100, torch.float64)
    batches = [(inputs[:40], classes[:40]), (inputs[40:65], classes[40:65]), (inputs[65:], classes[65:])]

    def frozen(width: int) -> nn.Module:
        model = net(width)
        model[0].weight.requires_grad_(False)
        return model

    both = [check(frozen, batches, side_by_side=way, steps=7) for way in (True, False)]
    assert both[0].losses == pytest.approx(both[1].losses, rel=1e-9)
    assert both[0].ways["seeds"].eq(2).all()


def normalised(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, CLASSES)).double()


def dropped(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, width), nn.Dropout(0.5), nn.ReLU(), nn.Linear(width, CLASSES)).double()


class Branching(nn.Module):
    """Does something else where its own outputs say so."""

    def __init__(self, width: int):
        super().__init__()
        self.body = net(width)

    def forward(self, x):
        found = self.body(x)
        return 2 * found if found.sum() > 0 else found


class Counting(nn.Module):
    """Keeps the mean of its inputs in a buffer."""

    def __init__(self, width: int):
        super().__init__()
        self.body = net(width)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.body(x)


class Signed(torch.optim.SGD):
    """An optimizer of somebody's own: SGD by signs."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.sign_()
        return super().step(closure)


def scheduled(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with warnings.catch_warnings():
        optimizer.register_step_post_hook(lambda *_: schedule.step())
    return optimizer


@pytest.mark.parametrize(
    ("model", "optimizer", "reason"),
    [
        (normalised, torch.optim.Adam, "BatchNorm|running|in-place|inplace"),
        (dropped, torch.optim.Adam, "random"),
        (Branching, torch.optim.Adam, "data-dependent control flow"),
        (Counting, torch.optim.Adam, "buffers change in training|in-place|inplace"),
        (net, Signed, "steps of Signed are not known to be proportional to its learning rate"),
        (net, torch.optim.ASGD, "steps of ASGD are not known"),
        (net, scheduled, "the optimizer has a scheduler or hooks"),
        (net, lambda m, rate: torch.optim.SGD(m.parameters(), rate, weight_decay=0.1 * rate), "groups .* differ"),
        (net, lambda m, rate: torch.optim.Adam(m.parameters(), torch.tensor(rate)), "options .* are tensors"),
        (lambda width: net(width).bfloat16(), torch.optim.SGD, "half precision"),
    ],
)
def test_what_cannot_be_exact_is_trained_one_by_one_and_says_why(model, optimizer, reason):
    data = task(32, torch.bfloat16) if "half" in reason else task(32, torch.float64)
    found = check(model, data, optimizer=optimizer, batch_size=16, steps=4)
    assert not found.ways["side_by_side"].any() and not found.table["side_by_side"].any()
    assert found.ways["reason"].str.contains(reason).all(), found.ways["reason"][0]
    assert np.isfinite(found.losses).all()


def test_dropout_is_the_same_at_all_rates():
    found = check(dropped, side_by_side=False, optimizer=lambda m, rate: torch.optim.SGD(m.parameters(), 1e-30 * rate))
    assert np.array_equal(found.losses[:, :, 0], found.losses[:, :, 2])
    assert not np.array_equal(found.losses[0], found.losses[1])


def test_asked_for_an_optimizer_that_agrees_is_taken_and_one_that_does_not_is_refused():
    assert check(optimizer=Signed, side_by_side=True, steps=3).ways["side_by_side"].all()
    with pytest.raises(MeasurementError, match="side_by_side = True: at size 8 steps of the optimizer differ"):
        check(optimizer=torch.optim.Adafactor, side_by_side=True)
    with pytest.raises(MeasurementError, match="side_by_side = True: at size 8 .*; allowed: None, False"):
        check(normalised, side_by_side=True)


def test_one_by_one_where_side_by_side_is_slower(monkeypatch):
    monkeypatch.setattr(choosing, "_race", lambda first, second, model: (1.0, 7.0))  # of one network, and of six
    found = check()
    assert not found.ways["side_by_side"].any()
    assert found.ways["reason"][0] == "side by side is 1.2 times as slow as one by one"


@pytest.mark.parametrize(
    ("seeds", "rates", "each", "free", "several", "expected"),
    [
        (5, 8, 1e6, 1e9, True, (5, 8)),
        (20, 8, 1e6, 1e9, True, (8, 8)),
        (5, 80, 1e6, 1e9, True, (1, 64)),
        (5, 8, 1e6, 4e7, True, (1, 8)),
        (5, 8, 1e6, 2e7, True, (1, 5)),
        (5, 8, 1e9, 2e7, True, (1, 1)),
        (5, 8, 1e6, 1e9, False, (1, 8)),
    ],
)
def test_networks_side_by_side_fit_into_memory(seeds, rates, each, free, several, expected):
    assert chunk(seeds, rates, each, free, several) == expected


def test_chunks_give_what_all_together_give(monkeypatch):
    whole = check(side_by_side=True)
    monkeypatch.setattr(choosing, "MOST", 2)
    parts = check(side_by_side=True)
    assert parts.ways["rates"].eq(2).all() and parts.ways["seeds"].eq(1).all()
    assert parts.losses == pytest.approx(whole.losses, rel=1e-9)
