"""Make a scan from files and options, in an order in which no step misleads another.

First patterns are left out, by their numbers in the file. Then positions are joined, values looked
at, a square window is taken, and only then are shapes and extents judged.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.beam_size import check_overlap
from ptychostream.datasets.sources.centre import (
    centre_option,
    expected_centre,
    find_centre,
    is_corner_centred,
    is_off,
)
from ptychostream.datasets.sources.domain import judge
from ptychostream.datasets.sources.joining import (
    Placed,
    check_mask,
    joined_mask,
    joined_metadata,
    joined_positions,
)
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.position_changes import transform_matrix
from ptychostream.datasets.sources.preprocess import Preprocessing, preprocess
from ptychostream.datasets.sources.probes import make_beam, propagate, read_probe_file
from ptychostream.datasets.sources.rows import as_ranges, rows_of, with_numbers
from ptychostream.datasets.sources.stray_positions import check_places
from ptychostream.datasets.sources.survey import Survey, survey
from ptychostream.datasets.sources.units import HC_EV_M, quantity
from ptychostream.datasets.sources.window import CleanPatterns, Window, WindowedPatterns
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import MeasurementDomain, PatternSource, Scan, ScanMetadata, SubsetPatterns

logger = logging.getLogger(__name__)

#: Finds a probe for a scan that has none but a placeholder: `--probe from_patterns`.
ProbeFinder = Callable[[Scan, InputOptions], NDArray[np.complex64]]

#: Detector pixels that differ by less are taken for square.
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class Seen:
    """What was found while a scan was assembled, for `info`.

    Attributes
    ----------
    survey : Survey, optional
        What was seen of the values; None where none were looked at.
    centre : (float, float), optional
        Zero frequency (x, y) on the detector, in its pixels.
    domain : str
        Counts or amplitude, and on what evidence.
    """

    survey: Survey | None
    centre: tuple[float, float] | None
    domain: str


def assemble(
    parts: ScanParts, options: InputOptions, *, find_probe: ProbeFinder | None = None
) -> Scan:
    """Make a checked scan of what a file holds and of what the options say.

    Parameters
    ----------
    find_probe : callable, optional
        Makes the probe of `probe="from_patterns"`.

    Raises
    ------
    DataContractError
        If something is missing or contradicts itself; the message says with which option it can
        be given.
    ConfigurationError
        If an option can't be applied to this file.
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

    Parameters
    ----------
    with_placeholder : bool
        Whether a missing probe is replaced by one that only has the right size and power.
    """
    warnings = list(parts.warnings)
    patterns = _patterns_of(parts)
    count = patterns.shape[0]
    metadata, pixel_height = joined_metadata(parts, options)
    placed = joined_positions(parts, options, count)
    kept, numbers = _kept_rows(parts, options, count, placed)
    if kept is not None and numbers is not None:
        patterns = SubsetPatterns(patterns, numbers)
        placed = placed.select(kept)
    _check_counts(parts, options, patterns, placed)
    probe = None if options.probe is None else _probe_option(options)
    probe = parts.probe if probe is None else probe
    swap = parts.swap_quadrants if options.swap_quadrants is None else options.swap_quadrants
    mask = joined_mask(parts, options, patterns.shape[1:])
    seen, domain, said = _look(parts, options, patterns, mask, probe)
    if seen is not None:
        warnings += _said_of_values(parts.name, seen, mask, numbers, patterns, options)
        warnings += check_mask(parts.name, mask, seen, options)
        if not said.is_certain:
            warnings.append(
                f"whether the patterns are counts or amplitude is doubtful: taken for {domain}, "
                f"since {said.evidence}; say it with --measurement_domain"
            )
        mask = seen.bad if seen.bad.any() else mask
        patterns = CleanPatterns(
            patterns,
            seen.bad,
            ceiling=seen.ceiling,
            skip=frozenset(seen.lost.tolist()),
            zero_negative=options.negative == "zero",
            name=parts.name,
        )
    mean = None if seen is None else seen.mean
    if mean is not None and swap:
        mean = np.fft.fftshift(mean)
    shape = (patterns.shape[1], patterns.shape[2])
    centre = None
    if options.centre is not None or mean is not None:
        reference = np.ones(shape) if mean is None else mean
        centre = (
            find_centre(reference)
            if options.centre is None
            else centre_option(options.centre, reference)
        )
        if options.centre in (None, "auto"):
            # The probe's own diffraction may lie beside the zero frequency.
            beside = expected_centre(shape, probe)
            centre = (
                centre[0] - beside[0] + shape[1] // 2,
                centre[1] - beside[1] + shape[0] // 2,
            )
    if mean is not None and options.swap_quadrants is None and not swap and is_corner_centred(mean):
        warnings.append(
            "the patterns are brightest in their corners; the zero frequency belongs at pixel "
            "(N/2, N/2). If it lies in the corner, build with --swap_quadrants true"
        )
    elif mean is not None and options.centre is None and centre is not None:
        expected = (float(shape[1] // 2), float(shape[0] // 2))
        if shape[0] == shape[1] and not shape[0] % 2 and is_off(centre, expected, shape[0]):
            warnings.append(
                f"the beam lies at (x {centre[0]:.1f}, y {centre[1]:.1f}) on the detector and not "
                f"at its middle ({expected[0]:.1f}, {expected[1]:.1f}); if that is so, give "
                f"--centre {centre[0]:.0f},{centre[1]:.0f} (or --centre auto)"
            )
    window = _window(parts, options, shape, centre)
    edge = window.edge
    if swap or not window.is_whole(shape):
        if shape[0] != shape[1] or shape[0] % 2:
            logger.info(
                "%s: of %d x %d px, %d x %d around (x %d, y %d) are used",
                parts.name,
                *shape,
                edge,
                edge,
                window.left + edge // 2,
                window.top + edge // 2,
            )
        patterns = WindowedPatterns(patterns, window, swap_quadrants=swap)
        beyond = window.cut(np.zeros(shape, bool), fill=True)
        if mask is not None or beyond.any():
            turned = np.zeros(shape, bool) if mask is None else mask
            turned = np.fft.fftshift(turned) if swap else turned
            mask = window.cut(turned, fill=True)
    final = options.pad or options.crop or edge // options.bin
    binned = edge // options.bin
    geometry = _pixel_sizes(metadata, pixel_height, edge)
    if geometry is not None and metadata.object_pixel_size_m is None:
        metadata = replace(metadata, object_pixel_size_m=float(geometry[0]))
    scan_probe, after, guess = _sized_probe(parts, probe, shape, edge, binned, final)
    positions, stage = _in_pixels(
        parts, placed, geometry, options, edge=edge, binned=binned, final=final, after=after
    )
    warnings += check_places(
        parts.name,
        positions,
        placed.values,
        edge,
        numbers=np.arange(len(positions)) if numbers is None else numbers,
        leave_out=options.leave_out,
    )
    start = placed.start
    if start is not None and after:
        start = start * (binned / final)
    needs_probe = scan_probe is None
    if scan_probe is None and options.probe is None and not with_placeholder:
        raise DataContractError(
            f"{parts.name} {parts.looked_for.get('probe', 'has no probe')}. Give one: "
            "--probe FILE, --probe from_patterns, "
            "--probe fzp:diameter=…,outer=…, or --probe gaussian:WIDTH"
        )
    placeholder = np.ones((1, edge, edge), np.complex64)
    scan = Scan(
        name=parts.name,
        patterns=patterns,
        measurement_domain=domain,
        positions=positions,
        probe=placeholder if after or scan_probe is None else scan_probe,
        object_guess=None if after else guess,
        positions_start=start,
        scan_index=placed.scan_index,
        bad_pixels=mask,
        metadata=metadata,
        provenance=parts.provenance | _provenance(options, seen, said.evidence, stage),
        file_rows=numbers,
        warnings=tuple(warnings),
    )
    scan = _turned(scan, parts, options)
    if after:
        probe = scan.probe if scan_probe is None else scan_probe
        scan = replace(scan, probe=probe, object_guess=guess)
    if needs_probe:
        scan = replace(scan, probe=_made_probe(scan, options, seen, find_probe, with_placeholder))
    if options.probe_transform == "conjugate":
        scan = replace(scan, probe=scan.probe.conj())
    scan = _shifted(scan, options.trigger_shift)
    if options.defocus is not None:
        scan = replace(scan, probe=_defocused(scan, options.defocus))
    if not (needs_probe and with_placeholder):
        scan = replace(scan, warnings=(*scan.warnings, *check_overlap(scan)))
    new = [text for text in scan.warnings if text not in parts.warnings]
    for text in new:
        logger.warning("%s: %s", scan.name, text)
    return scan, Seen(seen, centre, f"{domain}: {said.evidence}")


def _patterns_of(parts: ScanParts) -> PatternSource:
    if parts.patterns is None:
        raise DataContractError(
            f"{parts.name} {parts.looked_for.get('patterns', 'has no patterns')}; if they are "
            "there under another name, say it with --map diff3d=PATH"
        )
    shape = parts.patterns.shape
    if not shape[0]:
        raise DataContractError(f"{parts.name}: there are no patterns")
    if parts.patterns.dtype.kind not in "uif":
        raise DataContractError(
            f"{parts.name}: the patterns are {parts.patterns.dtype}, expected real numbers"
        )
    if (
        parts.positions is not None
        and shape[0] == shape[1]
        and shape[2] == len(parts.positions) != shape[0]
    ):
        raise DataContractError(
            f"{parts.name}: the patterns are {tuple(shape)}, expected (M, N, N); move the last "
            "axis to the front: np.moveaxis(diff3d, -1, 0)"
        )
    return parts.patterns


def _kept_rows(
    parts: ScanParts, options: InputOptions, count: int, placed: Placed
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Return the numbers of positions and of patterns that are kept; None where all are."""
    kept = np.arange(count) if placed.rows is None else placed.rows
    if options.leave_out.strip("[]() "):
        # Positions without a pattern have numbers, too.
        highest = max(count, len(placed.values)) if placed.rows is None else count
        kept = np.arange(highest) if placed.rows is None else kept
        kept = np.setdiff1d(kept, rows_of(options.leave_out, highest, name=parts.name))
        if not (kept < count).any():
            raise DataContractError(
                f"{parts.name}: leave_out={options.leave_out} leaves no pattern"
            )
    elif placed.rows is None:
        return None, None
    return kept, kept[kept < count]


def _check_counts(
    parts: ScanParts, options: InputOptions, patterns: PatternSource, placed: Placed
) -> None:
    count, positions = patterns.shape[0], placed.values
    if len(positions) != count:
        more = count - len(positions)
        advice = (
            f"If the last {more} were taken after the scan, leave them out: "
            f"{with_numbers(options.leave_out, np.arange(len(positions), count))}"
            if more > 0
            else f"If the last {-more} positions were never measured, leave them out: "
            f"{with_numbers(options.leave_out, np.arange(count, len(positions)))}"
        )
        raise DataContractError(
            f"{parts.name}: {count} diffraction patterns but {len(positions)} scan positions. "
            f"{advice}. If patterns were lost in between, give --positions FILE with a column "
            "'trigger', which says to which pattern each position belongs"
        )
    wrong = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(wrong) == count:
        raise DataContractError(f"{parts.name}: the positions are not finite, none of them")
    if len(wrong):
        numbers = wrong if placed.numbers is None else placed.numbers[wrong]
        raise DataContractError(
            f"{parts.name}: {len(wrong)} of {count} positions are not finite, as where a scan was "
            "stopped; leave them out with their patterns: "
            f"{with_numbers(options.leave_out, numbers)}"
        )


def _look(
    parts: ScanParts,
    options: InputOptions,
    patterns: PatternSource,
    mask: NDArray[np.bool_] | None,
    probe: NDArray[np.complex64] | None,
) -> tuple[Survey | None, MeasurementDomain, Any]:
    from ptychostream.datasets.sources.domain import Verdict

    declared = options.measurement_domain or parts.measurement_domain
    seen = None
    if options.look != "none":
        seen = survey(
            patterns,
            bad=mask,
            saturation=parts.saturation if options.saturation is None else options.saturation,
            every=options.look == "all" or options.saturation is not None,
            name=parts.name,
            squares=declared == "amplitude",
        )
    if options.measurement_domain is not None:
        return (
            seen,
            options.measurement_domain,
            Verdict(options.measurement_domain, "as given", is_certain=True),
        )
    if declared is not None:
        return seen, declared, Verdict(declared, "as the file or its format says", is_certain=True)
    sample = next(iter(patterns.blocks(16))) if seen is None else seen.sample[:16]
    bad = np.zeros(patterns.shape[1:], bool) if seen is None else seen.bad
    verdict = judge(sample, bad, probe)
    logger.info(
        "%s does not declare its measurement_domain; its patterns look like %s: %s",
        parts.name,
        verdict.domain,
        verdict.evidence,
    )
    return seen, verdict.domain, verdict


def _said_of_values(
    name: str,
    seen: Survey,
    mask: NDArray[np.bool_] | None,
    numbers: NDArray[np.int64] | None,
    patterns: PatternSource,
    options: InputOptions,
) -> list[str]:
    """Log which pixels were flagged, and return what is doubtful."""
    for why, number in seen.findings.items():
        if number:
            logger.info("%s: %d pixels are flagged as bad: %s", name, number, why)
    warnings = []
    total = seen.bad.size
    fresh = int(seen.bad.sum()) - (0 if mask is None else int(mask.sum()))
    if fresh > 0.25 * total:
        listed = ", ".join(f"{why} {number}" for why, number in seen.findings.items() if number)
        warnings.append(
            f"{fresh} of {total} pixels were flagged as bad ({listed}); look at the picture of "
            "ptychostream info --picture"
        )
    if len(seen.lost):
        lost = seen.lost if numbers is None else numbers[seen.lost]
        warnings.append(
            f"{len(lost)} of {patterns.shape[0]} patterns are saturated all over, numbers "
            f"{as_ranges(lost)}; leave them out: {with_numbers(options.leave_out, lost)}"
        )
    return warnings


def _window(
    parts: ScanParts,
    options: InputOptions,
    shape: tuple[int, int],
    centre: tuple[float, float] | None,
) -> Window:
    step = 2 * options.bin
    is_square = shape[0] == shape[1] and not shape[0] % 2
    if is_square and options.centre is None:
        return Window(0, 0, shape[0])
    edge = min(shape) // step * step
    if options.crop is not None:
        edge = max(edge, options.crop * options.bin)
    if edge < step:
        raise DataContractError(f"{parts.name}: {shape} px can't be binned by {options.bin}")
    middle = (float(shape[1] // 2), float(shape[0] // 2))
    if options.centre is None:
        # Without a word about the centre, a beam near the middle is taken to lie there.
        found = centre is not None and is_off(centre, middle, min(shape))
        return Window.around(centre if found and centre is not None else middle, edge)
    return Window.around(centre or middle, edge)


def _pixel_sizes(
    metadata: ScanMetadata, height_m: float | None, edge: int
) -> NDArray[np.float64] | None:
    """Return the object's pixels (x, y) in metres; None where the geometry is not known."""
    energy, distance = metadata.energy_eV, metadata.detector_distance_m
    width = metadata.detector_pixel_size_m
    if energy is None or distance is None or width is None:
        known = metadata.object_pixel_size_m
        return None if known is None else np.array([known, known])
    return np.array(
        [far_field_pixel_m(energy, distance, size, edge) for size in (width, height_m or width)]
    )


def _sized_probe(
    parts: ScanParts,
    probe: NDArray[np.complex64] | None,
    shape: tuple[int, int],
    edge: int,
    binned: int,
    final: int,
) -> tuple[NDArray[np.complex64] | None, bool, NDArray[np.complex64] | None]:
    """Return the probe, whether it has the size after all changes, and the object guess."""
    if probe is None:
        return None, final != binned and min(shape) != max(shape), parts.object_guess
    if probe.shape[-1] == edge:
        return probe, False, parts.object_guess
    if probe.shape[-1] == final:
        return probe, True, parts.object_guess
    if probe.shape[-1] == shape[0] == shape[1] == edge + 1:
        if not probe[:, -1].any() and not probe[:, :, -1].any():
            return probe[:, :-1, :-1], False, parts.object_guess
        from ptychostream.datasets.sources.preprocess import resize_in_fourier_space

        return resize_in_fourier_space(probe, (edge, edge)), False, parts.object_guess
    sizes = " or ".join(str(size) for size in sorted({edge, final}))
    number = parts.patterns.shape[0] if parts.patterns is not None else 0
    raise DataContractError(
        f"{parts.name}: the probe is {probe.shape} but the patterns are {(number, *shape)}; "
        f"expected a probe of {sizes} px: give --crop {probe.shape[-1]}, or another --probe"
    )


def _in_pixels(
    parts: ScanParts,
    placed: Placed,
    geometry: NDArray[np.float64] | None,
    options: InputOptions,
    *,
    edge: int,
    binned: int,
    final: int,
    after: bool,
) -> tuple[NDArray[np.float64], dict[str, Any] | None]:
    """Convert positions to pixels of the object before patterns are cropped or padded."""
    positions = (
        placed.values @ transform_matrix(options.position_transform, options.scan_rotation).T
    )
    factor = final / binned
    if placed.unit == "px":
        if after:
            positions = positions / factor
        if not np.array_equal(positions, placed.values) or options.step is not None:
            low = positions.min(axis=0)
            if (low < edge / 2).any() and parts.object_guess is None:
                positions = positions - low + final / 2 / factor
        return positions, None
    if geometry is None:
        lacking = [
            f"--{name}"
            for name, value in (
                ("energy", parts.metadata.energy_eV),
                ("distance", parts.metadata.detector_distance_m),
                ("detector_pixel", parts.metadata.detector_pixel_size_m),
            )
            if value is None and getattr(options, name) is None
        ]
        raise DataContractError(
            f"{parts.name}: positions are in metres, and lacks the photon energy, the detector "
            f"distance or its pixel size, without which they are no pixels: give "
            f"{', '.join(lacking)}"
        )
    if abs(geometry[1] / geometry[0] - 1) > _SAME:
        width = parts.metadata.detector_pixel_size_m
        logger.warning(
            "%s: detector pixels are %g m wide and %g m high: positions in object pixels respect "
            "that, sizes in metres are those along x",
            parts.name,
            width,
            parts.detector_pixel_height_m,
        )
    origin = positions.min(axis=0)
    pixels = (positions - origin) / geometry + final / 2 / factor
    stage = {
        "origin_m": origin.tolist(),
        "pixel_m": (geometry / factor).tolist(),
    }
    return pixels, stage


def _provenance(
    options: InputOptions, seen: Survey | None, evidence: str, stage: dict[str, Any] | None
) -> dict[str, Any]:
    record: dict[str, Any] = {}
    given = options.given()
    if given:
        record["options"] = given
    if seen is not None and any(seen.findings.values()):
        record["flagged"] = {why: number for why, number in seen.findings.items() if number}
    if stage is not None:
        record["stage"] = stage
    return record


def _turned(scan: Scan, parts: ScanParts, options: InputOptions) -> Scan:
    if parts.orientation != "identity":
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


def _probe_option(options: InputOptions) -> NDArray[np.complex64] | None:
    text = options.probe or ""
    is_made = text == "from_patterns" or text.partition(":")[0] in ("gaussian", "fzp")
    return None if is_made and "::" not in text else read_probe_file(text)


def _made_probe(
    scan: Scan,
    options: InputOptions,
    seen: Survey | None,
    find_probe: ProbeFinder | None,
    with_placeholder: bool,
) -> NDArray[np.complex64]:
    """Make a probe whose power is that of the brightest patterns."""
    if options.probe is None and with_placeholder:
        return scan.probe
    if options.probe == "from_patterns":
        if find_probe is None:
            raise ConfigurationError(
                "probe='from_patterns' needs find_probe, such as the one of "
                "ptychostream.solver.probe_from_patterns; "
                "or give --probe FILE, "
                "fzp:diameter=…,outer=…, or gaussian:WIDTH"
            )
        return find_probe(scan, options)
    beam = make_beam(
        options.probe or "",
        scan.N,
        pixel_m=scan.metadata.object_pixel_size_m,
        energy_eV=scan.metadata.energy_eV,
    )
    return (beam * np.sqrt(_power(scan))).astype(np.complex64)


def _power(scan: Scan) -> float:
    """Find the counts of a pattern that has met little absorption."""
    block = next(iter(scan.patterns.blocks(64))).astype(np.float64)
    if scan.bad_pixels is not None:
        block[:, scan.bad_pixels] = 0
    block = np.where(np.isfinite(block), block, 0)
    counts = (block if scan.measurement_domain == "counts" else block**2).sum(axis=(1, 2))
    return float(np.percentile(counts, 90)) or 1.0


def _defocused(scan: Scan, text: str) -> NDArray[np.complex64]:
    pixel, energy = scan.metadata.object_pixel_size_m, scan.metadata.energy_eV
    if pixel is None or energy is None:
        raise ConfigurationError(
            f"defocus={text!r} needs the pixel of the object: give --energy, --distance and "
            "--detector_pixel"
        )
    distance = quantity(text, "m", option="defocus")
    return propagate(scan.probe, distance, pixel, HC_EV_M / energy).astype(np.complex64)
