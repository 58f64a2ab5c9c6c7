"""In which commit the criterion of a claim, and the settings of its figure at a scale, last changed.

    python -m featurespeed.pipeline.criteria_history            # after a commit that changed criteria or settings
    python -m featurespeed.pipeline.criteria_history --check    # only say what is out of step, and fail if anything is

What counts is the parsed content: moves, comments, formatting and the note of a row do not, nor does the code of a
statistic, whose hash is in the tables of a run. The record is kept in ``workflow/criteria_commits.csv``, so that a copy
without history knows it, and the ledger writes it beside every verdict: who reads a verdict can see that the criterion
was there before the run.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from featurespeed.errors import UserError
from featurespeed.ledger.criteria import ANY, CriteriaError, Criterion, Names, load_all
from featurespeed.machine.files import atomic_path
from featurespeed.machine.yaml_files import YamlError, read_yaml
from featurespeed.pipeline.config import SCALES, ConfigError, load_config, merge
from featurespeed.pipeline.provenance import canonical_json
from featurespeed.pipeline.registry import ARTEFACTS

REPOSITORY = Path(__file__).resolve().parents[2]
RECORD = "workflow/criteria_commits.csv"
COLUMNS = ("claim_id", "scale", "digest", "commit", "committed")
WATCHED = ("config.yaml", "workflow/scales", "featurespeed/papers")
Key = tuple[str, str]  # claim, scale


class RecordError(UserError):
    """The record cannot be used; ``str(error)`` is one line."""


@dataclass(frozen=True)
class Change:
    """When a criterion or its settings last changed: the commit, its time (ISO), and the digest of the content."""

    digest: str
    commit: str
    committed: str


def digest(criterion: Criterion, settings: Mapping[str, Any]) -> str:
    """12 hex digits over what a verdict depends on: the parsed criterion but its note, and the settings of its runs."""
    content = criterion.model_dump(mode="json", exclude={"note", "threshold"}) | {"threshold": str(criterion.threshold)}
    threshold = criterion.threshold
    content["bounds"] = [threshold.low, threshold.high, threshold.ideal] if threshold else []
    text = canonical_json({"criterion": content, "settings": settings})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def digests(folder: Path, today: Path | None = None) -> dict[Key, str]:
    """Digest of every claim at every scale, of the sources that lie in a folder.

    Args:
        folder: with ``config.yaml``, ``workflow/scales`` and the rooms' criteria.
        today: what a configuration of older sources lacks is taken from the files there, so that it can be read. No
            claim gets a digest of settings that were not in ``folder``.
    """
    base, scales = _configuration(folder)
    own = {scale: merge(base, scales[scale]).keys() for scale in SCALES}
    if today is not None:
        base, scales = _filled((base, scales), _configuration(today))
    names = Names(ANY, ANY)
    criteria = load_all(sorted((folder / "featurespeed/papers").glob("*/*/claims.yaml")), names)
    configs = {scale: load_config(base, scales, {"scale": scale}) for scale in SCALES}
    return {
        (criterion.claim_id, scale): digest(criterion, _settings(config, criterion.artefact))
        for criterion in criteria
        for scale, config in configs.items()
        if criterion.artefact in own[scale] or criterion.artefact not in ARTEFACTS
    }


Configuration = tuple[Mapping[str, Any], dict[str, Mapping[str, Any]]]  # config.yaml, and the file of each scale


def _configuration(folder: Path) -> Configuration:
    scales = {scale: read_yaml(folder / f"workflow/scales/{scale}.yaml") or {} for scale in SCALES}
    return read_yaml(folder / "config.yaml"), scales


def _filled(there: Configuration, today: Configuration) -> Configuration:
    """A configuration with what it lacks: keys that are no artefact's, and blocks of artefacts it does not know."""
    (base, scales), (base_today, scales_today) = there, today
    general = {key: value for key, value in base_today.items() if key not in ARTEFACTS}
    filled = {scale: dict(block) for scale, block in scales.items()}
    for scale, block in filled.items():
        known = merge(base, block)
        for artefact, settings in merge(base_today, scales_today[scale]).items():
            if artefact in ARTEFACTS and artefact not in known:
                block[artefact] = settings
    return merge(general, base), filled


def _settings(config: Any, artefact: str) -> Mapping[str, Any]:
    return config.params(artefact) if artefact in ARTEFACTS else {}


def read_record(path: Path) -> dict[Key, Change]:
    """The record as it is kept; empty where there is none.

    Raises:
        RecordError: it is no table of commits.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {(row["claim_id"], row["scale"]): Change(*(row[key] for key in COLUMNS[2:])) for row in rows}
    except (UnicodeDecodeError, KeyError, csv.Error):
        raise RecordError(
            f"{path}: no table with the columns {', '.join(COLUMNS)};"
            " remove it, then run python -m featurespeed.pipeline.criteria_history"
        ) from None


def on_record(
    criteria: Iterable[Criterion], scale: str, settings: Mapping[str, Mapping[str, Any]], path: Path
) -> dict[str, Change]:
    """Claim -> when its criterion and the settings of this run last changed; those that are not on record are absent.

    Args:
        criteria: those that are judged.
        scale: that of the run.
        settings: artefact -> settings of the run, as its stage table has them; of what was not run there are none.
        path: file of the record.
    """
    record = read_record(path)
    found = {}
    for criterion in criteria:
        known, own = record.get((criterion.claim_id, scale)), settings.get(criterion.artefact)
        if known and (own is None or known.digest == digest(criterion, own)):
            found[criterion.claim_id] = known
    return found


# --- from the history -------------------------------------------------------------------------------------------------


def git(*arguments: str, base: Path | None = None) -> bytes:
    """What git prints in a repository, by default in this one.

    Raises:
        SystemExit: there is no git or no history here.
    """
    try:
        command = ["git", "-C", str(base or REPOSITORY), *arguments]
        return subprocess.run(command, check=True, capture_output=True, env=os.environ | {"TZ": "UTC"}).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"") or str(error).encode()
        sys.exit(f"criteria_history: git {arguments[0]}: {reason.decode(errors='replace').strip().splitlines()[-1]}")


@cache
def digests_at(commit: str) -> Mapping[Key, str]:
    """:func:`digests` of a commit; nothing where its files are of a form that this version cannot read."""
    archive = git("archive", commit, *_known_paths(commit))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            # Python 3.11 knows filters from 3.11.4 on, and Debian has 3.11.2; the archive is git's own.
            tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        try:
            return digests(Path(folder), today=REPOSITORY)
        except (CriteriaError, ConfigError, YamlError):
            return {}


def _known_paths(commit: str) -> list[str]:
    there = git("ls-tree", "-r", "--name-only", commit, "--", *WATCHED).decode().split()
    return [path for path in there if path.endswith((".yaml", ".yml"))]


def last_change(key: Key, wanted: str, commits: Sequence[str]) -> str | None:
    """The earliest of the commits, newest first, from which on the digest of a claim is what it is now."""
    found = None
    for commit in commits:
        if digests_at(commit).get(key) != wanted:
            break
        found = commit
    return found


def updated(now: Mapping[Key, str], record: Mapping[Key, Change]) -> tuple[dict[Key, Change], list[Key]]:
    """The record brought up to date, and what cannot be on record because it is not committed."""
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        sys.exit("criteria_history: this clone is shallow; git fetch --unshallow brings the history that is needed")
    commits = git("log", "--format=%H", "--", *WATCHED).decode().split()
    there = {commit[:12] for commit in commits}
    made, open_changes = {}, []
    for key, wanted in now.items():
        known = record.get(key) if key in record and record[key].commit in there else None
        if known and known.digest == wanted:
            made[key] = known
            continue
        commit = last_change(key, wanted, commits)
        if commit and known and digests_at(known.commit).get(key) == wanted != known.digest:
            commit = git("rev-parse", "HEAD").decode().strip()  # not the files have changed, but a default in the code
        if commit is None:
            open_changes.append(key)
        else:
            made[key] = Change(wanted, commit[:12], _time_of(commit))
    return made, open_changes


@cache
def _time_of(commit: str) -> str:
    return git("show", "-s", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%S+00:00", commit).decode().strip()


def doubtful(record: Mapping[Key, Change]) -> list[Key]:
    """What the history does not bear out: a commit that is not part of it, or that has other content or another time.

    Nothing where there is no history to read, or only a part of it; nothing of commits whose files have a form that
    this version cannot read.
    """
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--is-shallow-repository"]
    try:
        if subprocess.run(command, check=True, capture_output=True).stdout.strip() == b"true":
            return []
    except (OSError, subprocess.CalledProcessError):  # no git, no history, or not ours to read
        return []
    known = {commit[:12] for commit in git("log", "--format=%H").decode().split()}
    return [
        key
        for key, change in record.items()
        if change.commit not in known
        or _time_of(change.commit) != change.committed
        or (digests_at(change.commit) and digests_at(change.commit).get(key) != change.digest)
    ]


def write_record(record: Mapping[Key, Change], path: Path) -> None:
    """Write the record, sorted by claim."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (claim, scale), change in sorted(record.items()):
            writer.writerow([claim, scale, change.digest, change.commit, change.committed])


def main(argv: Sequence[str] | None = None) -> None:
    """Bring the record up to date, or only check it."""
    parser = argparse.ArgumentParser(
        prog="python -m featurespeed.pipeline.criteria_history", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything is out of step")
    arguments = parser.parse_args(argv)
    path = REPOSITORY / RECORD
    try:
        record, now = read_record(path), digests(REPOSITORY)
    except (CriteriaError, ConfigError, UserError) as error:
        sys.exit(str(error))
    if arguments.check:
        stale = sorted({claim for claim, scale in {*now, *record} if not _in_step(now, record, (claim, scale))})
        stale = stale or sorted({claim for claim, _ in doubtful(record)})
        if stale:
            sys.exit(
                f"criteria_history: {len(stale)} claims are not on record as they are, such as {stale[0]};"
                " commit, then run python -m featurespeed.pipeline.criteria_history"
            )
        return
    made, open_changes = updated(now, record)
    write_record(made, path)
    print(f"{RECORD}: {len(made)} claims and scales on record")
    if open_changes:
        claims = sorted({claim for claim, _ in open_changes})
        sys.exit(f"criteria_history: not committed yet: {', '.join(claims[:5])}{' ...' if len(claims) > 5 else ''}")


def _in_step(now: Mapping[Key, str], record: Mapping[Key, Change], key: Key) -> bool:
    return key in now and key in record and record[key].digest == now[key]


if __name__ == "__main__":
    main()
