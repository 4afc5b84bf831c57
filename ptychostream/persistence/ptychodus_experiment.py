"""Write a scan as the two files with which ptychodus starts: patterns and product."""

import json
from pathlib import Path

import h5py
import numpy as np

from ptychostream.errors import DataContractError
from ptychostream.persistence.product import ASSUMED_DETECTOR_PIXEL_M, write_product
from ptychostream.scan import Scan
from ptychostream.whole_files import whole_file

#: Names that ptychodus looks for in a folder.
DIFFRACTION_FILE = "diffraction.h5"
PRODUCT_FILE = "product.h5"


def write_diffraction(scan: Scan, path: Path) -> None:
    """Write a scan's patterns as ptychodus's diffraction file, block by block.

    The file appears under its name only when it is complete. Amplitudes are written as counts.

    Parameters
    ----------
    scan : Scan
        The scan.
    path : Path
        The file to make.
    """
    edge, number = scan.N, scan.num_patterns
    is_amplitude = scan.measurement_domain == "amplitude"
    dtype = np.dtype(np.float32) if is_amplitude else scan.patterns.dtype
    pixel = scan.metadata.detector_pixel_size_m or ASSUMED_DETECTOR_PIXEL_M
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        patterns = file.create_dataset(
            "patterns",
            (number, edge, edge),
            dtype,
            chunks=(min(number, 64), edge, edge),
            compression="lzf",
        )
        patterns.attrs["detector_pixel_width_m"] = pixel
        patterns.attrs["detector_pixel_height_m"] = pixel
        at = 0
        for block in scan.patterns.blocks(64):
            values = np.square(block, dtype=np.float32) if is_amplitude else block
            patterns[at : at + len(block)] = values
            at += len(block)
        bad = scan.bad_pixels
        file["bad_pixels"] = np.zeros((edge, edge), bool) if bad is None else bad
        file["indexes"] = np.arange(number)
        file.attrs["provenance"] = json.dumps(scan.provenance)


def write_ptychodus_experiment(scan: Scan, folder: Path) -> None:
    """Write `diffraction.h5` and `product.h5`, with which `ptychodus -b -i FOLDER` starts.

    Parameters
    ----------
    scan : Scan
        The scan, with its object.
    folder : Path
        Made if need be.

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
