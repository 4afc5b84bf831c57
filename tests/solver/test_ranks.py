"""Several processes that solve together find what one does."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from scans import likeness, small_scan

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.scan import ArrayPatterns
from ptychostream.solver.patterns import deal, share_of
from ptychostream.solver.ranks import Ranks

SOLVE = ["--passes", "6", "--correct_positions", "true", "--probe_modes", "2"]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_pattern_belongs_to_one_process(size):
    order, bounds = deal(np.arange(101), 0)
    shares = [share_of(order, bounds, Ranks(number, size)) for number in range(size)]
    together = np.concatenate([mine for mine, _ in shares])
    np.testing.assert_array_equal(np.sort(together), np.arange(101))
    for part in range(len(bounds) - 1):
        whole = order[bounds[part] : bounds[part + 1]]
        of_part = np.concatenate([mine[b[part] : b[part + 1]] for mine, b in shares])
        np.testing.assert_array_equal(np.sort(of_part), np.sort(whole))
    lengths = [len(mine) for mine, _ in shares]
    assert max(lengths) - min(lengths) <= size + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of a small scan."""
    folder = tmp_path_factory.mktemp("ranks")
    small = small_scan(1e6, side=8)
    scan = ps.Scan(
        name="a scan",
        patterns=ArrayPatterns(np.random.default_rng(0).poisson(small.rates).astype(np.uint32)),
        measurement_domain="counts",
        positions=small.positions + np.random.default_rng(1).normal(0, 0.2, (64, 2)),
        probe=small.probe.astype(np.complex64),
    )
    ps.build_group_store(scan, folder / "s.zarr")
    return folder


def _run(folder, size, *words):
    """Start processes as torchrun does, and return what they print and their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "ptychostream.cli.main", "reconstruct", *words]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            program,
            cwd=folder,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    return said, [process.returncode for process in processes]


def test_two_processes_give_the_object_of_one_and_one_of_them_writes(folder):
    said, codes = _run(folder, 2, "s.zarr", "-o", "two", *SOLVE)
    assert codes == [0, 0], said
    assert "64 patterns in" in said[0][0]
    assert said[1][0] == ""
    store = ps.open_group_store(folder / "s.zarr")
    one = ps.reconstruct(store, passes=6, correct_positions=True, probe_modes=2)
    with np.load(folder / "two" / "object.npz") as found:
        assert likeness(found["object"], one.object) > 0.99999
        assert likeness(found["probe"], one.probe) > 0.99999
        np.testing.assert_allclose(found["positions"], one.positions, atol=2e-3)
        np.testing.assert_allclose(found["misfit"], one.misfit, rtol=1e-4)
        np.testing.assert_allclose(found["misfit_of_patterns"], one.misfit_of_patterns, rtol=1e-2)


def test_a_scan_file_is_built_before_several_processes_share_it(tmp_path, monkeypatch, capsys):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    (tmp_path / "scan.npz").write_bytes(b"")
    assert main(["reconstruct", str(tmp_path / "scan.npz"), "-o", str(tmp_path / "out")]) == 1
    assert "several processes share one: build it first" in capsys.readouterr().err
