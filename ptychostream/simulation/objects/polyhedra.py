"""Crystals in projection: the thickness of random convex polyhedra."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.checks import check_positive
from ptychostream.simulation.objects.texture import stretched


def polyhedra(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    radii: tuple[float, float] = (8.0, 28.0),
    faces: int = 10,
    coverage: float = 1.2,
) -> NDArray[np.float64]:
    """Add the projected thickness of polyhedra that lie anywhere.

    `radii`: smallest and largest radius of the sphere inside a polyhedron, in pixels.
    `faces`: faces of a polyhedron besides the six of the box that bounds it.
    `coverage`: summed area of the inner spheres' disks over that of the object.
    """
    check_positive(smallest_radius=min(radii), coverage=coverage)
    total = np.zeros(shape)
    covered = 0.0
    while covered < coverage * shape[0] * shape[1]:
        radius = rng.uniform(*radii)
        normals = rng.standard_normal((faces, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        row, column = rng.uniform((0, 0), shape)
        reach = int(1.5 * radius) + 1
        top, bottom = max(int(row) - reach, 0), min(int(row) + reach + 1, shape[0])
        left, right = max(int(column) - reach, 0), min(int(column) + reach + 1, shape[1])
        down = np.arange(top, bottom)[:, None] - row
        across = np.arange(left, right)[None, :] - column
        total[top:bottom, left:right] += polyhedron_thickness(normals, radius, across, down)
        covered += np.pi * radius**2
    return stretched(total)


def polyhedron_thickness(
    normals: NDArray[np.float64],
    radius: float,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Length of the way along z through a polyhedron about the origin.

    `normals` (F, 3): outward unit normals (x, y, z) of the faces, all at the same distance; a box
        of one and a half times that distance bounds them.
    `x`, `y` (...): where the way passes; they broadcast.
    Returns (...): thickness, in the unit of `radius`; 0 beside the polyhedron.
    """
    box = 1.5 * radius
    inside = (np.abs(x) <= box) & (np.abs(y) <= box)
    near, far = np.full(inside.shape, -box), np.full(inside.shape, box)
    for normal in normals:
        rest = radius - normal[0] * x - normal[1] * y
        if normal[2] > 0:
            far = np.minimum(far, rest / normal[2])
        elif normal[2] < 0:
            near = np.maximum(near, rest / normal[2])
        else:
            inside = inside & (rest >= 0)
    return np.where(inside, np.maximum(far - near, 0), 0.0)
