"""Check the geometry of a scan that has no probe: one is made of its patterns, however turned."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.chosen_probe import ProbeFinder
from ptychostream.datasets.sources.mending import mended, one_after_the_other
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.reconstruction.check import check
from ptychostream.reconstruction.verdict import CheckResult
from ptychostream.scan import Scan
from ptychostream.solver.probe_from_patterns import find_orientation, find_probe

#: Reads a scan with options; the second argument makes its probe.
Read = Callable[[InputOptions, ProbeFinder], Scan]


def check_without_probe(
    read: Read, options: InputOptions, *, minutes: float, seed: int
) -> tuple[CheckResult, Scan]:
    """Find the orientation together with the probe, then check what is read with both.

    `options`: those that the scan is read with.
    Returns `found`: `mend` where patterns had to be turned, its options relative to `options`.
    Returns `scan`: as it was read with `options`.
    """
    scan = read(options, _no_probe)
    orientation = find_orientation(scan, seconds=0.4 * 60 * minutes)
    makes_probe = partial(find_probe, tries_orientations=False)
    if orientation == "identity":
        return check(read(options, makes_probe), minutes=minutes, seed=seed), scan
    turned = mended(options, ["--orientation", orientation], scan, is_file=True)
    found = check(read(turned, makes_probe), minutes=0.6 * minutes, seed=seed)
    said = f"patterns turned: {orientation}, and the probe made of them"
    first = found.hypotheses[0]
    if found.verdict == "sound":
        reason = (
            f"{said}: explains {first.explained:.0%} of patterns left out; its mirror images, and "
            "half a turn with the other sign of the defocus, are not to tell apart"
        )
        found = replace(found, verdict="mend", reason=reason)
    else:
        found = replace(found, reason=f"{said}; {found.reason}")
    ranked = [
        replace(
            item,
            name=f"{said}; {item.name}",
            options=tuple(_after(orientation, list(item.options))),
        )
        for item in found.hypotheses
    ]
    return replace(found, options=_after(orientation, found.options), hypotheses=ranked), scan


def _no_probe(scan: Scan, options: InputOptions) -> NDArray[np.complex64]:
    return scan.probe


def _after(orientation: str, mend: list[str]) -> list[str]:
    """Return a mend of turned patterns as one of the patterns as they were."""
    values = dict(zip(mend[::2], mend[1::2], strict=True))
    if "--orientation" in values:
        orientation = one_after_the_other(orientation, values.pop("--orientation"))
    return ["--orientation", orientation, *(word for pair in values.items() for word in pair)]
