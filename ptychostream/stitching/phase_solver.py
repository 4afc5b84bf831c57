"""Solve for the phases of patches from the phase differences between neighbours."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.sparse.linalg import LinearOperator, cg, splu

#: Rounds of wrapping phase differences into (-π, π] around the solution so far.
_ROUNDS = 3
#: Pull of every patch towards its own phase, relative to the pull of its neighbours.
_ANCHOR = 1e-4
#: Patches whose phases are first moved together.
_TOGETHER = 32
#: Length of what remains, relative to that of the first round's differences, to end a round at.
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

    Conjugate gradients, in which patches that lie together are moved together before each is
    moved by itself: memory and time grow with the number of patches, where a direct solution
    takes ever more of both.

    `positions` (M, 2): where the patches lie.
    `first`, `second` (P,): pairs of patches.
    `overlap` (P,): sum of first · second* over what both cover.
    Returns (M,): phases to turn the patches by, in radians; their mean is zero.
    """
    number, weight = len(positions), np.abs(overlap)
    if not weight.any():
        return np.zeros(number)
    # Neighbours may differ by any phase: only from a start near the solution are the differences
    # known that are wrapped into half a turn.
    phase = _phases_along_tree(number, first, second, overlap)
    phase -= phase.mean()
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

    # A fine guess of each patch by itself, and a coarse one of those that lie together: without
    # the second, a drift over the whole scan would take as many steps as the scan is wide.
    guess = LinearOperator((number, number), approximately, dtype=np.float64)
    enough = 0.0
    for _ in range(_ROUNDS):
        # Differences are known up to 2π: the multiple is chosen nearest to the solution so far.
        rest = weight * np.angle(overlap * np.exp(-1j * (phase[second] - phase[first])))
        pulls = np.bincount(second, rest, number) - np.bincount(first, rest, number)
        enough = enough or _ACCURACY * float(np.linalg.norm(pulls))
        phase = phase + cg(system, pulls, rtol=0, atol=enough, maxiter=_STEPS, M=guess)[0]
    return np.asarray(phase - phase.mean())


def _phases_along_tree(
    number: int,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    overlap: NDArray[np.complex128],
) -> NDArray[np.float64]:
    """Follow the phase differences along the pairs of largest overlap, one path to each patch."""
    weight = np.abs(overlap)
    used = weight > 0
    first, second, overlap, weight = first[used], second[used], overlap[used], weight[used]
    shape = (number, number)
    # A tree of least cost, where the cost falls with the overlap.
    cost = 1 + weight.max(initial=0) / weight
    tree = minimum_spanning_tree(csr_matrix((cost, (first, second)), shape))
    ahead = csr_matrix((overlap, (first, second)), shape)
    sums = (ahead + ahead.T.conj()).tocsr()
    phases = np.zeros(number)
    _, component = connected_components(tree, directed=False)
    for root in np.unique(component, return_index=True)[1].tolist():
        order, before = breadth_first_order(tree, root, directed=False)
        nodes, parents = order[1:], before[order[1:]]
        steps = np.angle(np.asarray(sums[parents, nodes])).ravel() if len(nodes) else []
        # Parents come before their children.
        for node, parent, step in zip(nodes.tolist(), parents.tolist(), steps, strict=True):
            phases[node] = phases[parent] + step
    return phases


def _neighbourhoods(positions: NDArray[np.float64]) -> csr_matrix:
    """Return which patches (M, K) lie together."""
    run = runs_along_strips(positions, _TOGETHER)
    number = len(positions)
    return csr_matrix((np.ones(number), (np.arange(number), run)), (number, int(run.max()) + 1))


def runs_along_strips(positions: NDArray[np.float64], together: int) -> NDArray[np.int64]:
    """Divide patches (M,) into runs of equal length along strips of the scan."""
    number = len(positions)
    runs = -(-number // together)
    strips = max(round(np.sqrt(runs)), 1)
    rank = np.empty(number, np.int64)
    rank[np.argsort(positions[:, 1], kind="stable")] = np.arange(number)
    strip = rank * strips // number
    # Every other strip backwards, so that a run that goes on in the next strip lies together.
    order = np.lexsort((np.where(strip % 2, -positions[:, 0], positions[:, 0]), strip))
    run = np.empty(number, np.int64)
    run[order] = np.arange(number) * runs // number
    return run
