"""ptychodus's experiments: patterns in `diffraction.h5` beside `product.h5`.

A product that carries its patterns in `/raw_data` is read too.
"""

import json
import logging
from pathlib import Path

import numpy as np

from ptychostream.datasets.sources.hdf5_links import unreadable
from ptychostream.datasets.sources.hdf5_patterns import Hdf5Patterns, is_hdf5, write_counts
from ptychostream.datasets.sources.pairing import pair_by_index
from ptychostream.datasets.sources.ptychodus.conventions import (
    ASSUMED_DETECTOR_PIXEL_M,
    HALF_PIXEL,
)
from ptychostream.datasets.sources.ptychodus.product import read_product_tables, write_product
from ptychostream.datasets.sources.ptychopinn_metadata import photons_of_hdf5
from ptychostream.errors import DataContractError
from ptychostream.exchange import whole_folder
from ptychostream.hdf5_files import open_hdf5, whole_hdf5
from ptychostream.scan import MeasurementDomain, Scan, ScanMetadata

logger = logging.getLogger(__name__)

#: Names that ptychodus looks for in a folder.
DIFFRACTION_FILE = "diffraction.h5"
PRODUCT_FILE = "product.h5"


def is_ptychodus_product(path: Path) -> bool:
    """Return whether a path holds a product together with its patterns.

    Returns True for a folder of `diffraction.h5` and `product.h5`, either of these files beside
        the other, and a product with `/raw_data`.
    """
    if path.is_dir():
        return all((path / name).is_file() for name in (DIFFRACTION_FILE, PRODUCT_FILE))
    if not is_hdf5(path):
        return False
    if path.name in (DIFFRACTION_FILE, PRODUCT_FILE) and is_ptychodus_product(path.parent):
        return True
    try:
        with open_hdf5(path) as file:
            return "probe_position_x_m" in file and "raw_data" in file
    except OSError as error:
        raise unreadable(path, error) from error


def read_ptychodus_product(path: Path, measurement_domain: MeasurementDomain | None = None) -> Scan:
    """Read a product and its patterns; the patterns stay on disk."""
    folder = path if path.is_dir() else path.parent
    product, stack = folder / PRODUCT_FILE, folder / DIFFRACTION_FILE
    name, domain = "patterns", measurement_domain or "counts"
    if path.is_file() and not (product.is_file() and stack.is_file()):
        product = stack = path
        name, domain = "raw_data/diffraction", measurement_domain or "amplitude"
    tables = read_product_tables(product)
    pixel, positions_m = tables["pixel"], tables["positions_m"]
    if not (np.isfinite(pixel).all() and (pixel > 0).all()):
        raise DataContractError(
            f"'{product}': object pixels of {pixel.tolist()} m; their size must be positive"
        )
    try:
        with open_hdf5(stack) as file:
            if name not in file:
                raise DataContractError(
                    f"'{stack}' lacks '{name}'; it holds {', '.join(map(repr, file))}"
                )
            data = file[name]
            shape, dtype = data.shape, data.dtype
            if len(shape) != 3:
                raise DataContractError(f"'{stack}': '{name}' is {shape}, expected (M, N, N)")
            number = len(tables["indexes"]) if "indexes" not in file else len(file["indexes"])
            if number != shape[0]:
                raise DataContractError(f"'{stack}' has {shape[0]} patterns but {number} indexes")
            index = np.arange(number) if "indexes" not in file else np.asarray(file["indexes"])
            bad = np.asarray(file["bad_pixels"][:], bool) if "bad_pixels" in file else None
            detector = data.attrs.get("detector_pixel_width_m")
            nphotons = photons_of_hdf5(file, f"'{stack}'")
            origin = json.loads(file.attrs.get("provenance", "{}"))
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise DataContractError(f"'{stack}' can't be read: {error}; copy it again") from error
    pairing = pair_by_index(index.astype(np.int64), tables["indexes"], positions_m)
    logger.info("'%s': %s", stack, pairing.report())
    pixels = (pairing.positions - tables["centre_m"]) / pixel + tables["middle"] + HALF_PIXEL
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
            nphotons=nphotons,
        ),
        provenance={
            **origin,
            "format": "ptychodus product",
            "file": stack.name,
            "product": product.name,
            "pairing": pairing.report(),
        },
    )


def write_diffraction(scan: Scan, path: Path) -> None:
    """Write a scan's patterns as ptychodus's diffraction file, block by block.

    The file appears under its name only when it is complete. Amplitudes are written as counts.
    """
    pixel = scan.metadata.detector_pixel_size_m or ASSUMED_DETECTOR_PIXEL_M
    with whole_hdf5(path) as file:
        patterns = write_counts(scan, file)
        patterns.attrs["detector_pixel_width_m"] = pixel
        patterns.attrs["detector_pixel_height_m"] = pixel
        file["indexes"] = np.arange(scan.num_patterns)
        file.attrs["provenance"] = json.dumps(scan.provenance)


def write_ptychodus_experiment(scan: Scan, folder: Path) -> None:
    """Write `diffraction.h5` and `product.h5`, with which `ptychodus -b -i FOLDER` starts."""
    if scan.object_guess is None:
        raise DataContractError(
            f"{scan.name} has no object guess, which a product needs; write training data instead"
        )
    # Together: an earlier product does not belong to these patterns.
    with whole_folder(folder, (DIFFRACTION_FILE, PRODUCT_FILE)) as staged:
        write_diffraction(scan, staged / DIFFRACTION_FILE)
        write_product(
            staged / PRODUCT_FILE,
            obj=scan.object_guess,
            probe=scan.probe,
            positions=scan.positions,
            metadata=scan.metadata,
            name=scan.name,
            comments=json.dumps(scan.provenance),
        )
