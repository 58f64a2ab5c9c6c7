"""The monitor of a training: it changes nothing, measures what the functions measure, and survives what fails."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featurespeed import measure, sharpness
from featurespeed.measuring.errors import MeasurementError
from featurespeed.own import monitor_values
from featurespeed.own.monitor import Monitor, to_tensorboard, to_wandb

LOSS = nn.CrossEntropyLoss()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )  # fmt: skip


def batch_of(n: int = 12) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(n, 4), torch.randint(3, (n,))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 1e-2)


def trained(make: Callable[[nn.Module], torch.optim.Optimizer], watched: bool, mixed: bool = False) -> list[Any]:
    """All that 7 steps of 2 accumulated batches leave behind, with random numbers that are drawn on the way."""
    model = network()
    optimizer = make(model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    monitor = Monitor(model, LOSS, batch_of(), optimizer, every=2) if watched else None
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    drawn = []
    for micro_step in range(14):
        x, y = torch.randn(6, 4) + random.random() + np.random.rand(), torch.randint(3, (6,))  # noqa: NPY002
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            if monitor is not None:
                monitor(micro_step)  # also between a backward pass and the next, with half of a gradient
        drawn.append(loss.item())
        if micro_step % 2:
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    if monitor is not None:
        assert len(monitor.table) == 7 and monitor.table["sharpness"].notna().sum() >= 6
    LOSS(model(x), y).backward()
    return [
        drawn, model.state_dict(), optimizer.state_dict(), scheduler.state_dict(),
        [p.grad for p in model.parameters()], [part.training for part in model.modules()],
        torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(),  # noqa: NPY002
    ]  # fmt: skip


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("make", [sgd, adam])
def test_training_is_the_same_to_the_last_bit(make, mixed):
    assert_same(trained(make, True, mixed), trained(make, False, mixed))


def trained_by(monitor: Monitor, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    x, y = batch_of(8)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        monitor.step()


def test_values_are_those_of_the_functions_at_that_step():
    model = network()
    optimizer, seen = sgd(model), []

    def log(values: dict[str, float], step: int) -> None:
        seen.append((step, values, *copy.deepcopy((model, optimizer.state_dict()))))

    monitor = Monitor(model, LOSS, batch_of(), optimizer, every=3, log=log, tol=1e-4)
    trained_by(monitor, model, optimizer, 7)
    assert [step for step, *_ in seen] == monitor.table["step"].tolist() == [0, 3, 6]
    for step, values, then, state in seen:
        own = sgd(then)
        own.load_state_dict(state)
        known = measure(then, LOSS, batch_of(), optimizer=own)
        assert values["featurespeed/loss"] == known.loss and values["featurespeed/loss_decay"] == known.loss_decay
        for node, row in known.table.set_index("node").iterrows():
            for name in ("angle", "feature_speed", "feature_rms", "function_update"):
                assert values[f"featurespeed/{name}/{node}"] == row[name]
        assert values["featurespeed/angle_max"] == float(known.angle.max())
        assert values["featurespeed/angle_mean"] == pytest.approx(float(known.angle.mean()))
        top = float(torch.linalg.eigvalsh(hessian(then, batch_of()))[-1])
        assert values["featurespeed/sharpness"] == pytest.approx(top, rel=1e-3)
        assert values["featurespeed/edge"] == pytest.approx(top * 0.1 / (2 + 2 * 0.9), rel=1e-3)  # heavy ball
        assert values["featurespeed/sharpness_converged"] == 1.0
        assert all(type(value) is float for value in values.values())
        row = monitor.table.set_index("step").loc[step]
        assert all(row[name.removeprefix("featurespeed/")] == value for name, value in values.items())


def hessian(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """All second derivatives, by automatic differentiation of a flat function in float64."""
    model, x = copy.deepcopy(model).double().eval(), batch[0].double()
    names, sizes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def value(weights: Tensor) -> Tensor:
        parts = weights.split([math.prod(size) for size in sizes])
        given = {name: part.view(size) for name, part, size in zip(names, parts, sizes, strict=True)}
        return functional.cross_entropy(torch.func.functional_call(model, given, (x,)), batch[1])

    return torch.autograd.functional.hessian(value, flat)


# --- steps ------------------------------------------------------------------------------------------------------------


def small(**settings: Any) -> Monitor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    return Monitor(model, LOSS, batch_of(), None, **({"every": 10, "sharpness": False} | settings))


def test_steps_of_a_count_that_is_not_ours():
    monitor = small()
    measured = [step for step in (0, 3, 9, 12, 12, 19, 20, 20, 45, 50, 7, 30) if monitor(step) is not None]
    assert measured == [0, 12, 20, 45, 50, 30]  # 7: training went back, and 30 follows it
    resumed = small()
    assert [step for step in (1005, 1009, 1010) if resumed(step) is not None] == [1010]
    with pytest.raises(ValueError, match="step = -1"):
        monitor(-1)


def test_seconds_and_share():
    monitor = small(every=1)
    assert (monitor.seconds, monitor.share) == (0.0, 0.0)
    for _ in range(3):
        monitor.step()
    assert monitor.seconds == pytest.approx(monitor.table["seconds"].sum())
    assert 0 < monitor.share <= 1
    assert str(monitor).startswith("3 measurements in ")


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_loss_that_diverges_is_recorded_and_warned_of_once():
    model, logged = network(), []
    optimizer = torch.optim.SGD(model.parameters(), 1e20)
    monitor = Monitor(model, LOSS, batch_of(), optimizer, every=1, log=lambda values, step: logged.append(values))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trained_by(monitor, model, optimizer, 6)
    said = [str(w.message) for w in found if "monitor" in str(w.message)]
    assert len(said) == 2 and all(__file__ == w.filename for w in found if "monitor" in str(w.message))
    table = monitor.table
    assert len(table) == 6 and table["loss"].iloc[-1:].isna().all() and table["sharpness"].iloc[-1:].isna().all()
    assert "feature_speed: " in table["error"].iloc[-1] and "finite" in table["error"].iloc[-1]
    assert math.isnan(logged[-1]["featurespeed/edge"]) and "\n" not in table["error"].iloc[-1]
    assert len(monitor.plot().axes) == 3


def test_errors_may_be_raised():
    model = network()
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    for asked in ({"sharpness": False}, {"feature_speed": False}):
        monitor = Monitor(model, LOSS, batch_of(), None, on_error="raise", **asked)
        with pytest.raises((ValueError, FloatingPointError), match="finite|NaN"):
            monitor.step()


def test_what_was_measured_is_kept_where_the_other_half_is_refused():
    monitor = small(sharpness=True, nodes="no.such.part")
    with pytest.warns(RuntimeWarning, match="monitor, step 0: feature_speed: nodes: 'no.such.part'"):
        monitor.step()
    row = monitor.table.iloc[0]
    assert row["sharpness"] > 0 and math.isnan(row["loss"]) and row["error"].startswith("feature_speed: nodes")


def test_a_log_or_a_folder_that_fails_does_not_stop_the_training(tmp_path):
    def broken(values: dict[str, float], step: int) -> None:
        raise ConnectionError("no network")

    monitor = small(every=1, log=broken, folder=tmp_path / "runs")
    with pytest.warns(RuntimeWarning, match="log: ConnectionError: no network"):
        monitor.step()
    assert pd.read_csv(tmp_path / "runs" / "monitor.csv")["error"].tolist() == ["log: ConnectionError: no network"]
    (tmp_path / "runs" / "monitor.csv").unlink()
    (tmp_path / "runs").rmdir()
    (tmp_path / "runs").write_text("a file now")
    with pytest.warns(RuntimeWarning, match="folder: "):
        monitor.step()
    assert len(monitor.table) == 2
    with pytest.raises(ConnectionError):
        small(log=broken, on_error="raise").step()


# --- units of the optimizer -------------------------------------------------------------------------------------------


class Stub:
    """In the place of `sharpness`: with an optimizer of a known class, and a record of what was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, model, loss, batch, *, tol, start=None, optimizer=None):  # noqa: ANN001, ANN204
        self.asked.append((optimizer, start))
        if isinstance(optimizer, torch.optim.RMSprop):
            raise MeasurementError("optimizer: RMSprop, allowed: torch.optim.SGD, Adam or AdamW")
        found = sharpness(model, loss, batch, tol=tol, start=start)
        edge = math.nan if optimizer is None else 0.25
        return SimpleNamespace(
            eigenvalue=found.eigenvalue, converged=True, products=7, edge=edge, vectors=found.vectors, record=found
        )


@pytest.fixture
def stub(monkeypatch) -> Stub:
    made = Stub()
    monkeypatch.setattr(monitor_values, "sharpness", made)
    return made


def with_plain_start(stub: Stub, monkeypatch) -> None:
    """Records of the stub as starts of the real function."""
    real = monitor_values.sharpness_and_edge

    def asked(model, loss, batch, optimizer, tol, start):  # noqa: ANN001, ANN202
        found, edge = real(model, loss, batch, optimizer, tol, getattr(start, "record", start))
        return found, edge

    monkeypatch.setattr(monitor_values, "sharpness_and_edge", asked)


def test_edge_is_that_of_the_optimizer_and_each_start_is_the_last_result(stub, monkeypatch):
    with_plain_start(stub, monkeypatch)
    model = network()
    optimizer = sgd(model)
    monitor = Monitor(model, LOSS, batch_of(), optimizer, every=1, feature_speed=False)
    trained_by(monitor, model, optimizer, 3)
    assert monitor.table["edge"].tolist() == [0.25] * 3 and monitor.table["products"].tolist() == [7.0] * 3
    assert all(asked is optimizer for asked, _ in stub.asked)
    assert stub.asked[0][1] is None and [start is None for _, start in stub.asked[1:]] == [False, False]


def test_adam_before_its_first_step_has_no_sharpness_and_that_is_no_error(stub):
    model = network()
    monitor = Monitor(model, LOSS, batch_of(), adam(model), every=1, on_error="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = monitor.step()
    assert values is not None and "featurespeed/sharpness" not in values and values["featurespeed/loss"] > 0
    assert monitor.table["error"].tolist() == ["sharpness: Adam has no second moments before its first step"]


def test_of_optimizers_without_a_known_threshold_the_hessian_itself(stub, monkeypatch):
    with_plain_start(stub, monkeypatch)
    model = network()
    monitor = Monitor(model, LOSS, batch_of(), torch.optim.RMSprop(model.parameters()), every=1, feature_speed=False)
    with pytest.warns(RuntimeWarning, match="edge: optimizer: RMSprop, allowed") as found:
        monitor.step()
        monitor.step()
    assert len(found) == 1 and [optimizer for optimizer, _ in stub.asked[1:]] == [None, None]
    assert monitor.table["edge"].isna().all() and (monitor.table["sharpness"] > 0).all()


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.RMSprop])
def test_at_a_learning_rate_of_0_there_is_no_edge_and_that_is_no_error(stub, make):
    """As at the first step of a warm-up and the last one of a decay."""
    model = network()
    optimizer = make(model.parameters(), 0.0)
    monitor = Monitor(model, LOSS, batch_of(), optimizer, every=1, on_error="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.step()
    optimizer.param_groups[0]["lr"] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monitor.step()
    table = monitor.table
    assert table["sharpness"].isna().tolist() == [True, False] and (table["loss"] > 0).all()
    assert table["loss_decay"].iloc[0] == 0 < table["loss_decay"].iloc[1]
    assert table["error"].iloc[0] == "sharpness: the learning rate is 0, at which nothing is unstable"


@pytest.mark.parametrize("make", [torch.optim.RMSprop, torch.optim.Adam])
def test_units_are_those_of_the_real_function(make):
    """Of RMSprop none are known: the plain Hessian; of Adam from its second step on, each time from the last result."""
    model = network()
    optimizer = make(model.parameters(), 1e-2)
    monitor = Monitor(model, LOSS, batch_of(), optimizer, every=1, tol=1e-4, feature_speed=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monitor.step()
        trained_by(monitor, model, optimizer, 2)
    last = monitor.table.iloc[-1]
    if make is torch.optim.RMSprop:
        assert last["error"].startswith("edge: optimizer: RMSprop, allowed") and math.isnan(last["edge"])
        top = float(torch.linalg.eigvalsh(hessian(model, batch_of()))[-1])
        assert last["sharpness"] == pytest.approx(top, rel=1e-3)
    else:
        known = sharpness(model, LOSS, batch_of(), tol=1e-4, optimizer=optimizer)
        assert last["error"] == "" and monitor.table["sharpness"].isna().tolist() == [True, False, False]
        assert last["edge"] == pytest.approx(known.edge, rel=1e-3)
        assert last["sharpness"] == pytest.approx(known.eigenvalue, rel=1e-3)


def test_layers_that_are_frozen_or_thawed_on_the_way(recwarn):
    model = network()
    optimizer = sgd(model)
    model[0].requires_grad_(False)
    monitor = Monitor(model, LOSS, batch_of(), optimizer, every=1, tol=1e-3)
    monitor.step()
    model[0].requires_grad_(True)
    monitor.step()
    assert monitor.table["error"].tolist() == ["", ""] and not recwarn.list
    top = float(torch.linalg.eigvalsh(hessian(model, batch_of()))[-1])
    assert monitor.table["sharpness"].iloc[1] == pytest.approx(top, rel=1e-2)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_file_holds_all_rows_after_each_measurement(tmp_path):
    path = tmp_path / "monitor.csv"
    monitor = small(every=1, folder=tmp_path)
    for count in range(1, 4):
        monitor.step()
        assert len(pd.read_csv(path)) == count
    pd.testing.assert_frame_equal(small(folder=tmp_path).table, monitor.table, check_exact=True)
    assert [found.name for found in tmp_path.iterdir()] == ["monitor.csv"]


def test_a_training_that_goes_on_adds_rows_and_one_that_begins_anew_sets_them_aside(tmp_path):
    first = small(every=10, folder=tmp_path)
    for step in range(0, 31, 10):
        first(step)
    resumed = small(every=10, folder=str(tmp_path))
    assert resumed.table["step"].tolist() == [0, 10, 20, 30]
    resumed(20)  # from a checkpoint
    resumed(30)
    resumed(40)
    assert resumed.table["step"].tolist() == [0, 10, 20, 30, 40]
    assert resumed.table["loss"].tolist() == pytest.approx([first.table["loss"][0]] * 5)
    anew = small(every=10, folder=tmp_path)
    anew(0)
    assert pd.read_csv(tmp_path / "monitor.csv")["step"].tolist() == [0]
    assert pd.read_csv(tmp_path / "monitor.1.csv")["step"].tolist() == [0, 10, 20, 30, 40]


# --- adapters ---------------------------------------------------------------------------------------------------------


class Writer:
    """A SummaryWriter that remembers."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        self.scalars.append((tag, scalar_value, global_step or 0))


class Run:
    """A run of W&B that remembers; like the real one, it drops what comes for an earlier step than its own."""

    def __init__(self) -> None:
        self.axes: dict[str, str | None] = {}
        self.logged: list[dict[str, float]] = []

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes[name] = step_metric

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        assert step is None
        self.logged.append(data)


def test_tensorboard_and_wandb_get_every_value_at_its_step():
    writer, run = Writer(), Run()
    for adapter in (to_tensorboard(writer), to_wandb(run)):
        monitor = small(log=adapter)
        values = monitor(10)
    assert values is not None
    assert {tag for tag, *_ in writer.scalars} == set(values) and {step for *_, step in writer.scalars} == {10}
    assert run.logged == [{**values, "featurespeed/step": 10}]
    assert run.axes == {"featurespeed/step": None, "featurespeed/*": "featurespeed/step"}


def test_a_real_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        values = small(log=to_tensorboard(writer))(10)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert values is not None
    (loss,) = events.Scalars("featurespeed/loss")
    assert loss.step == 10 and loss.value == pytest.approx(values["featurespeed/loss"])


# --- wrappers, and what is refused ------------------------------------------------------------------------------------


class Wrapper(torch.optim.Optimizer):
    """An optimizer around another one, as those of accelerate and Lightning are."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.optimizer.param_groups


def test_wrapped_models_and_optimizers_are_measured_as_they_are_inside():
    model = network()
    optimizer = sgd(model)
    known = Monitor(model, LOSS, batch_of(), optimizer).step()
    for wrapped in (nn.DataParallel(model), torch.compile(model), nn.DataParallel(torch.compile(model))):
        found = Monitor(wrapped, LOSS, batch_of(), Wrapper(optimizer)).step()
        assert found is not None and known is not None
        assert found | {"featurespeed/seconds": 0} == known | {"featurespeed/seconds": 0}


def test_mixed_precision_that_is_built_into_forward_is_left_out():
    """As by accelerate: in bfloat16 small changes of the outputs would be rounded away."""
    model = network()
    known = Monitor(model, LOSS, batch_of(), sgd(model)).step()
    mixed = torch.autocast("cpu", torch.bfloat16)(model.forward)
    model._original_forward, model.forward = model.forward, mixed  # type: ignore[assignment, method-assign]
    found = Monitor(model, LOSS, batch_of(), sgd(model)).step()
    assert found is not None and known is not None
    assert found | {"featurespeed/seconds": 0} == known | {"featurespeed/seconds": 0}
    assert model.forward is mixed


def test_of_several_processes_the_first_one_measures(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank, rows in ((0, 1), (1, 0)):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        monitor = small()
        monitor.step()
        assert len(monitor.table) == rows
    assert str(monitor) == "0 measurements in 0 s, 0% of the time"


def test_a_batch_that_is_changed_later_stays_what_it_was():
    torch.manual_seed(0)
    batch = batch_of()
    model = nn.Sequential(nn.Linear(4, 3))
    monitor = Monitor(model, LOSS, batch, None, every=1, sharpness=False)
    first = monitor.step()
    batch[0].zero_()
    second = monitor.step()
    assert first is not None and second is not None and first["featurespeed/loss"] == second["featurespeed/loss"]


class FullyShardedDataParallel(nn.Module):
    """Of the name of PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)


REFUSED = {
    "every = 0: allowed: at least 1": {"every": 0},
    "tol = 0": {"tol": 0},
    "sharpness = False, feature_speed = False: allowed: one of them True": {"feature_speed": False},
    "feature_speed = 1: allowed: True, False": {"feature_speed": 1},
    "log: int 3, allowed: a function": {"log": 3},
    "folder: int 3, allowed: a path, None": {"folder": 3},
    "on_error = 'ignore': allowed: record, raise": {"on_error": "ignore"},
    "model: function, allowed: a torch.nn.Module": {"model": lambda x: x},
    "model: FullyShardedDataParallel, allowed: whole weights": {"model": FullyShardedDataParallel()},
    "loss: 'mse', allowed": {"loss": "mse"},
    "batch: a?n? ?DataLoader, allowed: one fixed batch": {"batch": torch.utils.data.DataLoader([1, 2])},
    "batch: list_iterator, allowed: one fixed batch": {"batch": iter([batch_of()])},
    "batch: 2 batches, allowed: one, or several with feature_speed=False": {"batch": [batch_of(), batch_of()]},
    "optimizer: list of .*, allowed: one optimizer; for several, a monitor each": {"optimizer": [1, 2]},
    "optimizer: the class SGD, allowed: a torch.optim optimizer": {"optimizer": torch.optim.SGD},
    "optimizer: 2 of its parameters are not this model's": {"optimizer": sgd(nn.Linear(4, 3))},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_monitored_is_refused_in_one_line_before_the_training(message):
    given = {"model": nn.Linear(4, 3), "loss": LOSS, "batch": batch_of(), "sharpness": False} | REFUSED[message]
    with pytest.raises(ValueError, match=message) as found:
        Monitor(**given)
    assert "\n" not in str(found.value)


def test_optimizers_that_call_the_loss_and_sharded_weights_are_refused():
    model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="optimizer: LBFGS calls the loss several times a step"):
        Monitor(model, LOSS, batch_of(), torch.optim.LBFGS(model.parameters()))
    model.weight.ds_id = 0  # as DeepSpeed marks them
    with pytest.raises(ValueError, match="model: weight is sharded over processes"):
        Monitor(model, LOSS, batch_of())


def test_a_folder_that_is_none_or_holds_another_table_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="folder: .*file is a file"):
        small(folder=tmp_path / "file")
    (tmp_path / "monitor.csv").write_text("step,price\n1,2\n")
    with pytest.raises(ValueError, match="is no table of a monitor"):
        small(folder=tmp_path)


# --- table and figure -------------------------------------------------------------------------------------------------


def test_table_and_plot():
    model = network()
    monitor = Monitor(model, LOSS, batch_of(), sgd(model), every=1)
    assert monitor.table.empty and {"step", "edge", "error"} <= set(monitor.table.columns)
    assert len(monitor.plot().axes) == 3  # of nothing yet
    trained_by(monitor, model, sgd(model), 3)
    figure = monitor.plot()
    assert [ax.get_ylabel() for ax in figure.axes][0] == "sharpness / threshold"
    drawn = figure.axes[0].lines[0].get_ydata()
    assert np.array_equal(np.asarray(drawn), monitor.table["edge"].to_numpy())
    nodes = [name for name in monitor.table.columns if name.startswith("angle/")]
    assert (
        nodes == ["angle/0", "angle/4", "angle/6"] == [f"angle/{line.get_label()}" for line in figure.axes[1].lines[:3]]
    )
    plain = small(sharpness=True)
    plain.step()
    assert plain.plot().axes[0].get_ylabel() == "sharpness"
