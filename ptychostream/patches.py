"""Cut patches out of an object and put them back: a linear map and its adjoint.

Between pixels both interpolate bilinearly, and the object is zero outside its array, as the
contract has it. Positions are patch centres (x, y) in pixels, see `geometry`.
"""

import torch
from torch import Tensor


def extract_patches(obj: Tensor, positions: Tensor, patch_size: int) -> Tensor:
    """Cut one square patch per position.

    Parameters
    ----------
    obj : (..., H, W)
        One object, or one per leading index.
    positions : (..., C, 2) float
        Patch centres (x, y) in pixels of the object array; leading axes as those of `obj`.
    patch_size : int
        Edge N.

    Returns
    -------
    (..., C, N, N)
        The patches, in the order of `positions`.
    """
    height, width = obj.shape[-2:]
    corners, fractions = _split(positions, patch_size)
    index, inside = _window_index(corners, patch_size + 1, height, width)
    flat = obj.reshape(*obj.shape[:-2], height * width)
    windows = torch.gather(flat, -1, index.flatten(start_dim=len(obj.shape[:-2])))
    windows = windows.reshape(index.shape) * inside
    (w00, w01), (w10, w11) = _weights(fractions, obj.real.dtype)
    return (
        w00 * windows[..., :-1, :-1]
        + w01 * windows[..., :-1, 1:]
        + w10 * windows[..., 1:, :-1]
        + w11 * windows[..., 1:, 1:]
    )


def place_patches(patches: Tensor, positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add patches into an empty object; the adjoint of `extract_patches`.

    Parameters
    ----------
    patches : (..., C, N, N)
        One patch per position.
    positions : (..., C, 2) float
        Patch centres (x, y) in pixels of the object array.
    shape : (int, int)
        Height and width of the object, in pixels.

    Returns
    -------
    (..., H, W)
        Sum of all patches of each leading index; overlaps add up, and what falls outside
        the object is lost.
    """
    height, width = shape
    lead, patch_size = patches.shape[:-3], patches.shape[-1]
    corners, fractions = _split(positions, patch_size)
    index, inside = _window_index(corners, patch_size + 1, height, width)
    (w00, w01), (w10, w11) = _weights(fractions, patches.real.dtype)
    windows = patches.new_zeros((*patches.shape[:-2], patch_size + 1, patch_size + 1))
    windows[..., :-1, :-1] += w00 * patches
    windows[..., :-1, 1:] += w01 * patches
    windows[..., 1:, :-1] += w10 * patches
    windows[..., 1:, 1:] += w11 * patches
    canvas = patches.new_zeros((*lead, height * width))
    start = len(lead)
    canvas = canvas.scatter_add(
        -1, index.flatten(start_dim=start), (windows * inside).flatten(start_dim=start)
    )
    return canvas.reshape(*lead, height, width)


def _split(positions: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    first = positions - patch_size // 2
    whole = torch.floor(first)
    return whole.to(torch.int64).flip(-1), first - whole


def _weights(
    fractions: Tensor, dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    x = fractions[..., 0, None, None].to(dtype)
    y = fractions[..., 1, None, None].to(dtype)
    return ((1 - y) * (1 - x), (1 - y) * x), (y * (1 - x), y * x)


def _window_index(corners: Tensor, edge: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Index windows into flattened objects, and say which of their pixels are inside."""
    span = torch.arange(edge, device=corners.device)
    rows = corners[..., 0, None] + span
    columns = corners[..., 1, None] + span
    inside = ((rows >= 0) & (rows < height))[..., :, None] & ((columns >= 0) & (columns < width))[
        ..., None, :
    ]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return rows[..., :, None] * width + columns[..., None, :], inside
