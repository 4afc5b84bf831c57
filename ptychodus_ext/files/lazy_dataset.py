"""Patterns that ptychodus reads part by part, when it needs them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.diffraction import (
    CropRegion,
    DiffractionArray,
    DiffractionDataset,
    DiffractionDatasetLayoutNode,
    DiffractionMetadata,
    SimpleDiffractionDataset,
)
from ptychodus.api.geometry import ImageExtent, PixelGeometry

from ptychodus_ext.compatibility import known_fields
from ptychostream.scan import ScanMetadata


class Part(NamedTuple):
    """Patterns that are read together.

    `label`: says in messages which they are.
    `indexes` (B,): the numbers by which ptychodus pairs patterns with positions.
    """

    label: str
    indexes: NDArray[np.int64]
    read: Callable[[], NDArray[Any]]


class LazyArray(DiffractionArray):
    """One part, read each time that it is requested, and not kept."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self._part = part

    def get_label(self) -> str:
        """Name the part."""
        return self._part.label

    def get_indexes(self) -> NDArray[np.int64]:
        """Return the patterns' numbers."""
        return self._part.indexes

    def get_num_patterns(self) -> int:
        """Count the patterns, without reading them."""
        return len(self._part.indexes)

    def get_patterns(self, *, read_region: CropRegion | None = None) -> NDArray[Any]:
        """Read the patterns.

        Returns (B, N, N): counts; cut to the region, of which only a copy is kept.
        """
        patterns = self._part.read()
        if read_region is None:
            return patterns
        return np.ascontiguousarray(read_region.apply_to(patterns))


def make_dataset(
    file_path: Path,
    parts: Sequence[Part],
    dtype: np.dtype[Any],
    bad_pixels: NDArray[np.bool_],
    known: ScanMetadata,
) -> DiffractionDataset:
    """Put parts together as ptychodus's dataset.

    `bad_pixels` (N, N): True where the detector can't be trusted.
    """
    height, width = bad_pixels.shape
    size = known.detector_pixel_size_m
    optional: dict[str, Any] = {
        "detector_distance_m": known.detector_distance_m,
        "detector_pixel_geometry": None if size is None else PixelGeometry(size, size),
    }
    metadata = DiffractionMetadata(
        [len(part.indexes) for part in parts],
        dtype,
        ImageExtent(width, height),
        file_path=file_path,
        **known_fields(DiffractionMetadata, optional, energy_eV=known.energy_eV),
    )
    layout = DiffractionDatasetLayoutNode.create_root()
    for part in parts:
        layout.add_child(part.label, str(dtype), f"{len(part.indexes)} x {height} x {width}")
    return SimpleDiffractionDataset(
        metadata, layout, [LazyArray(part) for part in parts], bad_pixels
    )
