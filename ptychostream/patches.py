"""Cut patches out of an object and put them back: a linear map and its adjoint.

Between pixels both interpolate bilinearly, and the object is zero outside its array, as in
PtychoPINN. Positions are patch centres (x, y) in pixels, see `geometry`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override


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

    Raises
    ------
    NotImplementedError
        If the positions require a gradient.
    """
    _check_fixed(positions)
    patches: Tensor = _Extract.apply(obj, positions, patch_size)  # type: ignore[no-untyped-call, unused-ignore]
    return patches


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
        Sum of all patches of each leading index; overlaps add up, and pixels outside
        the object are dropped.

    Raises
    ------
    NotImplementedError
        If the positions require a gradient.
    """
    _check_fixed(positions)
    placed: Tensor = _Place.apply(patches, positions, shape)  # type: ignore[no-untyped-call, unused-ignore]
    return placed


def share_among_pixels(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Divide each pixel among the four pixels that it lies between.

    Parameters
    ----------
    images : (..., n, n)
        Images, real or complex.
    x, y : (..., 1, 1)
        Fractions of a pixel by which they lie after a whole pixel, 0 to 1.

    Returns
    -------
    (..., n + 1, n + 1)
        The images, one pixel larger.
    """
    # Complex images are treated as pairs of real numbers, since the shares are real.
    flat, x, y = _as_real(pad(images, (1, 1, 1, 1)), x, y)
    flat = _between(flat[..., 1:, :, :], flat[..., :-1, :, :], y)
    return _as_kind(_between(flat[..., 1:, :], flat[..., :-1, :], x), images)


class _Extract(torch.autograd.Function):
    """Forward: cut patches. Backward: its adjoint, place them; only the positions are saved."""

    @staticmethod
    @override
    def forward(ctx: Any, obj: Tensor, positions: Tensor, patch_size: int) -> Tensor:
        ctx.save_for_backward(positions)
        height, width = ctx.shape = obj.shape[-2:]
        corners, fractions = _split(positions, patch_size)
        index, inside = _window_index(corners, patch_size + 1, height, width)
        flat = obj.reshape(*obj.shape[:-2], height * width)
        windows = torch.gather(flat, -1, index.flatten(start_dim=obj.ndim - 2))
        windows = windows.reshape(index.shape) * inside
        x, y = _shares(fractions, obj.real.dtype)
        real, x, y = _as_real(windows, x, y)
        real = _between(real[..., :-1, :, :], real[..., 1:, :, :], y)
        return _as_kind(_between(real[..., :-1, :], real[..., 1:, :], x), obj)

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (positions,) = ctx.saved_tensors
        return place_patches(grads[0], positions, ctx.shape), None, None


class _Place(torch.autograd.Function):
    """Forward: place patches. Backward: its adjoint, cut them."""

    @staticmethod
    @override
    def forward(ctx: Any, patches: Tensor, positions: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(positions)
        ctx.patch_size = patch_size = patches.shape[-1]
        height, width = shape
        corners, fractions = _split(positions, patch_size)
        index, inside = _window_index(corners, patch_size + 1, height, width)
        windows = share_among_pixels(patches, *_shares(fractions, patches.real.dtype))
        windows *= inside
        lead = patches.shape[:-3]
        canvas = patches.new_zeros((*lead, height * width))
        start = len(lead)
        canvas.scatter_add_(-1, index.flatten(start), windows.flatten(start))
        return canvas.reshape(*lead, height, width)

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (positions,) = ctx.saved_tensors
        return extract_patches(grads[0], positions, ctx.patch_size), None, None


def _check_fixed(positions: Tensor) -> None:
    if positions.requires_grad:
        raise NotImplementedError(
            "the positions require a gradient, but slopes by position are not computed: detach "
            "them, or shift patches with physics.fourier_shift, which is differentiable"
        )


def _split(positions: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    first = positions - patch_size // 2
    whole = torch.floor(first)
    return whole.to(torch.int64).flip(-1), first - whole


def _shares(fractions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x, y = fractions.to(dtype)[..., None, None].unbind(-3)
    return x, y


def _between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Interpolate linearly; `torch.lerp` is less accurate where the share is small."""
    return (first * (1 - share)).addcmul_(second, share)


def _as_real(images: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """View images (..., h, w) as real ones (..., h, w, 1 or 2), and add that axis to shares."""
    real = torch.view_as_real(images) if images.is_complex() else images[..., None]
    return real, x[..., None], y[..., None]


def _as_kind(real: Tensor, images: Tensor) -> Tensor:
    return torch.view_as_complex(real) if images.is_complex() else real[..., 0]


def _window_index(corners: Tensor, edge: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the indices of patches in flattened objects, and whether each pixel is inside."""
    span = torch.arange(edge, device=corners.device)
    rows = corners[..., 0, None] + span
    columns = corners[..., 1, None] + span
    inside = ((rows >= 0) & (rows < height))[..., :, None] & ((columns >= 0) & (columns < width))[
        ..., None, :
    ]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return rows[..., :, None] * width + columns[..., None, :], inside
