"""From patches to the object: a streaming, weighted sum on the scan's own grid."""

from ptychostream.stitching.accumulator import PatchAccumulator, stitch_patches
from ptychostream.stitching.phase_alignment import PhaseAlignment

__all__ = ["PatchAccumulator", "PhaseAlignment", "stitch_patches"]
