"""All scans that a path names: a file's, a store's experiments, or a folder's files."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources import READERS, find_format, options_with, read_scan
from ptychostream.datasets.sources.chosen_probe import ProbeFinder
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.other_formats import BARE
from ptychostream.datasets.store.group_store import open_group_store
from ptychostream.datasets.store.storage import is_store
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import MeasurementDomain, Scan

logger = logging.getLogger(__name__)

#: Options that say something of the patterns or positions of one scan.
_FOR_ONE = ("positions", "leave_out", "leave_out_positions")

#: Scans that a message names, at most.
_NAMED = 4


def scans_from(
    paths: Sequence[str | Path] | str | Path,
    options: InputOptions | None = None,
    *,
    find_probe: ProbeFinder | None = None,
    spare_probe: NDArray[np.complex64] | None = None,
) -> list[Scan]:
    """Read every scan that some paths name, completed and changed as the options say.

    Scans whose positions are metres of one stage keep their common origin.

    Parameters
    ----------
    paths : path or sequence of paths
        Scan files; group stores, by folder or URL; or folders of scan files.
    options : InputOptions, optional
        How they are read. Masks and probes of their own files hold for all scans; positions are
        those of one.
    find_probe : callable, optional
        Makes the probe of `InputOptions(probe="from_patterns")`, from a scan with a placeholder
        for a probe and the options; returns (P, N, N) complex64.
    spare_probe : (P, N, N) complex64, optional
        Probe for files that hold none, where no option gives one.

    Returns
    -------
    list of Scan
        The experiments of a store in order, the files of a folder by name.

    Raises
    ------
    DataContractError
        If a folder holds no scan, or a file breaks its contract.
    ConfigurationError
        If options that belong to one scan, such as `positions`, are given for several.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    chosen = options_with(options)
    _check_for_one(chosen, [str(path) for path in listed])
    scans = [
        scan
        for path in listed
        for scan in _scans_of(path, chosen, find_probe=find_probe, spare_probe=spare_probe)
    ]
    _check_for_one(chosen, [scan.name for scan in scans])
    return on_common_stage(scans)


def _check_for_one(options: InputOptions, names: Sequence[str]) -> None:
    """Refuse options that say something of one scan where there are several."""
    given = [name for name in _FOR_ONE if str(getattr(options, name) or "").strip("[]() ")]
    if len(names) < 2 or not given:
        return
    listed = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    raise ConfigurationError(
        f"--{given[0]} {getattr(options, given[0])} belongs to one scan, and there are "
        f"{len(names)}: {listed}. Build a store of the first alone, then append each of the others "
        f"with its own: ptychostream append SCAN STORE --experiment new --{given[0]} ITS_OWN"
    )


def read_scans(
    path: str | Path,
    *,
    measurement_domain: MeasurementDomain | None = None,
    options: InputOptions | None = None,
) -> tuple[Scan, ...]:
    """Read every scan that a path names; patterns stay where they are until asked for.

    Parameters
    ----------
    path : str or Path
        A scan file; a group store, by folder or URL; or a folder of scan files.
    measurement_domain : str, optional
        `counts` or `amplitude`, where a file does not say it or says it wrongly.
    options : InputOptions, optional
        What else is read, and how it is changed.

    Returns
    -------
    tuple of Scan
        A store's experiments in order, a folder's files by name.

    Raises
    ------
    DataContractError
        If a folder holds no scan, or a file breaks its contract.
    """
    return tuple(scans_from(path, options_with(options, measurement_domain=measurement_domain)))


def _scans_of(
    path: str | Path,
    options: InputOptions,
    **probes: Any,
) -> tuple[Scan, ...]:
    if is_store(path):
        store = open_group_store(path)
        if options.measurement_domain not in (None, store.measurement_domain):
            raise DataContractError(
                f"'{path}' is a store of {store.measurement_domain}: its domain was settled when "
                "it was built"
            )
        scans = tuple(store.scan(number) for number in range(store.num_experiments))
        return tuple(_changed(scan, options) for scan in scans)
    folder = Path(str(path).removeprefix("file://"))
    if not folder.is_dir() or options.reader or options.map or find_format(folder):
        return (read_scan(folder, options=options, **probes),)
    found: list[Path] = []
    skipped: list[Path] = []
    for entry in sorted(folder.iterdir()):
        name = find_format(entry)
        (found if name and name not in BARE else skipped).append(entry)
    if not found:
        raise DataContractError(
            f"'{folder}' holds no scan in a known format; known are {', '.join(sorted(READERS))}"
        )
    if skipped:
        names = ", ".join(entry.name for entry in skipped)
        logger.warning("'%s': not scans, and left out: %s", folder, names)
    return tuple(read_scan(entry, options=options, **probes) for entry in found)


def _changed(scan: Scan, options: InputOptions) -> Scan:
    """Change a scan of a store as the options say; its values were checked when it was built."""
    from ptychostream.datasets.sources.assemble import assemble
    from ptychostream.datasets.sources.parts import ScanParts

    given = set(options.given()) - {"measurement_domain"}
    return assemble(ScanParts.of(scan), replace(options, look="none")) if given else scan


def on_common_stage(scans: Sequence[Scan]) -> list[Scan]:
    """Shift scans whose positions are metres of one stage to one origin."""
    staged = [scan for scan in scans if "stage" in scan.provenance]
    if len(staged) < 2:
        return list(scans)
    origin = np.min([scan.provenance["stage"]["origin_m"] for scan in staged], axis=0)
    return [
        moved_to_origin(scan, origin.tolist()) if "stage" in scan.provenance else scan
        for scan in scans
    ]


def moved_to_origin(scan: Scan, origin_m: Sequence[float]) -> Scan:
    """Shift a scan's positions to another origin of its stage, in metres."""
    stage = scan.provenance["stage"]
    shift = (np.array(stage["origin_m"]) - origin_m) / np.array(stage["pixel_m"])
    if not shift.any():
        return scan
    start = None if scan.positions_start is None else scan.positions_start + shift
    return replace(
        scan,
        positions=scan.positions + shift,
        positions_start=start,
        provenance=scan.provenance | {"stage": {**stage, "origin_m": list(origin_m)}},
    )
