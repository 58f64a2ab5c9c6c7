"""What is known of the data sets: complete, https only, and readable without torch or numpy."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from featurespeed.data.registry import COMPLETE, DATASETS, SPLITS, parse_sha256

LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64}
IMAGES = [dataset for dataset in DATASETS.values() if dataset.kind == "images"]
IN_FOLDERS = [dataset for dataset in DATASETS.values() if dataset.layout == "folders"]
ON_THE_NETWORK = [dataset for dataset in DATASETS.values() if not dataset.embedded and dataset not in IN_FOLDERS]


def assert_hash(text: str) -> None:
    algorithm, _, digest = text.partition(":")
    assert re.fullmatch(r"[0-9a-f]+", digest) and len(digest) == LENGTHS[algorithm], text


def test_names_are_those_of_the_entries():
    small = ["cifar10", "mnist", "fashion_mnist", "digits", "wikitext2", "pydoc"]
    assert list(DATASETS) == [*small, "tiny_imagenet_40", "tiny_imagenet", "imagenet"]
    assert all(name == dataset.name for name, dataset in DATASETS.items())


@pytest.mark.parametrize("dataset", IMAGES, ids=lambda d: d.name)
def test_every_split_of_images_has_one_complete_version_and_well_formed_hashes(dataset):
    assert dataset.classes == {"tiny_imagenet_40": 40}.get(dataset.name, 10) and len(dataset.shape) == 3
    for split in SPLITS:
        notes = [version.note for version in dataset.versions_of(split)]
        assert notes.count(COMPLETE) == 1 and len(set(notes)) == len(notes)
    for version in dataset.versions:
        assert_hash(version.digest)
    for digest in (dataset.members or {}).values():
        assert_hash(digest)


@pytest.mark.parametrize("dataset", [d for d in ON_THE_NETWORK if d.kind == "text"], ids=lambda d: d.name)
def test_every_split_of_a_text_has_one_complete_version_and_well_formed_hashes(dataset):
    """A hash of sorted lines stands beside that of one order."""
    for split in SPLITS:
        known = dataset.versions_of(split)
        assert [version.note for version in known].count(COMPLETE) == 1
        assert len({version.count for version in known}) == 1
        for version in known:
            assert_hash(version.digest.removeprefix("sorted-lines-"))
    assert dataset.unit == "word" and dataset.training_tokens > dataset.outputs == dataset.vocabulary > 0


def test_a_cut_test_set_is_a_version_of_its_own_and_says_so():
    cut = [version for version in DATASETS["cifar10"].versions if version.note != COMPLETE]
    assert [(version.count, version.note) for version in cut] == [(1000, "test set cut short: 1000 of 10000 images")]


@pytest.mark.parametrize("dataset", ON_THE_NETWORK, ids=lambda d: d.name)
def test_downloads_are_https_with_a_hash_and_more_than_one_mirror(dataset):
    archives = [archive for choice in dataset.downloads for archive in choice]
    assert archives
    for archive in archives:
        assert_hash(archive.hash)
        assert len(archive.urls) >= 2
        assert all(url.startswith("https://") and url.endswith(archive.file) for url in archive.urls)


@pytest.mark.parametrize(
    ("name", "classes", "shape", "counts"),
    [
        ("tiny_imagenet_40", 40, (3, 64, 64), (4000, 1000)),
        ("tiny_imagenet", 200, (3, 64, 64), (100_000, 10_000)),
        ("imagenet", 1000, (3, 224, 224), (1_281_167, 50_000)),
    ],
)
def test_sets_in_class_folders_are_as_published_and_never_downloaded(name, classes, shape, counts):
    dataset = DATASETS[name]
    assert (dataset.classes, dataset.shape) == (classes, shape) and not dataset.downloads and dataset.published
    assert tuple(dataset.versions_of(split)[0].count for split in SPLITS) == counts
    assert dataset.streamed == (name != "tiny_imagenet_40") and dataset.decoded_side >= shape[1]


def test_classes_of_the_small_part_are_sorted_wordnet_numbers():
    wnids = DATASETS["tiny_imagenet_40"].class_names
    assert len(set(wnids)) == 40 and list(wnids) == sorted(wnids)
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids)


def test_the_registry_needs_neither_torch_nor_numpy():
    program = (
        "import sys, featurespeed.data.registry;"
        "print(sorted({'torch', 'numpy', 'pandas', 'pooch', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_allowed_hashes_are_read_from_one_line():
    one, other = "a" * 64, "B" * 64
    assert parse_sha256(f"cifar10={one}, mnist={other}") == {"cifar10": one, "mnist": "b" * 64}
    assert parse_sha256("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cifar10", "FEATURESPEED_DATA_SHA256: 'cifar10': expected NAME=HASH"),
        ("imagenette=" + "a" * 64, "imagenette: unknown data set, allowed: cifar10, mnist"),
        ("cifar10=abc", "cifar10 = 'abc': must be 64 hexadecimal digits"),
    ],
)
def test_a_wrong_line_of_hashes_is_named(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_sha256(text)
