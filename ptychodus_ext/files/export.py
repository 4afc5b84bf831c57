"""Training data of what ptychodus has loaded, as an NPZ scan or a group store."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptychostream.errors import ConfigurationError

if TYPE_CHECKING:
    from ptychodus.api.reconstruct import ReconstructInput


def export_training_data(file_path: Path, parameters: "ReconstructInput") -> Path:
    """Write what a network is trained on, block by block; no copy of the stack is made.

    A name without a suffix gets `.npz`; returned is the path that was written.

    A store keeps the counts as they are. An NPZ file holds what its contract asks for, float32
    amplitudes, with bad pixels set to zero, for readers that don't know the mask. Both declare
    their quantity, and count positions as `ptychostream` does.
    """
    from ptychodus_ext.convert import scan_of
    from ptychostream.datasets.sources.npz import write_npz
    from ptychostream.datasets.store import build_group_store

    if not file_path.suffix:
        file_path = file_path.with_suffix(".npz")
    if file_path.suffix not in (".npz", ".zarr"):
        raise ConfigurationError(f"'{file_path}' must end in .npz or .zarr")
    scan = scan_of(parameters)
    if file_path.suffix == ".zarr":
        build_group_store(scan, file_path, progress=False)
    else:
        write_npz(scan, file_path, flavour="contract")
    return file_path
