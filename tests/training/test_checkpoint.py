"""A job that is interrupted goes on as if nothing had happened; weights that are kept come back."""

import shutil
from collections import namedtuple
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from featurespeed.machine.files import PART
from featurespeed.machine.locks import try_lock
from featurespeed.training.checkpoint import Checkpoint
from featurespeed.training.ensemble import Ensemble
from featurespeed.training.resumable import resumable
from featurespeed.training.trainer import Trainer
from featurespeed.training.weights import (
    SPARE_BYTES,
    DiskFull,
    bytes_needed,
    check_disk,
    load_weights,
    save_weights,
    weights_of,
    weights_path,
)
from tests.training.cases import (
    CONVNET,
    DOUBLE,
    MLP,
    Batches,
    all_together,
    force_groups,
    initialised,
    make_job,
    make_network,
    make_spec,
    weights_of_members,
)

PROBES = [0, 7, 20, 33, 60]
JOBS = {
    # Two members of six die; all side by side, as on a GPU.
    "SGD, dying members": {"learning_rates": [0.1, 1e4, 0.8], "optimizer": {"momentum": 0.5}},
    "Adam, warm-up": {"learning_rates": [0.01, 0.03], "optimizer": {"name": "adam", "warmup_steps": 30}},
    "AdamW, ConvNet": {
        "model": CONVNET,
        "width": 4,
        "learning_rates": [0.02],
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
    },
}


class Killed(BaseException):
    """What stands for a kill: nothing in the package catches it."""


def probe_row(probe):
    """A row a member, with a number that depends on its weights."""
    sums = probe.network.weighted["0.layer"].weight.detach().flatten(1).sum(1)
    return [
        {"step": probe.step, "member": member, "name": "sum", "value": float(value)}
        for member, value in zip(probe.members, sums, strict=True)
    ]


def trainer(spec, path, *, die_at_batch=None, die_at_probe=None, identity="this job"):
    """A trainer that saves at every look and dies at the n-th batch or probe that it asks for."""
    asked, probed = [], []

    class Dying(Batches):
        def batch(self, step):
            asked.append(step)
            if len(asked) == die_at_batch:
                raise Killed
            return super().batch(step)

    def on_probe(probe):
        probed.append(probe.step)
        if len(probed) == die_at_probe:
            raise Killed
        return probe_row(probe)

    job = make_job(spec, lambda seeds: Dying(seeds, 16))
    made = Trainer(job, checkpoint=Checkpoint(path, identity), checkpoint_seconds=0.0, on_probe=on_probe)
    made.asked = asked
    return made


def assert_identical(one, other):
    """Losses, rows, frozen members and final weights, bit for bit and in the same order."""
    assert one.losses.tobytes() == other.losses.tobytes()
    assert one.rows == other.rows and one.frozen == other.frozen
    assert [members for members, _ in one.final] == [members for members, _ in other.final]
    mine, theirs = weights_of_members(one), weights_of_members(other)
    assert all(torch.equal(a, b) for member in theirs for a, b in zip(mine[member], theirs[member], strict=True))


def plan(monkeypatch, spec, groups):
    if groups == "together":
        all_together(monkeypatch, spec)
    else:
        force_groups(monkeypatch, [[member] for member in range(len(spec.members))])


@pytest.mark.parametrize("groups", ["together", "one by one"])
@pytest.mark.parametrize("name", JOBS)
def test_an_interrupted_job_ends_as_one_that_was_not(monkeypatch, tmp_path, name, groups):
    """Killed at the n-th batch, for n all over the job, and killed again after it was resumed."""
    spec = make_spec(steps=60, probe_steps=PROBES, **JOBS[name])
    plan(monkeypatch, spec, groups)
    whole = trainer(spec, tmp_path / "whole.pt")
    expected = whole.run()
    batches = len(whole.asked)
    for die in sorted({1, 22, batches // 3, 2 * batches // 3, batches}):
        path = tmp_path / f"{die}.pt"
        with pytest.raises(Killed):
            trainer(spec, path, die_at_batch=die).run()
        with pytest.raises(Killed):
            trainer(spec, path, die_at_batch=2).run()
        resumed = trainer(spec, path)
        assert_identical(resumed.run(), expected)
        assert len(resumed.asked) <= batches - die + 60, "it began anew"


@pytest.mark.parametrize("die", range(1, 6))
def test_a_job_that_is_interrupted_in_a_probe_repeats_that_probe_only(monkeypatch, tmp_path, die):
    spec = make_spec(steps=60, probe_steps=PROBES, learning_rates=[0.1, 0.4])
    all_together(monkeypatch, spec)
    expected = trainer(spec, tmp_path / "whole.pt").run()
    with pytest.raises(Killed):
        trainer(spec, tmp_path / "job.pt", die_at_probe=die).run()
    assert_identical(trainer(spec, tmp_path / "job.pt").run(), expected)


def test_a_job_goes_on_from_its_last_look_not_from_the_start(monkeypatch, tmp_path):
    """Killed at step 45 of 60, saved at step 40: 20 updates are left, and the probes at 0 and 7 are not repeated."""
    spec = make_spec(steps=60, probe_steps=[0, 7], learning_rates=[0.1, 0.4])
    all_together(monkeypatch, spec)
    with pytest.raises(Killed):
        trainer(spec, tmp_path / "job.pt", die_at_batch=2 + 46).run()  # two batches are those of the probes
    resumed = trainer(spec, tmp_path / "job.pt")
    resumed.run()
    assert resumed.asked == list(range(40, 60))


def test_a_job_whose_members_all_failed_just_before_it_was_interrupted_can_be_resumed(monkeypatch, tmp_path):
    """The checkpoint then holds a group without members."""
    settings = {"model": MLP | {"activation": "linear"}, "loss": "mse", "learning_rates": [1e20, 1e-3], "seeds": 1}
    spec = make_spec(steps=60, **settings)
    force_groups(monkeypatch, [[0], [1]])
    expected = trainer(spec, tmp_path / "whole.pt").run()
    assert list(expected.frozen) == [0]
    with pytest.raises(Killed):
        trainer(spec, tmp_path / "job.pt", die_at_batch=20 + 1).run()  # the first batch of the second member
    resumed = trainer(spec, tmp_path / "job.pt")
    assert_identical(resumed.run(), expected)
    assert len(resumed.asked) == 60


def test_a_kill_between_the_end_of_all_members_of_a_group_and_the_next_group_loses_nothing(monkeypatch, tmp_path):
    settings = {"model": MLP | {"activation": "linear"}, "loss": "mse", "learning_rates": [1e20, 1e-3], "seeds": 1}
    spec = make_spec(steps=60, **settings)
    force_groups(monkeypatch, [[0], [1]])
    expected = trainer(spec, tmp_path / "whole.pt").run()
    save = Checkpoint.save

    def save_and_die(self, state):
        save(self, state)
        if not state["groups"][0][0]:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", save_and_die)
    with pytest.raises(Killed):
        trainer(spec, tmp_path / "job.pt").run()
    monkeypatch.setattr(Checkpoint, "save", save)
    assert_identical(trainer(spec, tmp_path / "job.pt").run(), expected)


def test_halves_of_a_group_that_did_not_fit_are_resumed_as_halves(monkeypatch, tmp_path):
    spec = make_spec(steps=60, learning_rates=[0.1, 0.4])
    all_together(monkeypatch, spec)
    inner = Ensemble.gradients

    def gradients(ensemble, x, y):
        if ensemble.members > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return inner(ensemble, x, y)

    monkeypatch.setattr(Ensemble, "gradients", gradients)
    expected = trainer(spec, tmp_path / "whole.pt").run()
    with pytest.raises(Killed):
        trainer(spec, tmp_path / "job.pt", die_at_batch=50).run()
    resumed = trainer(spec, tmp_path / "job.pt")
    assert_identical(resumed.run(), expected)
    assert len(resumed.asked) == 20 + 60  # from step 40 of the first half, and the second half


def test_rows_with_numbers_of_numpy_survive_a_checkpoint(monkeypatch, tmp_path):
    """Whatever a probe returns is kept or refused; a checkpoint that cannot be read again would lose the job."""
    spec = make_spec(steps=60, probe_steps=[0], learning_rates=[0.1])

    def on_probe(probe):
        return [{"step": probe.step, "value": np.float64(0.5), "count": np.int64(3), "name": spec.parameterization}]

    class Dying(Batches):
        def batch(self, step):
            if step == 45 and not resumed:
                raise Killed
            asked.append(step)
            return super().batch(step)

    def make():
        job = make_job(spec, lambda seeds: Dying(seeds, 16))
        return Trainer(job, checkpoint=Checkpoint(tmp_path / "job.pt", ""), checkpoint_seconds=0.0, on_probe=on_probe)

    asked, resumed = [], False
    with pytest.raises(Killed):
        make().run()
    asked, resumed = [], True
    assert make().run().rows == [{"step": 0, "value": 0.5, "count": 3, "name": "MUP"}]
    assert asked == list(range(40, 60))


def test_nothing_is_saved_before_it_is_time(tmp_path):
    path = tmp_path / "job.pt"
    Trainer(make_job(make_spec()), checkpoint=Checkpoint(path, "a"), checkpoint_seconds=1e6).run()
    assert not path.exists()


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_checkpoint_of_another_job_is_not_used(monkeypatch, tmp_path):
    spec, path = make_spec(steps=60, probe_steps=PROBES), tmp_path / "job.pt"
    with pytest.raises(Killed):
        trainer(spec, path, die_at_batch=50, identity="another job").run()
    assert path.exists()
    again = trainer(spec, path)
    assert_identical(again.run(), trainer(spec, tmp_path / "whole.pt").run())
    assert set(again.asked) == set(range(61))


@pytest.mark.parametrize("damage", ["cut", "empty", "altered", "something else", "a list"])
def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path, capsys, damage):
    path = tmp_path / "job.pt"
    checkpoint = Checkpoint(path, "this job")
    checkpoint.save({"losses": torch.arange(1000.0)})
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "altered": whole[:40] + bytes(255 - byte for byte in whole[40:400]) + whole[400:],
            "something else": b"not a checkpoint",
            "a list": whole,
        }[damage]
    )
    if damage == "a list":
        torch.save([1, 2], path)
    assert checkpoint.load() is None
    assert not path.exists()
    assert f"{path}: not readable" in capsys.readouterr().out


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"a": [torch.tensor([1.0, float("nan")], dtype=DOUBLE)], "rows": [{"x": 1, "y": 0.1, "z": "s"}], "b": None}
    checkpoint = Checkpoint(tmp_path / "deep" / "job.pt", "this job")
    assert checkpoint.load() is None
    checkpoint.save({"a": "old"})
    checkpoint.save(state)
    found = checkpoint.load()
    torch.testing.assert_close(found.pop("a"), state.pop("a"), equal_nan=True, rtol=0, atol=0)
    assert found == state
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None


# --- the folder -------------------------------------------------------------------------------------------------------


def test_the_folder_is_one_job_s_alone_until_its_table_is_written(tmp_path):
    folder, end = tmp_path / "checkpoints/job", ExitStack()
    with resumable(folder, "this job", end) as kept:
        kept.checkpoint.save({"a": 1})
    assert kept.checkpoint.load() == {"a": 1}
    assert try_lock(tmp_path / "checkpoints/job.lock") is None
    end.close()
    assert not folder.parent.exists()


def test_jobs_whose_names_differ_behind_a_dot_have_a_lock_each(tmp_path):
    with ExitStack() as end, resumable(tmp_path / "run_0.5", "a", end), resumable(tmp_path / "run_0.7", "b", end):
        assert sorted(path.name for path in tmp_path.glob("*.lock")) == ["run_0.5.lock", "run_0.7.lock"]


def test_a_job_that_fails_leaves_its_checkpoint(tmp_path):
    end = ExitStack()
    with pytest.raises(Killed), resumable(tmp_path / "checkpoints/job", "this job", end) as kept:
        kept.checkpoint.save({"a": 1})
        raise Killed
    end.close()
    assert Checkpoint(kept.checkpoint.path, "this job").load() == {"a": 1}


def test_ten_minutes_lie_between_two_checkpoints_unless_told_otherwise(tmp_path, monkeypatch):
    found = []
    monkeypatch.delenv("FEATURESPEED_CHECKPOINT_MINUTES", raising=False)
    for _ in range(2):
        with ExitStack() as end, resumable(tmp_path / "job", "this job", end) as kept:
            found.append(kept.seconds)
        monkeypatch.setenv("FEATURESPEED_CHECKPOINT_MINUTES", "0.5")
    assert found == [600.0, 30.0]


def test_a_checkpoint_that_cannot_be_finished_leaves_the_one_before(monkeypatch, tmp_path):
    """Killed while it writes: the old file is whole, and the next writer removes the unfinished one."""
    checkpoint = Checkpoint(tmp_path / "job.pt", "this job")
    checkpoint.save({"step": 1})
    inner = torch.save

    def half(obj, file):
        file.write(b"half of it")
        raise Killed

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Killed):
        checkpoint.save({"step": 2})
    monkeypatch.setattr(torch, "save", inner)
    assert checkpoint.load() == {"step": 1}
    stale = tmp_path / f"{PART}0123-job.pt"  # what a real kill leaves behind
    stale.write_bytes(b"half of it")
    checkpoint.save({"step": 2})
    assert checkpoint.load() == {"step": 2} and [p.name for p in tmp_path.iterdir()] == ["job.pt"]


# --- kept weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MLP, CONVNET], ids=["MLP", "ConvNet"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_kept_weights_come_back_bit_for_bit_in_any_order(tmp_path, model, dtype):
    network = initialised(model, seeds=[0, 1, 2], dtype=dtype)
    for index, member in enumerate((5, 6, 9)):
        save_weights(tmp_path, network, index, member, 40)
    other = load_weights(tmp_path, initialised(model, seeds=[7, 7], dtype=dtype), [9, 5], 40)
    for mine, theirs in zip(network.take([2, 0]).weighted.values(), other.weighted.values(), strict=True):
        assert torch.equal(mine.weight, theirs.weight) and theirs.weight.requires_grad
    assert weights_path(tmp_path, 9, 40).is_file()
    assert len(list(tmp_path.rglob("*.safetensors"))) == len([p for p in tmp_path.rglob("*") if p.is_file()]) == 3


def test_weights_that_were_not_kept_are_missed(tmp_path):
    network = initialised(MLP)
    save_weights(tmp_path, network, 0, 0, 10)
    for member, step in ((0, 11), (1, 10)):
        with pytest.raises(FileNotFoundError):
            load_weights(tmp_path, network, [member], step)


def test_disk_needed_is_that_of_probes_and_two_checkpoints(tmp_path):
    """float32: 4 bytes a weight; a checkpoint holds weights and moments, a probe weights and second moments."""
    spec = make_spec(dtype="float32", optimizer={"name": "adam"}, probe_steps=[0, 10, 50])
    assert bytes_needed(spec, 1000) == 4 * (2 * 3 * 4000 + 2 * (3 * 4000 + 8 * 50))
    spec = make_spec(dtype="float64", probe_steps=[0])
    assert bytes_needed(spec, 1000) == 4 * (8000 + 2 * (8000 + 8 * 50))
    with_momentum = make_spec(optimizer={"momentum": 0.9}, probe_steps=[0])
    assert bytes_needed(with_momentum, 1000) - bytes_needed(spec, 1000) == 2 * 4 * 8000


def test_disk_needed_counts_the_weights_of_the_rates_that_are_kept():
    spec = make_spec(dtype="float32", probe_steps=[0, 10, 50])  # two rates, two seeds
    assert bytes_needed(spec, 1000) - bytes_needed(spec, 1000, kept_rates=1) == 3 * 2 * 4000
    assert bytes_needed(spec, 1000, kept_rates=2) == bytes_needed(spec, 1000)


def test_disk_needed_covers_what_a_job_writes(monkeypatch, tmp_path):
    spec = make_spec(width=64, optimizer={"name": "adam"}, learning_rates=[0.01], steps=40, probe_steps=[0, 20, 40])
    size = weights_of(make_network(spec, 1))
    assert size == 128 * 64 + 2 * 64 * 64 + 64 * 5

    def on_probe(probe):
        for index, member in enumerate(probe.members):
            save_weights(tmp_path / "weights", probe.network, index, member, probe.step, probe.kept)
        return []

    checkpoint = Checkpoint(tmp_path / "job.pt", "")
    Trainer(make_job(spec), checkpoint=checkpoint, checkpoint_seconds=0.0, on_probe=on_probe).run()
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    needed = bytes_needed(spec, size)
    checkpoints = 2 * checkpoint.path.stat().st_size
    assert 0.9 * (written + checkpoints) < needed < 1.1 * (written + checkpoints)


def test_a_disk_that_is_too_small_is_one_line_with_the_numbers(monkeypatch, tmp_path):
    spec = make_spec(probe_steps=[0, 50])
    needed = bytes_needed(spec, 2**26) + SPARE_BYTES
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, needed))
    check_disk(spec, 2**26, tmp_path / "new")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, needed - 1))
    with pytest.raises(DiskFull) as error:
        check_disk(spec, 2**26, tmp_path)
    message = str(error.value)
    gib = f"{needed / 2**30:.3g} GiB"
    assert gib == "8.06 GiB"
    assert message.startswith(f"run test: {gib} are needed for the weights of 4 networks at 2 probe steps")
    assert f"{gib} are free in {tmp_path};" in message
    assert message.endswith("take fewer probe_steps, learning_rates or seeds") and "\n" not in message
