"""The verdict on a scan's geometry: how its hypotheses are ranked, and what follows."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from ptychostream.datasets.sources.domain import Verdict as DomainVerdict
from ptychostream.reconstruction.hypotheses import Hypothesis
from ptychostream.solver.held_out import HeldOut

#: How often the best hypotheses are judged again, by other patterns left out.
REPEATS = 2

#: A lead counts beyond this many standard errors of the repeats, and at least by this much of
#: what can be explained, or by this part of what the other one does not explain.
_ERRORS, _LEAD, _LEAD_OF_REST = 2.0, 0.05, 0.4

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
        Part of what can be known of patterns left out, by the Poisson deviance; of hypotheses
        far behind, after a first, shorter trial.
    misfit : float
        R of patterns left out.
    spread : float
        Standard deviation of `explained` over the repeats; 0 where there was one run.
    runs : tuple of float
        `explained` of each repeat, which leave out the same patterns for all hypotheses.
    """

    name: str
    options: tuple[str, ...]
    skill: float
    explained: float
    misfit: float
    spread: float = 0.0
    runs: tuple[float, ...] = ()


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


def summed_up(hypothesis: Hypothesis, runs: list[HeldOut]) -> Ranked:
    """Put the runs of a hypothesis together."""
    explained = [run.explained for run in runs]
    return Ranked(
        name=hypothesis.name,
        options=hypothesis.options,
        skill=float(np.mean([run.skill for run in runs])),
        explained=float(np.mean(explained)),
        misfit=float(np.mean([run.misfit for run in runs])),
        spread=float(np.std(explained, ddof=1)) if len(runs) > 1 else 0.0,
        runs=tuple(explained),
    )


def leads(first: Ranked, second: Ranked) -> bool:
    """Return whether one hypothesis predicts better than another, beyond what chance does."""
    if len(first.runs) == len(second.runs) > 1:
        # The same patterns were left out: what they have in common is no uncertainty.
        gaps = np.subtract(first.runs, second.runs)
        error = float(np.std(gaps, ddof=1)) / np.sqrt(len(gaps))
    else:
        error = float(np.hypot(first.spread, second.spread)) / np.sqrt(1 + REPEATS)
    least = min(_LEAD, _LEAD_OF_REST * (1 - second.explained))
    return first.explained - second.explained > max(least, _ERRORS * error)


def conclude(ranked: list[Ranked], as_it_is: Ranked, curved: list[Ranked]) -> CheckResult:
    """Turn the ranking into a verdict; in doubt, no change of the scan is advised.

    `curved` is the scan as it is with probes of another defocus, where the positions' scale leads.
    """
    best = ranked[0]
    equals = [item.name for item in ranked[1:] if not leads(best, item)]
    of = partial(CheckResult, hypotheses=ranked, equals=equals)
    if best.explained < _TELLS:
        return of(
            verdict="undecided",
            options=[],
            reason=(
                f"no hypothesis predicts patterns left out (the best, '{best.name}', explains "
                f"{max(best.explained, 0):.0%}): photons or overlap are too few, or the probe, the "
                "mask or the positions are wrong in another way"
            ),
        )
    if not leads(best, as_it_is) and as_it_is.explained < _TELLS:
        return of(
            verdict="undecided",
            options=[],
            reason=(
                f"the scan as it is predicts nothing of patterns left out, and the best mend, "
                f"'{best.name}', only {best.explained:.0%}, which may be chance: several things "
                "may be wrong at once, or another one"
            ),
        )
    if not leads(best, as_it_is):
        alike = [item.name for item in ranked if item.options and not leads(as_it_is, item)]
        remark = f"; not to tell apart from: {', '.join(alike[:4])}" if alike else ""
        return of(
            verdict="sound",
            options=[],
            reason=f"no mend predicts patterns left out better than the scan as it is{remark}",
        )
    rivals = [item.name for item in curved if not leads(best, item)]
    rivals += [
        item.name
        for item in ranked[1:]
        if item.options and not leads(best, item) and _unmirrored(item) != _unmirrored(best)
    ]
    if rivals:
        return of(
            verdict="undecided",
            options=list(best.options),
            reason=(
                f"something is wrong, and these mends predict alike: {best.name}, "
                f"{', '.join(rivals[:4])}"
            ),
        )
    return of(
        verdict="mend",
        options=list(best.options),
        reason=(
            f"{best.name}: explains {best.explained:.0%} of patterns left out, the scan as it is "
            f"{max(as_it_is.explained, 0):.0%}"
            + (f"; not to tell apart from: {', '.join(equals[:3])}" if equals else "")
        ),
    )


def _unmirrored(item: Ranked) -> list[str]:
    """Return the parts of a mend that neither mirror nor turn.

    Mirrored patterns or positions give the same picture or its mirror image; patterns turned by
    half a turn are those of the conjugate beam and object.
    """
    parts = []
    for name, value in zip(item.options[::2], item.options[1::2], strict=True):
        if name == "--position_transform":
            parts += [word for word in value.split(",") if "scale" in word]
        elif name not in ("--orientation", "--probe_transform"):
            parts += [name, value]
    return parts


def with_domain(found: CheckResult, domain: DomainVerdict) -> CheckResult:
    """Add to a verdict that the values themselves say what they are."""
    options = ["--measurement_domain", domain.domain]
    said = f"the patterns are {_DOMAINS[domain.domain]}: {domain.evidence}"
    hypotheses = [
        replace(
            item,
            name=f"{said}; {item.name}" if item.options else said,
            options=(*options, *item.options),
        )
        for item in found.hypotheses
    ]
    is_decided = found.verdict != "undecided"
    return replace(
        found,
        verdict="mend" if is_decided or not found.options else "undecided",
        options=[*options, *found.options],
        hypotheses=hypotheses,
        reason=said if found.verdict == "sound" else f"{said}; {found.reason}",
    )


_DOMAINS = {"counts": "counts", "amplitude": "amplitudes"}
