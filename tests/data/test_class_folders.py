"""Class folders become an index or, for a small choice, arrays; damaged files are left out, named and counted."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurespeed.data import index
from featurespeed.data.content import DataError
from featurespeed.data.folders import natural
from featurespeed.data.pictures import decode_square
from featurespeed.data.prepare import obtain, prepare
from featurespeed.data.registry import IMAGENET, TINY_IMAGENET, TINY_IMAGENET_40
from featurespeed.data.store import FileData, ImageData, load_dataset
from featurespeed.data.workers import loader_workers
from tests.data.folder_cases import (
    CHOSEN,
    CLASSES,
    EACH,
    FILES,
    LARGE,
    SIDE,
    TEST,
    TRAIN,
    chosen_files,
    chosen_set,
    contents,
    encoded,
    huge_png,
    jpeg,
    npz_arrays,
    pixels,
    write,
    write_official,
    write_plain,
)


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """A folder that nobody changes."""
    return write_plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def mine(plain, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(plain, tmp_path / "mine"))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setenv("FEATURESPEED_LOADER_WORKERS", "0")


def bring(dataset, folder: Path | None, allowed: str | None = None):
    return obtain(dataset, Path("downloads"), folder, allowed)


def message(dataset, folder: Path | None, allowed: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        bring(dataset, folder, allowed)
    text = str(caught.value)
    assert "\n" not in text and not Path("downloads").exists()
    return text


# --- names ------------------------------------------------------------------------------------------------------------


def test_numbers_in_names_are_compared_as_numbers():
    names = ["a_10.JPEG", "a_9.JPEG", "a_09.JPEG", "b.JPEG", "2.JPEG", "10.JPEG", "a.JPEG", "a_9b.JPEG", "²٣.JPEG"]
    assert sorted(names, key=natural) == [
        "2.JPEG", "10.JPEG", "a.JPEG", "a_09.JPEG", "a_9.JPEG", "a_9b.JPEG", "a_10.JPEG", "b.JPEG", "²٣.JPEG"
    ]  # fmt: skip


# --- the index --------------------------------------------------------------------------------------------------------


def test_an_index_has_every_file_with_its_class_size_and_moments(plain):
    arrays, facts = bring(FILES, plain)
    for split, place, count in (("train", "train", TRAIN), ("test", "val", TEST)):
        expected = [(f"{place}/{name}/{name}_{number}.JPEG", name, data) for name, number, data in contents(split)]
        assert arrays[f"files_{split}"].tolist() == [path.encode() for path, _, _ in expected]
        assert arrays[f"y_{split}"].tolist() == [CLASSES.index(name) for _, name, _ in expected]
        assert arrays[f"bytes_{split}"].tolist() == [len(data) for _, _, data in expected]
        assert facts["counts"][split] == count * len(CLASSES) and facts["versions"][split] == "complete"
        hasher = hashlib.sha256()
        for _, name, data in expected:
            hasher.update(bytes([CLASSES.index(name), 0]) + hashlib.sha256(data).digest())
        assert facts["digests"][split] == f"sha256:{hasher.hexdigest()}"
    image = decode_square(jpeg(107), SIDE).astype(np.int64)  # the eighth of the second class
    assert arrays["sums_train"][TRAIN + 7].tolist() == image.sum(axis=(1, 2)).tolist()
    assert arrays["squares_train"][TRAIN + 7].tolist() == (image**2).sum(axis=(1, 2)).tolist()
    assert facts["class_names"] == list(CLASSES) and facts["classes"] == 3 and facts["root"] == str(plain)


def test_moments_are_those_of_what_a_network_sees(plain):
    arrays, facts = bring(LARGE, plain)
    centre = decode_square(jpeg(0), SIDE)[:, 2:14, 2:14]
    assert facts["shape"] == [3, 12, 12] and facts["decoded_side"] == SIDE
    assert arrays["sums_train"][0].tolist() == centre.astype(np.int64).sum(axis=(1, 2)).tolist()


def test_both_layouts_and_any_number_of_workers_give_the_same_content(plain, tmp_path, monkeypatch):
    write_official(tmp_path / "tiny-imagenet-200")
    monkeypatch.setenv("FEATURESPEED_LOADER_WORKERS", "2")
    monkeypatch.setattr(index, "CHUNK", 50)
    arrays, facts = bring(FILES, tmp_path)
    monkeypatch.undo()
    expected, other = bring(FILES, plain)
    assert facts["content_sha256"] == other["content_sha256"] and facts["root"] != other["root"]
    assert arrays["files_test"][-1] == b"val/images/val_11.JPEG"
    for name in ("y_train", "y_test", "bytes_train", "sums_train", "squares_train"):
        np.testing.assert_array_equal(arrays[name], expected[name])


def test_other_files_and_endings_in_any_case(mine):
    folder = mine / "train/n02"
    for number, ending in enumerate(("jpg", "JPG", "jpeg", "png", "PNG")):
        write(folder / f"é ü_{number}.{ending}", encoded(pixels(number), "PNG" if ending.lower() == "png" else "JPEG"))
    os.rename(folder / "n02_0.JPEG", os.fsencode(folder) + b"/\xff\xfe.JPEG")  # no text in any encoding
    for name in (".hidden.JPEG", "notes.txt", "._n02_1.JPEG", "n02_1.JPEG.bak"):
        write(folder / name, b"nothing")
    (mine / "train/.cache").mkdir()
    arrays, facts = bring(FILES, mine)
    names = [os.path.basename(os.fsdecode(name)) for name in arrays["files_train"][arrays["y_train"] == 1]]
    assert len(names) == TRAIN + 5 and names[-6:-1] == [
        "é ü_0.jpg", "é ü_1.JPG", "é ü_2.jpeg", "é ü_3.png", "é ü_4.PNG"
    ]  # fmt: skip
    assert os.fsencode(names[-1]) == b"\xff\xfe.JPEG"
    assert facts["versions"]["train"] == "125 of 120 images" and facts["skipped"]["train"]["count"] == 0


def test_an_index_is_stored_verified_and_read_back(plain, tmp_path):
    path = prepare("tiny_imagenet", tmp_path, plain, datasets={"tiny_imagenet": FILES})
    data = load_dataset(path)
    assert isinstance(data, FileData) and (data.classes, data.shape, data.side) == (3, (3, SIDE, SIDE), SIDE)
    assert data.root == plain and len(data.files_train) == TRAIN * 3 and data.y_train.dtype == np.uint16
    assert json.loads((tmp_path / "facts.json").read_text())["kind"] == "files"
    arrays = dict(np.load(path))
    arrays["y_train"][3] += 1
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="altered: its index has .*moved aside to tiny_imagenet.npz.bad"):
        load_dataset(path)
    assert not path.exists()


# --- damaged files ----------------------------------------------------------------------------------------------------


DAMAGE = {
    "empty.JPEG": (b"", "empty file"),
    "text.JPEG": (b"not an image", "neither JPEG nor PNG"),
    "truncated.JPEG": (jpeg(3, 64, 64)[:-300], "truncated"),
    "bomb.png": (huge_png(), "10000 x 10000 pixels"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_left_out_and_named(mine, name, capsys):
    data, reason = DAMAGE[name]
    write(mine / "train/n02" / name, data)
    arrays, facts = bring(FILES, mine)
    assert len(arrays["files_train"]) == len(arrays["sums_train"]) == TRAIN * 3 and facts["counts"]["train"] == 120
    assert facts["skipped"]["train"]["count"] == 1 and facts["skipped"]["test"] == {"count": 0, "first": []}
    (first,) = facts["skipped"]["train"]["first"]
    assert first.startswith(f"train/n02/{name} (") and reason in first
    assert f"train: 1 of 121 files give no image: train/n02/{name}" in capsys.readouterr().err


def test_files_that_cannot_be_opened_are_left_out(mine, monkeypatch):
    (mine / "train/n01/broken.JPEG").symlink_to("nowhere.JPEG")
    arrays, facts = bring(FILES, mine)
    assert facts["skipped"]["train"]["first"] == ["train/n01/broken.JPEG (No such file or directory)"]
    assert len(arrays["files_train"]) == 120


def test_colours_of_any_kind_are_no_damage(mine):
    for name, data in (
        ("grey.JPEG", encoded(pixels(1, channels=1))),
        ("cmyk.JPEG", encoded(pixels(1), "JPEG", "CMYK")),
        ("palette.png", encoded(pixels(1), "PNG", "P")),
        ("alpha.png", encoded(pixels(1), "PNG", "RGBA")),
        ("png_inside.JPEG", encoded(pixels(1), "PNG")),
    ):
        write(mine / "train/n03" / name, data)
    arrays, facts = bring(FILES, mine)
    assert facts["skipped"]["train"]["count"] == 0 and len(arrays["files_train"]) == 125


def test_more_than_one_in_a_hundred_is_an_error(mine):
    for number in (3, 7):
        write(mine / f"train/n02/n02_{number}.JPEG", b"")
    text = message(FILES, mine)
    assert "2 of the 120 files of train give no image, more than 1%: first train/n02/n02_3.JPEG (empty file)" in text


def test_one_of_few_validation_images_is_more_than_one_in_a_hundred(mine):
    write(mine / "val/n01/n01_1.JPEG", b"text")
    assert "1 of the 12 files of test give no image, more than 1%: first val/n01/n01_1.JPEG" in message(FILES, mine)


def test_a_class_without_a_good_image_is_an_error(mine):
    shutil.rmtree(mine / "train/n03")
    write(mine / "train/n03/n03_0.JPEG", b"")
    for number in range(60):  # one of 141 is below the limit
        write(mine / f"train/n01/more_{number}.JPEG", jpeg(number))
    assert message(FILES, mine).endswith("train: class n03 has no image that can be decoded")


# --- classes ----------------------------------------------------------------------------------------------------------


def test_another_number_of_classes_is_told(plain):
    assert message(replace(FILES, class_count=200), plain) == (
        f"{plain / 'train'}: 3 class folders (n01, n02, n03); Tiny-ImageNet has 200"
    )


def test_classes_without_images_are_told(mine):
    for file in (mine / "val/n02").iterdir():
        file.rename(file.with_suffix(".txt"))
    assert message(FILES, mine) == f"{mine / 'val'}: class n02 has no image (1 such classes)"


def test_classes_of_one_part_only_are_told(mine):
    (mine / "val/n02").rename(mine / "val/n04")
    assert message(FILES, mine) == f"{mine}: class n02 is in train/ and not in val/ (2 such classes)"


def test_missing_folders_are_told(mine, tmp_path):
    shutil.rmtree(mine / "val")
    assert message(FILES, mine).startswith(f"{mine / 'val'}: no such folder; expected val/<class>/*.JPEG")
    (tmp_path / "empty").mkdir()
    text = message(IMAGENET, tmp_path / "empty")
    assert text.startswith(
        "no ImageNet (ILSVRC 2012) here, and it is not downloaded: put train/<class>/*.JPEG and val/"
    )
    assert text.endswith(f"into {tmp_path / 'empty'} or its subfolder imagenet")
    text = message(TINY_IMAGENET, None)
    assert "http://cs231n.stanford.edu/tiny-imagenet-200.zip" in text and "FEATURESPEED_DATA" in text


def test_a_folder_that_cannot_be_read_is_named(mine, monkeypatch):
    scan = os.scandir

    def refuse(path: object):
        if str(path).endswith("train/n02"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert message(FILES, mine) == f"{mine / 'train/n02'}: cannot be read: Permission denied"


def test_content_that_is_not_the_allowed_one_is_refused(plain):
    _, facts = bring(FILES, plain)
    assert bring(FILES, plain, facts["content_sha256"])[1] == facts
    assert "data_sha256 for tiny_imagenet allows only aaaa" in message(FILES, plain, "a" * 64)


# --- the table of the validation images -------------------------------------------------------------------------------


@pytest.fixture
def official(tmp_path) -> Path:
    return write_official(tmp_path / "official")


def annotate(folder: Path, change) -> None:
    path = folder / "val/val_annotations.txt"
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def test_a_validation_image_that_is_missing_counts_as_damaged(official, monkeypatch):
    (official / "val/images/val_5.JPEG").unlink()
    text = message(FILES, official)
    assert "1 of the 12 files of test" in text and "val/images/val_5.JPEG (No such file or directory)" in text
    monkeypatch.setattr(index, "MOST_DAMAGED", 0.1)
    arrays, facts = bring(FILES, official)
    assert len(arrays["files_test"]) == 11 and facts["skipped"]["test"]["count"] == 1


def test_validation_images_that_the_table_lacks_are_left_out(official, capsys):
    annotate(official, lambda lines: lines.pop())
    arrays, _ = bring(FILES, official)
    assert len(arrays["files_test"]) == 11
    assert "test: 1 images without a class are left out, first val_11.JPEG" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["val_4.JPEG", "val_4.JPEG n01 0 0", "\tn01", "val_4.txt\tn01", "../x.JPEG\tn01"])
def test_a_malformed_line_is_named(official, line):
    annotate(official, lambda lines: lines.__setitem__(4, line))
    assert f"val_annotations.txt: line 5: {line!r}: expected 'file.JPEG TAB class'" in message(FILES, official)


def test_other_faults_of_the_table_are_named(official):
    annotate(official, lambda lines: lines.append(lines[2]))
    assert "val_annotations.txt: line 13: val_2.JPEG stands there twice" in message(FILES, official)
    annotate(official, lambda lines: lines.__setitem__(12, "val_99.JPEG\tn77"))
    assert "class n77 is in val/ and not in train/" in message(FILES, official)
    (official / "val/val_annotations.txt").write_bytes(b"\xff\xfe\x00")
    assert "val_annotations.txt: no text in UTF-8" in message(FILES, official)
    (official / "val/val_annotations.txt").unlink()
    assert "val_annotations.txt: no such file; it has the classes" in message(FILES, official)


# --- a small choice ---------------------------------------------------------------------------------------------------


SMALL = chosen_set()


def test_the_choice_is_the_same_from_every_source(plain, tmp_path):
    write_official(tmp_path / "a/tiny_imagenet")
    for name, number, data in contents("train"):  # a folder with the chosen files only, under other names
        if name in CHOSEN and number < EACH["train"]:
            write(tmp_path / f"b/train/{name}/{number + 500}.JPEG", data)
    for name, number, data in contents("test"):
        if name in CHOSEN and number < EACH["test"]:
            write(tmp_path / f"b/val/{name}/{number:05d}.JPEG", data)
    (tmp_path / "c").mkdir()
    np.savez(tmp_path / "c/tiny_imagenet_40.npz", **npz_arrays())
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d/tiny_imagenet_40x12.npz", **npz_arrays())
    found = [bring(SMALL, folder) for folder in (plain, *(tmp_path / name for name in "abcd"))]
    expected = np.stack([decode_square(data, SIDE) for _, data in chosen_files("train")])
    for arrays, facts in found:
        np.testing.assert_array_equal(arrays["x_train"], expected)
        assert arrays["y_train"].tolist() == [0] * 12 + [1] * 12 and arrays["y_test"].dtype == np.uint8
        assert facts["versions"] == {"train": "complete", "test": "complete"}
        assert facts["encoded_digests"] == {version.split: version.digest for version in SMALL.versions}
        assert facts["content_sha256"] == found[0][1]["content_sha256"]
    sources = [facts["source"].removeprefix("local folder: ") for _, facts in found]
    assert sources == ["class folders"] * 3 + ["tiny_imagenet_40.npz", "tiny_imagenet_40x12.npz"]


def test_the_choice_is_stored_as_any_set_of_images(plain, tmp_path):
    path = prepare("tiny_imagenet_40", tmp_path, plain, datasets={"tiny_imagenet_40": SMALL})
    data = load_dataset(path)
    assert isinstance(data, ImageData) and data.shape == (3, SIDE, SIDE) and data.classes == 2
    np.testing.assert_array_equal(data.x_test[0], decode_square(chosen_files("test")[0][1], SIDE))


def test_the_order_of_files_on_the_disk_does_not_matter(mine, monkeypatch):
    scan = os.scandir

    class Shuffled(list):
        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def shuffled(path: object) -> Shuffled:
        entries = list(scan(path))
        random.Random(str(path)).shuffle(entries)
        return Shuffled(entries)

    monkeypatch.setattr(os, "scandir", shuffled)
    assert bring(SMALL, mine)[1]["versions"]["train"] == "complete"


def test_another_file_among_the_chosen_is_refused_unless_allowed(mine):
    write(mine / "train/n03/n03_4.JPEG", jpeg(999))
    text = message(SMALL, mine)
    assert "altered, or not Tiny-ImageNet, 40 classes: train has 24 images, hash sha256:" in text
    assert f"expected {SMALL.versions[0].digest} (24 images)" in text
    allowed = text.rpartition("tiny_imagenet_40: ")[2].rstrip("}")
    _, facts = bring(SMALL, mine, allowed)
    assert facts["versions"] == {"train": "allowed by data_sha256", "test": "complete"}
    assert facts["content_sha256"] == allowed
    write(mine / "train/n02/n02_4.JPEG", jpeg(999))  # a class that is not chosen
    assert bring(SMALL, mine, allowed)[1]["content_sha256"] == allowed


def test_too_few_images_of_a_chosen_class_are_told(mine):
    for number in range(1, 30):
        (mine / f"train/n03/n03_{number}.JPEG").unlink()
    text = message(SMALL, mine)
    assert text.startswith(f"{mine / 'train'}: 1 of the 2 classes of Tiny-ImageNet, 40 classes have too few images")
    assert text.endswith("n03 has 11, expected 12")


def test_damaged_files_of_an_allowed_choice_are_counted(mine):
    write(mine / "train/n03/n03_4.JPEG", b"text")
    allowed = message(SMALL, mine).rpartition("tiny_imagenet_40: ")[2].rstrip("}")
    text = message(SMALL, mine, allowed)
    assert text == f"{mine}: 1 of 24 files give no image: first image 16 of train (neither JPEG nor PNG)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"wnids": np.array(["n01", "n02"])}, "wnids has 2 classes that are not the 2 of"),
        ({"train_offsets": np.arange(9)}, "train_offsets must rise from 0 to "),
        ({"val_offsets": np.array([0, 9, 5, 12, 13])}, "val_offsets must rise from 0 to "),
        ({"y_train": np.full(24, 2, np.uint8)}, "y_train must be whole numbers from 0 to 1"),
        ({"y_val": None}, "no array y_val; expected val_jpeg, val_offsets, y_val, wnids"),
    ],
)
def test_an_npz_file_of_another_form_is_told(tmp_path, change, words):
    arrays = npz_arrays() | change
    path = tmp_path / "tiny_imagenet_40.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    text = message(SMALL, tmp_path)
    assert text.startswith(f"{path}: ") and words in text
    path.write_bytes(path.read_bytes()[:900])
    assert message(SMALL, tmp_path).startswith(f"{path}: truncated or altered, not decodable (")


def test_what_to_put_where_names_the_npz_files(tmp_path):
    text = message(TINY_IMAGENET_40, tmp_path)
    assert "(or tiny_imagenet_40.npz or tiny_imagenet_40x100.npz)" in text
    assert text.endswith(f"into {tmp_path} or its subfolder tiny_imagenet_40")


# --- workers ----------------------------------------------------------------------------------------------------------


def test_the_number_of_workers_is_that_of_the_variable_or_of_the_cores(monkeypatch):
    monkeypatch.setenv("FEATURESPEED_LOADER_WORKERS", " 3 ")
    assert loader_workers() == 3
    monkeypatch.delenv("FEATURESPEED_LOADER_WORKERS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(5))
    assert loader_workers() == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(500))
    assert loader_workers() == 16


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "²"])
def test_a_number_of_workers_that_is_none_is_refused(plain, monkeypatch, value):
    monkeypatch.setenv("FEATURESPEED_LOADER_WORKERS", value)
    expected = f"FEATURESPEED_LOADER_WORKERS = {value!r}: must be a whole number of processes, 0 or more"
    assert message(FILES, plain) == expected
