"""Real, tiny scans that the tests share."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ptychostream as ps


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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


def tiny_config(tmp_path: Path, **changes) -> ps.TrainingConfig:
    """A run of seconds: unrolled, N = 16."""
    model = {"N": 16, "architecture": "unrolled", "unrolled_steps": 2, "unrolled_width": 8}
    model |= changes.pop("model", {})
    options = {"nepochs": 1, "batch_size": 8, "neighbor_count": 6, "output_dir": tmp_path}
    return ps.TrainingConfig(model=ps.ModelConfig(**model), **(options | changes))


@pytest.fixture
def make_config(tmp_path):
    return lambda **changes: tiny_config(tmp_path, **changes)


def dense_shift(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Shift (x, y) a periodic image, by an explicit Fourier sum in double precision."""
    rows, columns = image.shape
    y = np.fft.fftfreq(rows)[:, None] * shift[1]
    x = np.fft.fftfreq(columns) * shift[0]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (x + y)))
