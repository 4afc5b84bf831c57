"""Read CXI files, and NXptycho-style HDF5 of the same content.

Each quantity is looked for in the places that the CXI 1.6 and NXptycho conventions name; the
first that exists counts. Patterns may lie in other files, by external links or virtual datasets.
"""

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.hdf5_patterns import Hdf5Patterns, is_hdf5
from ptychostream.errors import DataContractError
from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import MeasurementDomain, Scan, ScanMetadata

_JOULE_PER_EV = 1.602176634e-19

logger = logging.getLogger(__name__)

#: Flags of a CXI mask that tell what was done with a good pixel: it is in a peak's mask, an
#: artefact or the background was corrected, it is a peak of the hit finder, it has a signal.
_REMARKS = 0x20 | 0x800 | 0x2000 | 0x4000 | 0x10000

#: Lengths that differ by less are taken for the same.
_SAME = 1e-3

_PLACES = {
    "patterns": (
        "entry_1/data_1/data",
        "entry_1/instrument_1/detector_1/data",
        "entry/data/data",
        "entry/instrument/detector/data",
    ),
    "translation": (
        "entry_1/data_1/translation",
        "entry_1/sample_1/geometry_1/translation",
        "entry_1/instrument_1/detector_1/translation",
    ),
    "x": ("entry/sample/transformations/x_translation", "entry/data/x_set"),
    "y": ("entry/sample/transformations/y_translation", "entry/data/y_set"),
    "energy_J": ("entry_1/instrument_1/source_1/energy", "entry_1/instrument_1/beam_1/energy"),
    "energy_eV": ("entry/instrument/beam/incident_energy", "entry/instrument/beam/energy"),
    "distance": (
        "entry_1/instrument_1/detector_1/distance",
        "entry/instrument/detector/distance",
    ),
    "pixel": (
        "entry_1/instrument_1/detector_1/x_pixel_size",
        "entry/instrument/detector/x_pixel_size",
    ),
    "pixel_y": (
        "entry_1/instrument_1/detector_1/y_pixel_size",
        "entry/instrument/detector/y_pixel_size",
    ),
    "mask": (
        "entry_1/instrument_1/detector_1/mask",
        "entry/instrument/detector/pixel_mask",
    ),
    "probe": (
        "entry_1/instrument_1/source_1/illumination",
        "entry_1/instrument_1/source_1/probe",
        "entry_1/instrument_1/detector_1/probe_guess",
        "entry/instrument/beam/probe",
    ),
}


def is_cxi(path: Path) -> bool:
    """Say whether a file holds patterns where CXI or NXptycho files hold them."""
    if not is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return _find(file, "patterns") is not None
    except OSError as error:
        raise DataContractError(f"'{path}' is damaged HDF5: {error}") from error


def read_cxi(path: Path, measurement_domain: MeasurementDomain | None = None) -> Scan:
    """Read a CXI or NXptycho-style file; the patterns stay on disk.

    Positions are metres in the object plane. They become pixels of size
    wavelength · distance / (N · detector pixel), such that the first patch in each direction
    begins at pixel 0.

    Raises
    ------
    DataContractError
        If a quantity is missing or damaged; the message names the places where it was looked for.
    """
    try:
        with h5py.File(path, "r") as file:
            name = _required(file, path, "patterns")
            patterns = file[name]
            shape, dtype = patterns.shape, patterns.dtype
            if len(shape) != 3:
                raise DataContractError(f"'{path}': '{name}' is {shape}, expected (M, N, N)")
            energy = _scalar(file, "energy_eV")
            joule = _scalar(file, "energy_J")
            if energy is None and joule is not None:
                energy = joule / _JOULE_PER_EV
            distance, pixel = _scalar(file, "distance"), _scalar(file, "pixel")
            pixel_y = _scalar(file, "pixel_y") or pixel
            metres = _positions(file, path)
            probe = np.asarray(file[_required(file, path, "probe")][:], np.complex64)
            mask_name = _find(file, "mask")
            mask = None if mask_name is None else np.asarray(file[mask_name][:])
            if mask is not None and mask_name == _PLACES["mask"][0] and mask.dtype.kind in "iu":
                mask = mask.astype(np.int64) & ~_REMARKS
            mask = None if mask is None else mask != 0
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataContractError):
            raise
        raise DataContractError(f"'{path}' can't be read: {error}; copy it again") from error
    if energy is None or distance is None or pixel is None or pixel_y is None:
        raise DataContractError(
            f"'{path}' lacks the photon energy ({energy} eV), the detector distance ({distance} m) "
            f"or its pixel size ({pixel} m), without which positions are not pixels"
        )
    if abs(pixel_y / pixel - 1) > _SAME:
        logger.warning(
            "'%s': detector pixels are %g m wide and %g m high: positions in object pixels respect "
            "that, sizes in metres are those along x",
            path,
            pixel,
            pixel_y,
        )
    sizes = [far_field_pixel_m(energy, distance, edge, shape[-1]) for edge in (pixel, pixel_y)]
    pixels = (metres - metres.min(axis=0)) / sizes + shape[-1] / 2
    return Scan(
        name=f"'{path}'",
        patterns=Hdf5Patterns(path, name, shape, dtype),
        measurement_domain=measurement_domain or "counts",
        positions=pixels,
        probe=probe[None] if probe.ndim == 2 else probe.reshape(-1, *probe.shape[-2:]),
        bad_pixels=mask,
        metadata=ScanMetadata(
            energy_eV=energy,
            detector_distance_m=distance,
            detector_pixel_size_m=pixel,
            object_pixel_size_m=sizes[0],
        ),
        provenance={"format": "cxi", "file": path.name, "patterns": name},
    )


def _find(file: Any, quantity: str) -> str | None:
    return next((place for place in _PLACES[quantity] if place in file), None)


def _required(file: Any, path: Path, quantity: str) -> str:
    place = _find(file, quantity)
    if place is None:
        raise DataContractError(
            f"'{path}' has no {quantity}: looked for {', '.join(_PLACES[quantity])}; "
            "add it, or convert the file to NPZ"
        )
    return place


def _scalar(file: Any, quantity: str) -> float | None:
    place = _find(file, quantity)
    return None if place is None else float(np.ravel(file[place][()])[0])


def _positions(file: Any, path: Path) -> NDArray[np.float64]:
    place = _find(file, "translation")
    if place is not None:
        table = np.asarray(file[place][:], np.float64)
        if table.ndim != 2 or table.shape[1] not in (2, 3):
            raise DataContractError(f"'{path}': '{place}' is {table.shape}, expected (M, 3)")
        return table[:, :2]
    x, y = (np.asarray(file[_required(file, path, axis)][:], np.float64) for axis in "xy")
    if x.shape != y.shape or x.ndim != 1:
        raise DataContractError(f"'{path}' has x positions {x.shape} but y positions {y.shape}")
    return np.stack([x, y], axis=1)
