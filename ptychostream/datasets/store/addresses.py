"""What a path or a URL names."""

import re
from pathlib import Path

from ptychostream.datasets.store.places import LocalPlace, Place
from ptychostream.datasets.store.remote_place import RemotePlace
from ptychostream.datasets.store.zipped_place import ZippedPlace, holds_store
from ptychostream.errors import ConfigurationError


def open_location(path: str | Path) -> Place:
    """Return the place that a path or URL names.

    Parameters
    ----------
    path : str or Path
        A folder, a zip file of one, or a URL with a protocol (`s3://`, `gs://`, `https://`,
        `memory://`).

    Raises
    ------
    ConfigurationError
        If a `Path` was made of a URL.
    """
    if isinstance(path, str) and "://" in path and not path.startswith("file://"):
        return RemotePlace(path)
    local = Path(str(path).removeprefix("file://"))
    if isinstance(path, Path) and re.match(r"[a-z][a-z0-9+.]+:/[^/]", str(path)):
        raise ConfigurationError(
            f"'{path}' is a URL that became a path, which spoils it; give it as a string"
        )
    if local.suffix == ".zip" and local.is_file() and holds_store(local):
        return ZippedPlace(local)
    return LocalPlace(local)


def is_store(path: str | Path) -> bool:
    """Say whether a path names a group store, complete or not.

    Parameters
    ----------
    path : str or Path
        A folder, a file or a URL; every URL counts as a store's.
    """
    place = open_location(path)
    if isinstance(place, LocalPlace):
        return (place.folder / "zarr.json").is_file()
    return True
