"""Group stores as diffraction data of ptychodus."""

import functools
import logging
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.diffraction import DiffractionDataset, DiffractionFileReader

from ptychodus_ext.files.lazy_dataset import Part, make_dataset
from ptychostream.datasets.store import GroupStore, open_group_store
from ptychostream.datasets.store.format import CHUNKS_PER_SHARD, MANIFEST
from ptychostream.datasets.store.zipped import holds_store
from ptychostream.errors import DataContractError
from ptychostream.scan import to_counts

logger = logging.getLogger("ptychostream.ptychodus")

_ROOT = "zarr.json"

#: Name of the folder of the store that was opened last, until ptychodus has named its data.
_opened: list[str] = []


class StoreReader(DiffractionFileReader):
    """Reads a store shard by shard; stored amplitudes are squared."""

    def read(self, file_path: Path) -> DiffractionDataset:
        """Open a store; no pattern is read yet.

        Patterns come in the order in which they are stored, each with its own number: its
        `scan_index` where these are all different, otherwise its row.

        `file_path`: `zarr.json` in the store's folder, or a zip file of the folder or of its
            content.
        """
        store = _open(file_path)
        _opened[:] = [file_path.parent.stem] if file_path.name in (_ROOT, MANIFEST) else []
        if store.num_experiments > 1:
            raise DataContractError(
                f"'{file_path}' holds {store.num_experiments} experiments but ptychodus takes one "
                "scan at a time; build a store of each"
            )
        if not store.has_photon_counts:
            logger.warning(
                "'%s' holds amplitudes without photon counts: their squares are taken as counts, "
                "whose scale is arbitrary",
                file_path,
            )
        numbers = store.pattern_numbers(0)
        shards = store.storage_rows // (store.patterns_per_chunk * CHUNKS_PER_SHARD)
        parts = []
        for shard in np.unique(shards):
            # Within a shard any order costs the same.
            rows = np.flatnonzero(shards == shard)
            parts.append(Part(f"shard {shard}", numbers[rows], partial(_read, store, rows)))
        return make_dataset(
            file_path,
            parts,
            store.dtype if store.measurement_domain == "counts" else np.dtype(np.float32),
            store.bad_pixels[0],
            store.metadata_of(0),
        )


def name_stores(module: ModuleType) -> None:
    """Let ptychodus name a store after its folder; it names data after the file, `zarr.json`."""
    kind: Any = getattr(module, "DiffractionDatasetRepository", None)
    create = getattr(kind, "create_dataset", None)
    if create is None or hasattr(create, "__wrapped__"):
        return

    @functools.wraps(create)
    def create_dataset(self: Any, name: str) -> Any:
        is_store = bool(_opened) and name in (Path(_ROOT).stem, Path(MANIFEST).stem)
        return create(self, _opened.pop() if is_store else name)

    kind.create_dataset = create_dataset


def _read(store: GroupStore, rows: NDArray[np.int64]) -> NDArray[Any]:
    return to_counts(
        store.diffraction(rows),
        store.measurement_domain,
        whole=bool(store.attributes["whole_counts"]),
    )


def _open(file_path: Path) -> GroupStore:
    if file_path.name in (_ROOT, MANIFEST):
        return open_group_store(file_path.parent)
    if holds_store(file_path):
        return open_group_store(file_path)
    raise DataContractError(
        f"'{file_path}' is no group store; open '{_ROOT}' in the store's folder, or a zip file of "
        "the folder"
    )
