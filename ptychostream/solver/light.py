"""How many photons the whole scan sends through each pixel of the object."""

import numpy as np
import torch
from numpy.fft import irfft2, rfft2
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.solver.fast_length import fast_length
from ptychostream.solver.layout import PatchLayout

#: Rows of the canvas that are convolved together.
_BAND = 256


def light_of_scan(layout: PatchLayout, probe: Tensor, out: Tensor) -> None:
    """Add up the beam's power at every position.

    Updates are divided by this sum, of the whole scan, and not by that of their own batch: then
    batches are unbiased samples of one gradient, and a mean over updates means something.

    `probe` (P, N, N): illumination, in √photons.
    `out` (H, W): receives the photons through each pixel of the canvas.
    """
    lay_out(layout, probe.abs().square().sum(0).cpu().numpy(), out)


def lay_out(layout: PatchLayout, patch: NDArray[np.floating], out: Tensor) -> None:
    """Write the sum of a patch (N, N), laid at every position, to a canvas (H, W)."""
    corner, _ = layout.corners(torch.arange(len(layout.positions)))
    columns, rows = corner.T.numpy()
    (height, width), edge = layout.shape, len(patch)
    if layout.box is not layout.whole:
        # Patches of other processes that reach into this box.
        touches = (rows > -edge) & (rows < height) & (columns > -edge) & (columns < width)
        columns, rows = columns[touches], rows[touches]
    above, before = (max(0, -int(first.min(initial=0))) for first in (rows, columns))
    tall, wide = min(_BAND, above + height), before + width
    size = [fast_length(n + edge - 1, is_real=True) for n in (tall, wide)]
    spectrum = rfft2(patch.astype(np.float32), size)
    order = np.argsort(rows, kind="stable")
    columns, rows = columns[order], rows[order]
    out.zero_()
    for first in range(-above, height, tall):
        low, high = np.searchsorted(rows, [first, first + tall])
        if low == high:
            continue
        # Each pattern is a point at its first pixel; the convolution lays the beam on it.
        hits = np.zeros((tall, wide), np.float32)
        np.add.at(hits, (rows[low:high] - first, columns[low:high] + before), 1)
        spread = np.maximum(irfft2(rfft2(hits, size) * spectrum, size), 0)[: tall + edge - 1]
        spread = spread[max(-first, 0) : height - first, before : before + width]
        start = max(first, 0)
        out[start : start + len(spread)] += torch.from_numpy(spread).to(out.device)
