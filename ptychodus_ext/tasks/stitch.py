"""Put patches that another implementation predicted on the grid that is wanted."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.geometry import ObjectGrid
from ptychostream.physics import intensity
from ptychostream.stitching import PatchAccumulator


def stitch(
    patches: NDArray[np.complex64],
    centres: NDArray[np.float64],
    probe: NDArray[np.complex64],
    grid: Any,
) -> NDArray[np.complex64]:
    """Average patches where they overlap, weighted by the light that falls on them.

    Parameters
    ----------
    patches : (B, N, N) complex64
        The patches.
    centres : (B, 2) float64
        Position (x, y) of each patch's centre, in pixels.
    probe : (P, N, N) complex64
        Gives the weight.
    grid : (int, int, (float, float))
        Height, width and origin of the object.

    Returns
    -------
    (H, W) complex64
        The object; zero where no patch lies.
    """
    height, width, origin = grid
    weight = intensity(torch.as_tensor(probe))
    accumulator = PatchAccumulator(
        ObjectGrid(height, width, tuple(origin)), weight, torch.device("cpu")
    )
    accumulator.add(torch.as_tensor(patches), centres)
    obj, _ = accumulator.result()
    return np.asarray(obj)
