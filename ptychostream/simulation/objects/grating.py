"""A grating whose bars narrow from one side to the other."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.options import positive


def grating(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    periods: tuple[float, float] = (24.0, 4.0),
    angle: float | None = None,
) -> NDArray[np.float64]:
    """Draw bars with edges about one pixel wide.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.
    rng : numpy.random.Generator
        Decides where the first bar lies and, without `angle`, how the bars are turned.
    periods : (float, float)
        Period at the start and at the end of the object, in pixels; equal for an even grating.
    angle : float, optional
        Direction across the bars from the x axis, in radians; None is random.

    Returns
    -------
    (H, W) float64
        Thickness from 0 to 1.
    """
    positive(shortest_period=min(periods))
    start, turned = rng.uniform(0, 2 * np.pi, 2)
    turned = turned if angle is None else angle
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    along = np.cos(turned) * columns + np.sin(turned) * rows
    along -= along.min()
    # The frequency changes evenly, so the phase is its integral.
    first, last = 1 / periods[0], 1 / periods[1]
    slope = (last - first) / max(float(along.max()), 1.0)
    frequency = first + slope * along
    wave = np.sin(start + 2 * np.pi * (first * along + slope * along**2 / 2))
    return np.asarray(0.5 + 0.5 * np.tanh(2 * wave / (2 * np.pi * frequency)))
