"""Data are brought once, verified by the hash of their content, and checked again whenever they are read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from featurespeed.data.content import DataError, DownloadError, content_sha256, records_digest
from featurespeed.data.prepare import obtain, prepare, remove_downloads
from featurespeed.data.registry import CIFAR10, FASHION_MNIST, PYDOC
from featurespeed.data.store import ImageData, TextData, load_dataset
from featurespeed.pipeline.stage import Task
from tests.conftest import load_script
from tests.data.cases import (
    CIFAR_ARRAYS,
    CUT,
    MNIST_ARRAYS,
    TINY,
    TINY_CIFAR,
    image_arrays,
    records,
    write_archive,
    write_binaries,
    write_idx,
    write_npz,
    write_pickles,
)


def message(call, *arguments, **options) -> str:
    """The one line of the DataError that the call ends with."""
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def no_network(archive, folder):
    raise DownloadError(["mirror.example: Name or service not known"])


def bring(dataset, tmp_path, local=None, allowed=None, fetch=no_network, datasets=None):
    return obtain(dataset, tmp_path / "downloads", local, allowed, datasets or TINY, fetch)


def cut_arrays() -> dict[str, np.ndarray]:
    return CIFAR_ARRAYS | {name: CIFAR_ARRAYS[name][:CUT] for name in ("x_test", "y_test")}


# --- digests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_the_digest_is_that_of_the_binary_layout(algorithm):
    import hashlib

    images, labels = CIFAR_ARRAYS["x_train"], CIFAR_ARRAYS["y_train"]
    expected = hashlib.new(algorithm, records(images, labels)).hexdigest()
    assert records_digest(images, labels, algorithm) == f"{algorithm}:{expected}"


def test_the_content_hash_depends_on_both_splits():
    digests = {"train": "sha256:a", "test": "sha256:b"}
    hashes = {content_sha256(digests), content_sha256(digests | {"test": "sha256:c"})}
    hashes.add(content_sha256({"train": "sha256:b", "test": "sha256:a"}))
    assert len(hashes) == 3


# --- local folder -----------------------------------------------------------------------------------------------------


def test_a_local_set_is_written_with_its_facts_and_read_back(tmp_path):
    write_pickles(tmp_path, CIFAR_ARRAYS)
    path = prepare("cifar10", tmp_path / "out", tmp_path, datasets=TINY)
    for place in (path, path.parent):
        data = load_dataset(place)
        assert isinstance(data, ImageData) and data.shape == (3, 32, 32)
        assert (data.classes, data.pixel_maximum) == (10, 255)
        for name, expected in CIFAR_ARRAYS.items():
            np.testing.assert_array_equal(getattr(data, name), expected)
    facts = json.loads((path.parent / "facts.json").read_text())
    assert facts["source"] == "local folder: cifar-10-batches-py"
    assert facts["counts"] == {"train": 40, "test": 8}
    assert facts["versions"] == {"train": "complete", "test": "complete"}
    assert sorted(p.name for p in path.parent.iterdir()) == ["cifar10.npz", "facts.json"]


def test_every_form_of_the_same_content_gives_the_same_bytes(tmp_path):
    write_npz(tmp_path, "cifar10", CIFAR_ARRAYS)
    (tmp_path / "b").mkdir()
    write_archive(tmp_path / "b", CIFAR_ARRAYS, binary=True)
    one = prepare("cifar10", tmp_path / "1", tmp_path, datasets=TINY)
    two = prepare("cifar10", tmp_path / "2", tmp_path / "b", datasets=TINY)
    assert one.read_bytes() == two.read_bytes()


def test_a_cut_test_set_says_so_in_the_facts_and_on_the_log(tmp_path, capsys):
    write_npz(tmp_path, "cifar10", cut_arrays())
    _, facts = bring(TINY_CIFAR, tmp_path, tmp_path)
    assert facts["versions"]["test"] == "test set cut short: 5 of 8 images"
    assert facts["counts"]["test"] == 5
    assert "test set cut short: 5 of 8 images" in capsys.readouterr().err


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    assert message(bring, TINY_CIFAR, tmp_path, tmp_path / "nowhere").startswith(
        f"data_dir = {tmp_path / 'nowhere'}: no such folder"
    )


def test_unknown_content_is_refused_with_the_hash_that_would_allow_it(tmp_path):
    other = image_arrays(CIFAR10, seed=9)
    write_npz(tmp_path, "cifar10", other)
    text = message(bring, TINY_CIFAR, tmp_path, tmp_path)
    found = records_digest(other["x_train"], other["y_train"])
    assert f"{tmp_path / 'cifar10.npz'}: altered, or not CIFAR-10: train has 40 images, hash {found}" in text
    assert TINY_CIFAR.versions[0].digest in text
    allowed = text.partition("data_sha256: {cifar10: ")[2].partition("}")[0]
    arrays, facts = bring(TINY_CIFAR, tmp_path, tmp_path, allowed)
    np.testing.assert_array_equal(arrays["x_train"], other["x_train"])
    assert facts["versions"]["train"] == "allowed by data_sha256" and facts["content_sha256"] == allowed


def test_a_known_split_beside_an_unknown_one_is_still_unknown(tmp_path):
    write_npz(tmp_path, "cifar10", CIFAR_ARRAYS | {"y_test": (CIFAR_ARRAYS["y_test"] + 1) % 10})
    text = message(bring, TINY_CIFAR, tmp_path, tmp_path)
    assert "test has 8 images, hash sha1:" in text and "= sha256:" in text
    assert f"{TINY_CIFAR.versions[1].digest} (8 images) or {TINY_CIFAR.versions[2].digest} (5 images)" in text


def test_a_given_hash_allows_nothing_else_not_even_the_known_set(tmp_path):
    write_npz(tmp_path, "cifar10", CIFAR_ARRAYS)
    assert f"data_sha256 for cifar10 allows only {'0' * 64}" in message(
        bring, TINY_CIFAR, tmp_path, tmp_path, allowed="0" * 64
    )


def test_of_several_files_the_altered_one_is_named(tmp_path):
    write_binaries(tmp_path, CIFAR_ARRAYS)
    bad = tmp_path / "cifar-10-batches-bin/data_batch_4.bin"
    changed = bytearray(bad.read_bytes())
    changed[5000] ^= 1
    bad.write_bytes(changed)
    before = {path: path.read_bytes() for path in bad.parent.iterdir()}
    text = message(bring, TINY_CIFAR, tmp_path, tmp_path)
    assert text.startswith(f"{bad}: hash sha1:") and f"expected {TINY_CIFAR.members['data_batch_4']}" in text
    assert "the file stays where it is and is not used" in text
    assert {path: path.read_bytes() for path in bad.parent.iterdir()} == before


def test_an_altered_idx_file_is_named(tmp_path):
    write_idx(tmp_path, MNIST_ARRAYS | {"y_train": (MNIST_ARRAYS["y_train"] + 1) % 10})
    text = message(bring, TINY["mnist"], tmp_path, tmp_path)
    assert text.startswith(f"{tmp_path / 'train-labels-idx1-ubyte.gz'}: hash md5:")


def test_a_bad_local_file_is_an_error_even_where_a_download_would_work(tmp_path):
    write_npz(tmp_path, "cifar10", CIFAR_ARRAYS)
    (tmp_path / "cifar10.npz").write_bytes((tmp_path / "cifar10.npz").read_bytes()[:5000])
    asked = []
    text = message(bring, TINY_CIFAR, tmp_path, tmp_path, fetch=lambda archive, folder: asked.append(archive))
    assert "cifar10.npz (5000 bytes, " in text and "is not used" in text and not asked
    assert (tmp_path / "cifar10.npz").stat().st_size == 5000


def test_files_with_the_same_names_of_another_known_set_are_passed_over(tmp_path, capsys):
    """MNIST and Fashion-MNIST share their file names; which set it is, the content says."""
    from tests.data.cases import knowing

    fashion = knowing(FASHION_MNIST, image_arrays(FASHION_MNIST, seed=7), {})
    datasets = TINY | {"fashion_mnist": fashion}
    write_idx(tmp_path, MNIST_ARRAYS)
    text = message(bring, fashion, tmp_path, tmp_path, datasets=datasets)
    assert text.startswith("no Fashion-MNIST here: put fashion_mnist.npz")
    assert f"{tmp_path} holds MNIST, passed over" in capsys.readouterr().err


# --- network ----------------------------------------------------------------------------------------------------------


def test_without_network_and_file_one_line_says_what_to_put_where(tmp_path):
    text = message(bring, TINY_CIFAR, tmp_path)
    for needed in ("cifar10.npz", "cifar-10-batches-py/", "cifar-10-batches-bin/", "cifar-10-python.tar.gz"):
        assert needed in text
    assert "data_dir in the config or in FEATURESPEED_DATA" in text
    assert text.endswith("no download: mirror.example: Name or service not known")
    text = message(bring, TINY["mnist"], tmp_path, tmp_path)
    assert f"into {tmp_path} or its subfolder mnist;" in text and "t10k-labels-idx1-ubyte" in text


def fetch_archive(archive, folder):
    """A download of CIFAR-10's binary archive; the Python one is not to be had."""
    if "python" in archive.file:
        raise DownloadError(["mirror.example: HTTP status 404"])
    return write_archive(folder, CIFAR_ARRAYS, binary=True)


def test_the_next_archive_is_taken_if_one_is_not_to_be_had(tmp_path):
    arrays, facts = bring(TINY_CIFAR, tmp_path, fetch=fetch_archive)
    np.testing.assert_array_equal(arrays["x_test"], CIFAR_ARRAYS["x_test"])
    assert facts["source"] == "download: cifar-10-binary.tar.gz"


def test_downloads_are_removed_once_used_but_not_what_was_moved_aside(tmp_path):
    bring(TINY_CIFAR, tmp_path, fetch=fetch_archive)
    downloads = tmp_path / "downloads"
    assert downloads.exists()
    remove_downloads(downloads)
    assert not downloads.exists()
    downloads.mkdir()
    for name in ("x.tar.gz", "x.tar.gz.partial", "x.tar.gz.bad"):
        (downloads / name).touch()
    remove_downloads(downloads)
    assert [path.name for path in downloads.iterdir()] == ["x.tar.gz.bad"]


def test_a_download_with_other_content_is_moved_aside(tmp_path):
    def fetch(archive, folder):
        return write_archive(folder, image_arrays(CIFAR10, seed=3))

    text = message(bring, TINY_CIFAR, tmp_path, fetch=fetch)
    assert "member data_batch_1: hash sha1:" in text and text.endswith("moved aside to *.bad")
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["cifar-10-python.tar.gz.bad"]


# --- embedded ---------------------------------------------------------------------------------------------------------


def test_digits_are_the_known_stratified_split(tmp_path):
    data = load_dataset(prepare("digits", tmp_path))
    assert (len(data.x_train), len(data.x_test), data.pixel_maximum) == (1437, 360, 16)
    assert data.facts["versions"] == {"train": "complete", "test": "complete"}
    shares = np.bincount(data.y_test) / np.bincount(np.concatenate([data.y_train, data.y_test]))
    assert np.ptp(shares) < 0.01
    together = np.concatenate([data.x_train, data.x_test]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    assert sorted(map(bytes, together)) == sorted(map(bytes, load_digits().data.astype(np.uint8)))


def test_pydoc_is_the_manual_of_this_python_in_characters_with_its_hash_recorded(tmp_path):
    from pydoc_data.topics import topics

    data = load_dataset(prepare("pydoc", tmp_path))
    assert isinstance(data, TextData)
    text = "".join(topics[name] for name in sorted(topics))
    assert "".join(data.vocabulary[token] for token in (*data.train, *data.test)) == text
    assert data.vocabulary == tuple(sorted(set(text))) and data.classes == len(set(text))
    assert abs(len(data.train) / len(text) - 0.9) < 1e-4
    assert len(data.train) >= PYDOC.training_tokens
    assert data.facts["vocabulary"] == data.classes and len(data.facts["vocabulary_sha256"]) == 64
    assert data.facts["digests"]["train"].startswith("sha256:")
    assert data.facts["source"].startswith("embedded: Python 3.")


def test_an_unknown_name_is_named(tmp_path):
    assert message(prepare, "imagenette", tmp_path) == (
        "data set 'imagenette': unknown, allowed: cifar10, mnist, fashion_mnist, digits, wikitext2, pydoc, "
        "tiny_imagenet_40, tiny_imagenet, imagenet"
    )


# --- reading what was written -----------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path) -> Path:
    """A verified copy, as the data stage leaves it."""
    write_npz(tmp_path, "cifar10", CIFAR_ARRAYS)
    return prepare("cifar10", tmp_path / "out", tmp_path, datasets=TINY)


def test_a_truncated_copy_is_moved_aside_and_named(stored):
    stored.write_bytes(stored.read_bytes()[:-100])
    size = stored.stat().st_size
    text = message(load_dataset, stored)
    assert text.startswith(f"{stored} ({size} bytes, sha256:") and "expected train sha256:" in text
    assert text.endswith("moved aside to cifar10.npz.bad, run the rule `data` again")
    assert not stored.exists() and (stored.parent / "cifar10.npz.bad").stat().st_size == size


def test_an_altered_copy_is_moved_aside_and_both_hashes_are_given(stored):
    changed = CIFAR_ARRAYS | {"y_train": CIFAR_ARRAYS["y_train"][::-1].copy()}
    np.savez(stored, **changed)
    found = records_digest(changed["x_train"], changed["y_train"])
    expected = records_digest(CIFAR_ARRAYS["x_train"], CIFAR_ARRAYS["y_train"])
    assert f"{stored}: altered: train has {found}, expected {expected}" in message(load_dataset, stored.parent)
    assert not stored.exists()


def test_a_copy_without_an_array_is_altered_too(stored):
    np.savez(stored, **{name: array for name, array in CIFAR_ARRAYS.items() if name != "y_test"})
    assert "test has no such array" in message(load_dataset, stored)


def test_missing_files_are_named_with_the_rule_that_makes_them(stored):
    stored.unlink()
    assert message(load_dataset, stored) == f"{stored}: no such file; the rule `data` makes it"
    (stored.parent / "facts.json").unlink()
    assert (
        message(load_dataset, stored.parent)
        == f"{stored.parent / 'facts.json'}: no such file; the rule `data` makes it"
    )


def test_broken_facts_are_moved_aside(stored):
    facts = stored.parent / "facts.json"
    facts.write_text(facts.read_text()[:50])
    assert message(load_dataset, stored).startswith(f"{facts} (50 bytes, ")
    assert not facts.exists()


# --- the script -------------------------------------------------------------------------------------------------------


def run_script(monkeypatch, tmp_path, name: str, **environment: str) -> dict:
    for variable in ("FEATURESPEED_DATA", "FEATURESPEED_DATA_SHA256"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    script = load_script("data")
    monkeypatch.setattr(script, "DATASETS", script.DATASETS | TINY)
    outputs = {"npz": tmp_path / f"out/.part-1-{name}.npz", "facts": tmp_path / "out/.part-1-facts.json"}
    outputs["npz"].parent.mkdir(exist_ok=True)
    script.main(Task({}, outputs, {"dataset": name}))
    return json.loads(outputs["facts"].read_text())


def test_the_script_takes_folder_and_hash_from_the_environment(monkeypatch, tmp_path):
    write_npz(tmp_path, "cifar10", image_arrays(CIFAR10, seed=9))
    with pytest.raises(SystemExit, match="data_sha256: {cifar10: ") as caught:
        run_script(monkeypatch, tmp_path, "cifar10", FEATURESPEED_DATA=str(tmp_path))
    allowed = str(caught.value).partition("{cifar10: ")[2].partition("}")[0]
    variables = {"FEATURESPEED_DATA": str(tmp_path), "FEATURESPEED_DATA_SHA256": f"cifar10={allowed}"}
    assert run_script(monkeypatch, tmp_path, "cifar10", **variables)["content_sha256"] == allowed


def test_the_script_brings_an_embedded_set_without_anything(monkeypatch, tmp_path):
    assert run_script(monkeypatch, tmp_path, "digits")["name"] == "digits"
    assert sorted(os.listdir(tmp_path / "out")) == [".part-1-digits.npz", ".part-1-facts.json"]


def test_a_wrong_variable_ends_the_script_with_one_line(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="digits = 'abc': must be 64 hexadecimal digits"):
        run_script(monkeypatch, tmp_path, "digits", FEATURESPEED_DATA_SHA256="digits=abc")
