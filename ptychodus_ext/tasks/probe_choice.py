"""The probe that the solver begins with: the product's, or one made out of the patterns."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid

logger = logging.getLogger(__name__)

#: Part of the patterns left out that is explained, above which no other probe is tried, and how
#: much more of them another probe has to explain.
_ENOUGH, _BETTER = 0.5, 0.1


def solve_with_probe(
    run: Callable[..., Any],
    store: GroupStore,
    experiment: int,
    *,
    choice: str,
    options: dict[str, Any],
    grid: ObjectGrid,
    should_stop: Callable[[], bool],
) -> tuple[Any, list[str]]:
    """Solve with the chosen probe; returns the result, and a warning where it is not the product's.

    `run`: runs the solver with the options, some of them changed by its arguments.
    `choice`: `product`, `patterns`, or `auto`: of the patterns where the product's leads to doubts.
    """
    if choice == "patterns":
        return run(**_of_patterns(store, experiment, options, grid)), []
    result = run()
    known = _explained(result)
    if choice != "auto" or not options["refine_probe"] or known > _ENOUGH or should_stop():
        return result, []
    logger.info("the product's probe explains little of the patterns: one is made out of them")
    try:
        second = run(**_of_patterns(store, experiment, options, grid))
    except DataContractError as error:
        logger.warning("%s", error)
        return result, [str(error)]
    found = _explained(second, unknown=-np.inf)
    if should_stop() or found < max(known + _BETTER, _ENOUGH):
        logger.info("a probe made out of the patterns explains no more: the product's is kept")
        return result, []
    text = (
        "the product's probe does not explain the patterns: this result began with a probe that "
        "was made out of them; compare it with what is known of the beam"
    )
    logger.warning("%s", text)
    return second, [text]


def _explained(result: Any, *, unknown: float = np.inf) -> float:
    """Return the part of the patterns left out that a result explains."""
    held_out = None if result.fit is None else result.fit.held_out
    return unknown if held_out is None else float(held_out.explained)


def _of_patterns(
    store: GroupStore, experiment: int, options: dict[str, Any], grid: ObjectGrid
) -> dict[str, Any]:
    """Return the options of a run that begins with a probe made out of the patterns."""
    from ptychostream.solver.probe_from_patterns import find_probe
    from ptychostream.solver.start import SolverStart, probe_of

    scan = store.scan(experiment)
    obj: NDArray[np.complex64] | None = options["start"]
    if not isinstance(obj, np.ndarray):
        obj = None
    start = SolverStart(object=obj, grid=None if obj is None else grid, probe=find_probe(scan))
    modes = options["probe_modes"] or len(probe_of(store, experiment))
    return {"start": start, "probe_modes": modes}
