"""Find what is wrong with a scan's geometry: which hypothesis predicts patterns left out best."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.reconstruction.hypotheses import Hypothesis, Part, hypotheses_for
from ptychostream.scan import Scan
from ptychostream.solver.held_out import HeldOut, judge, neighbours_of_middle
from ptychostream.solver.options import SolverOptions

logger = logging.getLogger(__name__)

#: Patterns of the short runs, and their passes.
_PATTERNS, _PASSES = 120, 8

#: Best hypotheses that are judged again by other patterns left out, and how often.
_FINALISTS, _REPEATS = 4, 2

#: A lead counts beyond this many standard errors of the repeats, and at least by this much of
#: what can be explained.
_ERRORS, _LEAD = 2.0, 0.05

#: If even the best hypothesis explains less than this, the verdict is `undecided`.
_TELLS = 0.15

Verdict = Literal["sound", "mend", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A hypothesis and how well it predicts.

    Attributes
    ----------
    name : str
        What is wrong with the scan, in words.
    options : tuple of str
        Options of `build` that mend it.
    skill : float
        1 - R / R of the mean pattern, on patterns left out; the mean of the repeats.
    explained : float
        Part of what can be known of patterns left out, by the Poisson deviance.
    misfit : float
        R of patterns left out.
    spread : float
        Standard deviation of `explained` over the repeats; 0 where there was one run.
    """

    name: str
    options: tuple[str, ...]
    skill: float
    explained: float
    misfit: float
    spread: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What was found about a scan.

    Attributes
    ----------
    verdict : str
        `sound`, `mend` (with `options`) or `undecided`.
    options : list of str
        Options of `build` that mend the scan; empty otherwise.
    hypotheses : list of Ranked
        The best first.
    reason : str
        The verdict in a sentence.
    equals : list of str
        Hypotheses that cannot be told apart from the best one.
    """

    verdict: Verdict
    options: list[str]
    hypotheses: list[Ranked]
    reason: str
    equals: list[str] = field(default_factory=list)


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
    began = time.perf_counter()
    part, good = _part_of(scan)
    options = SolverOptions(passes=_PASSES, refine_probe=True)
    tried: list[tuple[Hypothesis, HeldOut]] = []
    hypotheses = hypotheses_for(part)
    for number, hypothesis in enumerate(hypotheses):
        if tried and time.perf_counter() - began > 0.75 * 60 * minutes:
            logger.warning("no time for %d hypotheses", len(hypotheses) - number)
            break
        judged = _judge(hypothesis, part, good, options, seed)
        if judged is None:
            raise DataContractError(
                f"{scan.name}: {len(part[0])} patterns are too few to check a geometry by"
            )
        tried.append((hypothesis, judged))
        if on_progress is not None:
            on_progress(number + 1, len(hypotheses))
    tried.sort(key=lambda item: -item[1].explained)
    ranked = []
    for place, (hypothesis, first) in enumerate(tried):
        runs = [first]
        # The unchanged scan is judged as often as the best hypotheses.
        if place < _FINALISTS or hypothesis.kind == "none":
            more = (
                _judge(hypothesis, part, good, options, seed + repeat)
                for repeat in range(1, 1 + _REPEATS)
            )
            runs += [run for run in more if run is not None]
        ranked.append(_summed_up(hypothesis, runs))
    ranked.sort(key=lambda item: -item.explained)
    return _conclude(ranked)


def _part_of(scan: Scan) -> tuple[Part, NDArray[np.bool_]]:
    """Read the patterns nearest to the middle, in the order in which they were taken."""
    rows = neighbours_of_middle(scan.positions, _PATTERNS)
    patterns = scan.patterns.read(rows).astype(np.float32)
    counts = patterns if scan.measurement_domain == "counts" else patterns**2
    good = np.ones((scan.N, scan.N), bool) if scan.bad_pixels is None else ~scan.bad_pixels
    probe = scan.probe[np.abs(scan.probe).max(axis=(1, 2)) > 0]
    return (np.where(good, counts, 0), scan.positions[rows], probe), good


def _judge(
    hypothesis: Hypothesis,
    part: Part,
    good: NDArray[np.bool_],
    options: SolverOptions,
    seed: int,
) -> HeldOut | None:
    counts, positions, probe = hypothesis.change(part)
    mask, _, _ = hypothesis.change((good[None].astype(np.float32), positions[:1], probe))
    if hypothesis.kind == "trigger":
        mask = good[None].astype(np.float32)
    return judge(counts, positions, probe, mask[0] > 0, options, seed=seed)


def _summed_up(hypothesis: Hypothesis, runs: list[HeldOut]) -> Ranked:
    explained = [run.explained for run in runs]
    return Ranked(
        name=hypothesis.name,
        options=hypothesis.options,
        skill=float(np.mean([run.skill for run in runs])),
        explained=float(np.mean(explained)),
        misfit=float(np.mean([run.misfit for run in runs])),
        spread=float(np.std(explained, ddof=1)) if len(runs) > 1 else 0.0,
    )


def _conclude(ranked: list[Ranked]) -> CheckResult:
    """Turn the ranking into a verdict; in doubt, no change of the scan is advised."""
    best = ranked[0]
    as_it_is = next(item for item in ranked if not item.options)

    def leads(first: Ranked, second: Ranked) -> bool:
        error = np.hypot(first.spread, second.spread) / np.sqrt(1 + _REPEATS)
        return first.explained - second.explained > max(_LEAD, _ERRORS * error)

    equals = [item.name for item in ranked[1:] if not leads(best, item)]
    if best.explained < _TELLS:
        return CheckResult(
            verdict="undecided",
            options=[],
            hypotheses=ranked,
            equals=equals,
            reason=(
                f"no hypothesis predicts patterns left out (the best, '{best.name}', explains "
                f"{max(best.explained, 0):.0%}): photons or overlap are too few, or the probe, the "
                "mask or the positions are wrong in another way"
            ),
        )
    if not leads(best, as_it_is):
        alike = [item.name for item in ranked if item.options and not leads(as_it_is, item)]
        remark = f"; not to tell apart from: {', '.join(alike[:4])}" if alike else ""
        return CheckResult(
            verdict="sound",
            options=[],
            hypotheses=ranked,
            equals=equals,
            reason=f"no mend predicts patterns left out better than the scan as it is{remark}",
        )
    # Mirrored patterns or positions give the same picture or its mirror image; patterns turned by
    # half a turn are those of the conjugate beam and object.
    mirrors = {"--orientation", "--position_transform", "--probe_transform"}
    rivals = [
        item.name
        for item in ranked[1:]
        if item.options
        and not leads(best, item)
        and not {item.options[0], best.options[0]} <= mirrors
    ]
    if rivals:
        return CheckResult(
            verdict="undecided",
            options=list(best.options),
            hypotheses=ranked,
            equals=equals,
            reason=(
                f"something is wrong, and these mends predict alike: {best.name}, "
                f"{', '.join(rivals[:4])}"
            ),
        )
    return CheckResult(
        verdict="mend",
        options=list(best.options),
        hypotheses=ranked,
        reason=(
            f"{best.name}: explains {best.explained:.0%} of patterns left out, the scan as it is "
            f"{max(as_it_is.explained, 0):.0%}"
            + (f"; not to tell apart from: {', '.join(equals[:3])}" if equals else "")
        ),
        equals=equals,
    )
