"""Open HDF5 files, and name what they refer to and what is missing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from operator import le
from pathlib import Path
from typing import Any

import h5py

from ptychostream.errors import DataContractError
from ptychostream.hdf5_files import FOLLOW_LINKS, check_seal

#: What HDF5 says about a file that another program holds open for writing.
_IN_USE = ("unable to lock file", "already open for write", "errno = 11", "errno 11")


@contextmanager
def open_linked_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file of an instrument for reading: its links are followed.

    `hdf5_files.open_hdf5` opens the files that we write; it refuses data of other folders.
    """
    import hdf5plugin  # noqa: F401  (registers its filters with HDF5)

    check_seal(path)
    try:
        file = _NoRawFiles(path, "r")
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        yield file
    finally:
        file.close()


class _Checked:
    """Refuses datasets that are kept in raw files of their own: any file of the machine."""

    def __getitem__(self: Any, name: Any) -> Any:
        item = super().__getitem__(name)  # type: ignore[misc]
        if isinstance(item, h5py.Dataset):
            _refuse_raw_files(item, Path(os.fsdecode(self.file.filename)))
        return _CheckedGroup(item.id) if isinstance(item, h5py.Group) else item


class _CheckedGroup(_Checked, h5py.Group):  # type: ignore[misc]
    pass


class _NoRawFiles(_Checked, h5py.File):  # type: ignore[misc]
    pass


def _refuse_raw_files(dataset: Any, path: Path) -> None:
    number = dataset.id.get_create_plist().get_external_count()
    if number and FOLLOW_LINKS not in os.environ:
        raise DataContractError(
            f"'{path}': '{dataset.name.strip('/')}' is kept in {number} raw files of its own; "
            f"copy it into the file, or set {FOLLOW_LINKS}=1 if you trust it"
        )


def unreadable(path: Path, error: Exception) -> DataContractError:
    """Return the error that says why an HDF5 file can't be opened, and what to do."""
    if any(words in str(error).lower() for words in _IN_USE):
        return DataContractError(
            f"'{path}' is open in another program that writes to it ({error}). Wait until that is "
            "finished and closes the file; to read it as it is now, set the environment variable "
            "HDF5_USE_FILE_LOCKING=FALSE, or copy the file first"
        )
    return DataContractError(
        f"'{path}' is damaged HDF5: {error}; copy it again, once its writer has closed it"
    )


def find(file: Any, name: str, path: Path) -> Any:
    """Return a dataset or group of a file; None where the file has none of this name."""
    at = ""
    for part in [part for part in name.split("/") if part]:
        parent = file if not at else file[at]
        if not isinstance(parent, h5py.Group):
            return None
        link = parent.get(part, getlink=True) if part in _keys(parent) else None
        if link is None:
            return None
        at = f"{at}/{part}"
        if isinstance(link, h5py.ExternalLink):
            _check_external(file, at, link, path)
        elif isinstance(link, h5py.SoftLink):
            target = link.path if link.path.startswith("/") else f"{parent.name}/{link.path}"
            if target.strip("/") != at.strip("/") and find(file, target, path) is None:
                return None
    return file[at] if at else file


def _keys(group: Any) -> Any:
    # `in` on the group follows links, and returns False for a broken one.
    return group.keys()


def _check_external(file: Any, at: str, link: Any, path: Path) -> None:
    try:
        file[at]
    except (KeyError, OSError) as error:
        where = _beside(path, link.filename)
        what = "is missing"
        mend = "copy that file beside this one, under the same name"
        if where is not None and "signature" in str(error):
            what, mend = "is no HDF5", "copy that file again"
        elif where is not None:
            what = f"lacks '{link.path}'"
            mend = "it may be another file of this name: copy the right one over it"
        raise DataContractError(
            f"'{path}': '{at.strip('/')}' lies in another file, '{link.filename}', which {what} "
            f"({_first_line(error)}); {mend}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip("'\"").splitlines()[0]


def _beside(path: Path, name: str) -> Path | None:
    """Find a file that another one names, as HDF5 does: as it is, or beside that one."""
    for candidate in (Path(name), path.parent / name, path.parent / Path(name).name):
        if candidate.is_file():
            return candidate
    return None


def check_sources(dataset: Any, path: Path) -> None:
    """Refuse a dataset whose values lie in files that are missing: they would be read as zeros."""
    missing: list[str] = []
    if getattr(dataset, "is_virtual", False):
        sources: dict[tuple[str, str], tuple[Any, list[int]]] = {}
        for source in dataset.virtual_sources():
            key = (source.file_name, source.dset_name)
            _, ends = sources.get(key, (source, []))
            sources[key] = (source, _furthest(source, ends))
        for source, ends in sources.values():
            missing += _missing_source(dataset, source, ends, path)
    external = getattr(dataset, "external", None) or ()
    _refuse_raw_files(dataset, path)
    for name, *_ in external:
        if _beside(path, name) is None:
            missing.append(f"'{name}'")
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" * (len(missing) > 10))
        raise DataContractError(
            f"'{path}': '{dataset.name.strip('/')}' is put together from other files, of which "
            f"{len(missing)} can't be read: {shown}. Copy them beside this file, under the same "
            "names; without them their patterns would be zeros"
        )


def _furthest(source: Any, ends: list[int]) -> list[int]:
    """Return how far the parts of a source reach that a virtual data set takes, on each axis.

    Empty where it takes the whole source or grows with it.
    """
    if source.src_space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        return ends
    try:
        _, last = source.src_space.get_select_bounds()
    except (RuntimeError, ValueError):  # a part without an end
        return ends
    reach = [int(index) + 1 for index in last]
    return [max(pair) for pair in zip(ends or reach, reach, strict=True)]


def _values_taken(source: Any) -> int:
    """Return how many values a virtual data set takes from a source as a whole; 0 if unknown."""
    if source.src_space.get_select_type() != h5py.h5s.SEL_ALL:
        return 0
    try:
        return int(source.vspace.get_select_npoints())
    except (RuntimeError, ValueError):  # a part without an end
        return 0


def _missing_source(dataset: Any, source: Any, ends: list[int], path: Path) -> list[str]:
    """Return what is wrong with a source, in words; `ends`: how far it has to reach."""
    if source.file_name in (".", ""):
        within = dataset.file.get(source.dset_name.lstrip("/"))
        if within is None:
            return [f"'{source.dset_name}' in this file"]
        return _too_short(source, within, ends, "this file")
    numbered = "%b" in source.file_name
    name = source.file_name.replace("%b", "0") if numbered else source.file_name
    # The file that holds the dataset may itself have been reached by a link.
    found = _beside(Path(dataset.file.filename), name) or _beside(path, name)
    if found is None:
        return [f"'{name}'"]
    try:
        with h5py.File(found, "r") as file:
            inner = file.get(source.dset_name.lstrip("/"))
            if inner is None:
                return [f"'{name}' (it lacks '{source.dset_name}')"]
            check_sources(inner, found)
            return _too_short(source, inner, ends, name)
    except OSError as error:
        raise unreadable(found, error) from error


def _too_short(source: Any, inner: Any, ends: list[int], name: str) -> list[str]:
    """Return what a source lacks; HDF5 would fill in what lies beyond its end."""
    is_whole = inner.size >= _values_taken(source)
    if is_whole and (len(ends) != inner.ndim or all(map(le, ends, inner.shape))):
        return []
    wanted = f"is read up to {tuple(ends)}" if ends else f"{_values_taken(source)} values are read"
    return [
        f"'{name}' (its '{inner.name.strip('/')}' has the shape {inner.shape}, and {wanted}: an "
        "interrupted copy, or its writer has not finished)"
    ]
