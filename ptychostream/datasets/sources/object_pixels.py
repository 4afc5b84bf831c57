"""From metres and detector pixels to pixels of the object: positions, and the probe's size."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.joining import Placed
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.position_changes import transform_matrix
from ptychostream.datasets.sources.preprocess import resize_in_fourier_space
from ptychostream.errors import DataContractError
from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import ScanMetadata

logger = logging.getLogger(__name__)

#: Detector pixels that differ by less are taken for square.
_SAME = 1e-3


@dataclass(frozen=True)
class Sizes:
    """Edges of a pattern in pixels: of the window, after binning, after cropping or padding."""

    edge: int
    binned: int
    final: int

    @classmethod
    def of(cls, edge: int, options: InputOptions) -> "Sizes":
        """Return the edges that the options make of a window's."""
        binned = edge // options.bin
        return cls(edge, binned, options.pad or options.crop or binned)


def pixel_sizes(
    metadata: ScanMetadata, height_m: float | None, edge: int
) -> NDArray[np.float64] | None:
    """Return the object's pixels (x, y) in metres; None where the geometry is not known."""
    energy, distance = metadata.energy_eV, metadata.detector_distance_m
    width = metadata.detector_pixel_size_m
    if energy is None or distance is None or width is None:
        known = metadata.object_pixel_size_m
        return None if known is None else np.array([known, known])
    return np.array(
        [far_field_pixel_m(energy, distance, size, edge) for size in (width, height_m or width)]
    )


def odd_geometry(metadata: ScanMetadata) -> list[str]:
    """Say which lengths of a geometry no detector has, as without their unit."""
    bounds = (
        ("the detector's distance", metadata.detector_distance_m, "distance", 1e-3, 200.0),
        ("the detector's pixel", metadata.detector_pixel_size_m, "detector_pixel", 1e-7, 1e-2),
    )
    return [
        f"{what} is {value:g} m, which looks like another unit: give it, --{option}"
        for what, value, option, low, high in bounds
        if value is not None and not low <= value <= high
    ]


def sized_probe(
    parts: ScanParts,
    probe: NDArray[np.complex64] | None,
    shape: tuple[int, int],
    sizes: Sizes,
) -> tuple[NDArray[np.complex64] | None, bool, NDArray[np.complex64] | None]:
    """Return the probe, whether it has the size after all changes, and the object guess."""
    edge, final = sizes.edge, sizes.final
    if probe is None:
        return None, final != sizes.binned and min(shape) != max(shape), parts.object_guess
    if probe.shape[-1] == edge:
        return probe, False, parts.object_guess
    if probe.shape[-1] == final:
        return probe, True, parts.object_guess
    if probe.shape[-1] == shape[0] == shape[1] == edge + 1:
        if not probe[:, -1].any() and not probe[:, :, -1].any():
            return probe[:, :-1, :-1], False, parts.object_guess
        return resize_in_fourier_space(probe, (edge, edge)), False, parts.object_guess
    fitting = " or ".join(str(size) for size in sorted({edge, final}))
    number = parts.patterns.shape[0] if parts.patterns is not None else 0
    raise DataContractError(
        f"{parts.name}: the probe is {probe.shape} but the patterns are {(number, *shape)}; "
        f"expected a probe of {fitting} px: give --crop {probe.shape[-1]}, or another --probe"
    )


def in_pixels(
    parts: ScanParts,
    placed: Placed,
    geometry: NDArray[np.float64] | None,
    options: InputOptions,
    sizes: Sizes,
    metadata: ScanMetadata,
    *,
    after: bool,
) -> tuple[NDArray[np.float64], dict[str, Any] | None]:
    """Convert positions to pixels of the object before patterns are cropped or padded.

    `geometry` (2,).
    `metadata`: what is known of the experiment, by the file and the options.
    `after`: whether the positions are in pixels after cropping and padding.
    """
    positions = (
        placed.values @ transform_matrix(options.position_transform, options.scan_rotation).T
    )
    final, factor = sizes.final, sizes.final / sizes.binned
    if placed.unit == "px":
        if after:
            positions = positions / factor
        if not np.array_equal(positions, placed.values) or options.step is not None:
            low = positions.min(axis=0)
            if (low < sizes.edge / 2).any() and parts.object_guess is None:
                positions = positions - low + final / 2 / factor
        return positions, None
    if geometry is None:
        lacking = [
            f"{what} (as --{option})"
            for option, what, value in (
                ("energy 8.8keV", "the photon energy", metadata.energy_eV),
                ("distance 1.9m", "the distance to the detector", metadata.detector_distance_m),
                ("detector_pixel 75um", "the detector's pixel", metadata.detector_pixel_size_m),
            )
            if value is None
        ]
        raise DataContractError(
            f"{parts.name}: positions are lengths, and how many pixels of the object they are "
            "follows from the photon energy, the distance to the detector and the detector's "
            f"pixel. Not known, and to be given: {', '.join(lacking)}"
        )
    if abs(geometry[1] / geometry[0] - 1) > _SAME:
        width = parts.metadata.detector_pixel_size_m
        logger.warning(
            "%s: detector pixels are %g m wide and %g m high: positions in object pixels respect "
            "that, sizes in metres are those along x",
            parts.name,
            width,
            parts.detector_pixel_height_m,
        )
    origin = positions.min(axis=0)
    pixels = (positions - origin) / geometry + final / 2 / factor
    stage = {
        "origin_m": origin.tolist(),
        "pixel_m": (geometry / factor).tolist(),
    }
    return pixels, stage
