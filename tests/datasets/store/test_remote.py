import os
import pickle
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.errors import (
    ConfigurationError,
    DataContractError,
    StorageError,
    StoreExistsError,
)
from ptychostream.scan import ArrayPatterns

s3fs = pytest.importorskip("s3fs", reason="the s3 extra is not installed")
pytestmark = pytest.mark.skipif(
    shutil.which("moto_server") is None, reason="no S3 server: pip install 'moto[server]'"
)


@pytest.fixture(scope="module")
def bucket():
    """A real S3 server on this machine, with one bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["moto_server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                s3fs.S3FileSystem(skip_instance_cache=True).mkdir("scans")
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield "s3://scans"
    finally:
        server.terminate()
        server.wait()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@pytest.fixture(scope="module")
def remote(bucket, tiny_scan):
    url = f"{bucket}/tiny.zarr"
    ps.build_group_store(tiny_scan, url, patterns_per_chunk=8)
    return url


def test_a_store_is_built_and_read_by_url(remote, tiny_scan, tiny_store):
    store = ps.open_group_store(remote)
    rows = np.random.default_rng(0).integers(0, 64, 100)
    np.testing.assert_array_equal(store.diffraction(rows), tiny_scan.patterns.read(rows))
    np.testing.assert_array_equal(store.object_guess, tiny_scan.object_guess)
    assert [s.files for s in store.segments] == [s.files for s in tiny_store.segments]
    store.verify()
    assert store.path == store.address == remote


def test_batches_of_a_remote_store_are_those_of_a_local_one(remote, tiny_store):
    store = ps.open_group_store(remote)
    groups = store.groups(2, 6, seed=9)
    again = ps.open_group_store(remote)
    assert again.num_groupings >= 1
    np.testing.assert_array_equal(again.groups(2, 6, seed=9).nn_indices, groups.nn_indices)
    mine, theirs = (
        list(ps.make_loader(s, groups, batch_size=16, seed=1)) for s in (store, tiny_store)
    )
    for first, second in zip(mine, theirs, strict=True):
        assert (first["diffraction"] == second["diffraction"]).all()


def test_a_remote_store_travels_as_its_address(remote):
    there = pickle.loads(pickle.dumps(ps.open_group_store(remote)))
    assert there.num_patterns == 64


def test_a_complete_remote_store_is_never_replaced(remote, tiny_scan):
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(StoreExistsError, match="delete it first"):
            ps.build_group_store(tiny_scan, remote, **options)


def test_a_remote_build_that_broke_off_is_resumed(bucket, tiny_scan):
    class Breaks(ArrayPatterns):
        calls = 0

        def read(self, rows):
            Breaks.calls += 1
            if Breaks.calls > 20:
                raise OSError("the network is gone")
            return super().read(rows)

    # A thread writes one shard of 16 chunks after the other.
    from dataclasses import replace

    values = tiny_scan.patterns.read(np.arange(64))
    url = f"{bucket}/broken.zarr"
    breaking = replace(tiny_scan, patterns=Breaks(values))
    options = {"patterns_per_chunk": 1, "memory_budget": 1}
    with pytest.raises(StorageError, match="network is gone"):
        ps.build_group_store(breaking, url, **options)
    with pytest.raises(DataContractError, match="not a complete group store"):
        ps.open_group_store(url)
    whole = replace(tiny_scan, patterns=ArrayPatterns(values))
    with pytest.raises(StoreExistsError, match="unfinished build"):
        ps.build_group_store(whole, url, **options)
    store = ps.build_group_store(whole, url, resume=True, **options)
    np.testing.assert_array_equal(store.diffraction(np.arange(64)), values)
    assert not [n for n in store.segments[0].storage.sizes() if n.startswith("building")]


def test_a_remote_store_grows(bucket, tiny_scan):
    url = f"{bucket}/growing.zarr"
    first = ps.build_group_store(tiny_scan.select(np.arange(40)), url, growing=True)
    ps.append_patterns(url, tiny_scan.select(np.arange(40, 64)))
    assert first.refreshed().num_patterns == 64
    ps.finish_group_store(url)
    assert [s.num_patterns for s in first.follow(interval_s=0.01)] == [40, 64]


@pytest.mark.parametrize("what", ["flipped", "missing", "truncated"])
def test_damage_is_found_in_remote_stores(bucket, tiny_scan, what):
    url = f"{bucket}/{what}.zarr"
    store = ps.build_group_store(tiny_scan, url, patterns_per_chunk=8)
    files, name = s3fs.S3FileSystem(), f"scans/{what}.zarr/diffraction/c/0/0/0"
    data = bytearray(files.cat_file(name))
    if what == "flipped":
        data[100] ^= 4
        files.pipe_file(name, bytes(data))
        with pytest.raises(DataContractError, match="chunk 0"):
            store.verify()
        with pytest.raises(DataContractError, match="fails its checksum"):
            store.diffraction(np.arange(64))
        return
    if what == "missing":
        files.rm(name)
    else:
        files.pipe_file(name, bytes(data[:-5]))
    with pytest.raises(DataContractError, match=r"is missing|has \d+ bytes"):
        ps.open_group_store(url)


def test_addresses_that_lead_nowhere_are_said(bucket, monkeypatch):
    with pytest.raises(DataContractError, match="not a complete group store"):
        ps.open_group_store(f"{bucket}/none.zarr")
    with pytest.raises(ConfigurationError, match="can't be opened"):
        ps.open_group_store("teleport://x/y.zarr")


def test_commands_take_urls(bucket, tmp_path, tiny_scan, capsys):
    from ptychostream.datasets.sources.npz import write_npz

    write_npz(tiny_scan, tmp_path / "scan.npz")
    url = f"{bucket}/command.zarr"
    assert main(["build", str(tmp_path / "scan.npz"), url]) == 0
    assert main(["info", url]) == 0
    assert url in capsys.readouterr().out
    assert main(["verify", url]) == 0
    assert main(["export", url, str(tmp_path / "back.npz")]) == 0
    back = ps.read_scan(tmp_path / "back.npz")
    np.testing.assert_array_equal(
        back.patterns.read(np.arange(64)), tiny_scan.patterns.read(np.arange(64))
    )
    local = ps.build_group_store(url, tmp_path / "local.zarr")
    assert local.num_patterns == 64
    assert not Path("s3:").exists()


def test_a_path_made_of_a_url_is_refused(tiny_scan):
    with pytest.raises(ConfigurationError, match=r"'memory:/zz/s\.zarr' is a URL that became"):
        ps.build_group_store(tiny_scan, Path("memory://zz/s.zarr"))
