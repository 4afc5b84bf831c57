"""Files whose arrays have other names: `--map diff3d=entry/patterns,xcoords=scan/x`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.arrays import describe, listing, read_array
from ptychostream.datasets.sources.hdf5_links import open_linked_hdf5
from ptychostream.datasets.sources.hdf5_patterns import hdf5_patterns, is_hdf5
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.preprocess import Orientation
from ptychostream.datasets.sources.units import convert
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import ArrayPatterns, PatternSource, ScanMetadata

#: Names of the contract, and what people call them otherwise.
_NAMES = {
    "diff3d": "diff3d",
    "diffraction": "diff3d",
    "patterns": "diff3d",
    "xcoords": "xcoords",
    "x": "xcoords",
    "ycoords": "ycoords",
    "y": "ycoords",
    "positions": "positions",
    "probeGuess": "probeGuess",
    "probe": "probeGuess",
    "objectGuess": "objectGuess",
    "object": "objectGuess",
    "bad_pixels": "bad_pixels",
    "mask": "bad_pixels",
    "scan_index": "scan_index",
    "energy": "energy",
    "wavelength": "wavelength",
    "distance": "distance",
    "detector_pixel": "detector_pixel",
}

_UNITS = {"energy": "eV", "wavelength": "m", "distance": "m", "detector_pixel": "m"}


def parse_map(text: str) -> dict[str, str]:
    """Read `NAME=PATH,…`; names are those of the NPZ contract."""
    found = {}
    for word in [word for word in text.split(",") if word.strip()]:
        name, is_pair, place = word.partition("=")
        if not is_pair or name.strip() not in _NAMES:
            raise ConfigurationError(
                f"map: {word.strip()!r} must be NAME=PATH with a name of {', '.join(_NAMES)}"
            )
        found[_NAMES[name.strip()]] = place.strip().strip("/")
    return found


def read_mapped(path: Path, options: InputOptions) -> ScanParts:
    """Read a file whose arrays have other names; the patterns stay on disk."""
    names = parse_map(options.map or "")
    arrays: dict[str, NDArray[Any]] = {}
    units: dict[str, str | None] = {}
    for name, place in names.items():
        if name != "diff3d":
            arrays[name], units[name] = read_array(path, place)
    positions, unit = _positions(path, arrays, units)
    numbers = {
        name: float(
            convert(
                np.median(arrays[name]),
                units[name] or target,
                target,
                where=f"'{path}': '{names[name]}'",
            )
        )
        for name, target in _UNITS.items()
        if name in arrays
    }
    if "wavelength" in numbers:
        from ptychostream.datasets.sources.units import HC_EV_M

        numbers["energy"] = HC_EV_M / numbers["wavelength"]
    patterns, shape = (None, None)
    if "diff3d" in names:
        patterns, shape = _patterns(path, names["diff3d"])
    probe = arrays.get("probeGuess")
    guess, mask, index = (arrays.get(key) for key in ("objectGuess", "bad_pixels", "scan_index"))
    return ScanParts(
        name=f"'{path}'",
        patterns=patterns,
        positions=positions,
        position_unit="px" if unit == "px" else "m",
        probe=None if probe is None else _stack(probe),
        object_guess=None if guess is None else np.squeeze(guess).astype(np.complex64),
        bad_pixels=None if mask is None else mask != 0,
        scan_index=None if index is None else index.astype(np.int64),
        metadata=ScanMetadata(
            energy_eV=numbers.get("energy"),
            detector_distance_m=numbers.get("distance"),
            detector_pixel_size_m=numbers.get("detector_pixel"),
        ),
        scan_shape=(shape[0], shape[1]) if shape is not None and len(shape) == 4 else None,
        orientation=orientation_of_matlab(path),
        provenance={"format": "map", "file": path.name, "map": options.map},
        looked_for={"patterns": f"holds {describe(listing(path))}"},
    )


def orientation_of_matlab(path: Path) -> Orientation:
    """Return how patterns are turned: MATLAB's HDF5 has its axes the other way round."""
    return "transpose" if path.suffix == ".mat" and is_hdf5(path) else "identity"


def _patterns(path: Path, name: str) -> tuple[PatternSource, tuple[int, ...]]:
    if is_hdf5(path):
        with open_linked_hdf5(path) as file:
            return hdf5_patterns(file, name, path), file[name].shape
    if path.suffix == ".npz":
        members = NpzMembers(path)
        if name not in members:
            raise DataContractError(
                f"'{path}' has no array '{name}'; it holds {describe(listing(path))}"
            )
        if len(members.shape(name)) < 3:
            raise DataContractError(
                f"'{path}': '{name}' is {members.shape(name)}, expected (M, N, N)"
            )
        return members.patterns(name), members.shape(name)
    array = read_array(path, name)[0]
    if array.ndim < 3:
        raise DataContractError(f"'{path}': '{name}' is {array.shape}, expected (M, N, N)")
    return ArrayPatterns(array.reshape(-1, *array.shape[-2:])), array.shape


def _positions(
    path: Path, arrays: dict[str, NDArray[Any]], units: dict[str, str | None]
) -> tuple[NDArray[np.float64] | None, str]:
    if "xcoords" in arrays and "ycoords" in arrays:
        x, y = (np.ravel(arrays[key]).astype(np.float64) for key in ("xcoords", "ycoords"))
        if len(x) != len(y):
            raise DataContractError(f"'{path}' has {len(x)} x but {len(y)} y positions")
        values, unit = np.stack([x, y], axis=1), units["xcoords"]
    elif "positions" in arrays:
        values, unit = np.asarray(arrays["positions"], np.float64), units["positions"]
        if values.ndim == 2 and values.shape[0] in (2, 3) and values.shape[1] not in (2, 3):
            values = values.T
        if values.ndim != 2 or values.shape[1] not in (2, 3):
            raise DataContractError(f"'{path}': positions are {values.shape}, expected (M, 2)")
        values = values[:, :2]
    else:
        return None, "px"
    if unit is None or unit == "px":
        return values, "px"
    return convert(values, unit, "m", where=f"'{path}': positions"), "m"


def _stack(probe: NDArray[Any]) -> NDArray[np.complex64]:
    return probe.reshape(-1, *probe.shape[-2:]).astype(np.complex64)


def propose(found: dict[str, tuple[tuple[int, ...], str]]) -> str:
    """Propose a map where shapes leave no doubt; empty where they do.

    Examples
    --------
    >>> propose({"dp": ((9, 16, 16), "uint16"), "x": ((9,), "f8"), "y": ((9,), "f8")})
    'diff3d=dp,xcoords=x,ycoords=y'
    """
    real = {name: shape for name, (shape, kind) in found.items() if "complex" not in kind}
    stacks = [name for name, shape in real.items() if len(shape) in (3, 4) and min(shape[-2:]) >= 8]
    if len(stacks) != 1:
        return ""
    shape = real[stacks[0]]
    number = int(np.prod(shape[:-2]))
    parts = [f"diff3d={stacks[0]}"]
    columns = [
        name for name, other in real.items() if np.prod(other) == number and name != stacks[0]
    ]
    for axis in "xy":
        named = [
            name
            for name in columns
            if name.split("/")[-1].lower().strip("_0123456789").startswith(axis)
            or name.lower().endswith(axis)
        ]
        if len(named) == 1:
            parts.append(f"{axis}coords={named[0]}")
    tables = [
        name for name, other in real.items() if other in ((number, 2), (number, 3), (2, number))
    ]
    if len(parts) == 1 and len(tables) == 1:
        parts.append(f"positions={tables[0]}")
    probes = [
        name
        for name, (other, kind) in found.items()
        if "complex" in kind and other[-2:] == shape[-2:] and len(other) <= 4
    ]
    if len(probes) == 1:
        parts.append(f"probeGuess={probes[0]}")
    return ",".join(parts)
