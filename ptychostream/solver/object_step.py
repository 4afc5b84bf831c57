"""Move the object by what the patterns of a batch ask for."""

import math
from collections.abc import Iterator

from torch.fft import fft2, ifft2

from ptychostream.solver.boxes import Box
from ptychostream.solver.canvas import Canvas
from ptychostream.solver.fast_length import fast_length
from ptychostream.solver.prior import NEGLIGIBLE, roughness

#: Edge of the parts in which a large canvas is updated, without their rim.
_PART = 512

#: A canvas of up to so many pixels is one part.
_WHOLE = 1024**2


def object_step(
    canvas: Canvas, *, share: float, momentum: float, step: float, prior: float
) -> None:
    """Make one accelerated, preconditioned step of the object, in place.

    Nesterov's method: the pull of the patterns was taken at `canvas.ahead`, where the last
    update leads by itself. It is divided by the light L of the whole scan, which is the curvature
    of the misfit for a pixel; together with a smoothness prior λ |∇²(√L (O - 1))|² the curvature
    is √L (1 + λ R) √L, with R the roughness of a frequency, and the step solves for it exactly.

    `canvas`: object, velocity and light; `canvas.pull` holds what the batch asks for.
    `share`: part of the scan's patterns that the batch holds.
    `prior`: strength λ of the smoothness prior.
    """
    for rows, columns, inner, padded in _parts(canvas.box, canvas.whole, prior):
        root = canvas.root_light[rows, columns]
        pull = canvas.pull[rows, columns] / (share * root)
        if prior > NEGLIGIBLE:
            # Filtering pull - λ R √L (O - 1) by 1 / (1 + λ R) takes one transform there and one
            # back, as λ R / (1 + λ R) is 1 - 1 / (1 + λ R).
            deviation = (canvas.ahead[rows, columns] - 1).mul_(root)
            spectrum = fft2(pull.add_(deviation), padded)
            spectrum /= 1 + prior * roughness(*padded, root.device)
            height, width = root.shape
            pull = ifft2(spectrum)[:height, :width].sub_(deviation)
        change = pull.div_(root)[inner].mul_(step)
        rows, columns = (
            slice(outer.start + part.start, outer.start + part.stop)
            for outer, part in zip((rows, columns), inner, strict=True)
        )
        velocity = canvas.velocity[rows, columns]
        velocity.mul_(momentum).add_(change)
        canvas.object[rows, columns] += velocity


def reach(prior: float) -> int:
    """Return over how many pixels the prior of a strength acts."""
    # The filter's impulse response falls by e over about λ^(1/4) pixels.
    return min(128, math.ceil(4 + 12 * prior**0.25)) if prior > NEGLIGIBLE else 0


def _parts(
    box: Box, whole: Box, prior: float
) -> Iterator[tuple[slice, slice, tuple[slice, slice], tuple[int, int]]]:
    """Yield parts of a box with the rim that the prior reaches over.

    Of each: its rows and columns, its place inside them, and the shape that is transformed.
    """
    height, width = box.shape
    rim = reach(prior)
    edge, rim_inside = (max(box.shape), 0) if box.size <= _WHOLE else (_PART, rim)
    for top in range(0, height, edge):
        for left in range(0, width, edge):
            bottom, right = min(top + edge, height), min(left + edge, width)
            rows = slice(max(top - rim_inside, 0), min(bottom + rim_inside, height))
            columns = slice(max(left - rim_inside, 0), min(right + rim_inside, width))
            inner = (
                slice(top - rows.start, bottom - rows.start),
                slice(left - columns.start, right - columns.start),
            )
            y, x = box.top - whole.top, box.left - whole.left
            padded = (
                _padded(rows.start + y, rows.stop + y, whole.shape[0], rim),
                _padded(columns.start + x, columns.stop + x, whole.shape[1], rim),
            )
            yield rows, columns, inner, padded


def _padded(start: int, stop: int, length: int, rim: int) -> int:
    """Return the length to which a part of an axis is filled up with zeros.

    A transform repeats what it is given: an end of the canvas, beyond which the object is flat,
    would see the rim at the other end of its part.
    """
    has_one_end = (start == 0) != (stop == length)
    return fast_length(stop - start + rim) if has_one_end else stop - start
