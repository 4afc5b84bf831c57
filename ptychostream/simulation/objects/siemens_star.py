"""A Siemens star: spokes that narrow towards the centre, for resolution."""

import numpy as np
from numpy.typing import NDArray


def siemens_star(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    spokes: int = 24,
    amplitude: float = 0.8,
    phase: float = -0.6,
) -> NDArray[np.complex64]:
    """Draw a star of spokes, with an asymmetric mark that shows a flip.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.

    Returns
    -------
    (H, W) complex64
        Transmission.
    """
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
