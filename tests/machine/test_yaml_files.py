"""YAML that people write: read as the library reads it, and every fault in it told in one line."""

from __future__ import annotations

import pytest
import yaml

from featurespeed.machine.yaml_files import YamlError, parse_yaml, read_yaml
from tests.conftest import REPOSITORY

#: Text, and what the line about its repeated key says: line, key, line of the first one.
REPEATED = {
    "key": ("a: 1\nb: 2\na: 3\n", "line 3: a: written twice, the first time in line 1"),
    "same value": ("a: 1\na: 1\n", "line 2: a: written twice"),
    "block": ("a: {x: 1}\nb: 2\na:\n  y: 2\n", "line 3: a: written twice, the first time in line 1"),
    "nested": ("a:\n  b:\n    c: 1\n    d: 2\n    c: 3\n", "line 5: a.b.c: written twice, the first time in line 3"),
    "in a list": ("a:\n- {x: 1}\n- x: 1\n  x: 2\n", "line 4: a.1.x: written twice, the first time in line 3"),
    "in one line": ("{a: 1, a: 2}", "line 1: a: written twice, the first time in line 1"),
    "quoted": ("a: 1\n'a': 2\n", "line 2: a: written twice"),
    "number": ("16: 1\n0x10: 2\n", "line 2: 0x10: written twice"),
    "nothing": ("~: 1\nnull: 2\n", "line 2: null: written twice"),
    "json": ('{"a": {"b": 1,\n"b": 2}}', "line 2: a.b: written twice, the first time in line 1"),
    "beside a merge": ("base: &b {x: 1}\nown: {<<: *b, y: 2, y: 3}\n", "line 2: own.y: written twice"),
    "in what an alias stands for": ("a: &x\n  b: 1\n  b: 2\nc: *x\n", "line 3: a.b: written twice"),
}


@pytest.mark.parametrize("kind", REPEATED)
def test_a_repeated_key_is_a_fault_with_file_line_and_key(tmp_path, kind):
    text, words = REPEATED[kind]
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(YamlError) as fault:
        read_yaml(path)
    assert str(fault.value).startswith(f"{path}: {words}") and "\n" not in str(fault.value)


DISTINCT = [
    "a: 1\nb: {a: 1}\nc: [{a: 1}, {a: 2}]\n",
    "1: x\n'1': y\n",
    "base: &b {x: 1, y: 1}\nother: &o {z: 1}\nown: {<<: *b, x: 2}\nboth: {<<: *b, <<: *o}\n",
    "a: &x {b: 1}\nc: *x\nd: [*x, *x]\n",
    '{"a": 0.001, "b": [true, null, 1.5]}',
    "a: '1'\nb: 0o7\nc: 2024-01-31\nd: yes\ne: /data/my #1 set\n",
    "# nothing but a comment\n",
    "",
    "text",
    "- 1\n- 2\n",
]


@pytest.mark.parametrize("text", DISTINCT)
def test_what_has_no_fault_is_what_the_library_reads(text):
    assert parse_yaml(text, "my.yaml") == yaml.safe_load(text)


def test_a_mapping_that_holds_itself_is_no_endless_search():
    found = parse_yaml("a: &a {b: *a, c: 1}\n", "my.yaml")
    assert found["a"]["b"] is found["a"]


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("featurespeed/papers/*/*/claims.yaml")), ids=lambda path: path.parent.name
)
def test_all_criteria_of_the_rooms_can_be_read(path):
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "my.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "my.yaml") == {"a": 1}


UNREADABLE = {
    "Latin-1": ("a: 1\nb: café\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8"),
    "UTF-16": ("a: 1\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "line 1: byte 0x89 is not UTF-8"),
    "open bracket": (b"a: 1\nb: [1, 2\n", "line 3: not YAML"),
    "colon in a value": (b"a: b: c\n", "line 1: not YAML: mapping values are not allowed"),
    "tab": (b"a:\n\tb: 1\n", "line 2: not YAML"),
    "a list as a key": (b"? [1]\n: 2\n", "line 1: not YAML: found unhashable key"),
    "no such day": (b"a: 2024-13-45\n", "not YAML: month must be in 1..12"),
    "no such tag": (b"a: 1\nb: !!python/name:os.system x\n", "line 2: not YAML: could not determine a constructor"),
    "control character": (b"a: \x00\n", "not YAML: unacceptable character"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, kind):
    content, words = UNREADABLE[kind]
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(YamlError) as fault:
        read_yaml(path)
    assert str(fault.value).startswith(f"{path}: {words}") and "\n" not in str(fault.value), str(fault.value)


def test_a_file_that_is_absent_or_a_folder_is_told_in_one_line(tmp_path):
    for path, words in ((tmp_path / "absent.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(YamlError) as fault:
            read_yaml(path)
        assert str(fault.value).startswith(f"{path}: cannot be read ({words}") and "\n" not in str(fault.value)


@pytest.mark.parametrize("text", ["4e-05", "1e3", "-2E-1", "+1e+2", "1.e5", "0.5e-3"])
def test_powers_of_ten_are_numbers_as_in_json(text):
    assert parse_yaml(f"[{text}]", "rates.json") == [float(text)]


def test_what_only_looks_like_a_power_of_ten_stays_a_text():
    assert parse_yaml("['4e-05', 1e, e5, 1e5x, 12]", "names.yaml") == ["4e-05", "1e", "e5", "1e5x", 12]
