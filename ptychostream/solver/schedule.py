"""What changes over the passes: batches, momentum and trust; and how many passes there are."""

from dataclasses import dataclass

from ptychostream.solver.options import PASSES, SolverOptions

#: Most passes of a run that is given a time, as a multiple of the usual number.
_MOST = 10


@dataclass(frozen=True)
class Pass:
    """Settings of one pass.

    `num_batches`: updates: many at first, for speed, and few at the end, for little noise.
    `momentum`: part of the last update that is repeated.
    `trust`: how much detector pixels that the model does not light yet are held back: less and
        less.
    """

    num_batches: int
    momentum: float
    trust: float


def settings_of(number: int, passes: int, num_patterns: int, options: SolverOptions) -> Pass:
    """Return the settings of pass `number`, from 0, of `passes`."""
    along = min(number / max(passes - 1, 1), 1.0)

    def between(ends: tuple[float, float]) -> float:
        return float(ends[0] * (ends[1] / ends[0]) ** along)

    first, last = options.momentum
    # Batches of fewer than 16 patterns are too noisy; a constant number of batches, not a
    # constant size, makes large scans converge as small ones do.
    batches = max(1, min(num_patterns // 16, round(between(options.batches))))
    return Pass(batches, first + (last - first) * along, between(options.trust))


def passes_in_time(options: SolverOptions, seconds_before: float, seconds_of_pass: float) -> int:
    """Return the number of passes that fit into `options.minutes`, at least two."""
    if options.minutes is None:
        return options.passes
    left = 60 * options.minutes - seconds_before
    most = _MOST * max(options.passes, PASSES)
    return max(2, min(most, 1 + int(left / max(seconds_of_pass, 1e-9))))
