"""From patches to the object: a streaming, weighted sum on the scan's own grid."""

from ptychostream.stitching.accumulator import PatchAccumulator, stitch_patches
from ptychostream.stitching.canvas import DeviceCanvas, HostCanvas
from ptychostream.stitching.interpolation import Placement
from ptychostream.stitching.placed_patches import PlacedPatches
from ptychostream.stitching.spool import PatchSpool
from ptychostream.stitching.weights import WeightName, patch_weight

__all__ = [
    "DeviceCanvas",
    "HostCanvas",
    "PatchAccumulator",
    "PatchSpool",
    "PlacedPatches",
    "Placement",
    "WeightName",
    "patch_weight",
    "stitch_patches",
]
