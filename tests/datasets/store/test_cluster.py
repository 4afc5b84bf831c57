import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.store.shard_writer import ShardJob
from ptychostream.errors import ClusterError, ConfigurationError, DataContractError
from ptychostream.scan import ArrayPatterns

distributed = pytest.importorskip("distributed", reason="the dask extra is not installed")


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread."""
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def scan():
    scan = ps.simulate_scan(num_positions=300, N=16, step=2.5, seed=3)
    return replace(scan, patterns=ArrayPatterns(scan.patterns.read(np.arange(300))))


def _bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("source", ["memory", "stored", "compressed"])
def test_two_workers_write_the_bytes_of_one_process(client, scan, tmp_path, source):
    given = scan
    if source != "memory":
        given = tmp_path / "scan.npz"
        write_npz(scan, given, compress=source == "compressed")
    alone = ps.build_group_store(given, tmp_path / "alone.zarr", patterns_per_chunk=2)
    ps.build_group_store(given, tmp_path / "theirs.zarr", patterns_per_chunk=2, cluster=client)
    assert _bytes_of(tmp_path / "theirs.zarr") == _bytes_of(alone.path)
    assert not list(tmp_path.glob(".*"))


def test_both_workers_take_part(client, scan, tmp_path):
    before = client.run(lambda dask_worker: dask_worker.state.executed_count)
    ps.build_group_store(
        scan, tmp_path / "s.zarr", patterns_per_chunk=1, cluster=client.scheduler.address
    )
    after = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert all(after[worker] > before[worker] for worker in before)


def test_what_a_worker_refuses_ends_the_build(client, scan, tmp_path):
    values = scan.patterns.read(np.arange(300)).astype(np.float32)
    values[200, 1, 1] = np.nan
    wrong = replace(scan, patterns=ArrayPatterns(values))
    with pytest.raises(DataContractError, match="pattern 200 holds nan"):
        ps.build_group_store(wrong, tmp_path / "s.zarr", patterns_per_chunk=2, cluster=client)
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_is_not_there_is_said(scan, tmp_path, monkeypatch):
    monkeypatch.setattr("ptychostream.cluster._CONNECT_S", 0.5)
    with pytest.raises(ConfigurationError, match="no dask scheduler answers"):
        ps.build_group_store(scan, tmp_path / "s.zarr", cluster="tcp://127.0.0.1:1")
    assert list(tmp_path.iterdir()) == []


_A_SHARD_IS_WRITTEN = threading.Event()
_write = ShardJob.write


def _write_and_tell(job, shard):
    record = _write(job, shard)
    _A_SHARD_IS_WRITTEN.set()
    time.sleep(0.05)
    return record


def test_a_lost_scheduler_is_one_error_and_the_build_goes_on(scan, tmp_path, monkeypatch):
    monkeypatch.setattr(ShardJob, "write", _write_and_tell)
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    )

    def end():
        _A_SHARD_IS_WRITTEN.wait()
        cluster.close()

    ending = threading.Thread(target=end)
    ending.start()
    path, options = tmp_path / "s.zarr", {"patterns_per_chunk": 1}
    with pytest.raises(ClusterError, match="build again with --resume"):
        ps.build_group_store(scan, path, **options, cluster=cluster.scheduler_address)
    ending.join()
    monkeypatch.undo()
    assert not path.exists()
    alone = ps.build_group_store(scan, tmp_path / "alone.zarr", **options)
    ps.build_group_store(scan, path, **options, resume=True)
    assert _bytes_of(path) == _bytes_of(alone.path)
