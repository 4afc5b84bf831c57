"""Read and write ptychodus's HDF5 training data.

Datasets: `patterns` (M, N, N) counts, `bad_pixels` (N, N), `probe` (P, N, N), `object` (H, W),
`probe_position_x_px`, `probe_position_y_px` (M,), `object_pixel_width_m`,
`object_pixel_height_m`, `detector_object_distance_m` and `photon_energy_eV`. ptychodus puts a
position between the two middle pixels of its patch, half a pixel before ours.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ptychostream.datasets.sources.hdf5_links import unreadable
from ptychostream.datasets.sources.hdf5_patterns import Hdf5Patterns, is_hdf5, write_counts
from ptychostream.datasets.sources.ptychodus.conventions import HALF_PIXEL
from ptychostream.errors import DataContractError
from ptychostream.hdf5_files import open_hdf5, whole_hdf5
from ptychostream.scan import MeasurementDomain, Scan, ScanMetadata

_KEYS = ("patterns", "probe", "probe_position_x_px", "probe_position_y_px")


def is_ptychodus_training(path: Path) -> bool:
    """Return whether a file is HDF5 training data of ptychodus."""
    if not is_hdf5(path):
        return False
    try:
        with open_hdf5(path) as file:
            return "patterns" in file and "probe_position_x_px" in file
    except OSError as error:
        raise unreadable(path, error) from error


def read_ptychodus_training(
    path: Path, measurement_domain: MeasurementDomain | None = None
) -> Scan:
    """Read ptychodus's training data; the patterns stay on disk."""
    try:
        with open_hdf5(path) as file:
            missing = [key for key in _KEYS if key not in file]
            if missing:
                raise DataContractError(
                    f"'{path}' lacks {', '.join(map(repr, missing))}; it holds "
                    f"{', '.join(map(repr, file))}"
                )
            columns = [np.asarray(file[key][:], dtype=np.float64) for key in _KEYS[2:]]
            if len(columns[0]) != len(columns[1]):
                raise DataContractError(
                    f"'{path}' has {len(columns[0])} x but {len(columns[1])} y positions"
                )
            probe = np.asarray(file["probe"][:], dtype=np.complex64)
            patterns = file["patterns"]
            source = Hdf5Patterns(path, "patterns", patterns.shape, patterns.dtype)
            guess = np.asarray(file["object"][:], np.complex64) if "object" in file else None
            bad = np.asarray(file["bad_pixels"][:], bool) if "bad_pixels" in file else None
            origin = json.loads(file.attrs.get("provenance", "{}"))
            metadata = ScanMetadata(
                energy_eV=_scalar(file, "photon_energy_eV"),
                detector_distance_m=_scalar(file, "detector_object_distance_m"),
                object_pixel_size_m=_scalar(file, "object_pixel_width_m"),
            )
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, DataContractError):
            raise
        raise DataContractError(f"'{path}' can't be read: {error}; copy it again") from error
    return Scan(
        name=f"'{path}'",
        patterns=source,
        measurement_domain=measurement_domain or "counts",
        positions=np.stack(columns, axis=1) + HALF_PIXEL,
        probe=probe[None] if probe.ndim == 2 else probe,
        object_guess=guess,
        bad_pixels=bad,
        metadata=metadata,
        provenance={**origin, "format": "ptychodus training", "file": path.name},
    )


def write_ptychodus_training(scan: Scan, path: Path) -> None:
    """Write a scan as ptychodus's training data, pattern block by pattern block.

    The file appears under its name only when it is complete. Amplitudes are written as counts.

    `scan`: the scan; an object of ones is written where it has none.
    """
    with whole_hdf5(path) as file:
        write_counts(scan, file)
        file["probe"] = scan.probe
        guess = scan.object_guess
        if guess is None:
            height, width = np.ceil(scan.positions.max(axis=0)[::-1]).astype(int) + scan.N // 2
            guess = np.ones((height, width), np.complex64)
        file["object"] = guess
        file["probe_position_x_px"] = scan.positions[:, 0] - HALF_PIXEL
        file["probe_position_y_px"] = scan.positions[:, 1] - HALF_PIXEL
        known = scan.metadata
        for key, value in (
            ("object_pixel_width_m", known.object_pixel_size_m),
            ("object_pixel_height_m", known.object_pixel_size_m),
            ("detector_object_distance_m", known.detector_distance_m),
            ("photon_energy_eV", known.energy_eV),
        ):
            file[key] = np.nan if value is None else value
        file.attrs["provenance"] = json.dumps(scan.provenance)


def _scalar(file: Any, key: str) -> float | None:
    value = float(file[key][()]) if key in file else np.nan
    return value if np.isfinite(value) else None
