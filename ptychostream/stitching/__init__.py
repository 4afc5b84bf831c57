"""From patches to the object: a streaming, weighted sum on the scan's own grid."""

from ptychostream.stitching.accumulator import PatchAccumulator, PlacedPatches, stitch_patches
from ptychostream.stitching.canvas import DeviceCanvas, HostCanvas
from ptychostream.stitching.phase_alignment import PhaseAlignment
from ptychostream.stitching.placement import Placement
from ptychostream.stitching.reassembly import reassemble_position
from ptychostream.stitching.refinement import ObjectRefinement
from ptychostream.stitching.spool import PatchSpool
from ptychostream.stitching.weights import WeightName, patch_weight

__all__ = [
    "DeviceCanvas",
    "HostCanvas",
    "ObjectRefinement",
    "PatchAccumulator",
    "PatchSpool",
    "PhaseAlignment",
    "PlacedPatches",
    "Placement",
    "WeightName",
    "patch_weight",
    "reassemble_position",
    "stitch_patches",
]
