"""NSLS-II's HXN: amplitudes with their centre in the corner, and positions in micrometres."""

from pathlib import Path
from typing import Any

import numpy as np

from ptychostream.datasets.sources.hdf5_links import open_linked_hdf5
from ptychostream.datasets.sources.hdf5_patterns import hdf5_patterns, is_hdf5
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.units import HC_EV_M
from ptychostream.scan import ScanMetadata


def is_hxn(path: Path) -> bool:
    """Return whether a file holds `diffamp`."""
    if not is_hdf5(path):
        return False
    with open_linked_hdf5(path) as file:
        return "diffamp" in file


def read_hxn(path: Path, measurement_domain: Any = None) -> ScanParts:
    """Read `diffamp`, `points` (2, M), `lambda_nm`, `z_m` and `ccd_pixel_um`."""
    with open_linked_hdf5(path) as file:
        patterns = hdf5_patterns(file, "diffamp", path)
        points = None
        if "points" in file:
            points = np.asarray(file["points"][()], np.float64)
            points = (points.T if points.shape[0] == 2 else points)[:, :2] * 1e-6

        def number(name: str) -> float | None:
            return float(np.ravel(file[name][()])[0]) if name in file else None

        wavelength, distance, pixel = (number(k) for k in ("lambda_nm", "z_m", "ccd_pixel_um"))
    return ScanParts(
        name=f"'{path}'",
        patterns=patterns,
        measurement_domain=measurement_domain or "amplitude",
        positions=points,
        position_unit="m",
        metadata=ScanMetadata(
            energy_eV=HC_EV_M / (wavelength * 1e-9) if wavelength else None,
            detector_distance_m=distance,
            detector_pixel_size_m=None if pixel is None else pixel * 1e-6,
        ),
        swap_quadrants=True,
        provenance={"format": "hxn", "file": path.name},
    )
