"""Join what a file holds with what other files and options say: positions, mask, geometry."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.arrays import read_array, split_name
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.pairing import first_triggers, pair_by_index
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.position_changes import raster, shape_option
from ptychostream.datasets.sources.position_files import PositionTable, read_position_file
from ptychostream.datasets.sources.rows import rows_of
from ptychostream.datasets.sources.survey import Survey
from ptychostream.datasets.sources.units import HC_EV_M, convert, quantity
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import ScanMetadata

logger = logging.getLogger(__name__)

#: Part of the detector that hot pixels are, at most.
_FEW_PIXELS = 0.02

#: What options may replace, in words, and its unit.
_IN_WORDS = {
    "energy_eV": ("the photon energy", "eV"),
    "detector_distance_m": ("the distance to the detector", "m"),
    "detector_pixel_size_m": ("the detector's pixel", "m"),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Placed:
    """Positions as they were joined, one for each pattern of the file or fewer or more.

    `values` (K, 2): positions (x, y), in metres or in pixels of the object.
    `rows` (K,): the pattern of each, where triggers pair them; None: the first, the second, ….
    `numbers` (K,): each one's number in the file, after some were left out.
    `listed` (K,): each position's number where it is listed, where some were left out before.
    `read_in`: the unit in which they were read, where it is not `unit`.
    `warnings`: what is doubtful about them, in sentences.
    """

    values: NDArray[np.float64]
    unit: str
    start: NDArray[np.float64] | None = None
    scan_index: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None
    numbers: NDArray[np.int64] | None = None
    listed: NDArray[np.int64] | None = None
    read_in: str | None = None
    warnings: tuple[str, ...] = ()

    def select(self, kept: NDArray[np.int64]) -> "Placed":
        """Take the positions of some patterns, by their numbers in the file."""
        own = kept if self.rows is None else np.searchsorted(self.rows, kept)
        have = own[own < len(self.values)]

        def of(array: NDArray | None) -> NDArray | None:  # type: ignore[type-arg]
            return None if array is None else array[have[have < len(array)]]

        return Placed(
            values=self.values[have],
            unit=self.unit,
            start=of(self.start),
            scan_index=of(self.scan_index),
            numbers=kept,
            listed=of(np.arange(len(self.values)) if self.listed is None else self.listed),
            read_in=self.read_in,
            warnings=self.warnings,
        )


def joined_positions(parts: ScanParts, options: InputOptions, count: int) -> Placed:
    """Find the positions: of their own file, of a raster, or of the scan's file."""
    if options.positions is not None:
        table = read_position_file(options.positions)
        kept = _kept_positions(parts, options, len(table.values))
        if kept is not None:
            triggers = None if table.triggers is None else table.triggers[kept]
            table = replace(table, values=table.values[kept], triggers=triggers)
        unit = options.position_unit or table.unit
        if unit is None:
            raise DataContractError(
                f"'{options.positions}' does not say the unit of its positions; say it: "
                "--position_unit um (or m, mm, nm, px)"
            )
        values = table.values
        if unit != "px":
            values = convert(values, unit, "m", where=f"'{options.positions}'")
        read_in, unit = unit, "px" if unit == "px" else "m"
        if table.triggers is None:
            return Placed(values=values, unit=unit, read_in=read_in, listed=kept)
        placed = _triggered(parts, options, replace(table, values=values), unit, count)
        return replace(placed, read_in=read_in)
    if options.step is not None:
        shape = _scan_shape(parts, options, count)
        values, unit = raster(options.step, shape)
        warnings = []
        if len(values) > count:
            warnings.append(
                f"a raster of {shape[0]} rows and {shape[1]} columns has {len(values)} positions, "
                f"and there are {count} patterns: they are given the first ones, as of a scan that "
                "was stopped; if its shape is another, say it with --scan_shape"
            )
        return Placed(values=values[:count], unit=unit, warnings=tuple(warnings))
    if parts.positions is None:
        raise DataContractError(
            f"{parts.name} {parts.looked_for.get('positions', 'has no positions')}. Give them: "
            "--positions FILE[::PATH] --position_unit um, or for a raster --step DX,DY "
            "--scan_shape ROWS,COLUMNS"
        )
    values, unit = parts.positions, str(parts.position_unit)
    if options.position_unit is not None:
        unit = options.position_unit
        if unit != "px":
            values, unit = convert(values, unit, "m", where=parts.name), "m"
    placed = Placed(
        values=values,
        unit=unit,
        start=parts.positions_start,
        scan_index=parts.scan_index,
        read_in=options.position_unit,
    )
    kept = _kept_positions(parts, options, len(values))
    return placed if kept is None else replace(placed.select(kept), numbers=None)


def _kept_positions(
    parts: ScanParts, options: InputOptions, count: int
) -> NDArray[np.int64] | None:
    """Return the numbers of the positions that are not left out alone; None where all are kept."""
    text = options.leave_out_positions
    if not text.strip("[]() "):
        return None
    left = rows_of(text, count, name=parts.name, option="leave_out_positions")
    return np.setdiff1d(np.arange(count), left)


def _triggered(
    parts: ScanParts, options: InputOptions, table: PositionTable, unit: str, count: int
) -> Placed:
    """Pair positions with patterns by the triggers of their table."""
    triggers = np.asarray(table.triggers)
    first, *others = first_triggers(triggers, count)
    if options.first_trigger is not None:
        first, others = options.first_trigger, []
    said = (
        f"column {table.triggered_by!r} holds {triggers.min()} to {triggers.max()}, and the first "
        f"of {count} patterns has the number {first}"
    )
    pairing = pair_by_index(np.arange(count), triggers - first, table.values)
    logger.info("%s: %s: %s", parts.name, said, pairing.report())
    warnings = [
        f"{said}, as it seems; if it has the number {other}, each pattern has its neighbour's "
        f"position. Say it: --first_trigger {first} or --first_trigger {other} (`ptychostream "
        "check` with these options tells which)"
        for other in others
    ]
    return Placed(values=pairing.positions, unit=unit, rows=pairing.rows, warnings=tuple(warnings))


def _scan_shape(parts: ScanParts, options: InputOptions, count: int) -> tuple[int, int]:
    if options.scan_shape is not None:
        shape = shape_option(options.scan_shape)
        if shape[0] * shape[1] < count:
            raise ConfigurationError(
                f"scan_shape={options.scan_shape!r} has {shape[0] * shape[1]} positions, fewer "
                f"than the {count} patterns of {parts.name}"
            )
        return shape
    if parts.scan_shape is not None:
        return parts.scan_shape
    raise ConfigurationError(
        f"step={options.step!r} needs the rows and columns of the raster: --scan_shape ROWS,COLUMNS"
    )


def joined_metadata(parts: ScanParts, options: InputOptions) -> tuple[ScanMetadata, float | None]:
    """Return what is known of the experiment, and the height of a detector pixel in metres."""
    found = parts.metadata
    height = parts.detector_pixel_height_m
    changes: dict[str, float] = {}
    if options.energy is not None:
        changes["energy_eV"] = quantity(options.energy, "eV", option="energy")
    if options.wavelength is not None:
        changes["energy_eV"] = HC_EV_M / quantity(options.wavelength, "m", option="wavelength")
    if options.distance is not None:
        changes["detector_distance_m"] = quantity(options.distance, "m", option="distance")
    if options.detector_pixel is not None:
        changes["detector_pixel_size_m"] = quantity(
            options.detector_pixel, "m", option="detector_pixel"
        )
        height = None
    _say_what_is_replaced(parts.name, found, changes)
    if (
        changes
        and found.object_pixel_size_m is not None
        and _is_complete(replace(found, **changes))
    ):
        # The pixel follows from the geometry, which has changed.
        return replace(found, **changes, object_pixel_size_m=None), height
    return replace(found, **changes), height


def _say_what_is_replaced(name: str, found: ScanMetadata, changes: dict[str, float]) -> None:
    """Log both values where an option replaces what a file says."""
    for key, (what, unit) in _IN_WORDS.items():
        before, after = getattr(found, key), changes.get(key)
        if before is not None and after is not None and not np.isclose(before, after, rtol=1e-4):
            logger.warning(
                "%s says that %s is %.6g %s; %.6g %s is used, as given",
                name,
                what,
                before,
                unit,
                after,
                unit,
            )


def _is_complete(metadata: ScanMetadata) -> bool:
    known = (metadata.energy_eV, metadata.detector_distance_m, metadata.detector_pixel_size_m)
    return None not in known


def joined_mask(
    parts: ScanParts, options: InputOptions, shape: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """Join the file's mask with one of its own file; True where a pixel is bad."""
    masks = []
    if parts.bad_pixels is not None:
        masks.append((parts.name, parts.bad_pixels))
    if options.mask is not None:
        path, inside = split_name(options.mask, option="mask")
        values = read_array(path, inside)[0]
        bad = ~np.isfinite(values) | (values != 0) if values.dtype.kind == "f" else values != 0
        masks.append((f"mask '{options.mask}'", bad))
    joined: NDArray[np.bool_] | None = None
    for name, mask in masks:
        if mask.ndim > 2:
            mask = np.asarray(mask.any(axis=tuple(range(mask.ndim - 2))))
        if mask.shape != tuple(shape):
            raise DataContractError(
                f"{name}: bad_pixels is {mask.shape}, expected {tuple(shape)} as the patterns of "
                f"{parts.name} are in the file"
            )
        if options.invert_mask:
            mask = ~mask
        joined = mask if joined is None else joined | mask
    return joined


def check_mask(
    name: str, mask: NDArray[np.bool_] | None, seen: Survey, options: InputOptions
) -> list[str]:
    """Refuse a mask that flags most of the light."""
    if mask is None or not mask.any():
        return []
    if mask.all():
        raise DataContractError(
            f"{name}: the mask flags every pixel as bad; give another --mask, or --invert_mask "
            "true if it holds the good pixels"
        )
    if options.invert_mask is not None:
        return []
    light = seen.light
    flagged, whole = float(light[mask].sum()), float(light.sum())
    # A few hot pixels that are flagged, as they should be, may hold most of the counts.
    usual = np.minimum(light, light[~mask].max())
    are_hot = mask.mean() < _FEW_PIXELS and usual[mask].sum() < 0.5 * usual.sum()
    if whole > 0 and flagged > 0.5 * whole and not are_hot:
        raise DataContractError(
            f"{name}: the mask flags {mask.mean():.0%} of the pixels and {flagged / whole:.0%} of "
            "the light as bad; it looks inverted. If it holds the good pixels, give --invert_mask "
            "true; if it is right, --invert_mask false"
        )
    return []
