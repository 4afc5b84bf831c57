"""Solve for the phases of patches from the phase differences between neighbours."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import LinearOperator, cg, splu

#: Rounds of wrapping phase differences into (-π, π] around the solution so far.
_ROUNDS = 3
#: Weight that holds a patch at its own phase, relative to the weight of its neighbours.
_ANCHOR = 1e-4
#: Patches whose phases are first moved together.
_TOGETHER = 32
#: Residual at which a round ends, relative to the differences of the first round.
_ACCURACY = 1e-8
#: Steps of a round, at most; some fifty are usual.
_STEPS = 1000


def solve_phases(
    positions: NDArray[np.float64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    overlap: NDArray[np.complex128],
) -> NDArray[np.float64]:
    """Minimise Σ |overlap| · (phase[first] - phase[second] + arg overlap)².

    Conjugate gradients, where runs of neighbouring patches are moved together before each patch is
    moved by itself. Memory and time are proportional to the number of patches; those of a direct
    solution grow faster.

    Parameters
    ----------
    positions : (M, 2) float64
        Positions of the patches.
    first, second : (P,) int64
        Pairs of patches.
    overlap : (P,) complex128
        Sum of first · second* over what both cover.

    Returns
    -------
    (M,) float64
        Phases to turn the patches by, in radians; their mean is zero.
    """
    number, weight = len(positions), np.abs(overlap)
    phase = np.zeros(number)
    if not weight.any():
        return phase
    weight = weight / weight.mean()
    pull = csr_matrix((weight, (first, second)), (number, number))
    pull = pull + pull.T
    own = np.asarray(pull.sum(axis=1)).ravel() + _ANCHOR
    system = (diags(own) - pull).tocsr()
    together = _neighbourhoods(positions)
    coarse = splu((together.T @ system @ together).tocsc())

    def approximately(rest: NDArray[np.float64]) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = rest / own + together @ coarse.solve(together.T @ rest)
        return moved

    guess = LinearOperator((number, number), approximately, dtype=np.float64)
    enough = 0.0
    for _ in range(_ROUNDS):
        rest = weight * np.angle(overlap * np.exp(-1j * (phase[second] - phase[first])))
        pulls = np.bincount(second, rest, number) - np.bincount(first, rest, number)
        enough = enough or _ACCURACY * float(np.linalg.norm(pulls))
        phase = phase + cg(system, pulls, rtol=0, atol=enough, maxiter=_STEPS, M=guess)[0]
    return np.asarray(phase - phase.mean())


def _neighbourhoods(positions: NDArray[np.float64]) -> csr_matrix:
    """Return which patches (M, K) lie together: K runs of equal length along strips of the scan."""
    number = len(positions)
    runs = -(-number // _TOGETHER)
    strips = max(round(np.sqrt(runs)), 1)
    rank = np.empty(number, np.int64)
    rank[np.argsort(positions[:, 1], kind="stable")] = np.arange(number)
    order = np.lexsort((positions[:, 0], rank * strips // number))
    run = np.empty(number, np.int64)
    run[order] = np.arange(number) * runs // number
    return csr_matrix((np.ones(number), (np.arange(number), run)), (number, runs))
