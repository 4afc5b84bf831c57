"""ptypy's prepared data, `.ptyd`: chunks of patterns and positions, and their geometry."""

from pathlib import Path
from typing import Any

import numpy as np

from ptychostream.datasets.sources.hdf5_links import open_linked_hdf5
from ptychostream.datasets.sources.hdf5_patterns import hdf5_patterns, is_hdf5
from ptychostream.datasets.sources.joined import JoinedPatterns
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.errors import DataContractError
from ptychostream.scan import ScanMetadata


def is_ptyd(path: Path) -> bool:
    """Return whether a file holds chunks of patterns and their metadata, as ptypy writes them."""
    if not is_hdf5(path):
        return False
    with open_linked_hdf5(path) as file:
        return "chunks" in file and ("meta" in file or "info" in file)


def read_ptyd(path: Path, measurement_domain: Any = None) -> ScanParts:
    """Read ptypy's prepared data; energy in keV, lengths in metres, positions (y, x)."""
    with open_linked_hdf5(path) as file:
        names = sorted(
            (name for name in file["chunks"] if "data" in file["chunks"][name]),
            key=lambda name: (len(name), name),
        )
        if not names:
            raise DataContractError(f"'{path}': 'chunks' holds no patterns")
        chunks = [file["chunks"][name] for name in names]
        sources = [hdf5_patterns(file, f"chunks/{name}/data", path) for name in names]
        positions = None
        if all("positions" in chunk for chunk in chunks):
            tables = [np.asarray(chunk["positions"][()], np.float64) for chunk in chunks]
            positions = np.concatenate([table.reshape(-1, 2) for table in tables])[:, ::-1]
        weights = [
            np.asarray(group[key][()])
            for group, key in (
                *((chunk, "weights") for chunk in chunks),
                *((file[place], "weight2d") for place in ("meta", "info") if place in file),
            )
            if key in group
        ]
        bad = None
        for weight in weights:
            if weight.ndim >= 2:
                zero = (weight == 0).all(axis=tuple(range(weight.ndim - 2)))
                bad = zero if bad is None else bad | zero
        meta = file["meta"] if "meta" in file else file["info"]
        energy, distance, pixel = (_number(meta, key) for key in ("energy", "distance", "psize"))
    return ScanParts(
        name=f"'{path}'",
        patterns=sources[0] if len(sources) == 1 else JoinedPatterns(sources),
        measurement_domain=measurement_domain or "counts",
        positions=positions,
        position_unit="m",
        bad_pixels=bad if bad is not None and bad.any() else None,
        metadata=ScanMetadata(
            energy_eV=None if energy is None else energy * 1e3,
            detector_distance_m=distance,
            detector_pixel_size_m=pixel,
        ),
        provenance={"format": "ptyd", "file": path.name},
    )


def _number(group: Any, name: str) -> float | None:
    if name not in group:
        return None
    values = np.ravel(group[name][()])
    if not len(values) or values.dtype.kind not in "iuf" or not float(values[-1]) > 0:
        return None
    return float(values[-1])
