"""ptychodus's products: object, probe and positions in metres, without patterns."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.ptychodus.conventions import (
    ASSUMED_DISTANCE_M,
    ASSUMED_ENERGY_EV,
    HALF_PIXEL,
    object_pixel_size_m,
)
from ptychostream.errors import DataContractError
from ptychostream.hdf5_files import open_hdf5, whole_hdf5
from ptychostream.scan import ScanMetadata

logger = logging.getLogger(__name__)

_KEYS = ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m", "probe")


def read_product_tables(path: Path) -> dict[str, Any]:
    """Read what surrounds the patterns."""
    try:
        with open_hdf5(path) as file:
            missing = [key for key in (*_KEYS, "object") if key not in file]
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
            x, y = (np.asarray(file[key][:], float) for key in _KEYS[1:3])
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

    `path`: the file; it appears under its name only when it is complete.
    `obj` (H, W), `probe` (P, N, N).
    `positions` (M, 2): scan positions (x, y), in pixels.
    `metadata`: what is known; the rest is assumed, and `comments` says so.
    `origin`: scan position (x, y) of the object's first pixel.
    `numbers` (M,): the pattern that each position belongs to; None is 0, 1, ….
    `comments`: what else should be known, such as where the object comes from.
    """
    pixel, is_assumed = object_pixel_size_m(metadata, probe.shape[-1])
    is_assumed = is_assumed or None in (metadata.energy_eV, metadata.detector_distance_m)
    height, width = obj.shape
    metres = (positions - HALF_PIXEL) * pixel
    energy = metadata.energy_eV or ASSUMED_ENERGY_EV
    with whole_hdf5(path) as file:
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
