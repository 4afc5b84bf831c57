"""Real, tiny scans that the tests share."""

import logging
import os
import signal

import pytest
import torch
from tiny import tiny_config

import ptychostream as ps

# One thread here and in the processes that tests start: the same sums, bit for bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore interrupts, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_log_level():
    """Give back the level that a command of the test has chosen."""
    ours = logging.getLogger("ptychostream")
    before = ours.level
    yield
    ours.setLevel(before)


@pytest.fixture(scope="session")
def tiny_scan() -> ps.Scan:
    """64 positions, 16 px, an asymmetric object."""
    return ps.simulate_scan(num_positions=64, N=16, step=2.5, nphotons=1e5, seed=3)


@pytest.fixture(scope="session")
def tiny_store(tiny_scan, tmp_path_factory) -> ps.GroupStore:
    folder = tmp_path_factory.mktemp("store")
    return ps.build_group_store(tiny_scan, folder / "tiny.zarr", patterns_per_chunk=8)


@pytest.fixture(scope="session")
def two_experiments(tmp_path_factory) -> ps.GroupStore:
    scans = [
        ps.simulate_scan(num_positions=n, N=16, probe=probe, seed=n, nphotons=1e4)
        for n, probe in ((20, "gaussian"), (31, "disk"))
    ]
    folder = tmp_path_factory.mktemp("store")
    return ps.build_group_store(scans, folder / "two.zarr", patterns_per_chunk=8)


@pytest.fixture
def make_config(tmp_path):
    return lambda **changes: tiny_config(tmp_path, **changes)
