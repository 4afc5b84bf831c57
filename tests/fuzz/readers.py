"""Every reader: a whole file of its kind, and what reading it gives, as a digest."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from tiny import tiny_config, untrained

import ptychostream as ps
from ptychostream.config import read_yaml, write_yaml
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.sources.objects import read_object_and_origin
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
from ptychostream.datasets.sources.ptychodus.training import write_ptychodus_training
from ptychostream.files import whole_file
from ptychostream.hdf5_files import whole_hdf5


class Reader(NamedTuple):
    """How a kind of file is written and read.

    `checked` is whether checksums in the file tell every change of the data.
    """

    write: Callable[[Path, "Whole"], None]
    read: Callable[[Path], str]
    checked: bool = True


class Whole(NamedTuple):
    """What the files are made from."""

    scan: ps.Scan
    store: ps.GroupStore
    bundle: ps.ModelBundle


def make_whole(folder: Path) -> Whole:
    scan = ps.simulate_scan(num_positions=24, N=16, step=2.5, nphotons=1e5, seed=3)
    store = ps.build_group_store(scan, folder / "whole.zarr", patterns_per_chunk=8)
    return Whole(scan, store, untrained(tiny_config(folder), store))


def digest(*values: Any) -> str:
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(f"{value.shape} {value.dtype}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
        else:
            found.update(json.dumps(value, sort_keys=True, default=str).encode())
    return found.hexdigest()


def digest_of_scan(scan: ps.Scan) -> str:
    scan.patterns.check()
    return digest(
        *scan.patterns.blocks(10),
        scan.positions,
        scan.probe,
        scan.object_guess,
        scan.bad_pixels,
        scan.scan_index,
        scan.measurement_domain,
        dataclasses.asdict(scan.metadata),
    )


def read_scan(path: Path) -> str:
    return digest_of_scan(ps.read_scan(path))


def read_store(path: Path) -> str:
    store = ps.open_group_store(path)
    store.verify()
    return digest_of_scan(store.scan()) + digest(store.total_counts)


def read_model(path: Path) -> str:
    bundle = ps.load_bundle(path, restore=None)
    weights = [value.numpy() for value in bundle.model.state_dict().values()]
    return digest(*weights, bundle.probe_guess, bundle.intensity_scale, bundle.history)


def read_object(path: Path) -> str:
    obj, origin = read_object_and_origin(path)
    return digest(obj, origin)


def read_configuration(path: Path) -> str:
    return digest(dataclasses.asdict(read_yaml(ps.TrainingConfig, path)))


def write_cxi(path: Path, whole: Whole) -> None:
    with h5py.File(path, "w") as file:
        file["entry_1/data_1/data"] = whole.scan.patterns.read(np.arange(24))
        metres = np.pad(whole.scan.positions * 2.58e-7, ((0, 0), (0, 1)))
        file["entry_1/sample_1/geometry_1/translation"] = metres
        file["entry_1/instrument_1/source_1/energy"] = 8000 * 1.602176634e-19
        file["entry_1/instrument_1/detector_1/distance"] = 2.0
        file["entry_1/instrument_1/detector_1/x_pixel_size"] = 75e-6
        file["entry_1/instrument_1/source_1/illumination"] = whole.scan.probe[0]


def write_store(path: Path, whole: Whole) -> None:
    ps.build_group_store(whole.scan, path, patterns_per_chunk=8, progress=False)


def write_archive(path: Path, whole: Whole) -> None:
    ps.save_bundle(whole.bundle, path.parent).replace(path)


def write_checkpoint(path: Path, whole: Whole) -> None:
    from ptychostream.training.checkpoints import WholeCheckpoints

    WholeCheckpoints().save_checkpoint(checkpoint_of(whole.bundle), path)


def checkpoint_of(bundle: ps.ModelBundle) -> dict[str, Any]:
    from ptychostream.config import to_mapping

    return {
        "epoch": 1,
        "global_step": 3,
        "state_dict": {f"model.{name}": v for name, v in bundle.model.state_dict().items()},
        "ptychostream": {
            "config": to_mapping(bundle.config),
            "intensity_scale": bundle.intensity_scale,
            "probe_guess": torch.as_tensor(bundle.probe_guess),
            "history": {"train_loss": [1.0]},
        },
    }


def write_result_npz(path: Path, whole: Whole) -> None:
    with whole_file(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, object=whole.scan.object_guess, origin=np.zeros(2))


def write_result_hdf5(path: Path, whole: Whole) -> None:
    with whole_hdf5(path) as file:
        file["object"] = whole.scan.object_guess


READERS = {
    "NPZ": Reader(lambda path, whole: write_npz(whole.scan, path, compress=False), read_scan),
    "NPZ, compressed": Reader(
        lambda path, whole: write_npz(whole.scan, path, compress=True), read_scan
    ),
    "CXI": Reader(write_cxi, read_scan, checked=False),
    "ptychodus product": Reader(
        lambda path, whole: write_ptychodus_experiment(whole.scan, path), read_scan
    ),
    "ptychodus training data": Reader(
        lambda path, whole: write_ptychodus_training(whole.scan, path), read_scan
    ),
    "group store": Reader(write_store, read_store),
    "archive": Reader(write_archive, read_model),
    "checkpoint": Reader(write_checkpoint, read_model),
    "configuration": Reader(
        lambda path, whole: write_yaml(whole.bundle.config, path), read_configuration, checked=False
    ),
    "result NPZ": Reader(write_result_npz, read_object),
    "result HDF5": Reader(write_result_hdf5, read_object),
}

#: Endings by which files are known.
ENDINGS = {
    "NPZ": "npz",
    "NPZ, compressed": "npz",
    "CXI": "cxi",
    "ptychodus product": "folder",
    "ptychodus training data": "h5",
    "group store": "zarr",
    "archive": "zip",
    "checkpoint": "ckpt",
    "configuration": "yaml",
    "result NPZ": "npz",
    "result HDF5": "h5",
}
