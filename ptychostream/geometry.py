"""Scan positions: groups, patch corners and the object's grid. Order is (x, y), unit pixels.

A position is the object pixel (column x, row y) that lies under patch pixel (N/2, N/2). Only this
module converts (x, y) to rows and columns and sets the sign of relative coordinates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError

#: Planck's constant times the speed of light.
_PLANCK_TIMES_LIGHT_EV_M = 1.239841984e-6

#: So few positions may lie within one pixel: they are the first ones of a growing scan.
_FEW = 8


@dataclass(frozen=True)
class ObjectGrid:
    """The pixel grid of an object, in the coordinates of the scan positions.

    Attributes
    ----------
    height : int
        Rows H.
    width : int
        Columns W.
    origin : (float, float)
        Position (x, y) of the pixel in row 0 and column 0; (0, 0) unless patches reach
        beyond the top or the left of the scan's own grid, or another grid was chosen.
    """

    height: int
    width: int
    origin: tuple[float, float] = (0, 0)

    @classmethod
    def around(cls, centre: tuple[float, float], shape: tuple[int, int]) -> "ObjectGrid":
        """Make the grid of a shape whose middle lies at a position.

        Parameters
        ----------
        centre : (float, float)
            Position (x, y) of the middle of the array, in pixels: between its two middle
            pixels where their number is even.
        shape : (int, int)
            Rows and columns.

        Returns
        -------
        ObjectGrid
            The grid.

        Examples
        --------
        >>> ObjectGrid.around((49.5, 39.5), (80, 100))
        ObjectGrid(height=80, width=100, origin=(0.0, 0.0))
        """
        height, width = shape
        return cls(height, width, (centre[0] - (width - 1) / 2, centre[1] - (height - 1) / 2))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width


def far_field_pixel_m(
    energy_eV: float, distance_m: float, detector_pixel_m: float, patch_size: int
) -> float:
    """Find the edge of an object pixel from the geometry of the far field.

    Parameters
    ----------
    energy_eV : float
        Photon energy.
    distance_m : float
        Sample to detector.
    detector_pixel_m : float
        Edge of a detector pixel.
    patch_size : int
        Edge N of a pattern, in pixels.

    Returns
    -------
    float
        wavelength · distance / (N · detector pixel), in metres.

    Examples
    --------
    >>> f"{far_field_pixel_m(8800.0, 1.9, 75e-6, 64):.2e}"
    '5.58e-08'
    """
    return _PLANCK_TIMES_LIGHT_EV_M / energy_eV * distance_m / (patch_size * detector_pixel_m)


def split_coordinates(
    positions: NDArray[np.float64], nn_indices: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split the positions of each group into their mean and the offsets from it.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y) on the object grid, in pixels.
    nn_indices : (G, C) int64
        Rows of `positions` that form each group.

    Returns
    -------
    offsets : (G, 2) float64
        Mean position of each group, in pixels.
    relative : (G, C, 2) float64
        Mean minus member position, in pixels: PtychoPINN's sign.
    """
    members = positions[nn_indices]
    # `mean` would take longer: its checks cost more than the sum over a batch.
    offsets = members.sum(axis=1) / members.shape[1]
    return offsets, offsets[:, None, :] - members


def patch_corners(
    positions: NDArray[np.float64], patch_size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pixel in which each patch begins, and the fraction of a pixel that remains.

    Parameters
    ----------
    positions : (..., 2) float64
        Patch centres (x, y), in pixels.
    patch_size : int
        Edge N.

    Returns
    -------
    corners : (..., 2) int64
        Row and column of the object pixel at or before the patch's first pixel.
    fractions : (..., 2) float64
        How far the patch begins after that pixel, (x, y), in [0, 1).

    Examples
    --------
    >>> patch_corners(np.array([[10.25, 20.0]]), 8)
    (array([[16,  6]]), array([[0.25, 0.  ]]))
    """
    first = np.asarray(positions, dtype=np.float64) - patch_size // 2
    whole = np.floor(first)
    return whole[..., ::-1].astype(np.int64), first - whole


def object_grid(
    positions: NDArray[np.float64],
    patch_size: int,
    object_shape: tuple[int, int] | None = None,
) -> ObjectGrid:
    """Choose the grid on which a scan is reconstructed.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    patch_size : int
        Edge N of a patch.
    object_shape : (int, int), optional
        Shape of the scan's object guess, whose grid is then used.

    Returns
    -------
    ObjectGrid
        The object guess's grid, or the smallest one from pixel (0, 0) that holds every patch.
        Where patches reach to negative coordinates, or all lie so far from (0, 0) that most of
        that grid would be empty, it begins with the first patch.
    """
    if object_shape is not None:
        return ObjectGrid(*object_shape)
    corners, fractions = patch_corners(positions, patch_size)
    # A patch that begins between two pixels reaches one pixel further.
    ends = corners + patch_size + (fractions[..., ::-1] > 0)
    bottom, right = ends.max(axis=0)
    top, left = np.minimum(corners.min(axis=0), 0)
    if int(bottom - top) * int(right - left) > _most_pixels(len(positions), patch_size):
        top, left = corners.min(axis=0)
    return ObjectGrid(int(bottom - top), int(right - left), (int(left), int(top)))


def _most_pixels(number: int, patch_size: int) -> int:
    """Return the number of object pixels of which the patches, side by side, fill a quarter."""
    # The second value is for very small scans, which are never refused.
    return max(4 * number * patch_size**2, (8 * patch_size) ** 2)


def check_extent(positions: NDArray[np.float64], patch_size: int, *, name: str) -> None:
    """Refuse positions whose object would be far larger than the patterns can cover.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    patch_size : int
        Edge N of a patch.
    name : str
        Name of the scan, for the message.

    Raises
    ------
    DataContractError
        If many positions lie within one pixel, as in metres, or if the object has over four
        times the pixels of all patches laid side by side; the message names the position
        farthest from the median.
    """
    low, high = positions.min(axis=0), positions.max(axis=0)
    width, height = high - low + patch_size
    across, along = high - low
    # Repeated exposures at exactly one position are allowed: they are not a mistaken unit.
    if len(positions) > _FEW and 0 < max(across, along) < 1:
        raise DataContractError(
            f"{name}: all {len(positions)} positions lie within {across:.3g} x {along:.3g} px, "
            "which is no scan. Positions must be in object pixels: if these are metres, divide "
            "them by the object's pixel size"
        )
    if width * height <= _most_pixels(len(positions), patch_size):
        return
    distance = np.linalg.norm(positions - np.median(positions, axis=0), axis=1)
    row = int(distance.argmax())
    x, y = positions[row]
    raise DataContractError(
        f"{name}: the positions span {width:.0f} x {height:.0f} px, far more than "
        f"{len(positions)} patterns of {patch_size} px can cover; position {row} at "
        f"(x={x:g}, y={y:g}) lies {distance[row]:.0f} px from the median. "
        "Positions must be in object pixels: correct or remove the outlier, or convert the unit"
    )
