"""Read and write the NPZ contract shared with PtychoPINN and ptychodus.

Keys: `xcoords`, `ycoords` (M,) in object pixels; `diff3d` (M, N, N), also accepted as
`diffraction`; `probeGuess` (N, N), (P, N, N) or (N, N, 1); optional `objectGuess` (H, W),
`scan_index` (M,), `xcoords_start`, `ycoords_start` (M,), `bad_pixels` (N, N),
`measurement_domain`, which says whether `diff3d` holds counts or amplitude, and as JSON text
`scan_metadata`, the fields of `ScanMetadata`, and `provenance`, the scan's origin. `nphotons` of
PtychoPINN's pickled `_metadata` is read too, without executing anything.
"""

import json
import logging
import zipfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.config.scaling_profile import check_scaling_profile
from ptychostream.datasets.sources.amplitude import AmplitudePatterns
from ptychostream.datasets.sources.mapped import propose
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.ptychopinn_metadata import photons_of_metadata
from ptychostream.errors import DataContractError
from ptychostream.files import whole_file
from ptychostream.scan import MeasurementDomain, PatternSource, Scan, ScanMetadata

logger = logging.getLogger(__name__)

NpzFlavour = Literal["stored", "contract", "ptychodus"]

_PATTERN_KEYS = ("diff3d", "diffraction")


def is_npz(path: Path) -> bool:
    """Return whether a file is a zip archive of arrays.

    Returns True for an NPZ file, also a damaged one that still has its suffix.
    """
    if not path.is_file():
        return False
    if path.suffix == ".npz":
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def read_npz(path: Path, measurement_domain: MeasurementDomain | None = None) -> ScanParts:
    """Read what an NPZ file holds of a scan; the patterns stay on disk.

    `measurement_domain`: whether the patterns are `counts` or `amplitude`; None believes the file's
        own key.
    """
    members = NpzMembers(path)
    pattern_key = next((key for key in _PATTERN_KEYS if key in members), None)
    listed = f"it holds {', '.join(map(repr, members.keys())) or 'no arrays'}"
    positions = start = None
    missing = [key for key in ("xcoords", "ycoords") if key not in members]
    if not missing:
        positions = _read_positions(members, "xcoords", "ycoords")
    if "xcoords_start" in members and "ycoords_start" in members:
        start = _read_positions(members, "xcoords_start", "ycoords_start")
    patterns: PatternSource | None = None
    scan_shape = None
    if pattern_key is not None:
        shape = members.shape(pattern_key)
        if len(shape) not in (3, 4):
            raise DataContractError(f"'{path}': '{pattern_key}' is {shape}, expected (M, N, N)")
        if not shape[0]:
            raise DataContractError(f"'{path}': '{pattern_key}' holds no patterns")
        patterns = members.patterns(pattern_key)
        scan_shape = (shape[0], shape[1]) if len(shape) == 4 else None
    scan_index = _optional(members, "scan_index")
    bad_pixels = _optional(members, "bad_pixels")
    guess = _optional(members, "objectGuess")
    probe = members.read("probeGuess") if "probeGuess" in members else None
    return ScanParts(
        name=f"'{path}'",
        patterns=patterns,
        measurement_domain=_domain(members, measurement_domain),
        positions=positions,
        probe=None if probe is None else _as_mode_stack(probe, path),
        object_guess=None if guess is None else np.squeeze(guess).astype(np.complex64),
        positions_start=start,
        scan_index=None if scan_index is None else scan_index.astype(np.int64),
        bad_pixels=None if bad_pixels is None else bad_pixels.astype(bool),
        metadata=_metadata(members),
        scan_shape=scan_shape,
        provenance={
            **_json(members, "provenance"),
            "format": "npz",
            "file": path.name,
            "bytes": path.stat().st_size,
            "patterns": pattern_key,
        },
        looked_for={
            "patterns": f"lacks 'diff3d'; {listed}{_proposal(members)}",
            "positions": f"lacks {', '.join(map(repr, missing))}; {listed}",
            "probe": f"lacks 'probeGuess'; {listed}",
        },
    )


def write_npz(
    scan: Scan, path: Path, *, compress: bool = True, flavour: NpzFlavour = "stored"
) -> None:
    """Write a scan as an NPZ file, pattern block by pattern block.

    The file appears under its name only when it is complete; its key `measurement_domain` names
    the domain of the patterns.

    `compress`: whether the members are compressed.
    `flavour`: `stored` keeps domain and data type. `contract` writes float32 amplitudes with bad
        pixels at zero, as PtychoPINN takes them. `ptychodus` writes counts in their data type, the
        probe as a stack of modes, and every key that ptychodus writes.
    """
    scan = _flavoured(scan, flavour)
    is_flat = len(scan.probe) == 1 and flavour != "ptychodus"
    arrays: dict[str, NDArray[Any]] = {
        "xcoords": scan.positions[:, 0],
        "ycoords": scan.positions[:, 1],
        "probeGuess": scan.probe[0] if is_flat else scan.probe,
        "measurement_domain": np.array(scan.measurement_domain),
        "scan_metadata": np.array(json.dumps(asdict(scan.metadata))),
        "provenance": np.array(json.dumps(scan.provenance)),
    }
    if scan.positions_start is not None:
        arrays["xcoords_start"] = scan.positions_start[:, 0]
        arrays["ycoords_start"] = scan.positions_start[:, 1]
    for key, array in (
        ("objectGuess", scan.object_guess),
        ("scan_index", scan.scan_index),
        ("bad_pixels", scan.bad_pixels),
    ):
        if array is not None:
            arrays[key] = array
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with (
        whole_file(path) as partial,
        zipfile.ZipFile(partial, "w", method, compresslevel=1) as archive,
    ):
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        with archive.open("diff3d.npy", "w", force_zip64=True) as member:
            header = {
                "descr": np.lib.format.dtype_to_descr(scan.patterns.dtype),
                "fortran_order": False,
                "shape": scan.patterns.shape,
            }
            np.lib.format.write_array_header_1_0(member, header)
            for block in scan.patterns.blocks(256):
                member.write(np.ascontiguousarray(block).tobytes())


def _flavoured(scan: Scan, flavour: NpzFlavour) -> Scan:
    if flavour == "contract":
        amplitudes = AmplitudePatterns(scan.patterns, scan.measurement_domain, scan.bad_pixels)
        return replace(scan, patterns=amplitudes, measurement_domain="amplitude")
    if flavour == "stored":
        return scan
    if scan.measurement_domain != "counts":
        raise DataContractError(
            f"{scan.name} holds amplitude, but ptychodus's NPZ files hold counts; export it as "
            "'contract' or 'stored'"
        )
    edge = scan.N
    bad = np.zeros((edge, edge), bool) if scan.bad_pixels is None else scan.bad_pixels
    index = np.zeros(scan.num_patterns, np.int64) if scan.scan_index is None else scan.scan_index
    start = scan.positions if scan.positions_start is None else scan.positions_start
    return replace(scan, bad_pixels=bad, scan_index=index, positions_start=start)


def _proposal(members: NpzMembers) -> str:
    shapes = {key: (members.shape(key), str(members.dtype(key))) for key in members.keys()}  # noqa: SIM118
    proposed = propose(shapes)
    return f"; from the shapes it may be --map {proposed}" if proposed else ""


def _read_positions(members: NpzMembers, x_key: str, y_key: str) -> NDArray[np.float64]:
    x, y = (members.read(key) for key in (x_key, y_key))
    for key, values in ((x_key, x), (y_key, y)):
        if values.dtype.kind not in "iuf" or values.size != max(values.shape, default=0):
            raise DataContractError(
                f"'{members.path}': '{key}' is {values.shape} {values.dtype}, "
                "expected (M,) real numbers"
            )
    x, y = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
    if len(x) != len(y):
        raise DataContractError(
            f"'{members.path}': '{x_key}' has {len(x)} values but '{y_key}' has {len(y)}"
        )
    return np.stack([x, y], axis=1)


def _json(members: NpzMembers, key: str) -> dict[str, Any]:
    if key not in members:
        return {}
    try:
        return dict(json.loads(str(members.read(key))))
    except (ValueError, TypeError) as error:
        raise DataContractError(
            f"'{members.path}': '{key}' is not a JSON mapping ({error}); remove it"
        ) from error


def _metadata(members: NpzMembers) -> ScanMetadata:
    values = _json(members, "scan_metadata")
    if not values and members.ptychopinn_metadata is not None:
        values = photons_of_metadata(members.ptychopinn_metadata, f"'{members.path}': '_metadata'")
    known = {item.name for item in fields(ScanMetadata)}
    wrong = [
        f"{name}={value!r}"
        for name, value in values.items()
        if name not in known or not (value is None or isinstance(value, int | float))
    ]
    if wrong:
        raise DataContractError(
            f"'{members.path}': 'scan_metadata' holds {', '.join(wrong)}; there are "
            f"{', '.join(sorted(known))}, each a number or null"
        )
    return ScanMetadata(**values)


def _optional(members: NpzMembers, key: str) -> NDArray[Any] | None:
    if key not in members or members.shape(key) == () or 0 in members.shape(key):
        return None
    return members.read(key)


def _as_mode_stack(probe: NDArray[Any], path: Path) -> NDArray[np.complex64]:
    if probe.ndim == 4 and probe.shape[0] == 1:
        probe = probe[0]
    if probe.ndim == 2:
        probe = probe[None]
    elif probe.ndim == 3 and probe.shape[0] == probe.shape[1] > probe.shape[2]:
        # MATLAB's habit: the number of the mode comes last.
        probe = np.moveaxis(probe, -1, 0)
    elif probe.ndim == 3 and probe.shape[-1] == 1 and probe.shape[0] == probe.shape[1] > 1:
        probe = np.moveaxis(probe, -1, 0)
    if probe.ndim != 3:
        raise DataContractError(
            f"'{path}': 'probeGuess' is {probe.shape}, expected (N, N), (P, N, N) or (N, N, 1)"
        )
    return probe.astype(np.complex64)


def _domain(members: NpzMembers, given: MeasurementDomain | None) -> MeasurementDomain | None:
    """Return what the file says that its patterns are; None where it says nothing."""
    if given is not None:
        return given
    if "scale_contract_version" in members:
        # Here the domain is half of a pair, in the scale contract's words.
        half = "measurement_domain" in members
        check_scaling_profile(
            str(members.read("scale_contract_version")),
            str(members.read("measurement_domain")) if half else None,
            where=f"'{members.path}': ",
        )
    if "measurement_domain" not in members:
        return None
    declared = str(members.read("measurement_domain"))
    if declared in ("counts", "amplitude"):
        return declared  # type: ignore[return-value]
    # The scale contract's own words for the same two domains.
    words: dict[str, MeasurementDomain] = {
        "count_intensity": "counts",
        "normalized_amplitude": "amplitude",
    }
    if declared in words:
        return words[declared]
    raise DataContractError(
        f"'{members.path}': measurement_domain is {declared!r}, expected 'counts' or 'amplitude'"
    )
