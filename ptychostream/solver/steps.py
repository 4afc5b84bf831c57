"""The parts of an update that can be exchanged, each a function of its own file."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ptychostream.solver.object_step import object_step
from ptychostream.solver.position_step import position_moves
from ptychostream.solver.prior import prior_strength
from ptychostream.solver.probe_step import probe_step
from ptychostream.solver.residual import residual


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The parts of an update.

    Attributes
    ----------
    residual : callable
        From counts and predicted rates (B, N, N) to the relative correction of the waves on the
        detector; see `residual.residual`.
    object_step : callable
        Moves the object by what the patterns of a batch ask for; see `object_step.object_step`.
    probe_step : callable
        Moves the probe likewise; see `probe_step.probe_step`.
    position_moves : callable
        From the sums of `position_step.position_sums` to moves (M, 2) in pixels.
    prior_strength : callable
        Chooses the strength of the smoothness prior after each pass; see `prior.prior_strength`.

    Examples
    --------
    A residual of one's own, for `ps.solve(store, steps=Steps(residual=amplitude))`:

    >>> def amplitude(counts, rate, *, brightness, trust):
    ...     return ((counts / rate).sqrt() - 1) * rate / (rate + trust * counts)
    >>> Steps(residual=amplitude).residual is amplitude
    True
    """

    residual: Callable[..., Tensor] = residual
    object_step: Callable[..., None] = object_step
    probe_step: Callable[..., None] = probe_step
    position_moves: Callable[..., Tensor] = position_moves
    prior_strength: Callable[..., float] = prior_strength
