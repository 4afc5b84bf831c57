"""Read CXI, NXptycho, NXcxi_ptycho and Dectris master files.

Groups are found by their NeXus class or by their name, each quantity in the groups where the
definitions put it, and converted from the unit that the file says. Patterns may lie in other
files, by external links or virtual datasets.
"""

import logging
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.cxi_places import GROUPS, PLACES
from ptychostream.datasets.sources.hdf5_links import find, open_linked_hdf5, unreadable
from ptychostream.datasets.sources.hdf5_patterns import hdf5_patterns, is_hdf5
from ptychostream.datasets.sources.joined import JoinedPatterns
from ptychostream.datasets.sources.nexus_axes import orientation_of
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.units import HC_EV_M, convert, unit_of
from ptychostream.errors import DataContractError
from ptychostream.scan import MeasurementDomain, PatternSource, ScanMetadata

_JOULE_PER_EV = 1.602176634e-19

logger = logging.getLogger(__name__)

#: Flags of a CXI mask that tell what was done with a good pixel: it is in a peak's mask, an
#: artefact or the background was corrected, it is a peak of the hit finder, it has a signal.
_REMARKS = 0x20 | 0x800 | 0x2000 | 0x4000 | 0x10000

#: No photons of a ptychography have more energy; what has is the storage ring's electrons.
_MOST_EV = 2e5

#: No photons of a ptychography have less.
_LEAST_EV = 20.0


def is_cxi(path: Path) -> bool:
    """Return whether a file holds patterns where CXI or NeXus files hold them."""
    if not is_hdf5(path):
        return False
    try:
        with open_linked_hdf5(path) as file:
            entry = _Entry(file, path)
            return bool(entry.name and (entry.find("patterns") or entry.numbered()))
    except OSError as error:
        raise unreadable(path, error) from error


def read_cxi(path: Path, measurement_domain: MeasurementDomain | None = None) -> ScanParts:
    """Read what a CXI or NeXus file holds; the patterns stay on disk.

    Positions are metres in the object plane.
    """
    with open_linked_hdf5(path) as file:
        entry = _Entry(file, path)
        patterns, where = entry.patterns()
        energy, warnings = entry.energy()
        warnings += _warnings_on_series(path)
        pixel = entry.scalar("pixel", "m")
        pixel_y = entry.scalar("pixel_y", "m")
        definition = entry.text("definition")
        orientation = orientation_of(file, entry.groups["detector"], path)
        return ScanParts(
            name=f"'{path}'",
            patterns=patterns,
            measurement_domain=measurement_domain or "counts",
            positions=entry.positions(patterns.shape[0]),
            position_unit="m",
            probe=entry.probe(),
            bad_pixels=entry.mask(),
            metadata=ScanMetadata(
                energy_eV=energy,
                detector_distance_m=entry.scalar("distance", "m"),
                detector_pixel_size_m=pixel if pixel is not None else pixel_y,
            ),
            detector_pixel_height_m=pixel_y,
            saturation=entry.scalar("saturation", ""),
            orientation=orientation or "identity",
            says_orientation=orientation is not None,
            provenance={"format": "cxi", "file": path.name, "patterns": where}
            | ({"layout": "Dectris master"} if where in entry.numbered() else {})
            | ({"definition": definition} if definition else {}),
            scan_shape=entry.scan_shape(where),
            looked_for={
                "probe": f"has no probe: looked for {', '.join(entry.candidates('probe'))}",
                "positions": "has no positions: looked for "
                f"{', '.join((*entry.candidates('translation'), *entry.candidates('x')))}",
            },
            warnings=tuple(warnings),
        )


def _warnings_on_series(path: Path) -> list[str]:
    """Return a warning where a file is one of several with data, and its master is another."""
    found = re.fullmatch(r"(.+)_data_\d{6}(\.h5|\.hdf5|\.nxs)", path.name)
    if found is None:
        return []
    master = path.with_name(f"{found[1]}_master{found[2]}")
    named = f"'{master}'" if master.exists() else f"named {master.name} or alike"
    said = (
        "this is one data file of a series, without its mask and geometry, and perhaps with a part "
        f"of its patterns; give the master file instead, {named}"
    )
    logger.warning("'%s': %s", path, said)
    return [said]


#: What is one number, which a file may hold as text with a unit.
_NUMBERS = ("distance", "pixel", "pixel_y", "saturation")


class _Entry:
    """The entry of a file that holds patterns, with the groups under it."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path = file, path
        names = [name for name in file if _is_group(file, name, "NXentry", "entry")]
        found = [self._groups_of(name) for name in names]
        self.groups: dict[str, list[str]] = {}
        self.name = ""
        for name, groups in zip(names, found, strict=True):
            self.name, self.groups = name, groups
            if self.find("patterns") or self.numbered():
                return

    def _groups_of(self, entry: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for role, (kind, prefix) in GROUPS.items():
            parents = [entry]
            if role in ("detector", "beam", "source", "monochromator"):
                parents = [*found["instrument"], entry]
            if role == "beam":
                parents += [f"{entry}/{name}" for name in ("sample", "sample_1")]
            found[role] = [
                f"{parent}/{name}"
                for parent in parents
                if parent in self.file
                for name in self.file[parent]
                if _is_group(self.file[parent], name, kind, prefix)
            ]
        return found

    def candidates(self, quantity: str) -> list[str]:
        """List the paths at which a quantity may lie."""
        found = []
        for place in PLACES[quantity]:
            role, rest = place.split("/", 1)
            groups = self.groups.get(role) or [f"{self.name or 'entry_1'}/{_default(role)}"]
            found += [f"{group}/{rest}" for group in groups]
        return found

    def find(self, quantity: str) -> str | None:
        """Return the first path at which there is an array or number."""
        for place in self.candidates(quantity):
            data = find(self.file, place, self.path)
            if not isinstance(data, h5py.Dataset):
                continue
            # A source's `probe` is text: "x-ray". A distance may be text, too: "1.9 m".
            kinds = "biufcSO" if data.shape or quantity in _NUMBERS else "biuf"
            if data.dtype.kind in kinds:
                return place
        return None

    def numbered(self) -> list[str]:
        """List the datasets `data_000001` and so on, in which Dectris's writers put patterns."""
        return [
            f"{group}/{name}"
            for group in self.groups.get("data", ())
            for name in sorted(self.file[group])
            if re.fullmatch(r"data_\d+", name)
        ]

    def patterns(self) -> tuple[PatternSource, str]:
        places = [
            place
            for place in self.candidates("patterns")
            if isinstance(find(self.file, place, self.path), h5py.Dataset)
        ]
        # The definitions have raster scans in four dimensions and a view of them in three.
        flat = [place for place in places if self.file[place].ndim == 3]
        if flat or places:
            place = (flat or places)[0]
            return hdf5_patterns(self.file, place, self.path), place
        numbered = self.numbered()
        if not numbered:
            raise DataContractError(
                f"'{self.path}' has no patterns: looked for "
                f"{', '.join(self.candidates('patterns'))}; name them with --map diff3d=PATH"
            )
        sources, missing = [], []
        for name in numbered:
            try:
                sources.append(hdf5_patterns(self.file, name, self.path))
            except DataContractError as error:
                missing.append(str(error))
        if missing:
            # Each message names one file; all of them are wanted.
            raise DataContractError("; ".join(missing))
        return JoinedPatterns(sources), numbered[0]

    def scan_shape(self, place: str) -> tuple[int, int] | None:
        """Return rows and columns of patterns that are kept as a raster."""
        shape = self.file[place].shape
        return (shape[0], shape[1]) if len(shape) == 4 else None

    def scalar(self, quantity: str, unit: str) -> float | None:
        """Read a number, converted by its `units`; of an array, the median of its values."""
        place = self.find(quantity)
        return None if place is None else self._number(place, unit)

    def _number(self, place: str, unit: str) -> float | None:
        data = self.file[place]
        given = unit_of(data.attrs)
        values, said = data[()], None
        if data.dtype.kind in "SO":
            text = str(np.ravel(values)[0].decode() if np.size(values) else "").strip()
            match = re.fullmatch(r"([-+0-9.eE]+)\s*(\S*)", text)
            if match is None:
                logger.warning("'%s': '%s' is %r, not a number: not used", self.path, place, text)
                return None
            values, said = float(match[1]), match[2] or None
        numbers = np.ravel(values).astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return None
        where = f"'{self.path}': '{place}'"
        given = given or said
        value = float(np.median(numbers))
        if given is not None and unit:
            value = float(convert(value, given, unit, where=where))
        if value <= 0:
            logger.warning("%s is %s, which can't be: not used", where, f"{value:g} {unit}".strip())
            return None
        return value

    def energy(self) -> tuple[float | None, list[str]]:
        """Find the photon energy in eV; that of the source may be a storage ring's."""
        for quantity in ("energy", "wavelength", "source_energy"):
            for place in self.candidates(quantity):
                data = find(self.file, place, self.path)
                if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "biufSO":
                    continue
                unit = unit_of(data.attrs)
                is_bare = unit is None and data.dtype.kind not in "SO"
                value = self._number(place, "" if is_bare else _UNITS[quantity])
                if value is None:
                    continue
                warnings: list[str] = []
                if quantity == "wavelength":
                    # Files without units have metres (CXI) or angstroms (NeXus).
                    metres = value if unit is not None or value < 1e-6 else value * 1e-10
                    return HC_EV_M / metres, warnings
                if unit is None and value < 1e-10:
                    value /= _JOULE_PER_EV
                elif unit is None and value < _LEAST_EV:
                    warnings.append(
                        f"the photon energy is {value:g} without a unit, taken for keV; if it is "
                        f"another one, give --energy"
                    )
                    value *= 1e3
                if value < _MOST_EV:
                    return value, warnings
        return None, []

    def positions(self, number: int) -> NDArray[np.float64] | None:
        """Read positions (x, y) in metres."""
        place = self.find("translation")
        if place is not None:
            data = self.file[place]
            table = np.asarray(data[()], np.float64)
            if table.ndim == 3 and table.shape[-1] in (2, 3):
                table = table.reshape(-1, table.shape[-1])
            if table.ndim == 2 and table.shape[1] not in (2, 3) and table.shape[0] in (2, 3):
                table = table.T
            if table.ndim != 2 or table.shape[1] not in (2, 3):
                raise DataContractError(
                    f"'{self.path}': '{place}' is {data.shape}, expected (M, 3)"
                )
            return self._in_metres(table[:, :2], place)
        places = [self.find(axis) for axis in "xy"]
        if None in places:
            return None
        x, y = (
            self._in_metres(np.asarray(self.file[place][()], np.float64), place)
            for place in places
            if place is not None
        )
        if x.ndim == y.ndim == 1 and len(x) != len(y) and len(x) * len(y) == number:
            # The axes of a raster scan.
            x, y = (grid for grid in np.meshgrid(x, y))
        if x.size != y.size:
            raise DataContractError(
                f"'{self.path}' has x positions {x.shape} but y positions {y.shape}"
            )
        return np.stack([x.ravel(), y.ravel()], axis=1)

    def _in_metres(self, values: NDArray[np.float64], place: str) -> NDArray[np.float64]:
        unit = unit_of(self.file[place].attrs)
        return (
            values
            if unit is None
            else convert(values, unit, "m", where=f"'{self.path}': '{place}'")
        )

    def mask(self) -> NDArray[np.bool_] | None:
        """Read the bad pixels; of one mask a pattern, what is bad in any."""
        place = self.find("mask")
        if place is None:
            return None
        mask = np.asarray(self.file[place][()])
        if place.endswith("/mask") and mask.dtype.kind in "iu" and mask.max(initial=0) > 1:
            mask = mask.astype(np.int64) & ~_REMARKS
        bad = mask != 0
        return bad.any(axis=tuple(range(bad.ndim - 2))) if bad.ndim > 2 else bad

    def probe(self) -> NDArray[np.complex64] | None:
        """Read the probe; a text such as `x-ray` under its name is none."""
        for place in self.candidates("probe"):
            data = find(self.file, place, self.path)
            if isinstance(data, h5py.Dataset) and data.ndim >= 2 and data.dtype.kind in "fc":
                probe = np.asarray(data[()], np.complex64)
                return probe.reshape(-1, *probe.shape[-2:])
        return None

    def text(self, name: str) -> str:
        """Read a text of the entry; empty where there is none."""
        data = find(self.file, f"{self.name}/{name}", self.path)
        if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "SO":
            return ""
        value = np.ravel(data[()])[0]
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


_UNITS = {"energy": "eV", "wavelength": "m", "source_energy": "eV"}


def _is_group(parent: Any, name: str, kind: str, prefix: str) -> bool:
    link = parent.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        # Whether the other file is there is asked for when something of it is needed.
        return kind == "NXdata" and not re.fullmatch(r"data_\d+", name) and name == prefix
    group = parent.get(name)
    if not isinstance(group, h5py.Group):
        return False
    found = group.attrs.get("NX_class")
    found = found.decode() if isinstance(found, bytes) else found
    return found == kind or (found is None and re.fullmatch(rf"{prefix}(_?\d+)?", name) is not None)


def _default(role: str) -> str:
    inside = role in ("detector", "beam", "source", "monochromator")
    return f"instrument_1/{role}_1" if inside else f"{role}_1"
