"""How well a result explains the patterns, and what to say where it does not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.solver.held_out import HeldOut

#: Part of what patterns left out would let be predicted, were the result the truth, below
#: which the result is doubtful.
_DOUBTFUL = 0.72

#: A true model explains at least this part of what can be known, unless photons are too few.
_TELLS = 0.3

#: Misfits of patterns left out, in units of what photon noise alone gives, that few photons do
#: not explain: at a low dose a true model misses details too, within the noise.
_MORE_THAN_NOISE, _FAR_MORE = 1.3, 1.5

#: Where a true model would explain little: a part that is less by so much is doubtful.
_FAR_LESS = 0.5

#: What to try, in the order in which it is usually the cause.
_REMEDY = (
    "the detector's orientation (`ptychostream check` tries all), the probe and its defocus, "
    "the positions (axes, unit, trigger) or the mask may be wrong"
)


#: What is said of a probe that still changes.
NOT_CONVERGED = "it has not converged"


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """The misfit of a result, and its certificate.

    `misfit`, `deviance`: R and the Poisson deviance of a pixel, met in each pass.
    `misfit_of_patterns`, `deviance_of_patterns` (M,): the same of each pattern, for the result.
    `final`: R of the result over all patterns.
    `held_out`: what a short run predicted for patterns left out; None where there are too few
        patterns, or it was not asked for.
    `twin`: the same for simulated patterns, of which the result is the truth.
    `stopped_by`: `passes`, `minutes`, `rest` or `request`.
    """

    misfit: Sequence[float]
    deviance: Sequence[float]
    misfit_of_patterns: NDArray[np.float32]
    deviance_of_patterns: NDArray[np.float32]
    final: float
    held_out: HeldOut | None = None
    twin: HeldOut | None = None
    passes: int = 0
    stopped_by: str = "passes"

    @property
    def is_doubtful(self) -> bool:
        """Return whether patterns left out are predicted far worse than a true model would."""
        if self.held_out is None:
            return False
        noises = self.held_out.misfit / max(self.held_out.misfit_ideal, 1e-12)
        if not noises > _MORE_THAN_NOISE:
            return False
        if self.twin is None:
            return self.held_out.explained < _TELLS and noises > _FAR_MORE
        if self.twin.explained < _TELLS:
            less = self.twin.explained - self.held_out.explained
            return less > _FAR_LESS and noises > _FAR_MORE
        return self.held_out.explained < _DOUBTFUL * self.twin.explained

    def warnings(self) -> list[str]:
        """Return what a user should know of the fit, a sentence each."""
        if not self.is_doubtful or self.held_out is None:
            return []
        if self.twin is None or self.twin.explained < _TELLS:
            return [
                "patterns left out cannot be predicted: with the probe found, neighbouring "
                f"patterns hardly share anything, and each is fitted by itself; {_REMEDY}"
            ]
        return [
            "the result does not predict patterns that it has not seen: it explains "
            f"{max(self.held_out.explained, 0):.0%} of what can be known of them, where a true "
            f"model of such a scan would explain {self.twin.explained:.0%}; {_REMEDY}"
        ]

    def numbers(self) -> dict[str, float]:
        """Return the figures of the report, by name."""
        found: dict[str, float] = {
            "misfit R of all patterns": self.final,
        }
        if np.isfinite(self.deviance_of_patterns).any():
            found["deviance of a pixel"] = float(np.nanmean(self.deviance_of_patterns))
        if self.held_out is not None:
            found |= {
                "misfit R of patterns left out": self.held_out.misfit,
                "the same by photon noise alone": self.held_out.misfit_ideal,
                "skill on patterns left out": self.held_out.skill,
            }
            if self.held_out.tells:
                found["explained of patterns left out"] = self.held_out.explained
        if self.twin is not None and self.twin.tells:
            found["explained of simulated patterns"] = self.twin.explained
        return found
