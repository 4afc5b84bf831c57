"""The probe that the options ask for: from a file, made from dimensions, or from the patterns."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.centre import is_corner_centred
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.probes import make_beam, propagate, read_probe_file
from ptychostream.datasets.sources.units import HC_EV_M, quantity
from ptychostream.errors import ConfigurationError
from ptychostream.scan import Scan

#: Finds a probe for a scan that has none but a placeholder: `--probe from_patterns`.
ProbeFinder = Callable[[Scan, InputOptions], NDArray[np.complex64]]


def given_probe(parts: ScanParts, options: InputOptions) -> NDArray[np.complex64] | None:
    """Read the probe (P, n, n) of the options, else take that of the scan's file."""
    if options.probe is None:
        return parts.probe
    text = options.probe
    is_made = text == "from_patterns" or text.partition(":")[0] in ("gaussian", "fzp")
    return parts.probe if is_made and "::" not in text else read_probe_file(text)


def make_probe(
    scan: Scan,
    options: InputOptions,
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


def defocused(scan: Scan, text: str) -> NDArray[np.complex64]:
    """Propagate a scan's probe by a length with a unit."""
    pixel, energy = scan.metadata.object_pixel_size_m, scan.metadata.energy_eV
    if pixel is None or energy is None:
        raise ConfigurationError(
            f"defocus={text!r} needs the pixel of the object: give --energy, --distance and "
            "--detector_pixel"
        )
    distance = quantity(text, "m", option="defocus")
    return propagate(scan.probe, distance, pixel, HC_EV_M / energy).astype(np.complex64)


def warnings_on_probe(probe: NDArray[np.complex64] | None, options: InputOptions) -> list[str]:
    """Return a warning where a probe seems to have its middle in the corners."""
    if probe is None or "swap_quadrants" in options.probe_transform:
        return []
    if not is_corner_centred((np.abs(probe) ** 2).sum(axis=0, dtype=np.float64)):
        return []
    return [
        "the probe is brightest in its corners; its middle belongs at pixel (N/2, N/2): "
        "--probe_transform swap_quadrants"
    ]
