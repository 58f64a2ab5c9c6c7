"""Every standard form of a data set gives the same arrays; damaged files are named, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from featurespeed.data.content import DataError
from featurespeed.data.decode import NotDecodable, decode_cifar_pickle
from featurespeed.data.sources import decode, find_sources
from tests.data.cases import (
    CIFAR_ARRAYS,
    MNIST_ARRAYS,
    TINY_CIFAR,
    TINY_MNIST,
    cifar_files,
    idx_contents,
    write_archive,
    write_binaries,
    write_idx,
    write_npz,
    write_pickles,
)


def read(dataset, folder):
    """The arrays of the first source found, and the source."""
    source = next(find_sources(dataset, folder))
    return decode(dataset, source).arrays, source


CIFAR_FORMS = {
    "npz": lambda folder: write_npz(folder, "cifar10", CIFAR_ARRAYS),
    "python batches": lambda folder: write_pickles(folder, CIFAR_ARRAYS),
    "binary batches": lambda folder: write_binaries(folder, CIFAR_ARRAYS),
    "python archive": lambda folder: write_archive(folder, CIFAR_ARRAYS),
    "binary archive": lambda folder: write_archive(folder, CIFAR_ARRAYS, binary=True),
}
MNIST_FORMS = {
    "npz": lambda folder: write_npz(folder, "mnist", MNIST_ARRAYS),
    "idx.gz": lambda folder: write_idx(folder, MNIST_ARRAYS),
    "idx": lambda folder: write_idx(folder, MNIST_ARRAYS, packed=False),
}


@pytest.mark.parametrize("subfolder", ["", "cifar10"])
@pytest.mark.parametrize("form", CIFAR_FORMS)
def test_all_forms_of_cifar10_give_the_same_arrays(form, subfolder, tmp_path):
    (tmp_path / subfolder).mkdir(exist_ok=True)
    CIFAR_FORMS[form](tmp_path / subfolder)
    arrays, _ = read(TINY_CIFAR, tmp_path)
    for name, expected in CIFAR_ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], expected)
        assert arrays[name].dtype == np.uint8


@pytest.mark.parametrize("subfolder", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("form", MNIST_FORMS)
def test_all_forms_of_mnist_give_the_same_arrays(form, subfolder, tmp_path):
    (tmp_path / subfolder).mkdir(exist_ok=True, parents=True)
    MNIST_FORMS[form](tmp_path / subfolder)
    arrays, _ = read(TINY_MNIST, tmp_path)
    for name, expected in MNIST_ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], expected)


def test_the_batches_may_lie_in_the_given_folder_itself(tmp_path):
    write_pickles(tmp_path, CIFAR_ARRAYS)
    arrays, _ = read(TINY_CIFAR, tmp_path / "cifar-10-batches-py")
    np.testing.assert_array_equal(arrays["x_test"], CIFAR_ARRAYS["x_test"])


def test_idx_files_with_a_dot_in_their_names_are_found(tmp_path):
    write_idx(tmp_path, MNIST_ARRAYS, packed=False)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert read(TINY_MNIST, tmp_path)[0]["y_test"].tolist() == MNIST_ARRAYS["y_test"].tolist()


def test_the_subfolder_named_like_the_set_comes_first(tmp_path):
    write_npz(tmp_path, "cifar10", CIFAR_ARRAYS)
    (tmp_path / "cifar10").mkdir()
    write_npz(tmp_path / "cifar10", "cifar10", CIFAR_ARRAYS)
    assert read(TINY_CIFAR, tmp_path)[1].where == tmp_path / "cifar10/cifar10.npz"


def test_an_empty_folder_has_no_source(tmp_path):
    assert list(find_sources(TINY_CIFAR, tmp_path)) == list(find_sources(TINY_MNIST, tmp_path)) == []


def test_missing_files_of_a_form_are_named(tmp_path):
    write_pickles(tmp_path, CIFAR_ARRAYS)
    (tmp_path / "cifar-10-batches-py/data_batch_3").unlink()
    with pytest.raises(DataError, match="cifar-10-batches-py: incomplete CIFAR-10: no data_batch_3$"):
        list(find_sources(TINY_CIFAR, tmp_path))
    write_idx(tmp_path / "m", MNIST_ARRAYS)
    (tmp_path / "m/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="incomplete MNIST: no t10k-labels-idx1-ubyte.gz$"):
        list(find_sources(TINY_MNIST, tmp_path / "m"))


def test_an_incomplete_form_beside_a_complete_one_does_not_matter(tmp_path):
    write_pickles(tmp_path, CIFAR_ARRAYS)
    (tmp_path / "cifar-10-batches-py/test_batch").unlink()
    write_npz(tmp_path, "cifar10", CIFAR_ARRAYS)
    assert [source.form for source in find_sources(TINY_CIFAR, tmp_path)] == ["npz"]


DAMAGED = {  # name -> data set, writer, the file that is cut to half
    "npz": (TINY_CIFAR, CIFAR_FORMS["npz"], "cifar10.npz"),
    "pickle": (TINY_CIFAR, CIFAR_FORMS["python batches"], "cifar-10-batches-py/data_batch_2"),
    "binary": (TINY_CIFAR, CIFAR_FORMS["binary batches"], "cifar-10-batches-bin/test_batch.bin"),
    "tar.gz": (TINY_CIFAR, CIFAR_FORMS["python archive"], "cifar-10-python.tar.gz"),
    "idx.gz": (TINY_MNIST, MNIST_FORMS["idx.gz"], "train-images-idx3-ubyte.gz"),
    "idx": (TINY_MNIST, MNIST_FORMS["idx"], "t10k-images-idx3-ubyte"),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("keep", [0.0, 0.003, 0.5, 0.97])
def test_a_truncated_file_is_named_with_its_size_and_both_hashes(case, keep, tmp_path):
    dataset, write, name = DAMAGED[case]
    write(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) // 3 * 3 - 1 if keep else 0])
    with pytest.raises(DataError) as caught:
        read(dataset, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path} ({path.stat().st_size} bytes, ") and "\n" not in message
    assert "truncated or altered" in message and "expected" in message
    found, _, expected = message.partition("; expected")
    assert any(f"{algorithm}:" in found and f"{algorithm}:" in expected for algorithm in ("md5", "sha1", "sha256"))


@pytest.mark.parametrize("case", DAMAGED)
def test_random_damage_is_either_harmless_or_a_data_error(case, tmp_path):
    """Whatever byte is changed, readers raise DataError or return arrays (whose hash is then checked)."""
    dataset, write, name = DAMAGED[case]
    write(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    # Half of the changes hit the first bytes, where the headers are.
    for place in [*rng.integers(0, min(len(whole), 300), 40), *rng.integers(0, len(whole), 40)]:
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            read(dataset, tmp_path)
        except DataError as error:
            assert "\n" not in str(error)


class Evil:
    """A pickle of this makes a folder when it is loaded by an ordinary unpickler."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_anything(tmp_path):
    mark = tmp_path / "ran"
    bad = pickle.dumps({b"data": Evil(mark), b"labels": [1]}, protocol=2)
    with pytest.raises(NotDecodable, match="asks for posix.mkdir, which no array needs"):
        decode_cifar_pickle(bad)
    assert not mark.exists()
    pickle.loads(bad)
    assert mark.exists(), "the test's pickle does nothing, so it shows nothing"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_read(protocol):
    images, labels = cifar_files(CIFAR_ARRAYS)["data_batch_1"]
    batch = {"data": images.reshape(len(images), -1), "labels": labels.tolist()}
    records = decode_cifar_pickle(pickle.dumps(batch, protocol=protocol))
    np.testing.assert_array_equal(records[:, 1:], batch["data"])
    assert records[:, 0].tolist() == batch["labels"]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ([1, 2], "no batch"),
        ({"labels": [1]}, "no uint8 array 'data'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, r"images \(2, 3072\) and labels \(1,\)"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [256]}, "no bytes"),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [1]}, "no uint8 array 'data'"),
    ],
)
def test_a_pickle_of_something_else_is_refused(batch, reason):
    with pytest.raises(NotDecodable, match=reason):
        decode_cifar_pickle(pickle.dumps(batch))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None}, "no array x_train; expected x_train, y_train, x_test, y_test"),
        ({"x_train": CIFAR_ARRAYS["x_train"].transpose(0, 2, 3, 1)}, "x_train is uint8 [40, 32, 32, 3]; must be"),
        ({"x_test": CIFAR_ARRAYS["x_test"].astype(np.float32)}, "x_test is float32 [8, 3, 32, 32]; must be uint8"),
        ({"y_test": CIFAR_ARRAYS["y_test"][:-1]}, "y_test is int64 [7]; must be whole numbers [8]"),
        ({"y_test": np.full(8, 10)}, "y_test has labels 10 to 10; allowed: 0 to 9"),
    ],
)
def test_arrays_of_a_wrong_form_are_named(change, message, tmp_path):
    arrays = {name: array for name, array in (CIFAR_ARRAYS | change).items() if array is not None}
    write_npz(tmp_path, "cifar10", arrays)
    with pytest.raises(DataError) as caught:
        read(TINY_CIFAR, tmp_path)
    assert message in str(caught.value) and "cifar10.npz" in str(caught.value)


def test_idx_bytes_are_those_of_the_published_format():
    """The first label file of MNIST begins 00 00 08 01, then the number of items, big endian."""
    assert idx_contents(MNIST_ARRAYS)["train-labels-idx1-ubyte"][:8] == bytes([0, 0, 8, 1, 0, 0, 0, 40])
