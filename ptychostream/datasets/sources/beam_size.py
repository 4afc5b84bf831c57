"""How wide a beam is, and how far patches overlap."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.near_positions import as_points, has_near
from ptychostream.errors import DataContractError
from ptychostream.scan import Scan

#: Part of the middle's brightness at the rim of a detector, from which on it is evenly lit, and
#: step in patch edges that far-field scans do not reach.
_EVEN, _FAR = 0.4, 0.4

#: Linear overlap below which a reconstruction is doubtful.
_LITTLE = 0.2


def beam_diameter(probe: NDArray[np.complexfloating]) -> float:
    """Return the diameter in pixels of the evenly lit disk that is as concentrated as a probe."""
    intensity = np.sum(np.abs(probe.astype(np.complex128)) ** 2, axis=0)
    area = intensity.sum() ** 2 / np.sum(intensity**2)
    return float(2 * np.sqrt(area / np.pi))


def typical_step(positions: NDArray[np.float64]) -> float:
    """Return the median distance of positions (M, 2) from their nearest other, in pixels."""
    # Imported where it is used: the solver does without, and starts the sooner.
    from scipy.spatial import KDTree

    distinct = _distinct(positions)
    if len(distinct) < 2:
        return 0.0
    distances, _ = KDTree(distinct).query(distinct, k=2)
    return float(np.median(distances[:, 1]))


def _distinct(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unique(as_points(positions)).view(np.float64).reshape(-1, 2)


def linear_overlap(scan: Scan) -> float:
    """Return 1 - step / diameter: how far neighbouring beams overlap along a line."""
    return 1 - typical_step(scan.positions) / beam_diameter(scan.probe)


def check_overlap(scan: Scan) -> list[str]:
    """Return a warning where beams hardly overlap."""
    diameter = beam_diameter(scan.probe)
    # Most have another so near that the median of all distances need not be computed.
    enough = min(_FAR * scan.N, (1 - _LITTLE) * diameter)
    distinct = _distinct(scan.positions)
    if diameter > 0 and has_near(distinct, enough).sum() > len(distinct) / 2:
        return []
    step = typical_step(scan.positions)
    if step > _FAR * scan.N and _is_evenly_lit(scan):
        raise DataContractError(
            f"{scan.name}: these look like near-field patterns: the light fills the detector to "
            f"its rim, and neighbouring positions are {step:.0f} px of {scan.N} apart. Only "
            "far-field patterns can be reconstructed here; if these are some, correct "
            "--position_unit, --energy, --distance or --detector_pixel"
        )
    if step > scan.N:
        raise DataContractError(
            f"{scan.name}: neighbouring positions are {step:.0f} px apart, further than a patch of "
            f"{scan.N} px is wide, so that nothing overlaps. Positions must be in object pixels: "
            "say their unit with --position_unit, or correct --energy, --distance or "
            "--detector_pixel"
        )
    overlap = 1 - step / diameter
    if overlap >= _LITTLE:
        return []
    return [
        f"the beam is {diameter:.1f} px wide and positions are {step:.1f} px "
        f"apart: neighbours overlap by {max(overlap, 0):.0%} (a good scan has 60 % or more); the "
        "probe, the unit of the positions or the geometry may be wrong"
    ]


def _is_evenly_lit(scan: Scan) -> bool:
    """Return whether the detector's rim is nearly as bright as its middle."""
    mean = next(iter(scan.patterns.blocks(16))).mean(axis=0, dtype=np.float64)
    good = np.isfinite(mean) if scan.bad_pixels is None else np.isfinite(mean) & ~scan.bad_pixels
    along = np.abs(np.arange(scan.N) - scan.N // 2)
    distance = np.maximum(along[:, None], along) / (scan.N / 2)
    rim, middle = mean[good & (distance > 0.85)], mean[good & (distance < 0.5)]
    return bool(len(rim) and len(middle) and np.median(rim) > _EVEN * np.median(middle) > 0)
