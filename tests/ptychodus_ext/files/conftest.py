"""Real files of ptychodus and of ours that hold the same scan."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from ptychodus.api.io import (
    load_diffraction_data,
    load_product,
    save_ptychopinn_training_data,
)
from ptychodus.api.reconstruct import PositionIndexFilter, prepare_reconstruct_input

import ptychostream as ps
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
from ptychostream.scan import ArrayPatterns, ScanMetadata


@pytest.fixture(scope="session")
def scan(tiny_scan):
    """64 positions, two probe modes, three bad pixels."""
    bad = np.zeros((16, 16), bool)
    bad[[2, 9, 14], [3, 9, 1]] = True
    counts = tiny_scan.patterns.read(np.arange(tiny_scan.num_patterns))
    counts[:, bad] = 2**20
    second = tiny_scan.probe[0] * np.linspace(-0.3, 0.3, 16, dtype=np.float32)
    return replace(
        tiny_scan,
        patterns=ArrayPatterns(counts),
        probe=np.stack([tiny_scan.probe[0], second]),
        bad_pixels=bad,
        metadata=ScanMetadata(
            energy_eV=8000.0, detector_distance_m=2.5, detector_pixel_size_m=55e-6
        ),
    )


@pytest.fixture(scope="session")
def experiment(scan, tmp_path_factory):
    """Folder of `diffraction.h5` and `product.h5`."""
    folder = tmp_path_factory.mktemp("experiment")
    write_ptychodus_experiment(scan, folder)
    return folder


@pytest.fixture(scope="session")
def parameters(experiment):
    """What ptychodus hands to a reconstructor: every second pattern."""
    data = load_diffraction_data(experiment / "diffraction.h5")
    product = load_product(experiment / "product.h5")
    return prepare_reconstruct_input(data, product, PositionIndexFilter.ODD)


@pytest.fixture(scope="session")
def written_by_ptychodus(parameters, tmp_path_factory):
    """NPZ training data as ptychodus itself exports them."""
    path = tmp_path_factory.mktemp("theirs") / "theirs.npz"
    options = inspect.signature(save_ptychopinn_training_data).parameters
    # Version 1.6 asks whether all probe modes are meant; 1.7 always means all.
    modes = {"multimodal_probe": True} if "multimodal_probe" in options else {}
    save_ptychopinn_training_data(path, parameters, **modes)
    return path


@pytest.fixture(scope="session")
def store(scan, tmp_path_factory):
    """Four shards."""
    folder = tmp_path_factory.mktemp("store")
    return ps.build_group_store(scan, folder / "scan.zarr", patterns_per_chunk=1)
