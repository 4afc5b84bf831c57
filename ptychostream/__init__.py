"""Ptychography with physics-informed networks: stores, streams, training and stitching.

Importing the package is quiet and quick: every public name below is imported from its
module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ptychostream._version import __version__

_HOME = {
    "Scan": "scan",
    "ModelConfig": "config",
    "TrainingConfig": "config",
    "InferenceConfig": "config",
    "PyTorchExecutionConfig": "config",
    "read_scan": "datasets.sources",
    "simulate_scan": "simulation",
    "build_group_store": "datasets.store",
    "open_group_store": "datasets.store",
    "append_patterns": "datasets.store",
    "finish_group_store": "datasets.store",
    "read_scans": "datasets.store",
    "GroupStore": "datasets.store",
    "make_loader": "datasets.batches.loader",
    "to_spec_dict": "ptychopinn.spec",
    "from_spec_dict": "ptychopinn.spec",
    "RawDataTorch": "ptychopinn.raw_data",
    "PtychoDataContainerTorch": "ptychopinn.container",
    "PtychoPINN": "models.pinn",
    "train": "training.train",
    "reconstruct": "reconstruction.reconstruct",
    "follow": "reconstruction.reconstruct",
    "solve": "reconstruction.solve",
    "stitch_patches": "stitching",
    "ModelBundle": "persistence",
    "save_bundle": "persistence",
    "load_bundle": "persistence",
}

__all__ = [
    "GroupStore",
    "InferenceConfig",
    "ModelBundle",
    "ModelConfig",
    "PtychoDataContainerTorch",
    "PtychoPINN",
    "PyTorchExecutionConfig",
    "RawDataTorch",
    "Scan",
    "TrainingConfig",
    "__version__",
    "append_patterns",
    "build_group_store",
    "finish_group_store",
    "follow",
    "from_spec_dict",
    "load_bundle",
    "make_loader",
    "open_group_store",
    "read_scan",
    "read_scans",
    "reconstruct",
    "save_bundle",
    "simulate_scan",
    "solve",
    "stitch_patches",
    "to_spec_dict",
    "train",
]

if TYPE_CHECKING:
    from ptychostream.config import (
        InferenceConfig,
        ModelConfig,
        PyTorchExecutionConfig,
        TrainingConfig,
    )
    from ptychostream.datasets.batches.loader import make_loader
    from ptychostream.datasets.sources import read_scan
    from ptychostream.datasets.store import (
        GroupStore,
        append_patterns,
        build_group_store,
        finish_group_store,
        open_group_store,
        read_scans,
    )
    from ptychostream.models.pinn import PtychoPINN
    from ptychostream.persistence import ModelBundle, load_bundle, save_bundle
    from ptychostream.ptychopinn.container import PtychoDataContainerTorch
    from ptychostream.ptychopinn.raw_data import RawDataTorch
    from ptychostream.ptychopinn.spec import from_spec_dict, to_spec_dict
    from ptychostream.reconstruction.reconstruct import follow, reconstruct
    from ptychostream.reconstruction.solve import solve
    from ptychostream.scan import Scan
    from ptychostream.simulation import simulate_scan
    from ptychostream.stitching import stitch_patches
    from ptychostream.training.train import train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ptychostream' has no attribute {name!r}")
    value = getattr(import_module(f"ptychostream.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
