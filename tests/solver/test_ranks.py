"""Several processes that solve together find what one does."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from scans import likeness, small_scan

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.scan import ArrayPatterns

ASKED = {"passes": 4, "correct_positions": True, "probe_modes": 2, "smoothness": 0.05}


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


def test_processes_on_two_nodes_give_the_object_of_one_and_one_of_them_writes(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    program += ["--rdzv_backend=c10d", f"--rdzv_endpoint={address}", "--rdzv_id=tiles"]
    program += ["--local_addr=127.0.0.1", "-m", "ptychostream.cli.main", "reconstruct", "s.zarr"]
    program += ["--execution.num_nodes=2", "-o", "two"]
    program += [f"--{name}={value}".lower() for name, value in ASKED.items()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    nodes = [subprocess.Popen(program, cwd=folder, **pipes) for _ in range(2)]
    said = [node.communicate(timeout=200) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert sum("64 patterns in" in out for out, _ in said) == 1
    one = ps.reconstruct(ps.open_group_store(folder / "s.zarr"), **ASKED)
    with np.load(folder / "two" / "object.npz") as found:
        assert likeness(found["object"], one.object) > 0.9999
        assert likeness(found["probe"], one.probe) > 0.99999
        np.testing.assert_allclose(found["positions"], one.positions, atol=2e-3)
        np.testing.assert_allclose(found["misfit"], one.misfit, rtol=1e-3)
        np.testing.assert_allclose(found["misfit_of_patterns"], one.misfit_of_patterns, rtol=1e-2)


def test_a_scan_file_is_built_before_several_processes_share_it(tmp_path, monkeypatch, capsys):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    (tmp_path / "scan.npz").write_bytes(b"")
    assert main(["reconstruct", str(tmp_path / "scan.npz"), "-o", str(tmp_path / "out")]) == 1
    assert "several processes share one: build it first" in capsys.readouterr().err
