"""Turn the data that callers pass into stores, which the PyTorch backend trains on."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ptychostream.config import TrainingConfig
from ptychostream.datasets.store import GroupStore, build_group_store, open_group_store
from ptychostream.errors import DataContractError
from ptychostream.ptychopinn.container import PtychoDataContainerTorch
from ptychostream.ptychopinn.raw_data import RawDataTorch
from ptychostream.scan import ArrayPatterns, Scan
from ptychostream.training.run import training_groups

if TYPE_CHECKING:
    from ptychostream.ptychopinn.backends.base import TrainingData

#: Pixels by which the positions of a pattern in two groups may differ: rounding of float32.
_SAME_POSITION = 0.01


@contextmanager
def as_store(data: "TrainingData", config: TrainingConfig) -> Iterator[GroupStore]:
    """Yield the data as a store; what is not a store is written to one in a scratch folder."""
    if isinstance(data, str | Path) and Path(data).is_dir():
        data = open_group_store(data)
    if isinstance(data, GroupStore):
        yield data
        return
    if isinstance(data, PtychoDataContainerTorch):
        with tempfile.TemporaryDirectory(prefix="ptychostream-") as folder:
            yield _store_of_container(data, config, Path(folder))
        return
    raw = _raw_data(data)
    if raw.store is not None:
        yield raw.store
        return
    with tempfile.TemporaryDirectory(prefix="ptychostream-") as folder:
        yield build_group_store(raw.scan, Path(folder) / "data.zarr", progress=False)


def _store_of_container(
    container: PtychoDataContainerTorch, config: TrainingConfig, folder: Path
) -> GroupStore:
    """Write each pattern of a container once, and keep its groups for the training."""
    edge, size = container.shape[1], container.shape[-1]
    if size != config.model.group_size:
        raise DataContractError(
            f"the container's groups are {container.shape[1:]} but the model takes "
            f"{(config.model.N, config.model.N, config.model.group_size)}; set N and gridsize to "
            "fit"
        )
    rows, first, flat = np.unique(
        container.nn_indices.numpy(), return_index=True, return_inverse=True
    )
    table = flat.reshape(-1, size)
    centres = container.global_offsets.numpy()[:, 0, :, 0]
    members = centres[:, None] - np.moveaxis(container.local_offsets.numpy()[:, 0], -1, 1)
    positions = members.reshape(-1, 2)[first]
    if np.abs(positions[table] - members).max() > _SAME_POSITION:
        raise DataContractError(
            "the container has patterns of the same nn_indices at different positions: it holds "
            "groups of several scans; train on a store of these scans"
        )
    patterns = np.moveaxis(container.X.numpy(), -1, 1).reshape(-1, edge, edge)[first]
    scan = Scan(
        name="the container",
        patterns=ArrayPatterns(patterns),
        measurement_domain="amplitude",
        positions=positions,
        probe=container.probe_modes,
        object_guess=container.YY_full,
        scan_index=rows.astype(np.int64),
    )
    store = build_group_store(scan, folder / "data.zarr", progress=False)
    # Training drops the held-out neighbours where its validation data have too few positions.
    for asked in (config, replace(config, overlap_weight=0.0, n_images=None)):
        groups = training_groups(asked, store)
        held_out = _held_out(positions, table, groups.group_size - size)
        store.keep_groups(replace(groups, nn_indices=np.hstack([table, held_out])))
    return store


def _held_out(
    positions: NDArray[np.float64], table: NDArray[np.int64], number: int
) -> NDArray[np.int64]:
    """Find the nearest positions to each group's centre that are no members of it."""
    size = table.shape[1]
    if not number:
        return np.empty((len(table), 0), np.int64)
    _, nearest = cKDTree(positions).query(positions[table].mean(axis=1), k=size + number)
    is_member = (nearest[:, :, None] == table[:, None]).any(axis=2)
    order = np.argsort(is_member, axis=1, kind="stable")[:, :number]
    return np.take_along_axis(nearest, order, axis=1)


def _raw_data(data: object) -> RawDataTorch:
    if isinstance(data, str | Path):
        return RawDataTorch.from_file(data)
    if isinstance(data, Scan):
        return RawDataTorch.from_scan(data)
    if isinstance(data, RawDataTorch):
        return data
    raise DataContractError(
        f"the data are a {type(data).__name__}; pass a RawDataTorch, a container, a store, a scan "
        "or a path"
    )
