"""Random straight lines, sharp and blurred."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.draw import line

from ptychostream.simulation.checks import check_positive
from ptychostream.simulation.objects.texture import stretched

#: Weight of each blur, by its standard deviation in pixels.
_BLURS = {1.0: 1.0, 5.0: 2.0, 10.0: 5.0}


def lines(
    shape: tuple[int, int], rng: np.random.Generator, *, lines_per_pixel: float = 0.003
) -> NDArray[np.float64]:
    """Draw lines between random pixels.

    `lines_per_pixel`: lines per pixel of an area twice as high and wide, whose middle is the
        object: lines pass through the edges.
    """
    check_positive(lines_per_pixel=lines_per_pixel)
    canvas = (2 * shape[0], 2 * shape[1])
    number = max(1, round(lines_per_pixel * canvas[0] * canvas[1]))
    ends = (rng.random((number, 4)) * np.tile(canvas, 2)).astype(int)
    top, left = shape[0] // 2, shape[1] // 2
    drawn = blurred_lines(canvas, ends)
    return stretched(drawn[top : top + shape[0], left : left + shape[1]])


def blurred_lines(shape: tuple[int, int], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Draw lines one pixel wide and add three blurs of them.

    `ends` (L, 4): row and column of each line's first pixel, then of its last.
    Returns (H, W): sum of Gaussian blurs of 1, 5 and 10 px, weighted 1, 2 and 5: what PtychoPINN's
        own simulator draws.
    """
    image = np.zeros(shape)
    for first_row, first_column, last_row, last_column in ends.tolist():
        image[line(first_row, first_column, last_row, last_column)] = 1
    blurred = [weight * gaussian_filter(image, blur) for blur, weight in _BLURS.items()]
    return np.asarray(sum(blurred))
