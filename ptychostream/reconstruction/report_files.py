"""All files of a reconstruction: arrays, product, pictures, report."""

import json
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptychostream._version import __version__
from ptychostream.datasets.sources.ptychodus.conventions import object_pixel_size_m
from ptychostream.evaluation.figures import (
    draw_frc,
    draw_losses,
    draw_misfit,
    draw_misfit_map,
    draw_object,
    draw_probe,
    draw_timing,
    half_period,
    resolution,
)
from ptychostream.evaluation.report import RECORD, write_report
from ptychostream.files import whole_file
from ptychostream.reconstruction.result import ReconstructionResult, save_result
from ptychostream.scan import ScanMetadata

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle

#: Folder in which the files of a result are written before they take their place.
_STAGED = ".ptychostream-result"

_CONFIG = "config.yaml"

#: Files that an earlier reconstruction, or an evaluation of it, may have left.
_OF_EARLIER = (
    "losses.png",
    "timing.png",
    "frc.png",
    "misfit.png",
    "misfit_map.png",
    "probe.png",
    "evaluation.json",
    "evaluation.png",
)


def write_result_files(
    result: ReconstructionResult,
    bundle: "ModelBundle | None",
    folder: Path,
    *,
    title: str,
    options: Mapping[str, str] | None = None,
    refresh_s: float | None = None,
    basis: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write arrays, product, pictures and the report.

    What an earlier result left in the folder is replaced, and its evaluation removed, once all
    files of the new one are whole. Where `report.json` is there, all files are of one result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / _STAGED
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir()
        written = _write_files(
            result,
            bundle,
            staged,
            title=title,
            options=options,
            refresh_s=refresh_s,
            basis=basis,
        )
        if (folder / _CONFIG).is_file():
            # The report shows it.
            shutil.copyfile(folder / _CONFIG, staged / _CONFIG)
        report = write_report(staged)
        # The record goes first and comes last. The page is there all the time: it reloads itself.
        for name in (RECORD, *_OF_EARLIER):
            (folder / name).unlink(missing_ok=True)
        for path in (*written, report, staged / RECORD):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return [folder / path.name for path in (*written, report)]


def _write_files(
    result: ReconstructionResult,
    bundle: "ModelBundle | None",
    folder: Path,
    *,
    title: str,
    options: Mapping[str, str] | None,
    refresh_s: float | None,
    basis: Mapping[str, Any] | None,
) -> list[Path]:
    """Write all files but the page, and the record that it is made from."""
    written = save_result(result, folder)
    size = result.probe.shape[-1]
    pixel, is_assumed = object_pixel_size_m(result.metadata, size)
    known_pixel = None if is_assumed else pixel
    written += draw_object(result.object, result.coverage, folder, pixel_size_m=known_pixel)
    if result.frc is not None:
        written.append(draw_frc(result.frc, folder / "frc.png", pixel_size_m=known_pixel))
    written += _draw_solution(result, folder)
    if bundle is not None and bundle.history.get("train_loss"):
        written.append(draw_losses(bundle.history, folder / "losses.png"))
    if result.seconds:
        written.append(draw_timing(result.seconds, folder / "timing.png"))
    total = result.seconds.get("total", sum(result.seconds.values()))
    height, width = result.object.shape[-2:]
    lit = result.coverage[result.coverage > 0]
    found = "none" if result.frc is None else resolution(result.frc, known_pixel)
    record = {
        "title": f"{title}: partial result" if result.is_partial else title,
        "subtitle": f"Reconstructed on {datetime.now().astimezone():%Y-%m-%d at %H:%M %Z} by "
        f"ptychostream {__version__}",
        "tiles": [
            *_fit_tiles(result),
            ["scan positions", f"{len(result.positions):,}"],
            ["object, rows x columns", f"{height} x {width} px"],
            *([] if result.frc is None else [["half period of the split halves' FRC", found]]),
            *([] if is_assumed else [["object pixel", f"{pixel * 1e9:.4g} nm"]]),
            ["in all", f"{total:.1f} s"],
        ],
        "warnings": result.warnings(),
        "patterns": len(result.positions),
        "seconds": total,
        "half_period_px": None if result.frc is None else half_period(result.frc),
        "is_partial": result.is_partial,
        **_fit_record(result),
        "numbers": {
            **({} if bundle is None else _network_numbers(result, total)),
            "pixels that no position lights": int((result.coverage == 0).sum()),
            "median coverage of the others": float(np.median(lit)) if lit.size else 0.0,
            "scan position of the first pixel (x, y), in pixels": list(map(float, result.origin)),
            "object pixel": "unknown" if is_assumed else f"{pixel * 1e9:.4g} nm",
            **_geometry(result.metadata),
            **({} if result.fit is None else result.fit.numbers()),
            **{f"seconds: {name}": value for name, value in result.seconds.items()},
        },
        "configuration": dict(options or {}),
        "basis": basis,
        # While a scan grows, its page reloads itself.
        "refresh_s": refresh_s if result.is_partial else None,
    }
    with whole_file(folder / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=1, allow_nan=False))
    return written


def _geometry(metadata: ScanMetadata) -> dict[str, object]:
    """Return what is known of the measurement, in the units of a beamline."""
    known: dict[str, object] = {}
    if metadata.energy_eV is not None:
        known["photon energy"] = f"{metadata.energy_eV / 1e3:.5g} keV"
    if metadata.detector_distance_m is not None:
        known["detector distance"] = f"{metadata.detector_distance_m:.5g} m"
    if metadata.detector_pixel_size_m is not None:
        known["detector pixel"] = f"{metadata.detector_pixel_size_m * 1e6:.5g} µm"
    return known


def _network_numbers(result: ReconstructionResult, total: float) -> dict[str, object]:
    """Return what became of the patches that a network predicted."""
    limited = "it has no limit" if result.saturation is None else f"{result.saturation:.2%}"
    return {
        "patches stitched": result.num_patches,
        "patches per second, end to end": result.num_patches / max(total, 1e-9),
        "of positions that had one already": result.num_duplicates,
        "cut at the grid's edge": result.num_clipped,
        "left out": result.num_dropped,
        "positions without a patch": len(result.without_patch),
        "pixels at the network's largest amplitude": limited,
    }


def _draw_solution(result: ReconstructionResult, folder: Path) -> list[Path]:
    """Draw probe and misfit."""
    written = [draw_probe(result.probe, folder / "probe.png")]
    if result.fit is not None:
        written.append(draw_misfit(result.fit.misfit, folder / "misfit.png"))
        written.append(
            draw_misfit_map(result.positions, result.misfit_of_patterns, folder / "misfit_map.png")
        )
    return written


def _fit_tiles(result: ReconstructionResult) -> list[list[str]]:
    if result.fit is None:
        return []
    tiles = [["misfit R to all patterns", f"{result.fit.final:.3f}"]]
    if result.fit.held_out is not None:
        explained = f"{max(result.fit.held_out.explained, 0):.0%}"
        if not result.fit.held_out.tells:
            explained = "too few photons to tell"
        tiles.append(["explained of patterns left out", explained])
    return tiles


def _fit_record(result: ReconstructionResult) -> dict[str, object]:
    """Return what other programs read of the fit; None where it is not known."""
    fit = result.fit
    if fit is None:
        return {}

    def known(value: float | None) -> float | None:
        return value if value is not None and np.isfinite(value) else None

    held_out, twin = fit.held_out, fit.twin
    return {
        "misfit": known(fit.final),
        "misfit_ideal": known(None if held_out is None else held_out.misfit_ideal),
        "misfit_left_out": known(None if held_out is None else held_out.misfit),
        "skill": known(None if held_out is None else held_out.skill),
        "explained": known(held_out.explained if held_out and held_out.tells else None),
        "explained_by_a_true_model": known(None if twin is None else twin.explained),
        "passes": fit.passes,
        "stopped_by": fit.stopped_by,
    }
