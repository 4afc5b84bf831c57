"""Make a scan from files and options, in an order in which no step misleads another.

First patterns are left out, by their numbers in the file. Then positions are joined, values looked
at, a square window is taken, and only then are shapes and extents judged.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.beam_size import check_overlap
from ptychostream.datasets.sources.centred_window import take_window
from ptychostream.datasets.sources.chosen_probe import (
    ProbeFinder,
    defocused,
    given_probe,
    make_probe,
    warnings_on_probe,
)
from ptychostream.datasets.sources.counted import check_counts, kept_rows, patterns_of
from ptychostream.datasets.sources.examine import examine
from ptychostream.datasets.sources.joining import (
    joined_mask,
    joined_metadata,
    joined_positions,
)
from ptychostream.datasets.sources.object_pixels import (
    Sizes,
    in_pixels,
    odd_geometry,
    pixel_sizes,
    sized_probe,
)
from ptychostream.datasets.sources.options import PROBE_CHANGES, InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.preprocess import Preprocessing, preprocess
from ptychostream.datasets.sources.stray_positions import check_places
from ptychostream.datasets.sources.survey import Survey
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import Scan, SubsetPatterns

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Seen:
    """What was found while a scan was assembled, for `info`.

    `survey`: what was seen of the values; None where none were looked at.
    `centre`: zero frequency (x, y) on the detector, in its pixels.
    `domain`: counts or amplitude, and on what evidence.
    `padding`: how many pixels lie beyond the detector.
    """

    survey: Survey | None
    centre: tuple[float, float] | None
    domain: str
    padding: int = 0


def assemble(
    parts: ScanParts, options: InputOptions, *, find_probe: ProbeFinder | None = None
) -> Scan:
    """Make a checked scan of what a file holds and of what the options say.

    `find_probe`: makes the probe of `probe="from_patterns"`.
    """
    return assemble_and_see(parts, options, find_probe=find_probe)[0]


def assemble_and_see(
    parts: ScanParts,
    options: InputOptions,
    *,
    find_probe: ProbeFinder | None = None,
    with_placeholder: bool = False,
) -> tuple[Scan, Seen]:
    """Assemble a scan, and return what was found on the way.

    `with_placeholder`: whether a missing probe is replaced by one that only has the right size and
        power.
    """
    patterns = patterns_of(parts)
    count = patterns.shape[0]
    metadata, pixel_height = joined_metadata(parts, options)
    placed = joined_positions(parts, options, count)
    kept, numbers = kept_rows(parts, options, count, placed)
    if kept is not None and numbers is not None:
        patterns = SubsetPatterns(patterns, numbers)
        placed = placed.select(kept)
    check_counts(parts, options, patterns, placed)
    probe = given_probe(parts, options)
    shape = (patterns.shape[1], patterns.shape[2])
    mask = joined_mask(parts, options, shape)
    examined = examine(parts, options, patterns, mask, probe=probe, numbers=numbers)
    windowed = take_window(parts, options, examined, probe)
    sizes = Sizes.of(windowed.edge, options)
    geometry = pixel_sizes(metadata, pixel_height, windowed.edge)
    if geometry is not None and metadata.object_pixel_size_m is None:
        metadata = replace(metadata, object_pixel_size_m=float(geometry[0]))
    scan_probe, after, guess = sized_probe(parts, probe, shape, sizes)
    positions, stage = in_pixels(parts, placed, geometry, options, sizes, metadata, after=after)
    stray = check_places(
        parts.name,
        positions,
        placed.values,
        windowed.edge,
        numbers=np.arange(len(positions)) if numbers is None else numbers,
        leave_out=options.leave_out,
        pixel_m=None if geometry is None else float(geometry[0]),
        unit=placed.read_in or placed.unit,
        odd_geometry=odd_geometry(metadata),
    )
    start = placed.start
    if start is not None and after:
        start = start * (sizes.binned / sizes.final)
    needs_probe = scan_probe is None
    if scan_probe is None and options.probe is None and not with_placeholder:
        raise DataContractError(
            f"{parts.name} {parts.looked_for.get('probe', 'has no probe')}. Give one: "
            "--probe FILE, --probe from_patterns, "
            "--probe fzp:diameter=…,outer=…, or --probe gaussian:WIDTH"
        )
    placeholder = np.ones((1, windowed.edge, windowed.edge), np.complex64)
    verdict = examined.verdict
    scan = Scan(
        name=parts.name,
        patterns=windowed.patterns,
        measurement_domain=verdict.domain,
        positions=positions,
        probe=placeholder if after or scan_probe is None else scan_probe,
        object_guess=None if after else guess,
        positions_start=start,
        scan_index=placed.scan_index,
        bad_pixels=windowed.mask,
        metadata=metadata,
        provenance=parts.provenance
        | _provenance(parts, options, examined.survey, numbers, stage)
        | ({} if windowed.middle is None else {"window_middle": [*windowed.middle]}),
        file_rows=numbers,
        warnings=(
            *parts.warnings,
            *examined.warnings,
            *windowed.warnings,
            *placed.warnings,
            *stray,
            *odd_geometry(metadata),
            *warnings_on_probe(probe, options),
        ),
    )
    scan = _turned(scan, parts, options)
    if after:
        probe = scan.probe if scan_probe is None else scan_probe
        scan = replace(scan, probe=probe, object_guess=guess)
    if needs_probe:
        made = make_probe(scan, options, find_probe, with_placeholder)
        scan = replace(scan, probe=made)
    for word in options.probe_transform.split(","):
        if word.strip() != "none":
            changed = PROBE_CHANGES[word.strip()](scan.probe)
            scan = replace(scan, probe=np.ascontiguousarray(changed))
    scan = _shifted(scan, options.trigger_shift)
    if options.defocus is not None:
        scan = replace(scan, probe=defocused(scan, options.defocus))
    if not (needs_probe and with_placeholder):
        scan = replace(scan, warnings=(*scan.warnings, *check_overlap(scan)))
    new = [text for text in scan.warnings if text not in parts.warnings]
    for text in new:
        logger.warning("%s: %s", scan.name, text)
    domain = f"{verdict.domain}: {verdict.evidence}"
    return scan, Seen(examined.survey, windowed.centre, domain, windowed.padding(options))


def _provenance(
    parts: ScanParts,
    options: InputOptions,
    seen: Survey | None,
    numbers: NDArray[np.int64] | None,
    stage: dict[str, Any] | None,
) -> dict[str, Any]:
    record: dict[str, Any] = {}
    given = options.given()
    if given:
        record["options"] = given
    if seen is not None and any(seen.findings.values()):
        record["flagged"] = {why: number for why, number in seen.findings.items() if number}
    if parts.says_orientation and parts.orientation != "identity":
        record["orientation"] = parts.orientation
    if seen is not None and len(seen.lost):
        record["lost"] = (seen.lost if numbers is None else numbers[seen.lost]).tolist()
    if stage is not None:
        record["stage"] = stage
    return record


def _turned(scan: Scan, parts: ScanParts, options: InputOptions) -> Scan:
    if parts.says_orientation and options.orientation is not None:
        if options.orientation != parts.orientation:
            logger.warning(
                "%s: the file says that its detector needs --orientation %s; %s is used, as given",
                parts.name,
                parts.orientation,
                options.orientation,
            )
    elif parts.orientation != "identity":
        logger.info(
            "%s: the file says how the detector's rows and columns run; patterns are turned: %s",
            parts.name,
            parts.orientation,
        )
        scan = preprocess(scan, Preprocessing(orientation=parts.orientation))
    changes = options.preprocessing()
    return scan if changes == Preprocessing() else preprocess(scan, changes)


def _shifted(scan: Scan, shift: int) -> Scan:
    """Pair each pattern with the position `shift` later; those without a partner are left out."""
    if not shift:
        return scan
    count = scan.num_patterns
    if abs(shift) >= count:
        raise ConfigurationError(
            f"trigger_shift={shift} leaves none of the {count} patterns of {scan.name}"
        )
    first = np.arange(max(0, -shift), count - max(0, shift))
    shifted = scan.select(first)
    rows = first + shift
    start = scan.positions_start
    return replace(
        shifted,
        positions=scan.positions[rows],
        positions_start=None if start is None else start[rows],
    )
