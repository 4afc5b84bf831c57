"""Objects as ptychodus product files (HDF5)."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.files import whole_file
from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import ScanMetadata

#: Geometry that stands in a product where the scan does not say it; `comments` says so.
ASSUMED_ENERGY_EV = 8800.0
ASSUMED_DISTANCE_M = 1.9
ASSUMED_DETECTOR_PIXEL_M = 75e-6


def object_pixel_size_m(metadata: ScanMetadata, patch_size: int) -> tuple[float, bool]:
    """Find the edge of an object pixel.

    Returns
    -------
    size : float
        In metres: as recorded, else wavelength · distance / (N · detector pixel).
    """
    if metadata.object_pixel_size_m is not None:
        return metadata.object_pixel_size_m, False
    known = (metadata.energy_eV, metadata.detector_distance_m, metadata.detector_pixel_size_m)
    energy, distance, pixel = (
        assumed if value is None else value
        for value, assumed in zip(
            known, (ASSUMED_ENERGY_EV, ASSUMED_DISTANCE_M, ASSUMED_DETECTOR_PIXEL_M), strict=True
        )
    )
    return far_field_pixel_m(energy, distance, pixel, patch_size), None in known


def write_product(
    path: Path,
    *,
    obj: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    positions: NDArray[np.float64],
    metadata: ScanMetadata,
    origin: tuple[float, float] = (0, 0),
    numbers: NDArray[np.int64] | None = None,
    losses: Sequence[float] = (),
    name: str = "ptychostream",
    comments: str = "",
) -> None:
    """Write a product that ptychodus opens.

    ptychodus puts the coordinate of a patch's centre between its two middle pixels, half a
    pixel before ours, and measures from the object's centre; both are converted here.

    Parameters
    ----------
    path : Path
        The file; it appears under its name only when it is complete.
    obj : (H, W) complex64
        The object.
    probe : (P, N, N) complex64
        Illumination.
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    metadata : ScanMetadata
        What is known; the rest is assumed, and `comments` says so.
    origin : (float, float)
        Scan position (x, y) of the object's first pixel.
    numbers : (M,) int64, optional
        The pattern that each position belongs to; None is 0, 1, ….
    comments : str
        What else should be known, such as where the object comes from.
    """
    pixel, is_assumed = object_pixel_size_m(metadata, probe.shape[-1])
    is_assumed = is_assumed or None in (metadata.energy_eV, metadata.detector_distance_m)
    height, width = obj.shape
    metres = (positions - 0.5) * pixel
    energy = metadata.energy_eV or ASSUMED_ENERGY_EV
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file.attrs["name"] = name
        assumed = "geometry assumed: the scan does not record all of it" if is_assumed else ""
        file.attrs["comments"] = "\n".join(filter(None, (assumed, comments)))
        file.attrs["detector_object_distance_m"] = (
            metadata.detector_distance_m or ASSUMED_DISTANCE_M
        )
        # ptychodus 1.6 reads the first name, 1.7 both.
        file.attrs["probe_energy_eV"] = energy
        file.attrs["photon_energy_eV"] = energy
        file.attrs["exposure_time_s"] = 0.0
        file.attrs["probe_photon_count"] = float((np.abs(probe) ** 2).sum())
        file.attrs["mass_attenuation_m2_kg"] = 0.0
        file.attrs["tomography_angle_deg"] = 0.0
        file["probe_position_indexes"] = np.arange(len(positions)) if numbers is None else numbers
        file["probe_position_x_m"] = metres[:, 0]
        file["probe_position_y_m"] = metres[:, 1]
        beam = file.create_dataset("probe", data=probe[None])
        target = file.create_dataset("object", data=obj[None])
        for dataset in (beam, target):
            dataset.attrs["pixel_width_m"] = pixel
            dataset.attrs["pixel_height_m"] = pixel
        target.attrs["center_x_m"] = (origin[0] + (width - 1) / 2) * pixel
        target.attrs["center_y_m"] = (origin[1] + (height - 1) / 2) * pixel
        file["object_layer_spacing_m"] = np.empty(0)
        file["loss_values"] = np.asarray(losses, dtype=float)
        file["loss_epochs"] = np.arange(1, len(losses) + 1)
