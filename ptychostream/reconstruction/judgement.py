"""Judge a solution: by all patterns, and by some that it has not seen."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ptychostream.datasets.store import GroupStore
from ptychostream.reconstruction.fit import NOT_CONVERGED, Fit
from ptychostream.solver.held_out import judge_result, neighbours_of_middle
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.solver import Solver
from ptychostream.solver.start import good_pixels_of, rows_of

logger = logging.getLogger(__name__)

#: Patterns of the short run that judges a result, and its passes.
_JUDGED, _JUDGING_PASSES = 150, 12


def judge_solution(
    solver: Solver,
    store: GroupStore,
    experiments: Sequence[int],
    options: SolverOptions,
    *,
    leaves_out: bool,
    should_stop: Callable[[], bool],
) -> Fit:
    """Compare a solution with all patterns, and with some that a short run has not seen.

    Without `leaves_out` the second part is not made; after a stop, neither is. Of several
    processes the first one makes it, with patterns of its own.
    """
    unknown = np.full(len(solver.layout.positions), np.nan, np.float32)
    fit = Fit(
        misfit=solver.misfit,
        deviance=solver.deviance,
        misfit_of_patterns=unknown,
        deviance_of_patterns=unknown,
        final=solver.misfit[-1] if solver.misfit else float("nan"),
        passes=len(solver.misfit),
        stopped_by=solver.stopped_by,
    )
    if solver.ranks.any(should_stop()):
        # After a stop, no further passes are made.
        return fit
    misfit, deviance = solver.misfit_of_patterns()
    fit = replace(
        fit,
        misfit_of_patterns=misfit,
        deviance_of_patterns=deviance,
        final=solver.final_misfit,
    )
    logger.info("misfit R of the result over all patterns: %.4f", fit.final)
    if not leaves_out or solver.ranks.number > 0:
        return fit
    rows = rows_of(store, experiments)
    own = solver.own_rows
    chosen = own[neighbours_of_middle(solver.layout.positions.numpy()[own], _JUDGED)]
    patterns = store.diffraction(rows[chosen]).astype(np.float32)
    counts = patterns if store.measurement_domain == "counts" else patterns**2
    good = good_pixels_of(store, experiments)
    short = replace(options, passes=_JUDGING_PASSES, minutes=None, probe_modes=None)
    held_out, twin = judge_result(
        solver, counts * good, chosen, good, short, should_stop=should_stop
    )
    if held_out is not None:
        logger.info(
            "patterns left out of a short run: misfit R %.4f, skill %.3f, %s",
            held_out.misfit,
            held_out.skill,
            f"explained {held_out.explained:.2f}" if held_out.tells else "too few photons to tell",
        )
    return replace(fit, held_out=held_out, twin=twin)


def remarks_on_scan(store: GroupStore, experiments: Sequence[int]) -> list[str]:
    """Return what was doubtful about the patterns when they were read, a sentence each."""
    said: list[str] = store.attributes.get("warnings", [])
    if len(experiments) == store.num_experiments:
        return said
    records = (store.attributes["provenance"][number] for number in experiments)
    files = [f"{record['file']}'" for record in records if record.get("file")]
    return [text for text in said if any(file in text.partition(": ")[0] for file in files)]


def remarks_on(solver: Solver) -> list[str]:
    """Return what a user should know of a run, a sentence each."""
    remarks = []
    if solver.stopped_by == "divergence":
        remarks.append(
            "there is no result: the misfit rises from pass to pass, even with short steps; "
            "probe and patterns do not belong together"
        )
    if solver.probe_was_lost:
        remarks.append(
            "the probe could not be refined and was left as it was given: the patterns hold too "
            "few photons, or do not belong to it"
        )
    if solver.probe_moves and solver.stopped_by != "request":
        remarks.append(
            f"the probe still changes by {solver.probe_change[-1]:.1%} a pass after "
            f"{len(solver.misfit)} passes: {NOT_CONVERGED}; go on from this result with "
            "--start, or give more --passes"
        )
    return remarks
