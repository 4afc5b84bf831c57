"""How large an object pixel is in far-field geometry."""

from dataclasses import replace

from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import ScanMetadata


def with_object_pixel(metadata: ScanMetadata, patch_size: int) -> ScanMetadata:
    """Add the object's pixel size where the rest of the geometry decides it.

    Returns
    -------
    ScanMetadata
        With wavelength · distance / (N · detector pixel) as object pixel, if it was unknown and
        energy, distance and detector pixel are known; else as given.

    Examples
    --------
    >>> known = ScanMetadata(energy_eV=8800.0, detector_distance_m=1.9, detector_pixel_size_m=75e-6)
    >>> f"{with_object_pixel(known, 64).object_pixel_size_m:.2e}"
    '5.58e-08'
    """
    energy, distance = metadata.energy_eV, metadata.detector_distance_m
    pixel = metadata.detector_pixel_size_m
    if metadata.object_pixel_size_m is not None or not (energy and distance and pixel):
        return metadata
    size = far_field_pixel_m(energy, distance, pixel, patch_size)
    return replace(metadata, object_pixel_size_m=size)
