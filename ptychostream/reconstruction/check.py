"""Find what is wrong with a scan's geometry: which hypothesis predicts patterns left out best."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.domain import Verdict as DomainVerdict
from ptychostream.datasets.sources.domain import judge_by_steps
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.reconstruction.hypotheses import (
    Hypothesis,
    Part,
    curvatures,
    hypotheses_for,
    pairs,
    together,
)
from ptychostream.reconstruction.verdict import (
    REPEATS,
    CheckResult,
    Ranked,
    conclude,
    leads,
    summed_up,
    with_domain,
)
from ptychostream.scan import Scan
from ptychostream.solver.held_out import HeldOut, judge, neighbours_of_middle
from ptychostream.solver.options import SolverOptions

logger = logging.getLogger(__name__)

#: Patterns of the short runs, and their passes.
_PATTERNS, _PASSES = 120, 8

#: Passes of the first trial; a hypothesis that then explains so much less than the best has no
#: second one, unless it is one of the first few.
_FIRST_PASSES, _BEHIND, _FEWEST = 2, 0.4, 5

#: Best hypotheses that are judged again by other patterns left out, and how little behind the best
#: they are.
_FINALISTS, _CLOSE = 4, 0.2

#: Where no single mend is found, pairs of them are tried if the best one explains less than this; a
#: pair has to explain so much.
_ENOUGH, _PAIR = 0.6, 0.3


def check(
    scan: Scan | GroupStore,
    *,
    experiment: int = 0,
    minutes: float = 2.0,
    seed: int = 0,
    on_progress: Callable[[int, int], object] | None = None,
) -> CheckResult:
    """Try what may be wrong with a scan's geometry.

    Each hypothesis solves a part of the scan without a sixth of its patterns, and predicts
    these. A wrong orientation, axis or trigger fits what it is given but predicts nothing.

    Parameters
    ----------
    scan : Scan or GroupStore
        Patterns, positions and probe.
    experiment : int
        Which experiment of a store.
    minutes : float
        Time for all hypotheses; those that there is no time for are left out.
    seed : int
        Decides which patterns are left out.
    on_progress : callable, optional
        Called with the hypotheses tried and their number.

    Returns
    -------
    CheckResult
        Verdict, options, and the hypotheses in order.

    Raises
    ------
    DataContractError
        If there are too few patterns.
    """
    if isinstance(scan, GroupStore):
        scan = scan.scan(experiment)
    rows = neighbours_of_middle(scan.positions, _PATTERNS)
    part, good, domain = _part_of(scan, rows)
    trials = _Trials(part, good, seed, time.perf_counter() + 0.75 * 60 * minutes)
    hypotheses = hypotheses_for(part, rows, scan.positions)
    first = trials.first(hypotheses, on_progress)
    if not first:
        raise DataContractError(
            f"{scan.name}: {len(part[0])} patterns are too few to check a geometry by"
        )
    found = _concluded(first, trials)
    if found.verdict != "sound":
        found = _with_pairs(found, first, hypotheses, trials)
    return found if domain is None else with_domain(found, domain)


def _concluded(first: list[tuple[Hypothesis, HeldOut]], trials: "_Trials") -> CheckResult:
    """Judge hypotheses at length after their first trial, and conclude."""
    ranked, as_it_is = _ranked(first, trials)
    curved: list[Ranked] = []
    if any("scale" in word for word in ranked[0].options):
        # Of a diverging beam, positions and the beam's curvature have one scale together.
        best = next(item for item, _ in first if item.name == ranked[0].name)
        rest = [item for item in best.parts if item.kind != "scale"]
        for item in curvatures(trials.part):
            curved.append(trials.in_full(together(rest[0], item) if rest else item))
    return conclude(ranked, as_it_is, curved)


def _with_pairs(
    found: CheckResult,
    first: list[tuple[Hypothesis, HeldOut]],
    hypotheses: list[Hypothesis],
    trials: "_Trials",
) -> CheckResult:
    """Try two mends at once: those with the one that was found, or all where none explains much."""
    best = found.hypotheses[0]
    if found.verdict == "mend":
        tried = pairs(hypotheses, [item for item in hypotheses if item.name == best.name])
    elif best.explained < _ENOUGH:
        tried = pairs(hypotheses)
    else:
        return found
    as_it_is = next(item for item in first if item[0].kind == "none")
    judged = trials.first(tried)
    of_pairs = _concluded(sorted([*judged, as_it_is], key=_behind), trials)
    pair = of_pairs.hypotheses[0]
    if not pair.options or not leads(pair, best) or pair.explained < _PAIR:
        return found
    ranked = sorted([*of_pairs.hypotheses, *found.hypotheses[1:]], key=lambda item: -item.explained)
    return replace(of_pairs, hypotheses=ranked)


@dataclass(frozen=True, eq=False)
class _Trials:
    """Short runs on a part of a scan, until there is no more time."""

    part: Part
    good: NDArray[np.bool_]
    seed: int
    until: float

    @property
    def is_late(self) -> bool:
        return time.perf_counter() > self.until

    def judge(self, hypothesis: Hypothesis, passes: int, repeat: int = 0) -> HeldOut | None:
        """Let a hypothesis predict patterns left out; another repeat leaves out others."""
        counts, positions, probe = hypothesis.change(self.part)
        mask = self.good[None].astype(np.float32)
        if hypothesis.turn is not None:
            mask = hypothesis.turn(mask)
        options = SolverOptions(passes=passes, refine_probe=True)
        return judge(counts, positions, probe, mask[0] > 0, options, seed=self.seed + repeat)

    def repeated(self, hypothesis: Hypothesis, run: HeldOut) -> list[HeldOut]:
        """Add runs that leave out others."""
        more = (self.judge(hypothesis, _PASSES, repeat) for repeat in range(1, 1 + REPEATS))
        return [run, *(other for other in more if other is not None)]

    def first(
        self,
        hypotheses: list[Hypothesis],
        on_progress: Callable[[int, int], object] | None = None,
    ) -> list[tuple[Hypothesis, HeldOut]]:
        """Judge hypotheses shortly, the best one first; none where patterns are too few."""
        found: list[tuple[Hypothesis, HeldOut]] = []
        for number, hypothesis in enumerate(hypotheses):
            if found and self.is_late:
                untried = len(hypotheses) - number
                logger.warning("no time for %d hypotheses; more --minutes try them too", untried)
                break
            judged = self.judge(hypothesis, _FIRST_PASSES)
            if judged is None:
                return []
            found.append((hypothesis, judged))
            if on_progress is not None:
                on_progress(number + 1, len(hypotheses))
        return sorted(found, key=_behind)

    def in_full(self, hypothesis: Hypothesis) -> Ranked:
        """Judge a hypothesis as the best ones are judged."""
        run = self.judge(hypothesis, _PASSES)
        assert run is not None
        return summed_up(hypothesis, self.repeated(hypothesis, run))


def _behind(judged: tuple[Hypothesis, HeldOut]) -> float:
    return -judged[1].explained


def _ranked(
    first: list[tuple[Hypothesis, HeldOut]], trials: _Trials
) -> tuple[list[Ranked], Ranked]:
    """Judge those at length that are not far behind, the best ones by several sets left out."""
    best = first[0][1].explained
    ahead, behind = [], []
    for place, (hypothesis, short) in enumerate(first):
        is_close = place < _FEWEST or short.explained > best - _BEHIND
        # The unchanged scan is judged as often as the best hypotheses.
        if hypothesis.kind == "none" or (is_close and not trials.is_late):
            ahead.append((hypothesis, trials.judge(hypothesis, _PASSES) or short))
        else:
            behind.append(summed_up(hypothesis, [short]))
    ahead.sort(key=lambda item: -item[1].explained)
    ranked, as_it_is = [], None
    for place, (hypothesis, run) in enumerate(ahead):
        runs = [run]
        is_close = place < _FINALISTS and run.explained > ahead[0][1].explained - _CLOSE
        if is_close or hypothesis.kind == "none":
            runs = trials.repeated(hypothesis, run)
        ranked.append(summed_up(hypothesis, runs))
        if hypothesis.kind == "none":
            as_it_is = ranked[-1]
    assert as_it_is is not None
    ranked.sort(key=lambda item: -item.explained)
    return ranked + behind, as_it_is


def _part_of(
    scan: Scan, rows: NDArray[np.int64]
) -> tuple[Part, NDArray[np.bool_], DomainVerdict | None]:
    """Read some patterns of a scan.

    The last value is what their steps say of counts and amplitude, if the scan says otherwise.
    """
    patterns = scan.patterns.read(rows)
    good = np.ones((scan.N, scan.N), bool) if scan.bad_pixels is None else ~scan.bad_pixels
    by_steps = judge_by_steps(patterns[:16], ~good)
    if by_steps is not None and by_steps.domain == scan.measurement_domain:
        by_steps = None
    domain = scan.measurement_domain if by_steps is None else by_steps.domain
    patterns = patterns.astype(np.float32)
    counts = patterns if domain == "counts" else patterns**2
    probe = scan.probe[np.abs(scan.probe).max(axis=(1, 2)) > 0]
    return (np.where(good, counts, 0), scan.positions[rows], probe), good, by_steps
