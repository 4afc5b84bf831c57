"""Conventions of ptychodus's files: where a position lies, and default geometry."""

from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import ScanMetadata

#: ptychodus puts a position between the two middle pixels of its patch, half a pixel before ours.
HALF_PIXEL = 0.5

#: Geometry that is written where the scan's is not known; a product's `comments` says so.
ASSUMED_ENERGY_EV = 8800.0
ASSUMED_DISTANCE_M = 1.9
ASSUMED_DETECTOR_PIXEL_M = 75e-6


def object_pixel_size_m(metadata: ScanMetadata, patch_size: int) -> tuple[float, bool]:
    """Find the edge of an object pixel.

    Returns `size`: metres, as recorded, else wavelength · distance / (N · detector pixel).
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
