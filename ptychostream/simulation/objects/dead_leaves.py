"""Dead leaves: overlapping opaque disks with a power law of sizes, as in natural images."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


def dead_leaves(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    radii: tuple[float, float] = (3.0, 30.0),
    amplitude: tuple[float, float] = (0.6, 1.0),
    phase: tuple[float, float] = (-0.6, 0.6),
) -> NDArray[np.complex64]:
    """Cover an object with disks that hide one another.

    `radii`: smallest and largest radius, in pixels; density falls as radius⁻³.
    `amplitude`: range of the leaves' amplitude.
    `phase`: range of the leaves' phase, in radians, independent of the amplitude.

    References
    ----------
    Lee, Mumford & Huang, Int. J. Comput. Vis. 41 (2001) 35.
    """
    values = np.zeros((2, *shape))
    free = np.ones(shape, dtype=bool)
    small, large = radii[0] ** -2, radii[1] ** -2
    # Leaves are laid from the top down: each fills only what is still free.
    for _ in range(200 + int(40 * shape[0] * shape[1] / radii[0] ** 2)):
        radius = (small - rng.random() * (small - large)) ** -0.5
        row, column = rng.uniform(-radius, np.array(shape) + radius)
        height, tint = rng.uniform(*amplitude), rng.uniform(*phase)
        top, bottom = max(int(row - radius), 0), min(int(row + radius) + 2, shape[0])
        left, right = max(int(column - radius), 0), min(int(column + radius) + 2, shape[1])
        if top >= bottom or left >= right:
            continue
        rows, columns = np.ogrid[top:bottom, left:right]
        part = free[top:bottom, left:right]
        leaf = ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2) & part
        values[0, top:bottom, left:right][leaf] = height
        values[1, top:bottom, left:right][leaf] = tint
        part[leaf] = False
        if not free.any():
            break
    values[0][free], values[1][free] = np.mean(amplitude), np.mean(phase)
    smooth = [gaussian_filter(value, 0.7, mode="nearest") for value in values]
    return (smooth[0] * np.exp(1j * smooth[1])).astype(np.complex64)
