"""PtychoShelves and pty-chi: patterns in `dp`, and the rest in a file beside them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptychostream.datasets.sources.hdf5_links import open_linked_hdf5
from ptychostream.datasets.sources.hdf5_patterns import hdf5_patterns, is_hdf5
from ptychostream.datasets.sources.mapped import orientation_of_matlab
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.units import HC_EV_M
from ptychostream.scan import ScanMetadata


def is_ptychoshelves(path: Path) -> bool:
    """Return whether a file holds patterns in `dp`."""
    if not is_hdf5(path):
        return False
    with open_linked_hdf5(path) as file:
        return isinstance(file.get("dp"), h5py.Dataset) and file["dp"].ndim == 3


def read_ptychoshelves(path: Path, measurement_domain: Any = None) -> ScanParts:
    """Read patterns in `dp`, with positions, probe and geometry of the file beside them.

    That is `…_para…` beside `…_dp…` for PtychoShelves, `metadata…` beside `dp…` for pty-chi.
    """
    beside = _beside(path)
    with open_linked_hdf5(path) as file:
        patterns = hdf5_patterns(file, "dp", path)
        found = _parameters(file)
    if beside is not None:
        with open_linked_hdf5(beside) as file:
            found = {**found, **_parameters(file)}
    return ScanParts(
        name=f"'{path}'",
        patterns=patterns,
        measurement_domain=measurement_domain or "counts",
        positions=found.get("positions"),
        position_unit="m",
        probe=found.get("probe"),
        metadata=ScanMetadata(
            energy_eV=found.get("energy"),
            detector_distance_m=found.get("distance"),
            detector_pixel_size_m=found.get("detector_pixel"),
            object_pixel_size_m=found.get("object_pixel"),
        ),
        orientation=orientation_of_matlab(path),
        provenance={"format": "ptychoshelves", "file": path.name}
        | ({} if beside is None else {"parameters": beside.name}),
        looked_for={
            "positions": "has no positions: looked for ppX, ppY and probe_position_x_m here and in "
            "files named *para* or metadata* beside it",
            "probe": "has no probe: looked for 'probe' here and in files named *para* or metadata* "
            "beside it",
        },
    )


def _beside(path: Path) -> Path | None:
    candidates = [path.with_name(path.name.replace("dp", "para"))]
    stem = path.stem.removeprefix("dp")
    candidates += sorted(path.parent.glob(f"metadata{stem}*{path.suffix}"))
    candidates += sorted(path.parent.glob(f"*para*{path.suffix}"))
    return next((other for other in candidates if other != path and is_hdf5(other)), None)


def _parameters(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for x, y in (("ppX", "ppY"), ("probe_position_x_m", "probe_position_y_m")):
        if x in file and y in file:
            columns = [np.ravel(file[name][()]).astype(np.float64) for name in (x, y)]
            found["positions"] = np.stack(columns, axis=1)
    if "probe" in file and getattr(file["probe"], "ndim", 0) >= 2:
        probe = np.asarray(file["probe"][()])
        if probe.dtype.names:
            # MATLAB's complex numbers, with its axes the other way round.
            probe = np.swapaxes(probe["real"] + 1j * probe["imag"], -1, -2)
        while probe.ndim > 3:
            probe = probe[0]
        found["probe"] = probe.reshape(-1, *probe.shape[-2:]).astype(np.complex64)
    for name, keys in (
        ("distance", ("detectorDistance", "detector_distance_m", "z")),
        ("detector_pixel", ("detector_pixel_size_m", "det_pixel_size")),
        ("object_pixel", ("dx", "object_pixel_size_m")),
        ("wavelength", ("lambda", "wavelength_m")),
    ):
        key = next((key for key in keys if key in file), None)
        if key is not None and np.size(file[key][()]):
            value = float(np.ravel(file[key][()])[0])
            if value > 0:
                found[name] = value
    if "object" in file and "pixel_width_m" in file["object"].attrs:
        found["object_pixel"] = float(file["object"].attrs["pixel_width_m"])
    if "wavelength" in found:
        found["energy"] = HC_EV_M / found.pop("wavelength")
    return found
