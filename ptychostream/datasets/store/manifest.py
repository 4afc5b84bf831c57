"""Completeness: which files a store consists of, their sizes and digests."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ptychostream.datasets.store.layout import GROUPINGS, MANIFEST
from ptychostream.errors import DataContractError

Files = dict[str, tuple[int, str]]


def file_digest(path: Path) -> tuple[int, str]:
    """Measure a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    size : int
        Bytes.
    digest : str
        SHA-256 in hexadecimal.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return path.stat().st_size, digest


def list_files(root: Path) -> list[str]:
    """List the files that belong to a store's manifest.

    Parameters
    ----------
    root : Path
        The store's folder.

    Returns
    -------
    list of str
        Relative names, sorted; groupings and the manifest itself are not among them.
    """
    names = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if name.parts[0] not in (GROUPINGS, MANIFEST))


def write_manifest(root: Path, files: Files) -> None:
    """Write the manifest, the last file of a store.

    Parameters
    ----------
    root : Path
        The store's folder.
    files : dict
        Size and digest of every file, by relative name.
    """
    ordered = {name: list(files[name]) for name in sorted(files)}
    content = {"files": ordered, "sha256": _digest(ordered)}
    (root / MANIFEST).write_text(json.dumps(content, indent=0))


def read_manifest(root: Path) -> Files:
    """Read a store's manifest and check it against itself.

    Parameters
    ----------
    root : Path
        The store's folder.

    Returns
    -------
    dict
        Size and digest of every file, by relative name.

    Raises
    ------
    DataContractError
        If there is none (an unfinished store, or none at all), or it is damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise DataContractError(
            f"'{root}' is not a complete group store: it has no {MANIFEST}; build it again, or "
            "name another folder"
        )
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        files = content["files"]
        if _digest(files) != content["sha256"]:
            raise ValueError("its digest does not match")
        return {name: (int(size), str(digest)) for name, (size, digest) in files.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise DataContractError(f"'{path}' is damaged: {error}") from error


def check_sizes(root: Path, files: Files) -> None:
    """Check that every file is there and has its size.

    Parameters
    ----------
    root : Path
        The store's folder.
    files : dict
        The manifest.

    Raises
    ------
    DataContractError
        If a file is missing, truncated or grown; the message names it.
    """
    for name, (size, _) in files.items():
        path = root / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise DataContractError(
                f"store '{root}' is damaged: '{name}' {state}; copy or build the store again"
            )


def check_digests(root: Path, files: Files) -> list[str]:
    """Find the files whose content has changed.

    Parameters
    ----------
    root : Path
        The store's folder.
    files : dict
        The manifest.

    Returns
    -------
    list of str
        Names of changed files, sorted.
    """
    return [name for name in sorted(files) if file_digest(root / name) != tuple(files[name])]


def _digest(files: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
