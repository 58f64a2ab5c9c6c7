"""Downloads that go on where they stopped, over https only, each file checked against its makers' hash."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from featurespeed.data.content import DataError, DownloadError
from featurespeed.data.registry import Archive
from featurespeed.data.sources import describe_file, keep_aside

CHUNK = 1 << 18  # bytes
TIMEOUT = (15, 60)  # seconds to connect, seconds without a byte
ATTEMPTS = 4  # connections a mirror gets, as long as each of them brings something
LOG_SECONDS = 30.0


def fetch(archive: Archive, folder: Path, schemes: Sequence[str] = ("https",)) -> Path:
    """The file of an archive in `folder`, from its first mirror that works; a part that is there already is kept.

    A file that is complete but has not the published hash is moved aside to ``<file>.bad``. Raises DataError, one line
    with the reason for every mirror. `schemes` are the kinds of address that may be followed.
    """
    pooch.get_logger().setLevel("WARNING")  # our own line below says enough
    path = folder / archive.file
    if path.exists() and not pooch.hashes.hash_matches(path, archive.hash):
        keep_aside(path)
    failures = []
    for url in archive.urls:
        print(f"download: {url}", file=sys.stderr, flush=True)
        try:
            downloader = ResumingDownloader(archive, folder / f"{archive.file}.partial", tuple(schemes))
            pooch.retrieve(url, known_hash=archive.hash, fname=archive.file, path=folder, downloader=downloader)
            return path
        except (DataError, requests.RequestException, OSError) as error:
            failures.append(f"{urlsplit(url).netloc}: {_reason(error)}")
    raise DownloadError(failures)


@dataclass(frozen=True)
class ResumingDownloader:
    """Pooch's downloader for one archive, with what pooch lacks: the bytes of a broken download are used again.

    They lie in `partial`, and only a file with the published hash leaves it.
    """

    archive: Archive
    partial: Path
    schemes: tuple[str, ...] = ("https",)

    def __call__(self, url: str, output_file: str | Path, pooch: object, check_only: bool = False) -> None:
        resumed = self._length() > 0
        self._complete(url)
        if not self._matches() and resumed:  # the first bytes were of another version
            keep_aside(self.partial)
            self._complete(url)
        if not self._matches():
            found = describe_file(self.partial, [self.archive.hash.partition(":")[0]])
            aside = keep_aside(self.partial)
            raise DataError(f"{found}: expected {self.archive.hash}; kept aside as {aside.name}")
        os.replace(self.partial, output_file)

    def _complete(self, url: str) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            before = self._length()
            try:
                self._transfer(url)
                return
            except (requests.ConnectionError, requests.Timeout, _Broken) as error:
                if attempt == ATTEMPTS or self._length() <= before:
                    after = f" after {self._length()} bytes" if self._length() else ""
                    raise requests.ConnectionError(_reason(error) + after) from error
                time.sleep(1)

    def _transfer(self, url: str) -> None:
        """One connection: the bytes that are missing, or all where the server cannot skip."""
        start = self._length()
        # Identity: the archive's own bytes, not packed again for the way. A range is asked for only where it is needed.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._session() as session, session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != requests.codes.requested_range_not_satisfiable:
                response.raise_for_status()
                self._write(response, start if _continues(response, start) else 0)
                return
        if not self._matches():  # no byte is missing, and yet it is not the file
            self.partial.unlink()
            self._transfer(url)

    def _write(self, response: requests.Response, start: int) -> None:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        progress = _progress(self.archive.file, start, total)
        with open(self.partial, "ab" if start else "wb") as file, progress:
            for chunk in _chunks(response):
                file.write(chunk)
                progress.update(len(chunk))
        if total is not None and self._length() != total:
            raise _Broken(f"{self._length()} of {total} bytes")

    def _session(self) -> requests.Session:
        """A session that cannot speak anything but `schemes`, wherever a server sends it."""
        session = requests.Session()
        for prefix in [prefix for prefix in session.adapters if prefix.partition(":")[0] not in self.schemes]:
            del session.adapters[prefix]
        return session

    def _length(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _matches(self) -> bool:
        return bool(self._length()) and pooch.hashes.hash_matches(self.partial, self.archive.hash)


class _Broken(Exception):
    """A transfer that ended before its time."""


class _LogProgress:
    """A line every 30 seconds in a log file."""

    def __init__(self, name: str, done: int, total: int | None) -> None:
        self.name, self.done, self.total, self.last = name, done, total, time.monotonic()

    def __enter__(self) -> _LogProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.last >= LOG_SECONDS:
            of = f" of {self.total / 1e6:.1f}" if self.total else ""
            print(f"{self.name}: {self.done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)
            self.last = time.monotonic()


def _progress(name: str, start: int, total: int | None):
    """A bar on a terminal; elsewhere lines, few of them."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        return tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True)
    return _LogProgress(name, start, total)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    stream = response.raw.stream(CHUNK, decode_content=False)
    while True:
        try:
            chunk = next(stream, None)
        except Exception as error:  # urllib3's own kinds, of which requests translates only some
            raise _Broken(_reason(error)) from error
        if chunk is None:
            return
        yield chunk


def _continues(response: requests.Response, start: int) -> bool:
    """Whether the answer begins at the byte that was asked for."""
    found = re.match(rf"bytes {start}-", response.headers.get("Content-Range", ""))
    return response.status_code == requests.codes.partial_content and found is not None


def _reason(error: BaseException) -> str:
    """The innermost cause of a failure in a few words: requests wraps it three times over, with object addresses."""
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "not https, or sent on to an address that is not"
    if isinstance(error, requests.HTTPError):
        return f"HTTP status {error.response.status_code}"
    text = " ".join(str(error).split())
    inner = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", text)
    return inner.group(1).strip() if inner else text.partition("(Caused by")[0].strip()[:200] or type(error).__name__
