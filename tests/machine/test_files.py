"""Files that appear whole or not at all."""

import pytest

from featurespeed.machine.files import atomic_path, remove_parts


def test_a_failed_write_leaves_the_old_file_and_no_part_of_a_new_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as part:
        part.write_text("half")
        assert part.parent == path.parent and part.suffix == ".csv"
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_removes_what_a_killed_writer_of_the_same_file_left(tmp_path):
    left, other = tmp_path / ".part-0123-table.csv", tmp_path / ".part-0123-another.csv"
    left.touch()
    other.touch()
    with atomic_path(tmp_path / "table.csv") as part:
        part.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "table.csv"]


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    kept = tmp_path / "tables" / "a.csv"
    kept.parent.mkdir()
    kept.write_text("x")
    (tmp_path / "tables" / ".part-0123456789ab-a.csv").write_text("half")
    (tmp_path / ".part-notebook" / "inner").mkdir(parents=True)
    remove_parts(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*")) == [kept.parent, kept]
    remove_parts(tmp_path / "not there")
