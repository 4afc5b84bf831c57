"""Move the object by what the patterns of a batch ask for."""

import math
from collections.abc import Iterator

from torch.fft import fft2, ifft2

from ptychostream.solver.canvas import Canvas
from ptychostream.solver.prior import NEGLIGIBLE, roughness

#: Edge of the tiles in which a large canvas is updated, without their rim.
_TILE = 512

#: A canvas of up to so many pixels is one tile.
_WHOLE = 1024**2


def object_step(
    canvas: Canvas, *, share: float, momentum: float, step: float, prior: float
) -> None:
    """Make one accelerated, preconditioned step of the object, in place.

    Nesterov's method: the pull of the patterns was taken at `canvas.ahead`, where the last
    update leads by itself. It is divided by the light L of the whole scan, which is the curvature
    of the misfit for a pixel; together with a smoothness prior λ |∇²(√L (O - 1))|² the curvature
    is √L (1 + λ R) √L, with R the roughness of a frequency, and the step solves for it exactly.

    Parameters
    ----------
    canvas : Canvas
        Object, velocity and light; `canvas.pull` holds what the batch asks for.
    share : float
        Part of the scan's patterns that the batch holds.
    momentum, step : float
        Of this pass.
    prior : float
        Strength λ of the smoothness prior.
    """
    for rows, columns, inner in _tiles(canvas.shape, prior):
        root = canvas.root_light[rows, columns]
        pull = canvas.pull[rows, columns] / (share * root)
        if prior > NEGLIGIBLE:
            # Filtering pull - λ R √L (O - 1) by 1 / (1 + λ R) takes one transform there and one
            # back, as λ R / (1 + λ R) is 1 - 1 / (1 + λ R).
            deviation = (canvas.ahead[rows, columns] - 1).mul_(root)
            spectrum = fft2(pull.add_(deviation))
            spectrum /= 1 + prior * roughness(root.shape[0], root.shape[1], root.device)
            pull = ifft2(spectrum).sub_(deviation)
        change = pull.div_(root)[inner].mul_(step)
        rows, columns = (
            slice(outer.start + part.start, outer.start + part.stop)
            for outer, part in zip((rows, columns), inner, strict=True)
        )
        velocity = canvas.velocity[rows, columns]
        velocity.mul_(momentum).add_(change)
        canvas.object[rows, columns] += velocity


def _tiles(
    shape: tuple[int, int], prior: float
) -> Iterator[tuple[slice, slice, tuple[slice, slice]]]:
    """Yield tiles with the rim that the prior reaches over, and each tile's place inside."""
    height, width = shape
    if height * width <= _WHOLE:
        yield slice(0, height), slice(0, width), (slice(0, height), slice(0, width))
        return
    # The filter's impulse response falls by e over about λ^(1/4) pixels.
    rim = 0 if prior <= NEGLIGIBLE else min(128, math.ceil(4 + 12 * prior**0.25))
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            rows = slice(max(top - rim, 0), min(top + _TILE + rim, height))
            columns = slice(max(left - rim, 0), min(left + _TILE + rim, width))
            inner = (
                slice(top - rows.start, min(top + _TILE, height) - rows.start),
                slice(left - columns.start, min(left + _TILE, width) - columns.start),
            )
            yield rows, columns, inner
