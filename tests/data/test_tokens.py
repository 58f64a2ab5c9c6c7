"""Texts as numbers of their tokens: words, characters, arrays on the disk, batches of sequences, settings, sources."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from featurespeed.data import embedded, prepare, tokens
from featurespeed.data.content import DataError, DownloadError, split_digest
from featurespeed.data.prepare import obtain
from featurespeed.data.registry import DATASETS, PYDOC, WIKITEXT2, Version
from featurespeed.data.spec import AnyData, DataSpec, TextSpec, check_batch, data_spec, sequences, unit_of
from featurespeed.data.store import TextData, load_dataset
from featurespeed.data.tokens import SequenceStream, open_tokens, split_tokens, tokenise, vocabulary_sha256
from featurespeed.pipeline.config import SCALES, ConfigError, load_config
from tests.pipeline.test_config import BASE

ARTICLES = (" = One = \n the cat sat . \n", " = Two = \n the dog , the cat \n", " = Three = \n \n a <unk> \n")
TRAIN, TEST = "".join(ARTICLES).encode(), b" = Four = \n a dog sat . \n"


def arrays(train: bytes = TRAIN, test: bytes = TEST) -> dict[str, np.ndarray]:
    return {"train": np.frombuffer(train, np.uint8), "test": np.frombuffer(test, np.uint8)}


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_words_stand_between_blanks_and_every_line_ends_with_a_word_of_its_own():
    assert split_tokens(b" the  cat , \n \n sat", "word") == ["the", "cat", ",", "<eos>", "<eos>", "sat"]


def test_characters_are_those_of_the_text_and_not_its_bytes():
    assert split_tokens("né\n ✓".encode(), "character") == ["n", "é", "\n", " ", "✓"]


def test_a_text_that_is_not_utf8_is_told_in_one_line():
    with pytest.raises(DataError, match="^a text that is not UTF-8: byte 2 is 0xff$"):
        split_tokens(b"ab\xffc", "word")


@pytest.mark.parametrize("unit", ["word", "character"])
def test_numbers_stand_for_the_tokens_of_a_sorted_vocabulary_of_both_splits(unit):
    found = tokenise(arrays(), unit)
    for split, text in (("train", TRAIN), ("test", TEST)):
        numbers = getattr(found, split)
        assert numbers.dtype == np.int32
        assert [found.vocabulary[number] for number in numbers] == split_tokens(text, unit)
    both = split_tokens(TRAIN, unit) + split_tokens(TEST, unit)
    assert list(found.vocabulary) == sorted(set(both))
    assert set(found.vocabulary) - set(split_tokens(TRAIN, unit)) == ({"Four"} if unit == "word" else {"F"})


def test_the_vocabulary_does_not_depend_on_the_order_of_the_articles():
    other = "".join(ARTICLES[::-1]).encode()
    one, two = tokenise(arrays(), "word"), tokenise(arrays(other), "word")
    assert one.vocabulary == two.vocabulary and one.vocabulary_sha256 == two.vocabulary_sha256
    assert sorted(one.train) == sorted(two.train) and list(one.train) != list(two.train)


def test_the_hash_of_a_vocabulary_tells_where_its_tokens_end():
    assert vocabulary_sha256(["a", "b"]) == hashlib.sha256(b"a\0b\0").hexdigest()
    assert len({vocabulary_sha256(words) for words in (["ab"], ["a", "b"], ["b", "a"], ["a\nb"], ["a"])}) == 5


# --- on the disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """How often a text has been made into tokens."""
    made = []

    def counting(*arguments):
        made.append(arguments)
        return tokenise(*arguments)

    monkeypatch.setattr(tokens, "tokenise", counting)
    return made


def test_arrays_are_made_once_and_mapped_into_memory(counted, tmp_path):
    expected = tokenise(arrays(), "word")
    for _ in range(3):
        found = open_tokens(arrays(), "word", tmp_path / "tokens")
        assert isinstance(found.train, np.memmap) and isinstance(found.test, np.memmap)
        assert found.vocabulary == expected.vocabulary
        for split in ("train", "test"):
            np.testing.assert_array_equal(getattr(found, split), getattr(expected, split))
    assert len(counted) == 1
    assert sorted(path.name for path in (tmp_path / "tokens").iterdir()) == ["test.npy", "train.npy", "vocabulary.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]  # no lock is left


def test_what_is_written_to_an_array_does_not_reach_the_disk(tmp_path):
    found = open_tokens(arrays(), "word", tmp_path / "tokens")
    before = int(found.train[0])
    found.train[0] = before + 1
    assert int(open_tokens(arrays(), "word", tmp_path / "tokens").train[0]) == before


@pytest.mark.parametrize(
    ("text", "unit"), [(arrays(), "character"), (arrays(test=b" a \n"), "word"), (arrays(train=TRAIN[:-5]), "word")]
)
def test_arrays_of_another_text_or_unit_are_made_anew(text, unit, counted, tmp_path):
    open_tokens(arrays(), "word", tmp_path / "tokens")
    found, expected = open_tokens(text, unit, tmp_path / "tokens"), tokenise(text, unit)
    assert found.vocabulary == expected.vocabulary
    np.testing.assert_array_equal(found.test, expected.test)
    np.testing.assert_array_equal(found.train, expected.train)
    assert len(counted) == 2


def altered(content: bytes) -> bytes:
    return content[:-4] + bytes([content[-4] ^ 1]) + content[-3:]


def with_other_words(content: bytes) -> bytes:
    about = json.loads(content)
    about["vocabulary"][0], about["vocabulary"][1] = about["vocabulary"][1], about["vocabulary"][0]
    return json.dumps(about).encode()


DAMAGE = {
    "array missing": ("train.npy", None),
    "array empty": ("train.npy", lambda content: b""),
    "array truncated": ("test.npy", lambda content: content[:-4]),
    "array altered": ("train.npy", altered),
    "array of another kind": ("train.npy", lambda content: b"PK\x03\x04" + content),
    "vocabulary missing": ("vocabulary.json", None),
    "vocabulary truncated": ("vocabulary.json", lambda content: content[:-10]),
    "vocabulary in another order": ("vocabulary.json", with_other_words),
    "vocabulary without its facts": ("vocabulary.json", lambda content: b"[1, 2]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_arrays_are_made_anew(damage, counted, tmp_path):
    expected = tokenise(arrays(), "word")
    open_tokens(arrays(), "word", tmp_path / "tokens")
    name, change = DAMAGE[damage]
    path = tmp_path / "tokens" / name
    content = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(content))
    found = open_tokens(arrays(), "word", tmp_path / "tokens")
    assert found.vocabulary == expected.vocabulary and len(counted) == 2
    np.testing.assert_array_equal(found.train, expected.train)
    np.testing.assert_array_equal(found.test, expected.test)
    open_tokens(arrays(), "word", tmp_path / "tokens")
    assert len(counted) == 2


PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from featurespeed.data import tokens
make, made = tokens.tokenise, []
def slow(*arguments):
    made.append(1)
    time.sleep(0.5)
    return make(*arguments)
tokens.tokenise = slow
texts = {name: np.frombuffer(Path(sys.argv[1], name).read_bytes(), np.uint8) for name in ("train", "test")}
found = tokens.open_tokens(texts, "word", Path(sys.argv[1], "tokens"))
print(len(made), found.train.tolist())
"""


def test_of_two_processes_at_once_one_makes_the_arrays_and_the_other_waits(tmp_path):
    for name, text in arrays().items():
        (tmp_path / name).write_bytes(text.tobytes())
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    made, numbers = zip(*(process.communicate(timeout=120)[0].split(" ", 1) for process in running), strict=True)
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(made) == ["0", "1"]
    assert {json.dumps(json.loads(found)) for found in numbers} == {
        json.dumps(tokenise(arrays(), "word").train.tolist())
    }


# --- batches of sequences ---------------------------------------------------------------------------------------------

LENGTH = 4
TEXT = np.arange(10 * LENGTH + 3, dtype=np.int32)  # ten sequences, and three tokens more
TESTED = np.arange(100, 100 + 2 * LENGTH + 1, dtype=np.int32)


def stream(seeds=(0, 1), batch_size: int | None = 3, length=LENGTH, train=TEXT, test=TESTED) -> SequenceStream:
    return SequenceStream(train, test, length, seeds=seeds, batch_size=batch_size)


def test_answers_are_the_tokens_that_follow():
    x, y = stream().batch(0)
    assert x.shape == y.shape == (2, 3, LENGTH) and x.dtype == y.dtype == torch.int64
    assert torch.equal(y, x + 1)  # a text that counts
    assert x.is_contiguous() and y.is_contiguous()


def test_an_epoch_has_disjoint_sequences_all_of_them_once_in_an_order_of_its_own():
    found = stream(batch_size=5)
    assert len(found) == 10 and found.steps_per_epoch == 2
    orders = []
    for epoch in range(3):
        x = torch.cat([found.batch(step)[0] for step in (2 * epoch, 2 * epoch + 1)], 1)
        assert (x[..., 0] % LENGTH == 0).all() and torch.equal(x, x[..., :1] + torch.arange(LENGTH))
        assert [sorted(starts) for starts in x[..., 0].tolist()] == [list(range(0, 40, LENGTH))] * 2
        orders += x[..., 0].tolist()
    assert len({tuple(order) for order in orders}) == 6  # two seeds, three epochs


def test_the_last_incomplete_batch_is_dropped():
    found = stream()
    assert found.steps_per_epoch == 3
    drawn = torch.cat([found.batch(step)[0][0, :, 0] for step in range(3)])
    assert len(set(drawn.tolist())) == 9


def test_a_batch_is_a_function_of_seed_and_step():
    both = stream()
    expected = [both.batch(step) for step in range(8)]
    for step in (7, 2, 0, 5):  # in any order, from another stream, with other streams beside
        x, y = stream().batch(step)
        assert torch.equal(x, expected[step][0]) and torch.equal(y, expected[step][1])
        assert torch.equal(both.batch(step)[0], expected[step][0])
        assert torch.equal(both.for_seeds([1]).batch(step)[0], expected[step][0][1:])
        assert torch.equal(stream(seeds=(5, 1)).batch(step)[0][1], expected[step][0][1])
    assert not torch.equal(expected[0][0][0], expected[0][0][1])


def test_streams_for_other_seeds_share_the_text():
    one = stream()
    other = one.for_seeds([7])
    assert one.seeds == (0, 1) and other.seeds == (7,) and len(other) == len(one)
    assert other._train.data_ptr() == one._train.data_ptr()


def test_the_full_batch_has_all_sequences_in_order_at_every_step():
    found = stream(batch_size=None)
    assert found.steps_per_epoch == 1
    for step in (0, 5):
        x, y = found.batch(step)
        assert torch.equal(x, torch.arange(40).view(1, 10, LENGTH).expand(2, -1, -1)) and torch.equal(y, x + 1)


def test_a_probe_batch_is_of_distinct_sequences_in_order_and_a_function_of_its_seed():
    x, y = stream().fixed_batch(6, seed=3)
    assert x.shape == (6, LENGTH) and torch.equal(y, x + 1)
    starts = x[:, 0].tolist()
    assert starts == sorted(set(starts)) and all(start % LENGTH == 0 for start in starts)
    assert torch.equal(stream(seeds=(9,)).fixed_batch(6, seed=3, augmented=True)[0], x)
    assert not torch.equal(stream().fixed_batch(6, seed=4)[0], x)
    assert stream().fixed_batch(10, seed=0)[0][:, 0].tolist() == list(range(0, 40, LENGTH))


def test_a_probe_batch_is_the_same_with_every_version_of_numpy():
    assert (stream().fixed_batch(4, seed=3)[0][:, 0] // LENGTH).tolist() == [0, 1, 2, 7]


def test_the_test_set_has_all_sequences_of_its_text_in_order():
    x, y = stream().test_set()
    assert torch.equal(x, torch.arange(100, 108).view(2, LENGTH)) and torch.equal(y, x + 1)


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (4, 0), (5, 1), (8, 1), (9, 2), (43, 10)])
def test_the_last_answer_needs_one_more_token_than_there_are_in_sequences(count, expected):
    assert sequences(count, 4) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 11}, "batch_size = 11: must be 1 to 10, the number of training sequences"),
        ({"batch_size": 0}, "batch_size = 0: must be 1 to 10, the number of training sequences"),
        ({"length": 43, "test": TEXT}, "length = 43: a sequence and its last answer are longer than the 43 training"),
        ({"length": 9}, "length = 9: a sequence and its last answer are longer than the 9 test tokens"),
    ],
)
def test_streams_that_cannot_be_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        stream(**changes)
    assert "\n" not in str(caught.value)
    assert len(stream(length=42, test=TEXT, batch_size=1)) == 1


# --- settings ---------------------------------------------------------------------------------------------------------


def test_data_are_told_apart_by_their_name():
    text, images = data_spec({"name": "wikitext2", "length": 35}), data_spec({"name": "cifar10", "crop": 4})
    assert isinstance(text, TextSpec) and isinstance(images, DataSpec)
    assert text.shape == (35,) and images.shape == (3, 32, 32)
    assert (unit_of(text), unit_of(images)) == ("sequences", "images")
    assert not text.augmented and images.augmented
    for found in (text, images):
        assert data_spec(found.model_dump(mode="json")) == found == data_spec(found)


def test_the_number_of_sequences_is_known_before_the_text_is_there():
    assert TextSpec(name="wikitext2", length=35).available == 2088627 // 35
    assert TextSpec(name="wikitext2", length=35, tokens=71).available == 2
    check_batch(2, TextSpec(name="wikitext2", length=35, tokens=71))
    check_batch(None, TextSpec(name="wikitext2", length=35))
    with pytest.raises(ValueError, match="^batch_size = 3: larger than the 2 training sequences$"):
        check_batch(3, TextSpec(name="wikitext2", length=35, tokens=71))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 50, "tokens": 50}, "length = 50: a sequence and its last answer are longer than 50 tokens"),
        ({"length": 2088628}, "length = 2088628: a sequence and its last answer are longer than 2088628 tokens"),
        ({"length": 5, "tokens": 2088629}, "tokens = 2088629: wikitext2 has 2088628 training tokens"),
        ({"length": 0}, "greater than or equal to 1"),
        ({}, "Field required"),
    ],
)
def test_texts_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TextSpec.model_validate({"name": "wikitext2"} | settings)
    TextSpec(name="wikitext2", length=49, tokens=50)
    TextSpec(name="wikitext2", length=2088627)


CONFIGURED = {
    "length": ({"name": "wikitext2", "length": 10**7}, ["sc_fig01.data: length = 10000000: a sequence", "2088628"]),
    "tokens": ({"name": "pydoc", "length": 5, "tokens": 10**7}, ["sc_fig01.data: tokens = 10000000: pydoc has 400000"]),
    "length of no number": ({"name": "pydoc", "length": "long"}, ['sc_fig01.data.length = "long": input should be']),
    "length missing": ({"name": "pydoc"}, ["sc_fig01.data.length: missing, a value is required"]),
    "name": (
        {"name": "wikitext"},
        ["sc_fig01.data: name = 'wikitext': unknown data set, allowed: cifar10, mnist,", "wikitext2, pydoc"],
    ),
    "name of nearly another": ({"name": "cifar-10"}, ["sc_fig01.data: name = 'cifar-10'", "did you mean 'cifar10'?"]),
    "key of a text": (
        {"name": "pydoc", "length": 5, "tokenz": 3},
        ["sc_fig01.data.tokenz = 3: unknown key, allowed: name, length, tokens; did you mean 'tokens'?"],
    ),
    "key of images": (
        {"name": "cifar10", "corp": 4},
        ["sc_fig01.data.corp = 4: unknown key, allowed: name, examples, downscale, pixels, crop, flip, rotation"],
    ),
    "key of the other kind": (
        {"name": "cifar10", "length": 4},
        ["sc_fig01.data.length = 4: unknown key, allowed: name, examples"],
    ),
}


def configured(**changes):
    """The configuration with some settings of one block replaced."""
    base = BASE | {"sc_fig01": BASE["sc_fig01"] | changes}
    return load_config(base, {scale: {} for scale in SCALES}, {})


@pytest.mark.parametrize("fault", CONFIGURED)
def test_faults_of_data_are_one_line_with_the_key_as_it_is_written(fault):
    settings, words = CONFIGURED[fault]
    with pytest.raises(ConfigError) as caught:
        configured(data=settings)
    line = str(caught.value)
    assert line.startswith("config: ") and "\n" not in line and "[" not in line.partition(":")[2].partition(":")[0]
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "pydoc", "length": 5, "crop": 4}, "data.crop = 4: unknown key, allowed: name, length, tokens"),
        ({"name": "digits", "corp": 4}, "data.corp = 4: unknown key, allowed: name, examples, downscale"),
    ],
)
def test_an_unknown_key_in_the_data_of_one_network_is_named_with_its_label(data, message):
    network = BASE["sc_fig01"]["networks"]["muP"]
    with pytest.raises(ConfigError) as caught:
        configured(networks={"some net": network | {"data": data}})
    assert str(caught.value).startswith(f"config: sc_fig01.networks.some net.{message}")


# --- sources ----------------------------------------------------------------------------------------------------------


def sorted_lines(text: bytes) -> str:
    lines = b"\n".join(sorted(text.split(b"\n")))
    return f"sorted-lines-sha256:{hashlib.sha256(lines).hexdigest()}"


OTHER_ORDER = "".join(ARTICLES[::-1]).encode()
TINY = replace(
    WIKITEXT2,
    versions=(
        Version("train", len(TRAIN), f"sha256:{hashlib.sha256(TRAIN).hexdigest()}"),
        Version("train", len(TRAIN), sorted_lines(TRAIN), "articles in another order"),
        Version("test", len(TEST), f"sha256:{hashlib.sha256(TEST).hexdigest()}"),
    ),
)


def bring(tmp_path, allowed=None):
    def fetch(archive, folder):
        raise DownloadError(["mirror.example: Name or service not known"])

    return obtain(TINY, tmp_path / "downloads", tmp_path, allowed, {"wikitext2": TINY, "pydoc": PYDOC}, fetch)


def write(folder, train=TRAIN, test=TEST, names=("wiki.train.tokens", "wiki.test.tokens"), pack=bytes, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, (train, test), strict=True):
        (folder / f"{name}{ending}").write_bytes(pack(text))


def zipped(folder, train=TRAIN, test=TEST):
    with zipfile.ZipFile(folder / "wikitext-2-v1.zip", "w") as archive:
        archive.writestr("wikitext-2/wiki.train.tokens", train)
        archive.writestr("wikitext-2/wiki.valid.tokens", b"other")
        archive.writestr("wikitext-2/wiki.test.tokens", test)


SHORT = ("train.txt", "test.txt")
FORMS = {
    "official names": lambda folder: write(folder),
    "in the folder of the archive": lambda folder: write(folder / "wikitext-2"),
    "in a folder of its name": lambda folder: write(folder / "wikitext2"),
    "official names, xz": lambda folder: write(folder, pack=lzma.compress, ending=".xz"),
    "official names, gz": lambda folder: write(folder, pack=gzip.compress, ending=".gz"),
    "short names": lambda folder: write(folder, names=SHORT),
    "short names, xz": lambda folder: write(folder, names=SHORT, pack=lzma.compress, ending=".xz"),
    "archive": zipped,
    "npz": lambda folder: np.savez(folder / "wikitext2.npz", **arrays()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_text_gives_the_same_bytes(form, tmp_path):
    FORMS[form](tmp_path)
    found, facts = bring(tmp_path)
    assert {split: text.tobytes() for split, text in found.items()} == {"train": TRAIN, "test": TEST}
    assert facts["versions"] == {"train": "complete", "test": "complete"}
    assert facts["counts"] == {"train": len(TRAIN), "test": len(TEST)} and facts["kind"] == "text"


def test_articles_in_another_order_are_known_by_their_sorted_lines_and_noted(tmp_path, capsys):
    assert OTHER_ORDER != TRAIN
    write(tmp_path, OTHER_ORDER)
    found, facts = bring(tmp_path)
    assert found["train"].tobytes() == OTHER_ORDER
    assert facts["versions"] == {"train": "articles in another order", "test": "complete"}
    assert facts["digests"]["train"] == f"sha256:{hashlib.sha256(OTHER_ORDER).hexdigest()}"
    assert "articles in another order" in capsys.readouterr().err


def test_the_digest_of_sorted_lines_forgets_their_order_and_nothing_else():
    def digest(text):
        return split_digest(arrays(text), "train", "sorted-lines-sha256")

    assert digest(TRAIN) == digest(OTHER_ORDER) == sorted_lines(TRAIN)
    assert digest(b"a\nb\n") == digest(b"b\na\n") != digest(b"a\nb\nb\n") != digest(b"ab\n")


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_altered_text_is_refused_in_one_line_with_both_hashes_and_what_would_allow_it(split, tmp_path):
    text = {"train": TRAIN, "test": TEST}
    changed = text | {split: text[split].replace(b"dog", b"god")}
    write(tmp_path, **changed)
    with pytest.raises(DataError) as caught:
        bring(tmp_path)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"{tmp_path}: altered, or not WikiText-2: {split} has")
    found = split_digest(arrays(**changed), split)
    assert f"{split} has {len(text[split])} bytes, hash {found}" in line
    assert f"expected sha256:{hashlib.sha256(text[split]).hexdigest()} ({len(text[split])} bytes)" in line
    assert "the file stays where it is and is not used" in line
    allowed = line.partition("data_sha256: {wikitext2: ")[2].partition("}")[0]
    assert bring(tmp_path, allowed)[1]["content_sha256"] == allowed


def test_damaged_and_incomplete_files_are_named_in_one_line(tmp_path):
    write(tmp_path, pack=lzma.compress, ending=".xz")
    path = tmp_path / "wiki.train.tokens.xz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"wiki.train.tokens.xz \(\d+ bytes, .* not decodable") as caught:
        bring(tmp_path)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match="incomplete WikiText-2: no wiki.train.tokens"):
        bring(tmp_path)


def test_an_archive_without_the_files_says_which(tmp_path):
    with zipfile.ZipFile(tmp_path / "wikitext-2-v1.zip", "w") as archive:
        archive.writestr("wikitext-2/wiki.train.tokens", TRAIN)
    with pytest.raises(DataError, match=r"wikitext-2-v1.zip \(.*no wiki.test.tokens inside"):
        bring(tmp_path)


def test_without_any_file_one_line_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError) as caught:
        bring(tmp_path)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(
        "no WikiText-2 here: put wikitext2.npz, wikitext-2-v1.zip, or wiki.train"
    )
    assert line.endswith("no download: mirror.example: Name or service not known")


def test_a_stored_text_is_read_as_tokens_which_are_kept_beside_it(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "wikitext2", TINY)
    write(tmp_path, OTHER_ORDER)
    path = prepare.prepare("wikitext2", tmp_path / "out", tmp_path, datasets={"wikitext2": TINY})
    expected = tokenise(arrays(OTHER_ORDER), "word")
    for place in (path, path.parent):
        data = load_dataset(place)
        assert isinstance(data, TextData) and data.classes == len(data.vocabulary) == len(expected.vocabulary)
        np.testing.assert_array_equal(data.train, expected.train)
        assert data.facts["vocabulary_sha256"] == expected.vocabulary_sha256
    assert (path.parent / "tokens" / "train.npy").is_file()
    other = replace(TINY, versions=TINY.versions[:1] + TINY.versions[2:])
    with pytest.raises(DataError, match="altered, or not WikiText-2"):
        obtain(other, tmp_path / "downloads", tmp_path, None, {"wikitext2": other})


def test_the_manual_is_never_cut_inside_a_character(monkeypatch):
    """Whatever its length; each of these characters has three bytes."""
    import pydoc_data.topics

    for length in range(10, 14):
        monkeypatch.setattr(pydoc_data.topics, "topics", {"b": "✓" * length, "a": "x"})
        found, _ = embedded.load_pydoc()
        text = "".join(found[split].tobytes().decode() for split in ("train", "test"))
        assert text == "x" + "✓" * length
        assert 0.9 * (3 * length + 1) - 1 < len(found["train"]) < 0.9 * (3 * length + 1) + 3


def test_unknown_names_are_told_wherever_either_kind_may_stand():
    from pydantic import TypeAdapter

    with pytest.raises(ValidationError, match="name = 'wikitext-2': unknown data set, .*; did you mean 'wikitext2'"):
        TypeAdapter(AnyData).validate_python({"name": "wikitext-2", "length": 3})
