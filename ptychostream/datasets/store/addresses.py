"""What a path or a URL names."""

from pathlib import Path

from ptychostream.datasets.store.places import LocalPlace, Place
from ptychostream.datasets.store.remote_place import RemotePlace
from ptychostream.datasets.store.zipped_place import ZippedPlace, holds_store


def find_place(path: str | Path) -> Place:
    """Return the place that a path or URL names.

    Parameters
    ----------
    path : str or Path
        A folder, a zip file of one, or a URL with a protocol (`s3://`, `gs://`, `https://`,
        `memory://`).

    Returns
    -------
    Place
        It need not exist.
    """
    if isinstance(path, str) and "://" in path and not path.startswith("file://"):
        return RemotePlace(path)
    local = Path(str(path).removeprefix("file://"))
    if local.suffix == ".zip" and local.is_file() and holds_store(local):
        return ZippedPlace(local)
    return LocalPlace(local)


def is_store(path: str | Path) -> bool:
    """Say whether a path names a group store, complete or not.

    Parameters
    ----------
    path : str or Path
        A folder, a file or a URL; every URL counts as a store's.

    Returns
    -------
    bool
        By its content.
    """
    place = find_place(path)
    if isinstance(place, LocalPlace):
        return (place.folder / "zarr.json").is_file()
    return True
