"""Resolution targets: a Siemens star, and a grating whose bars narrow."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.checks import check_positive


def siemens_star(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    spokes: int = 24,
    amplitude: float = 0.8,
    phase: float = -0.6,
) -> NDArray[np.complex64]:
    """Draw a star of spokes, with an asymmetric mark that shows a flip."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width].astype(float)
    down, right = rows - height / 2, columns - width / 2
    radius = np.hypot(down, right)
    turned = np.arctan2(down, right) + rng.uniform(0, 2 * np.pi)
    # A tanh of the arc length gives edges about one pixel wide at every radius.
    wave = np.sin(spokes * turned) * radius / spokes
    star = 0.5 + 0.5 * np.tanh(2 * wave)
    star *= radius < 0.42 * min(height, width)
    mark = (np.abs(down + 0.3 * height) < 0.05 * height) & (
        np.abs(right + 0.36 * width) < 0.08 * width
    )
    star = np.maximum(star, mark)
    return ((1 + (amplitude - 1) * star) * np.exp(1j * phase * star)).astype(np.complex64)


def grating(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    periods: tuple[float, float] = (24.0, 4.0),
    angle: float | None = None,
) -> NDArray[np.float64]:
    """Draw bars with edges about one pixel wide.

    `rng`: decides where the first bar lies and, without `angle`, how the bars are turned.
    `periods`: period at the start and at the end of the object, in pixels; equal for an even
        grating.
    `angle`: direction across the bars from the x axis, in radians; None is random.
    """
    check_positive(shortest_period=min(periods))
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
