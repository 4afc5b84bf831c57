"""Stores on a plain web server: no listing, failures that pass, and some requests in flight."""

import http.server
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.errors import DataContractError, StorageError

pytest.importorskip("aiohttp", reason="the s3 extra is not installed")


class Server(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, by ranges; every so many requests fail, and each takes a while."""

    folder: Path
    fails_every = 0
    delay_s = 0.0
    requests = 0
    running = most_running = 0
    lock = threading.Lock()

    def _file(self):
        cls = type(self)
        with cls.lock:
            cls.requests += 1
            number = cls.requests
            cls.running += 1
            cls.most_running = max(cls.most_running, cls.running)
        time.sleep(cls.delay_s)
        with cls.lock:
            cls.running -= 1
        if cls.fails_every and number % cls.fails_every == 0:
            self.send_error(503)
            return None
        path = cls.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return None
        return path.read_bytes()

    def do_HEAD(self):
        if (data := self._file()) is not None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

    def do_GET(self):
        if (data := self._file()) is None:
            return
        asked = self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        """Keep quiet."""


@pytest.fixture
def web(tiny_store):
    kind = type("Local", (Server,), {"folder": tiny_store.path.parent, "lock": threading.Lock()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield kind, f"http://127.0.0.1:{server.server_port}/{tiny_store.path.name}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_store_on_a_web_server_opens_and_streams(web, tiny_store):
    _, url = web
    store = ps.open_group_store(url)
    rows = np.random.default_rng(0).permutation(64)
    np.testing.assert_array_equal(store.diffraction(rows), tiny_store.diffraction(rows))
    np.testing.assert_array_equal(store.object_guess, tiny_store.object_guess)
    store.verify()
    groups = tiny_store.groups(1)
    ours, theirs = (ps.make_loader(s, groups, batch_size=16) for s in (store, tiny_store))
    for one, other in zip(ours, theirs, strict=True):
        assert (one["diffraction"] == other["diffraction"]).all()


def test_a_failure_that_passes_is_tried_again(web, tiny_store, monkeypatch, caplog):
    server, url = web
    monkeypatch.setattr("ptychostream.datasets.store.retry._WAITS_S", (0.0, 0.0, 0.0))
    server.fails_every = 4
    store = ps.open_group_store(url)
    np.testing.assert_array_equal(store.diffraction([5]), tiny_store.diffraction([5]))
    assert "trying again" in caplog.text
    server.fails_every = 1
    with pytest.raises(StorageError, match="can't be read"):
        ps.open_group_store(url)


def test_what_is_not_on_the_server_is_not_tried_again(web, caplog):
    server, url = web
    with pytest.raises(DataContractError, match="not a complete group store"):
        ps.open_group_store(f"{url}-elsewhere")
    assert server.requests <= 2
    assert "trying again" not in caplog.text


def test_requests_wait_together_and_each_index_is_fetched_once(web, tiny_store):
    server, url = web
    store = ps.open_group_store(url)
    server.requests = server.most_running = 0
    server.delay_s = 0.05
    loader = ps.make_loader(store, tiny_store.groups(1), batch_size=64, num_threads=1)
    assert sum(len(batch) for batch in loader) == 64
    # Eight chunks and the index of their one shard.
    assert server.requests == 9
    assert server.most_running >= 6


def test_what_was_fetched_is_kept_within_a_limit(web, tiny_store, tmp_path):
    server, url = web
    folder = tmp_path / "cache"
    rows = np.arange(64)
    first = ps.open_group_store(url, cache_folder=folder)
    np.testing.assert_array_equal(first.diffraction(rows), tiny_store.diffraction(rows))
    server.requests = 0
    there = pickle.loads(pickle.dumps(ps.open_group_store(url, cache_folder=folder)))
    asked_to_open = server.requests
    np.testing.assert_array_equal(there.diffraction(rows), tiny_store.diffraction(rows))
    assert server.requests == asked_to_open  # chunks and indices are all there
    for file in folder.iterdir():  # what is damaged is fetched again
        file.write_bytes(file.read_bytes()[:-1])
    again = ps.open_group_store(url, cache_folder=folder)
    np.testing.assert_array_equal(again.diffraction(rows), tiny_store.diffraction(rows))
    small = tmp_path / "small"
    tight = ps.open_group_store(url, cache_folder=small, cache_limit=5000)
    np.testing.assert_array_equal(tight.diffraction(rows), tiny_store.diffraction(rows))
    assert sum(file.stat().st_size for file in small.iterdir()) <= 5000
