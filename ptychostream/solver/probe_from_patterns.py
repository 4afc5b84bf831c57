"""A probe from nothing but patterns: their mean is its far field, its defocus is searched for."""

import logging
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.mending import mended
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.preprocess import ORIENTATIONS, Orientation
from ptychostream.errors import DataContractError
from ptychostream.scan import Scan
from ptychostream.solver.held_out import judge, neighbours_of_middle
from ptychostream.solver.options import SolverOptions

logger = logging.getLogger(__name__)

#: Patterns, and passes, of the short run that judges a candidate.
_PATTERNS, _PASSES = 100, 6

#: Candidates of either sign.
_NUMBER = 14

#: Patterns and passes for each orientation, one of each pair that half a turn exchanges, and how
#: much more another one must explain than the patterns as they are, and in all.
_FEWER, _FIRST_PASSES, _LEAD, _LEAST = 64, 4, 0.1, 0.25
_TURNS: tuple[Orientation, ...] = ("identity", "flip_x", "transpose", "rot90")

#: Seconds for orientations where no defocus predicts anything.
_PATIENCE = 120.0

#: What the best candidate explains of patterns left out, below which turned patterns are tried too,
#: and below which it is a guess.
_LOW, _DOUBTFUL = 0.5, 0.2


def find_probe(
    scan: Scan, options: InputOptions | None = None, *, tries_orientations: bool = True
) -> NDArray[np.complex64]:
    """Find a probe for a scan that has none.

    The square root of the mean pattern is the modulus of the beam's far field, but for what
    the object scatters. Its phase is taken as a defocus, which decides how large the beam is on the
    object. Each candidate solves a part of the scan without some patterns, and the one that
    predicts these best is the probe: by the patterns used, beams so small that nothing overlaps
    would always win.

    `scan`: patterns and positions; its own probe is ignored.
    `options`: how it was read.
    `tries_orientations`: whether turned patterns are tried where no defocus predicts anything.
    Returns (1, N, N): the probe, with the measured power.
    """
    logger.info("%s: searching for a probe in the patterns", scan.name)
    rows, counts, good = _middle(scan, _PATTERNS)
    short = SolverOptions(passes=_PASSES, refine_probe=False)
    best, found = -np.inf, None
    for defocus in candidates(counts):
        probe = probe_at(counts, defocus)
        judged = judge(counts, scan.positions[rows], probe, good, short)
        if judged is None:
            raise DataContractError(
                f"{scan.name}: {len(rows)} patterns are too few to find a probe from; give one"
            )
        logger.debug("defocus %.4g: skill %.3f", defocus, judged.skill)
        if judged.skill > best:
            best, found, explained, chosen = judged.skill, probe, judged.explained, defocus
    assert found is not None
    logger.info(
        "probe from the patterns: defocus of %.4g rad per (cycle / pixel)², explains %.0f%% of "
        "patterns left out",
        chosen,
        100 * max(explained, 0),
    )
    if explained < _LOW and tries_orientations:
        _refuse_other_orientation(scan, options or InputOptions())
    if explained < _DOUBTFUL:
        logger.warning(
            "%s: no defocus predicts patterns that were left out (explained %.2f): the probe made "
            "from the patterns is a guess. Give one by --probe; or axes, trigger, unit or mask are "
            "wrong, and photons or overlap too few",
            scan.name,
            explained,
        )
    return found


def _refuse_other_orientation(scan: Scan, options: InputOptions) -> None:
    """Refuse patterns whose probe is found only once they are turned."""
    logger.info("%s: no defocus predicts the patterns well; trying them turned", scan.name)
    orientation = find_orientation(scan, seconds=_PATIENCE)
    if orientation != "identity":
        mend = mended(options, ["--orientation", orientation], scan, is_file=True)
        raise DataContractError(
            f"{scan.name}: a probe made from the patterns predicts patterns left out only if they "
            f"are turned: --orientation {mend.orientation} (its mirror images, and half a turn "
            "with the other sign of the defocus, cannot be told apart)"
        )


def find_orientation(scan: Scan, *, seconds: float = np.inf) -> Orientation:
    """Find how patterns must be turned where there is no probe: each way has a probe of its own.

    Patterns that are turned make a turned probe, so that a wrong orientation spoils the probe that
    is made of them, too. Half a turn is left out: it is the other sign of the defocus.

    `scan`: patterns and positions; its own probe is ignored.
    `seconds`: time for all; the candidates of the defocus are tried from the widest-spaced on.
    Returns a key of `ORIENTATIONS`: `identity` unless another one predicts patterns left out
        better.
    """
    rows, counts, good = _middle(scan, _FEWER)
    short = SolverOptions(passes=_FIRST_PASSES, refine_probe=False)
    until = time.perf_counter() + seconds
    best: dict[Orientation, float] = dict.fromkeys(_TURNS, -np.inf)
    defoci = [*candidates(counts)]
    # Every fourth radius first, of both signs, then those between.
    pairs = np.arange(1, len(defoci)).reshape(-1, 2)
    for number in (0, *np.concatenate([pairs[1::4], pairs[3::4], pairs[::2]]).ravel()):
        for name in _TURNS:
            turn = ORIENTATIONS[name]
            turned = np.ascontiguousarray(turn(counts))
            probe = probe_at(turned, defoci[number])
            judged = judge(turned, scan.positions[rows], probe, turn(good), short)
            if judged is not None:
                best[name] = max(best[name], judged.explained)
        if time.perf_counter() > until:
            break
    logger.info(
        "orientations with probes of their own, explained of patterns left out: %s",
        ", ".join(f"{name} {explained:.2f}" for name, explained in best.items()),
    )
    found = max(best, key=lambda name: best[name])
    return found if best[found] > max(best["identity"] + _LEAD, _LEAST) else "identity"


def probe_at(counts: NDArray[np.float32], defocus: float) -> NDArray[np.complex64]:
    """Return the probe (1, N, N) with the mean pattern as far field, and a quadratic phase.

    `defocus` is in radians for a squared frequency of one (cycle / pixel)².
    """
    frequency = np.fft.fftfreq(counts.shape[-1])
    pupil = np.fft.ifftshift(np.sqrt(counts.mean(0, dtype=np.float64)))
    phase = defocus * (frequency[:, None] ** 2 + frequency**2)
    probe = np.fft.fftshift(np.fft.ifft2(pupil * np.exp(1j * phase), norm="ortho"))
    return probe[None].astype(np.complex64)


def candidates(counts: NDArray[np.float32]) -> Iterator[float]:
    """Yield defoci whose beams have from about one pixel to a third of the patch for radius.

    They are radians for a squared frequency of one (cycle / pixel)², of both signs.
    """
    mean, edge = counts.mean(0, dtype=np.float64), counts.shape[-1]
    along = np.arange(edge) - edge // 2
    squared = along[:, None] ** 2 + along**2
    angle = np.sqrt((mean * squared).sum() / mean.sum()) / edge
    yield 0.0
    # Rays at this frequency land defocus · frequency / π pixels from the axis.
    for radius in np.geomspace(1, edge / 3, _NUMBER):
        defocus = float(np.pi * radius / max(angle, 1 / edge))
        yield defocus
        yield -defocus


def _middle(
    scan: Scan, number: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Return neighbours in the middle of a scan: their rows, counts, and the good pixels."""
    rows = neighbours_of_middle(scan.positions, number)
    patterns = scan.patterns.read(rows).astype(np.float32)
    counts = patterns if scan.measurement_domain == "counts" else patterns**2
    good = np.ones((scan.N, scan.N), bool) if scan.bad_pixels is None else ~scan.bad_pixels
    return rows, np.where(good, counts, 0), good
