"""Files between ptychodus and ptychostream: diffraction readers and training data."""

from typing import Any

from ptychodus_ext.files.export import export_training_data

__all__ = ["export_training_data", "register_files"]


def register_files(registry: Any) -> None:
    """Add the readers to ptychodus."""
    from ptychodus_ext.files.npz_reader import NpzReader
    from ptychodus_ext.files.store_reader import StoreReader

    # ptychodus refuses to open folders, so a store is opened by a file in it.
    registry.diffraction_file_readers.register_plugin(
        StoreReader(),
        simple_name="PtychoStream_Store",
        display_name="PtychoStream Stores (zarr.json *.zarr.zip)",
    )
    registry.diffraction_file_readers.register_plugin(
        NpzReader(),
        simple_name="PtychoStream_NPZ",
        display_name="PtychoStream Scans (*.npz)",
    )
