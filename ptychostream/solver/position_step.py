"""Move the scan positions towards where their patterns say that they are."""

import torch
from torch import Tensor

#: Only half of a small change of a wave changes its modulus: moves are doubled.
_SEEN = 2.0

#: Part of the mean curvature by which each pattern's is raised, so that a patch without
#: structure does not move.
_RIDGE = 1e-6


def position_sums(
    beam: Tensor, lack: Tensor, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]
) -> Tensor:
    """Return the sums (B, 5) that a least-squares shift of each patch is found from.

    A beam shifted by δ sees P (O + δ · ∇O). The δ that explains best what the exit wave lacks
    needs no further transform: only the products of P ∂O/∂x, P ∂O/∂y and the lack.

    `beam` (B, P, N, N).
    `lack` (B, P, N, N): what the exit waves lack.
    `before`, `after`: patches one pixel before and after, along x and along y.
    """
    dx, dy = ((after[axis] - before[axis])[:, None] / 2 * beam for axis in (0, 1))
    pairs = ((dx, dx), (dy, dy), (dx, dy), (dx, lack), (dy, lack))
    return torch.stack([(a.conj() * b).real.sum((1, 2, 3)) for a, b in pairs], 1)


def position_moves(sums: Tensor, *, longest: float) -> Tensor:
    """Solve each pattern's 2 x 2 equations for its move.

    `sums` (M, 5).
    `longest`: most that a coordinate may change, in pixels: the equations are linear only nearby.
    Returns (M, 2): moves (x, y) in pixels, without their common part, which the object could have
        as well.
    """
    xx, yy, xy, bx, by = sums.double().unbind(1)
    determinant = xx * yy - xy * xy + _RIDGE * (xx + yy).square().mean()
    move = torch.stack([yy * bx - xy * by, xx * by - xy * bx], 1) / determinant[:, None]
    move = (_SEEN * move).clamp(-longest, longest)
    return move - move.mean(0)


def geometry_moves(sums: Tensor, positions: Tensor, *, longest: float) -> Tensor:
    """Return the moves (M, 2) of one scale, rotation and shear that fits all patterns best.

    A stage whose axes are wrong moves all positions together. Four numbers from all patterns are
    far better determined than two from each: they are found first.
    """
    xx, yy, xy, bx, by = sums.double().unbind(1)
    centred = positions - positions.mean(0)
    # Moves are A (r - mean): rows of the design for the four entries of A.
    u, v = centred.unbind(1)
    blocks = [(xx, xy), (xy, yy)]
    normal = torch.zeros(4, 4, dtype=torch.float64, device=sums.device)
    right = torch.zeros(4, dtype=torch.float64, device=sums.device)
    for a, (along, lack) in enumerate(zip(blocks, (bx, by), strict=True)):
        for i, p in enumerate((u, v)):
            right[2 * a + i] = (lack * p).sum()
            for b in (0, 1):
                for j, q in enumerate((u, v)):
                    normal[2 * a + i, 2 * b + j] = (along[b] * p * q).sum()
    normal += _RIDGE * normal.trace() / 4 * torch.eye(4, dtype=torch.float64, device=sums.device)
    matrix = _SEEN * torch.linalg.solve(normal, right).reshape(2, 2)
    move = centred @ matrix.T
    farthest = float(move.abs().max())
    return move * min(1.0, longest / max(farthest, 1e-12))
