"""Where a simulated scan's patches lie: nominal and true positions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.files import is_file_name, read_positions
from ptychostream.simulation.scan_patterns import make_positions
from ptychostream.simulation.scan_patterns.displacement import displacements

#: Pixels between the outermost patch and the object's edge.
MARGIN = 2


@dataclass(frozen=True)
class Placement:
    """Scan positions in object pixels, and the object they need.

    Attributes
    ----------
    positions : (M, 2) float64
        True positions (x, y), at which the patterns are made.
    nominal : (M, 2) float64, optional
        Where the stage was sent; None where that is the same.
    needed : (int, int)
        Rows and columns of the smallest object that holds every patch.
    """

    positions: NDArray[np.float64]
    nominal: NDArray[np.float64] | None
    needed: tuple[int, int]


def place_scan(
    scan_pattern: str | NDArray[np.float64],
    *,
    num_positions: int | None,
    N: int,
    step: float,
    drift: tuple[float, float],
    position_noise: float,
    pattern_rng: np.random.Generator,
    displacement_rng: np.random.Generator,
) -> Placement:
    """Choose positions: of a pattern, a file or an array.

    Positions of a file or array are object pixels and stay as they are; those of a pattern are
    moved so that every patch lies inside the object.

    Parameters
    ----------
    scan_pattern : str or (M, 2) float64
        Name of a scan pattern, name of a file, or positions (x, y).
    num_positions : int, optional
        Positions M; None is 2000, or all of a file or array.
    drift : (float, float)
        Displacement (x, y) of the last position from the first, in pixels.

    Raises
    ------
    ConfigurationError
        If a file holds too few positions, or a patch begins before the object.
    """
    is_named = isinstance(scan_pattern, str) and not is_file_name(scan_pattern)
    if isinstance(scan_pattern, str) and is_named:
        nominal = make_positions(scan_pattern, num_positions or 2000, step, pattern_rng)
        nominal = nominal + (N / 2 + MARGIN)
    else:
        nominal = _given_positions(scan_pattern, num_positions)
    positions = nominal
    if any(drift) or position_noise:
        positions = nominal + displacements(
            len(nominal), displacement_rng, drift=drift, position_noise=position_noise
        )
        if is_named:
            inwards = np.maximum(N / 2 + MARGIN - positions.min(axis=0), 0)
            nominal, positions = nominal + inwards, positions + inwards
    x, y = positions.min(axis=0)
    if min(x, y) < N / 2:
        raise ConfigurationError(
            f"positions begin at (x={x:g}, y={y:g}), so that patches of N={N} px begin before the "
            f"object's first pixel; add at least {N / 2 - min(x, y):g} px to both coordinates"
        )
    rows, columns = np.ceil(positions.max(axis=0)[::-1]).astype(int) + N // 2
    room = MARGIN if is_named else 0
    return Placement(
        positions,
        None if positions is nominal else nominal,
        (int(rows) + room, int(columns) + room),
    )


def _given_positions(source: str | NDArray[np.float64], number: int | None) -> NDArray[np.float64]:
    if isinstance(source, str):
        positions, origin = read_positions(Path(source)), f"'{source}'"
    else:
        positions, origin = np.array(source, dtype=np.float64), "the array"
    if positions.ndim != 2 or positions.shape[1] != 2 or not np.isfinite(positions).all():
        raise ConfigurationError(
            f"scan_pattern is {positions.shape}, expected (M, 2) finite numbers"
        )
    if number is None:
        return positions
    if number > len(positions):
        raise ConfigurationError(
            f"num_positions={number} but {origin} holds {len(positions)}; ask for fewer"
        )
    return positions[:number]
