"""From patches to the object: a streaming, weighted sum on the scan's own grid."""

from ptychostream.stitching.accumulator import PatchAccumulator, stitch_patches
from ptychostream.stitching.phase_alignment import PhaseAlignment
from ptychostream.stitching.reassembly import reassemble_position
from ptychostream.stitching.refinement import ObjectRefinement
from ptychostream.stitching.spool import PatchSpool

__all__ = [
    "ObjectRefinement",
    "PatchAccumulator",
    "PatchSpool",
    "PhaseAlignment",
    "reassemble_position",
    "stitch_patches",
]
