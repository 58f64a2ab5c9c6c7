"""What a user asks for: the files of a configuration, settings on the command line, and targets.

All of it is read here, and once: what has been read as a text is never read again as YAML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featurespeed.machine.yaml_files import YamlError, parse_yaml, read_yaml
from featurespeed.pipeline.config import SCALES, BaseConfig, ConfigError, check_choice, load_config, merge, shown
from featurespeed.pipeline.own_block import with_files
from featurespeed.pipeline.registry import ARTEFACTS, PAPERS, PLANNED, groups


def read_config(base: Path, user: Mapping) -> BaseConfig:
    """The configuration of the repository ``base``, with what the user changed (:func:`read_changes`) on top.

    Raises:
        ConfigError: one line about the first fault.
    """
    defaults = read_settings(base / "config.yaml")
    scale = check_choice("scale", user.get("scale", defaults.get("scale")), SCALES)
    return load_config(defaults, {scale: read_settings(base / f"workflow/scales/{scale}.yaml")}, user)


def read_changes(files: Iterable[Path] = (), words: Iterable[str] = ()) -> dict[str, Any]:
    """What a user changes: files of settings, each on top of the one before, then words ``key=value``.

    Raises:
        ConfigError: a file or a word cannot be read.
    """
    changes: dict[str, Any] = {}
    for path in files:
        changes = merge(changes, with_files(read_settings(path), Path(path).parent))
    given: dict[str, Any] = {}
    for key, value in map(_read_word, words):
        if key in given and not (isinstance(value, dict) and isinstance(given[key], dict)):
            raise ConfigError(f"config: --config {key} = {shown(value)}: given twice, first as {shown(given[key])}")
        given = merge(given, {key: value})
    return merge(changes, with_files(given, Path.cwd()))


def read_settings(path: Path) -> dict[str, Any]:
    """A file of settings, YAML or JSON.

    Raises:
        ConfigError: it cannot be read, says a key twice, or holds something else than keys with values.
    """
    try:
        found = read_yaml(path)
    except YamlError as error:
        raise ConfigError(f"config: {error}") from None
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"config: {path} = {shown(found)}: must be keys with values, as in config.yaml")
    return found or {}


#: Settings that are text: on the command line they stand as they are, with whatever signs YAML has a meaning for.
_TEXTS = frozenset({"data_dir"})
_NOTHING = frozenset({"", "~", "null"})


def _read_word(word: str) -> tuple[str, Any]:
    """``(key, value)`` of the command line; quotes around the value are left away, as Snakemake does."""
    key, _, text = word.partition("=")
    text = text.strip("'\"")
    if key in _TEXTS:
        return key, None if text in _NOTHING else text
    try:
        return key, parse_yaml(text, f"--config {key}")
    except YamlError as error:
        raise ConfigError(f"config: {error}") from None


#: The target that checks a model of the user's own.
OWN = "own"
NO_OWN_BLOCK = (
    f"target = {OWN!r}: the configuration has no block {OWN!r}; write one with factory, sizes, learning_rates, loss,"
    " optimizer, data and steps into a file, and give that with --configfile; see docs/running.md, 'Your own model'"
)


def check_target(target: str, config: BaseConfig | None = None) -> None:
    """Raise :class:`ConfigError` for a target that is, or looks like, an artefact of which there is no figure.

    With a configuration also for what there is of a user's own model, if that has no block for one.
    """
    name = Path(target).stem
    if config is not None and config.own is None and (target == OWN or Path(target).parts[2:3] == (OWN,)):
        raise ConfigError(NO_OWN_BLOCK)
    if name in PLANNED:
        raise ConfigError(f"target = {target!r}: {PLANNED[name].place} is not computed here yet; see docs/coverage.md")
    if name != target or name.partition("_")[0] not in {paper.group for paper in PAPERS}:
        return
    drawn = [artefact.id for artefact in ARTEFACTS.values() if artefact.drawn]
    if name in ARTEFACTS and name not in drawn:
        raise ConfigError(
            f"target = {target!r}: draws nothing; ask for its table, results/<scale>/stages/{name}.parquet"
        )
    check_choice("target", name, (*groups(), *drawn))
