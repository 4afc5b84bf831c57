"""What a scan file is: its geometry, values and beam, what is missing, and what to do next."""

import math
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.cli.input_options import as_words
from ptychostream.datasets.sources import InputOptions, options_with, read_parts
from ptychostream.datasets.sources.assemble import Seen, assemble_and_see
from ptychostream.datasets.sources.beam_size import beam_diameter, linear_overlap, typical_step
from ptychostream.errors import DataContractError
from ptychostream.files import reading, whole_file
from ptychostream.scan import Scan

Lines = list[tuple[str, str]]

#: Bytes of patterns from which on a store is worth making.
_LARGE = 2**30


def describe_scan(
    path: Path, options: InputOptions, picture: Path | None
) -> tuple[Lines, dict[str, Any]]:
    """Describe a scan file.

    Returns `lines`: names and values for people.
    Returns `facts`: the same for programs, in JSON values.
    """
    chosen = options_with(options)
    parts = read_parts(path, chosen)
    has_positions = any(x is not None for x in (parts.positions, chosen.positions, chosen.step))
    if not has_positions and parts.patterns is not None:
        placeholder = _placeholder(*parts.patterns.shape)
        parts = replace(parts, positions=placeholder, position_unit="px")
    with reading(path):
        scan, seen = assemble_and_see(parts, chosen, with_placeholder=True)
    has_probe = parts.probe is not None or chosen.probe is not None
    if picture is not None:
        draw_scan(scan, picture, has_probe=has_probe, has_positions=has_positions)
    facts = _facts(scan, seen, has_probe=has_probe, has_positions=has_positions)
    lines = [
        ("scan", str(path)),
        ("format", facts["format"] + (f" ({facts['layout']})" if facts["layout"] else "")),
        ("patterns", f"{scan.num_patterns} of {scan.N} x {scan.N} px, {scan.patterns.dtype}"),
        ("domain", seen.domain),
        (
            "counts",
            f"{facts['counts_mean']:.4g} a pattern (mean of {facts['looked_at']}), median "
            f"{facts['counts_median']:.4g}, largest pixel {facts['counts_largest']:.4g}",
        ),
        ("bad pixels", _bad_pixels(facts)),
        ("energy", _amount(facts["energy_eV"], "eV", 1)),
        ("distance", _amount(facts["detector_distance_m"], "m", 1)),
        ("detector pixel", _amount(facts["detector_pixel_size_m"], "um", 1e6)),
        ("object pixel", _amount(facts["object_pixel_size_m"], "nm", 1e9)),
        ("positions", _positions(facts)),
    ]
    if seen.centre is not None:
        at = f"x {seen.centre[0]:.1f}, y {seen.centre[1]:.1f} of the detector's pixels"
        lines.append(("centre", f"{at} as found in the patterns"))
    if has_probe:
        lines += [
            (
                "probe",
                f"{len(scan.probe)} mode(s), power {facts['probe_power']:.4g}, "
                f"{facts['probe_diameter_px']:.1f} px wide",
            )
        ]
        if has_positions:
            lines.append(("overlap", f"{facts['overlap']:.0%} along a line"))
    else:
        lines.append(
            (
                "probe",
                "none: --probe FILE, from_patterns, fzp:diameter=…,outer=…, or gaussian:WIDTH",
            )
        )
    guess = scan.object_guess
    lines.append(
        ("object guess", "none" if guess is None else f"{guess.shape[0]} x {guess.shape[1]} px")
    )
    lines += [("warning", sentence) for sentence in scan.warnings]
    more = "" if has_positions else " --positions FILE --position_unit um"
    more += "" if has_probe else " --probe from_patterns"
    size = scan.num_patterns * scan.N**2 * scan.patterns.dtype.itemsize
    # What is large is better turned into a store once than at each reconstruction.
    command, target = ("build", "scan.zarr") if size > _LARGE else ("reconstruct", "-o result")
    words = " ".join(filter(None, (quote(str(path)), target, as_words(chosen))))
    lines.append(("next", f"ptychostream {command} {words}{more}"))
    return lines, facts


def _placeholder(count: int, height: int, width: int) -> NDArray[np.float64]:
    """Make positions of a square raster, so that the rest of a scan can be looked at."""
    columns = math.ceil(count**0.5)
    row, column = np.divmod(np.arange(count), columns)
    return max(height, width) + 4.0 * np.stack([column, row], axis=1)


def _positions(facts: dict[str, Any]) -> str:
    if "step_px" not in facts:
        return (
            "none: --positions FILE --position_unit um, or for a raster --step DX,DY --scan_shape "
            "ROWS,COLUMNS"
        )
    low, high = facts["positions_low_px"], facts["positions_high_px"]
    return (
        f"x {low[0]:.1f} to {high[0]:.1f}, y {low[1]:.1f} to {high[1]:.1f} px, typically "
        f"{facts['step_px']:.2f} px apart"
    )


def _facts(scan: Scan, seen: Seen, *, has_probe: bool, has_positions: bool) -> dict[str, Any]:
    known = scan.metadata
    block = next(iter(scan.patterns.blocks(16))).astype(np.float64)
    counts = block if scan.measurement_domain == "counts" else block**2
    counts = np.where(np.isfinite(counts), counts, 0)
    bad = scan.bad_pixels
    if bad is not None:
        counts[:, bad] = 0
    totals = counts.sum(axis=(1, 2))
    facts: dict[str, Any] = {
        "format": str(scan.provenance.get("format")),
        "layout": scan.provenance.get("layout") or scan.provenance.get("definition"),
        "num_patterns": scan.num_patterns,
        "N": scan.N,
        "dtype": str(scan.patterns.dtype),
        "measurement_domain": scan.measurement_domain,
        "evidence": seen.domain,
        "looked_at": len(block),
        "counts_mean": float(totals.mean()),
        "counts_median": float(np.median(totals)),
        "counts_largest": float(counts.max()),
        "bad_pixels": 0 if bad is None else int(bad.sum()),
        "bad_pixels_share": 0.0 if bad is None else float(bad.mean()),
        "padding_pixels": seen.padding,
        "flagged": scan.provenance.get("flagged", {}),
        "energy_eV": known.energy_eV,
        "detector_distance_m": known.detector_distance_m,
        "detector_pixel_size_m": known.detector_pixel_size_m,
        "object_pixel_size_m": known.object_pixel_size_m,
        "centre_px": None if seen.centre is None else list(seen.centre),
        "warnings": list(scan.warnings),
    }
    if has_positions:
        facts |= {
            "positions_low_px": scan.positions.min(axis=0).tolist(),
            "positions_high_px": scan.positions.max(axis=0).tolist(),
            "step_px": typical_step(scan.positions),
        }
    if has_probe:
        facts |= {
            "probe_modes": len(scan.probe),
            "probe_power": float((np.abs(scan.probe) ** 2).sum()),
            "probe_diameter_px": beam_diameter(scan.probe),
        }
    if has_probe and has_positions:
        facts["overlap"] = linear_overlap(scan)
    return facts


def _bad_pixels(facts: dict[str, Any]) -> str:
    if not facts["bad_pixels"]:
        return "none"
    found = ", ".join(f"{number} {why}" for why, number in facts["flagged"].items())
    beyond = facts["padding_pixels"]
    return (
        f"{facts['bad_pixels']} ({facts['bad_pixels_share']:.1%})"
        + (f", of which {beyond} lie beyond the detector's edge" if beyond else "")
        + (f"; found on the whole detector: {found}" if found else "")
    )


def _amount(value: float | None, unit: str, factor: float) -> str:
    return "unknown" if value is None else f"{value * factor:.6g} {unit}"


def draw_scan(scan: Scan, path: Path, *, has_probe: bool, has_positions: bool) -> None:
    """Draw the mean pattern with its mask, the positions in order, the probe and a histogram."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    block = next(iter(scan.patterns.blocks(64))).astype(np.float64)
    counts = np.where(
        np.isfinite(block), block if scan.measurement_domain == "counts" else block**2, 0
    )
    mean: NDArray[Any] = counts.mean(axis=0)
    figure = Figure(figsize=(11, 9), layout="constrained")
    (pattern, places), (beam, histogram) = figure.subplots(2, 2)
    shown = np.ma.masked_array(mean, np.ma.nomask if scan.bad_pixels is None else scan.bad_pixels)
    top = float(shown.max()) or 1.0
    drawn = pattern.imshow(shown + 1e-5 * top, norm=LogNorm(1e-5 * top, 1.1 * top))
    figure.colorbar(drawn, ax=pattern, label="mean counts")
    pattern.set(title="patterns (white: bad pixels)", xlabel="x (px)", ylabel="y (px)")
    if has_positions:
        order = np.arange(scan.num_patterns)
        x, y = scan.positions.T
        places.plot(x, y, color="0.8", linewidth=0.5)
        dots = places.scatter(x, y, c=order, s=6)
        figure.colorbar(dots, ax=places, label="number")
        places.set(title="positions in order", xlabel="x (px)", ylabel="y (px)", aspect="equal")
        places.invert_yaxis()
    else:
        places.set_axis_off()
        places.text(0.5, 0.5, "no positions", ha="center")
    if has_probe:
        beam.imshow(np.sqrt((np.abs(scan.probe) ** 2).sum(axis=0)))
        beam.set(title="probe, amplitude", xlabel="x (px)", ylabel="y (px)")
    else:
        beam.set_axis_off()
        beam.text(0.5, 0.5, "no probe", ha="center")
    good = counts if scan.bad_pixels is None else counts[:, ~scan.bad_pixels]
    histogram.hist(np.log10(1 + good.ravel()), bins=60, log=True)
    histogram.set(title="values of good pixels", xlabel="log10 (1 + counts)", ylabel="pixels")
    kind = path.suffix[1:] or "png"
    try:
        if kind not in figure.canvas.get_supported_filetypes():
            raise ValueError(f"pictures do not end in .{kind}")
        with whole_file(path) as partial:
            figure.savefig(partial, format=kind)
    except (OSError, ValueError) as error:
        raise DataContractError(f"the picture '{path}' can't be written: {error}") from error
