"""Write a scan as the two files with which ptychodus starts: patterns and product."""

import json
from pathlib import Path

import h5py
import numpy as np

from ptychostream.datasets.sources.hdf5_patterns import write_counts
from ptychostream.datasets.sources.ptychodus_write_product import (
    ASSUMED_DETECTOR_PIXEL_M,
    write_product,
)
from ptychostream.errors import DataContractError
from ptychostream.files import whole_file
from ptychostream.scan import Scan

#: Names that ptychodus looks for in a folder.
DIFFRACTION_FILE = "diffraction.h5"
PRODUCT_FILE = "product.h5"


def write_diffraction(scan: Scan, path: Path) -> None:
    """Write a scan's patterns as ptychodus's diffraction file, block by block.

    The file appears under its name only when it is complete. Amplitudes are written as counts.
    """
    pixel = scan.metadata.detector_pixel_size_m or ASSUMED_DETECTOR_PIXEL_M
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        patterns = write_counts(scan, file)
        patterns.attrs["detector_pixel_width_m"] = pixel
        patterns.attrs["detector_pixel_height_m"] = pixel
        file["indexes"] = np.arange(scan.num_patterns)
        file.attrs["provenance"] = json.dumps(scan.provenance)


def write_ptychodus_experiment(scan: Scan, folder: Path) -> None:
    """Write `diffraction.h5` and `product.h5`, with which `ptychodus -b -i FOLDER` starts.

    Raises
    ------
    DataContractError
        If the scan has no object.
    """
    if scan.object_guess is None:
        raise DataContractError(
            f"{scan.name} has no object guess, which a product needs; write training data instead"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_diffraction(scan, folder / DIFFRACTION_FILE)
    write_product(
        folder / PRODUCT_FILE,
        obj=scan.object_guess,
        probe=scan.probe,
        positions=scan.positions,
        metadata=scan.metadata,
        name=scan.name,
        comments=json.dumps(scan.provenance),
    )
