"""All scans that a path names: a file's, a store's experiments, or a folder's files."""

import logging
from pathlib import Path

from ptychostream.datasets.sources import READERS, find_format, read_scan
from ptychostream.datasets.store.group_store import open_group_store
from ptychostream.datasets.store.storage import is_store
from ptychostream.errors import DataContractError
from ptychostream.scan import MeasurementDomain, Scan

logger = logging.getLogger(__name__)


def read_scans(
    path: str | Path, *, measurement_domain: MeasurementDomain | None = None
) -> tuple[Scan, ...]:
    """Read every scan that a path names; patterns stay where they are until asked for.

    Parameters
    ----------
    path : str or Path
        A scan file; a group store, by folder or URL; or a folder of scan files.
    measurement_domain : str, optional
        `counts` or `amplitude`, where a file does not say it or says it wrongly.

    Returns
    -------
    tuple of Scan
        A store's experiments in order, a folder's files by name.

    Raises
    ------
    DataContractError
        If a folder holds no scan, or a file breaks its contract.
    """
    if is_store(path):
        store = open_group_store(path)
        if measurement_domain not in (None, store.measurement_domain):
            raise DataContractError(
                f"'{path}' is a store of {store.measurement_domain}: its domain was settled when "
                "it was built"
            )
        return tuple(store.scan(number) for number in range(store.num_experiments))
    folder = Path(str(path).removeprefix("file://"))
    if not folder.is_dir() or find_format(folder):
        return (read_scan(folder, measurement_domain=measurement_domain),)
    found: list[Path] = []
    skipped: list[Path] = []
    for entry in sorted(folder.iterdir()):
        (found if find_format(entry) else skipped).append(entry)
    if not found:
        raise DataContractError(
            f"'{folder}' holds no scan in a known format; known are {', '.join(sorted(READERS))}"
        )
    if skipped:
        names = ", ".join(entry.name for entry in skipped)
        logger.warning("'%s': not scans, and left out: %s", folder, names)
    return tuple(read_scan(entry, measurement_domain=measurement_domain) for entry in found)
