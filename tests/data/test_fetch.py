"""Downloads from a server on this machine: they resume, check, move on to the next mirror, and follow https only."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from featurespeed.data import fetch as fetch_module
from featurespeed.data.content import DataError, DownloadError
from featurespeed.data.fetch import fetch
from featurespeed.data.registry import Archive

CONTENT = np.random.default_rng(0).bytes(300_000)
HASH = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves CONTENT. `cuts` are the bytes after which successive answers break off; `ranges` what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.skips = CONTENT, True
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []

    def url(self, path: str = "data.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/data.bin")
            self.end_headers()
        else:
            self._send(int(re.match(r"bytes=(\d+)-", asked).group(1)) if asked and self.server.skips else 0)

    def _send(self, start: int) -> None:
        content = self.server.content
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start : start + cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch_module.time, "sleep", lambda seconds: None)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def archive(*urls: str, hash: str = HASH) -> Archive:
    return Archive("data.bin", urls, hash)


def get(wanted: Archive, folder):
    return fetch(wanted, folder, schemes=("http",))


def test_a_download_has_the_published_hash_and_leaves_nothing_else(server, tmp_path):
    path = get(archive(server.url()), tmp_path / "downloads")
    assert path == tmp_path / "downloads/data.bin" and path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    get(archive(server.url()), tmp_path)
    assert server.ranges == []


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cuts = [100_000, 50_000]
    assert get(archive(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_download_goes_on_in_the_next_run(server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(CONTENT[:123_456])
    assert get(archive(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=123456-"]
    assert not (tmp_path / "data.bin.partial").exists()


def test_a_complete_partial_file_is_used_as_it_is(server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(CONTENT)
    assert get(archive(server.url()), tmp_path).read_bytes() == CONTENT


def test_a_server_that_cannot_skip_starts_again(server, tmp_path):
    server.skips = False
    (tmp_path / "data.bin.partial").write_bytes(CONTENT[:1000])
    assert get(archive(server.url()), tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 1 and [path.name for path in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize("length", [1000, len(CONTENT) + 5])
def test_a_partial_file_of_another_version_is_not_built_upon(length, server, tmp_path):
    (tmp_path / "data.bin.partial").write_bytes(b"x" * length)
    assert get(archive(server.url()), tmp_path).read_bytes() == CONTENT


def test_a_server_that_gives_up_leaves_its_bytes_for_the_next_mirror(server, tmp_path):
    server.cuts = [1000, 0]
    path = get(archive(server.url("one"), server.url("two")), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=1000-"]


def test_mirrors_are_tried_in_order(server, tmp_path, capsys):
    path = get(archive("http://127.0.0.1:9/closed", server.url("missing"), server.url()), tmp_path)
    assert path.read_bytes() == CONTENT
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"download: {url}" for url in ("http://127.0.0.1:9/closed", server.url("missing"), server.url())]


def test_when_no_mirror_works_every_reason_is_given_in_one_line(server, tmp_path):
    with pytest.raises(DownloadError) as caught:
        get(archive("http://127.0.0.1:9/closed", server.url("missing")), tmp_path)
    assert str(caught.value) == f"127.0.0.1:9: Connection refused; 127.0.0.1:{server.server_port}: HTTP status 404"


def test_a_file_with_another_hash_is_moved_aside_and_never_used(server, tmp_path):
    server.content = b"y" * len(CONTENT)
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DownloadError, match=f"sha256:{found}.*expected {HASH}; kept aside as data.bin.partial.bad"):
        get(archive(server.url()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin.partial.bad"]


def test_an_altered_file_of_an_earlier_run_is_moved_aside_and_fetched_again(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
    assert get(archive(server.url()), tmp_path).read_bytes() == CONTENT
    assert (tmp_path / "data.bin.bad").read_bytes() == CONTENT[:-1]


@pytest.mark.parametrize("path", ["data.bin", "elsewhere"])
def test_only_https_is_followed(path, server, tmp_path):
    """An http address by default, and a redirect to another scheme than the allowed one, both end the attempt."""
    schemes = {"data.bin": ("https",), "elsewhere": ("http",)}[path]
    with pytest.raises(DataError, match="not https, or sent on to an address that is not"):
        fetch(archive(server.url(path)), tmp_path, schemes)
    assert len(server.ranges) == (1 if path == "elsewhere" else 0)


def test_a_log_file_gets_few_lines(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch_module, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(fetch_module, "CHUNK", 100_000)
    get(archive(server.url()), tmp_path)
    assert capsys.readouterr().err.splitlines()[1:] == [f"data.bin: 0.{done} of 0.3 MB" for done in (1, 2, 3)]
