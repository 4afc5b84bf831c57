"""Completeness: which files a store consists of, their sizes and digests."""

import hashlib
import json
from typing import Any

from ptychostream.datasets.store.format import FINISHED, GROUPINGS, MANIFEST, SEGMENTS
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.errors import DataContractError

#: Size and SHA-256 of files, by name.
Files = dict[str, tuple[int, str]]

#: What lies in a store's folder and does not belong to its manifest.
_APART = (GROUPINGS, MANIFEST, SEGMENTS, FINISHED)


def list_files(storage: StoreFiles) -> dict[str, int]:
    """List the files that belong to a manifest.

    Returns
    -------
    dict
        Sizes by relative name; groupings, appended segments and the manifest are not among them.
    """
    found = storage.sizes()
    return {n: size for n, size in sorted(found.items()) if n.split("/")[0] not in _APART}


def manifest_bytes(files: Files) -> bytes:
    """Make the content of a manifest, the last file of a store."""
    ordered = {name: list(files[name]) for name in sorted(files)}
    return json.dumps({"files": ordered, "sha256": _digest(ordered)}, indent=0).encode()


def read_manifest(storage: StoreFiles) -> Files:
    """Read a store's manifest and check it against itself.

    Raises
    ------
    DataContractError
        If there is none (an unfinished store, or none at all), or it is damaged.
    """
    try:
        text = storage.read(MANIFEST)
    except FileNotFoundError as error:
        raise DataContractError(
            f"'{storage}' is not a complete group store: it has no {MANIFEST}; build it again, or "
            "name another folder"
        ) from error
    try:
        content: dict[str, Any] = json.loads(text)
        files = content["files"]
        if _digest(files) != content["sha256"]:
            raise ValueError("its digest does not match")
        if outside := [name for name in files if name.startswith("/") or ".." in name.split("/")]:
            raise ValueError(f"it lists '{outside[0]}', which is outside the store")
        return {name: (int(size), str(digest)) for name, (size, digest) in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataContractError(f"'{storage}/{MANIFEST}' is damaged: {error}") from error


def check_sizes(storage: StoreFiles, files: Files, present: dict[str, int] | None = None) -> None:
    """Check that every file is there and has its size.

    Parameters
    ----------
    present : dict, optional
        The files that there are with their sizes, where these are known.

    Raises
    ------
    DataContractError
        If a file is missing, truncated or grown; the message names it.
    """
    present = storage.sizes_of(files) if present is None else present
    for name, (size, _) in files.items():
        found = present.get(name)
        if found not in (size, -1):
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise DataContractError(
                f"store '{storage}' is damaged: '{name}' {state}; copy or build the store again"
            )


def check_digests(storage: StoreFiles, files: Files) -> list[str]:
    """Find the files whose content has changed."""
    return [name for name in sorted(files) if storage.digest(name) != files[name][1]]


def manifest_digest(files: Files) -> str:
    """Return the digest that the manifest of these files has."""
    return _digest({name: list(files[name]) for name in sorted(files)})


def _digest(files: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
