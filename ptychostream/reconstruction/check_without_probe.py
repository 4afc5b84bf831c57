"""Check the geometry of a scan that has no probe: one is made of its patterns, however turned."""

from collections.abc import Callable
from dataclasses import replace

from ptychostream.datasets.sources.mending import mended
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.reconstruction.check import check
from ptychostream.reconstruction.verdict import CheckResult
from ptychostream.scan import Scan
from ptychostream.solver.probe_from_patterns import find_orientation


def check_without_probe(
    scan: Scan,
    read: Callable[[InputOptions], Scan],
    options: InputOptions,
    *,
    minutes: float,
    seed: int,
) -> tuple[CheckResult, Scan, InputOptions]:
    """Find the orientation together with the probe, then check what is read with both.

    `scan`: the scan as it was read, whatever its probe.
    `read`: reads the scan with other options, and makes its probe anew.
    `options`: those that it was read with.
    Returns `found`: `mend` where patterns had to be turned, its options relative to the third
        value.
    Returns `scan`: the scan that was checked.
    Returns `options`: those that it was read with.
    """
    orientation = find_orientation(scan, seconds=0.4 * 60 * minutes)
    if orientation == "identity":
        return check(scan, minutes=minutes, seed=seed), scan, options
    turned = mended(options, ["--orientation", orientation], scan, is_file=True)
    other = read(turned)
    found = check(other, minutes=0.6 * minutes, seed=seed)
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
    names = [replace(item, name=f"{said}; {item.name}") for item in found.hypotheses]
    return replace(found, hypotheses=names), other, turned
