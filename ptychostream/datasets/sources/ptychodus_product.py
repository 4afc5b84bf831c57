"""Read ptychodus's own files.

That is a folder of `diffraction.h5` and `product.h5`, or a product that carries its patterns in
`/raw_data`.
"""

import json
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.hdf5_patterns import Hdf5Patterns, is_hdf5
from ptychostream.datasets.sources.pairing import pair_by_index
from ptychostream.errors import DataContractError
from ptychostream.scan import MeasurementDomain, Scan, ScanMetadata

logger = logging.getLogger(__name__)

_PRODUCT_KEYS = ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m", "probe")
_HALF_PIXEL = 0.5


def is_ptychodus_product(path: Path) -> bool:
    """Say whether a path holds a product together with its patterns.

    Returns
    -------
    bool
        True for a folder of `diffraction.h5` and `product.h5`, either of these files beside the
        other, and a product with `/raw_data`.
    """
    if path.is_dir():
        return all((path / name).is_file() for name in ("diffraction.h5", "product.h5"))
    if not is_hdf5(path):
        return False
    if path.name in ("diffraction.h5", "product.h5") and is_ptychodus_product(path.parent):
        return True
    try:
        with h5py.File(path, "r") as file:
            return "probe_position_x_m" in file and "raw_data" in file
    except OSError as error:
        raise DataContractError(f"'{path}' is damaged HDF5: {error}") from error


def read_ptychodus_product(path: Path, measurement_domain: MeasurementDomain | None = None) -> Scan:
    """Read a product and its patterns; the patterns stay on disk.

    Raises
    ------
    DataContractError
        If a dataset is missing or damaged, or the arrays do not fit together.
    """
    folder = path if path.is_dir() else path.parent
    product, stack = folder / "product.h5", folder / "diffraction.h5"
    name, domain = "patterns", measurement_domain or "counts"
    if path.is_file() and not (product.is_file() and stack.is_file()):
        product = stack = path
        name, domain = "raw_data/diffraction", measurement_domain or "amplitude"
    tables = _read_product(product)
    pixel, positions_m = tables["pixel"], tables["positions_m"]
    if not (np.isfinite(pixel).all() and (pixel > 0).all()):
        raise DataContractError(
            f"'{product}': object pixels of {pixel.tolist()} m; their size must be positive"
        )
    try:
        with h5py.File(stack, "r") as file:
            if name not in file:
                raise DataContractError(
                    f"'{stack}' lacks '{name}'; it holds {', '.join(map(repr, file))}"
                )
            data = file[name]
            shape, dtype = data.shape, data.dtype
            index = np.arange(shape[0]) if "indexes" not in file else np.asarray(file["indexes"])
            bad = np.asarray(file["bad_pixels"][:], bool) if "bad_pixels" in file else None
            detector = data.attrs.get("detector_pixel_width_m")
            origin = json.loads(file.attrs.get("provenance", "{}"))
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise DataContractError(f"'{stack}' can't be read: {error}; copy it again") from error
    if len(index) != shape[0]:
        raise DataContractError(f"'{stack}' has {shape[0]} patterns but {len(index)} indexes")
    pairing = pair_by_index(index.astype(np.int64), tables["indexes"], positions_m)
    logger.info("'%s': %s", stack, pairing.report())
    pixels = (pairing.positions - tables["centre_m"]) / pixel + tables["middle"] + _HALF_PIXEL
    return Scan(
        name=f"'{path}'",
        patterns=Hdf5Patterns(stack, name, shape, dtype, pairing.rows),
        measurement_domain=domain,
        positions=pixels,
        probe=tables["probe"],
        object_guess=tables["object"],
        scan_index=index[pairing.rows].astype(np.int64),
        bad_pixels=bad,
        metadata=ScanMetadata(
            energy_eV=tables["energy"],
            detector_distance_m=tables["distance"],
            detector_pixel_size_m=None if detector is None else float(detector),
            object_pixel_size_m=float(pixel[0]),
        ),
        provenance={
            **origin,
            "format": "ptychodus product",
            "file": stack.name,
            "product": product.name,
            "pairing": pairing.report(),
        },
    )


def _read_product(path: Path) -> dict[str, Any]:
    """Read what surrounds the patterns."""
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in (*_PRODUCT_KEYS, "object") if key not in file]
            if missing:
                raise DataContractError(
                    f"'{path}' lacks {', '.join(map(repr, missing))}; it holds "
                    f"{', '.join(map(repr, file))}"
                )
            target = file["object"]
            needed = ("center_x_m", "center_y_m", "pixel_width_m", "pixel_height_m")
            lacking = [key for key in needed if key not in target.attrs]
            if lacking:
                raise DataContractError(f"'{path}': 'object' lacks the attributes {lacking}")
            obj = np.asarray(target[:], np.complex64)
            if obj.ndim == 3 and len(obj) > 1:
                logger.warning(
                    "'%s': the object has %d layers; their product is taken, as of a thin object",
                    path,
                    len(obj),
                )
            obj = obj.prod(axis=0) if obj.ndim == 3 else obj
            height, width = obj.shape
            x, y = (np.asarray(file[key][:], float) for key in _PRODUCT_KEYS[1:3])
            return {
                "indexes": np.asarray(file["probe_position_indexes"][:], np.int64),
                "positions_m": np.stack([x, y], axis=1),
                "probe": _modes(np.asarray(file["probe"][:], np.complex64), path),
                "object": obj,
                "middle": np.array([(width - 1) / 2, (height - 1) / 2]),
                "centre_m": np.array([float(target.attrs[key]) for key in needed[:2]]),
                "pixel": np.array([float(target.attrs[key]) for key in needed[2:]]),
                "energy": _attribute(file, "photon_energy_eV", "probe_energy_eV"),
                "distance": _attribute(file, "detector_object_distance_m"),
            }
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataContractError):
            raise
        raise DataContractError(f"'{path}' can't be read: {error}; copy it again") from error


def _modes(probe: NDArray[np.complex64], path: Path) -> NDArray[np.complex64]:
    """Take the first coherent mode's incoherent ones: [H,W], [I,H,W] or [C,I,H,W]."""
    if not 2 <= probe.ndim <= 4:
        raise DataContractError(f"'{path}': 'probe' is {probe.shape}, expected 2 to 4 axes")
    if probe.ndim == 4:
        return probe[0]
    return probe if probe.ndim == 3 else probe[None]


def _attribute(file: Any, *names: str) -> float | None:
    for name in names:
        if name in file.attrs:
            return float(file.attrs[name])
    return None
