"""The files of a store: in a folder, in a zip file, or at any URL that fsspec knows."""

import hashlib
import os
import re
import shutil
import weakref
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ptychostream.datasets.store.range_cache import RangeCache
from ptychostream.datasets.store.retry import retried
from ptychostream.errors import ConfigurationError, StorageError
from ptychostream.files import atomic_file, clear_left
from ptychostream.locks import share

#: Windows changes the ends of lines unless told not to.
_TO_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)

#: Files are hashed in parts of this many bytes.
_PART = 16 * 2**20

#: Protocols whose files have names but no folders.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss"})

#: Requests at the same time: enough to hide a delay of 30 ms behind the decoding of two cores.
REQUESTS_IN_FLIGHT = 32


class StoreFiles:
    """A folder of files, each of which is written whole or not at all; made by `open_location`.

    Parameters
    ----------
    address : str
        Path or URL of the outermost folder, which messages name.
    files : fsspec.AbstractFileSystem or None
        Where they lie; None is this machine, whose files are read by position, from a folder
        that can be held open, and are written by renaming.
    root : str
        The folder as `files` names it.
    """

    def __init__(self, address: str, files: Any, root: str, *, below: str = "") -> None:
        self._address, self._below = address, below
        self._files, self._root = files, root
        self._handle: int | None = None
        self._close: Any = None
        #: Where parts of remote files are kept.
        self.cache: RangeCache | None = None
        self._parent: StoreFiles | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> "StoreFiles":
        """Return the files of a folder of this machine."""
        return cls(str(folder), None, str(folder))

    def __str__(self) -> str:
        if self.folder is not None:
            return str(self.folder)
        return self._address if self.is_zip else f"{self._address}/{self._below}".rstrip("/")

    def __reduce__(self) -> Any:
        return _reopened, (self._address, self._below)

    @property
    def folder(self) -> Path | None:
        """The folder, where it is one of this machine."""
        return Path(self._root) if self._files is None else None

    @property
    def is_zip(self) -> bool:
        """Whether it lies in a zip file, which is only read."""
        return self._files is not None and self._files.protocol == "zip"

    def keep_in(self, folder: Path | None, limit: int) -> None:
        """Keep what is fetched from now on in a folder, within a limit in bytes."""
        self.cache = None if folder is None else RangeCache(Path(folder), limit)

    @property
    def cache_options(self) -> tuple[Path | None, int]:
        """Folder and limit of what is kept."""
        return (None, 1) if self.cache is None else (self.cache.folder, self.cache.limit)

    @property
    def is_remote(self) -> bool:
        """Whether each request to it may wait for a network."""
        return self._files is not None and not self.is_zip

    @property
    def can_list(self) -> bool:
        """Whether files can be listed: web servers list none, or only some."""
        return not {"http", "https"} & set(self._protocols)

    @property
    def _protocols(self) -> tuple[str, ...]:
        if self._files is None:
            return ()
        protocol = self._files.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def child(self, name: str) -> "StoreFiles":
        """Return the files of a folder in this one."""
        below = f"{self._below}/{name}".strip("/")
        child = StoreFiles(self._address, self._files, f"{self._root}/{name}", below=below)
        child._parent, child.cache = self, self.cache
        return child

    def hold(self) -> None:
        """Keep the folder open, so that reads still reach it if another store replaces it."""
        if self._files is None and os.open in os.supports_dir_fd and self._held()[0] is None:
            self._handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
            self._close = weakref.finalize(self, os.close, self._handle)
            # Who replaces the store sees that its files are still read.
            share(self._handle)

    def is_replaced(self) -> bool:
        """Return whether the folder that is held open has lost its name to another one."""
        if self._handle is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._handle), Path(self._root).stat())
        except FileNotFoundError:
            return True

    def release(self) -> None:
        """Close the folder; nothing can be read from it afterwards."""
        if self._close is not None:
            self._close()

    def _held(self) -> tuple[int | None, str]:
        """Find the held folder that this one lies in, and its path from there."""
        files, root = self, self._root
        while files._handle is None and files._parent is not None:
            files = files._parent
        return files._handle, root[len(files._root) + 1 :] if files._handle is not None else root

    def read(
        self, name: str, start: int = 0, length: int | None = None, *, digest: str | None = None
    ) -> bytes:
        """Read a file or a part of it.

        Parameters
        ----------
        length : int, optional
            Bytes; fewer come back where the file ends. None is all that follow.
        digest : str, optional
            SHA-256 of the file by its manifest: a remote part is then looked for in the cache.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        StorageError
            If it can't be read.
        """
        if self._files is None:
            return self._read_local(name, start, length)
        if self.cache is not None and digest is not None and self.is_remote:
            key = f"{digest} {start} {length}"
            return self.cache.get(key, lambda: self._read_remote(name, start, length))
        return self._read_remote(name, start, length)

    def _read_remote(self, name: str, start: int, length: int | None) -> bytes:
        path = self._path(name)
        stop = None if length is None else start + length
        try:
            data: bytes = retried(
                lambda: self._files.cat_file(path, start=start or None, end=stop), f"{self}/{name}"
            )
        except (FileNotFoundError, StorageError):
            raise
        except Exception as error:  # every protocol has errors of its own
            if start and self._ends_before(path, start):
                return b""
            raise self._unreachable(error) from error
        if length is not None and len(data) > length:
            # A web server without support for ranges sends the whole file.
            return data[start : start + length]
        return data

    def _read_local(self, name: str, start: int, length: int | None) -> bytes:
        held, folder = self._held()
        handle = os.open(f"{folder}/{name}" if folder else name, _TO_READ, dir_fd=held)
        try:
            size = os.fstat(handle).st_size - start
            wanted = size if length is None else min(size, length)
            parts = []
            if start:
                os.lseek(handle, start, os.SEEK_SET)
            # The system reads at most two GiB at once.
            while wanted > 0 and (part := os.read(handle, min(wanted, 2**30))):
                parts.append(part)
                wanted -= len(part)
        finally:
            os.close(handle)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which appears when it is complete and safely stored.

        Raises
        ------
        StorageError
            If a URL or a zip file can't be written to.
        OSError
            If a folder can't.
        """
        if self._files is None:
            file = Path(self._root) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as partial:
                partial.write_bytes(data)
            return
        self._refuse_zip()
        path = self._path(name)
        try:
            if not _OBJECT_STORES & set(self._protocols):
                self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            retried(lambda: self._files.pipe_file(path, data), f"{self}/{name}")
        except Exception as error:  # every protocol has errors of its own
            raise StorageError(
                f"could not write '{self}/{name}': {error}; check address, credentials and space"
            ) from error

    def clear_left(self, name: str) -> None:
        """Remove what killed writers of a file have left beside it."""
        if self._files is None:
            clear_left(Path(self._root) / name)

    def sizes(self, below: str = "") -> dict[str, int]:
        """Measure all files, by name; those of a folder alone where one is named."""
        if self._files is None:
            return self._local_sizes(below)
        try:
            self._files.invalidate_cache()
            found = self._files.find(self._path(below), detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # every protocol has errors of its own
            raise self._unreachable(error) from error
        skip = len(self._path("")) + 1 if self._root else 0
        return {
            name[skip:]: int(entry["size"])
            for name, entry in found.items()
            if entry["size"] is not None
        }

    def sizes_of(self, names: Iterable[str]) -> dict[str, int]:
        """Measure those of these files that there are; -1 where a server does not tell."""
        if self._files is not None and self.can_list:
            found = self.sizes()
            return {name: found[name] for name in names if name in found}
        if self._files is not None:
            listed = list(names)
            with self._requests(len(listed)) as pool:
                sizes = zip(listed, pool.map(self._size_of, listed), strict=True)
                return {name: size for name, size in sizes if size is not None}
        measured, (held, folder) = {}, self._held()
        for name in names:
            try:
                state = os.stat(f"{folder}/{name}" if folder else name, dir_fd=held)
            except (FileNotFoundError, NotADirectoryError):
                continue
            measured[name] = state.st_size
        return measured

    def read_together(self, digests: dict[str, str]) -> dict[str, bytes]:
        """Read whole files with these digests; at a URL, all at the same time."""
        if not self.is_remote:
            return {name: self.read(name) for name in digests}

        def read(name: str) -> bytes:
            return self.read(name, digest=digests[name])

        with self._requests(len(digests)) as pool:
            return dict(zip(digests, pool.map(read, digests), strict=True))

    def _requests(self, number: int) -> ThreadPoolExecutor:
        threads = max(1, min(REQUESTS_IN_FLIGHT, number))
        return ThreadPoolExecutor(threads, thread_name_prefix="ptychostream-fetch")

    def _size_of(self, name: str) -> int | None:
        path = self._path(name)
        try:
            size = retried(lambda: self._files.info(path)["size"], f"{self}/{name}")
        except FileNotFoundError:
            return None
        except Exception as error:  # every protocol has errors of its own
            raise self._unreachable(error) from error
        return -1 if size is None else int(size)

    def _local_sizes(self, below: str) -> dict[str, int]:
        found = {}
        # Walking, unlike `rglob`, passes over folders that are renamed meanwhile.
        for folder, _, names in os.walk(f"{self._root}/{below}"):
            for path in (Path(folder) / name for name in names):
                try:
                    if path.is_file():
                        found[path.relative_to(self._root).as_posix()] = path.stat().st_size
                except FileNotFoundError:  # a scratch file of another process, already removed
                    continue
        return found

    def folders(self, below: str) -> list[str]:
        """List the folders in a folder."""
        if self._files is None:
            folder = Path(self._root) / below
            if not folder.is_dir():
                return []
            return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        inside = (name[len(below) + 1 :] for name in self.sizes(below))
        return sorted({name.split("/")[0] for name in inside if "/" in name})

    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; what is absent is no error."""
        if self._files is None:
            path = Path(self._root) / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            return
        self._refuse_zip()
        try:
            self._files.rm(self._path(name), recursive=True)
        except FileNotFoundError:
            return

    def zarr_store(self) -> Any:
        """Return what zarr opens for reading."""
        from zarr.storage import FsspecStore

        if self._files is None:
            return self._root
        url = f"zip://{self._root}::{self._address}" if self.is_zip else str(self)
        return FsspecStore.from_url(url, read_only=True)

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        digest, at = hashlib.sha256(), 0
        while part := self.read(name, at, _PART):
            digest.update(part)
            at += len(part)
        return digest.hexdigest()

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        try:
            self.read(name, 0, 1)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _path(self, name: str) -> str:
        path = f"{self._root}/{name}".rstrip("/")
        return path.lstrip("/") if self.is_zip else path

    def _ends_before(self, path: str, start: int) -> bool:
        try:
            return int(self._files.info(path)["size"]) <= start
        except Exception:
            return False

    def _unreachable(self, error: Exception) -> StorageError:
        return StorageError(
            f"'{self}' can't be read: {error}; check address, credentials and network"
        )

    def _refuse_zip(self) -> None:
        if self.is_zip:
            raise StorageError(
                f"'{self._address}' is a zip file, which is only read; unpack it first"
            )


def open_location(path: str | Path) -> StoreFiles:
    """Return the files that a path or URL names, whether there are any or not.

    Parameters
    ----------
    path : str or Path
        A folder, a zip file of one, or a URL with a protocol (`s3://`, `gs://`, `https://`,
        `memory://`), whose options come from fsspec's own configuration and the environment.

    Raises
    ------
    ConfigurationError
        If a `Path` was made of a URL, the protocol is unknown, or its package is not installed.
    DataContractError
        If a zip file holds several stores.
    """
    if isinstance(path, str) and "://" in path and not path.startswith("file://"):
        return _open_url(path.rstrip("/"))
    local = Path(str(path).removeprefix("file://"))
    if isinstance(path, Path) and re.match(r"[a-z][a-z0-9+.]+:/[^/]", str(path)):
        raise ConfigurationError(
            f"'{path}' is a URL that became a path, which spoils it; give it as a string"
        )
    if local.suffix == ".zip" and local.is_file() and zipfile.is_zipfile(local):
        from ptychostream.datasets.store.zipped import ZippedFiles, holds_store

        if holds_store(local):
            zipped = ZippedFiles(local)
            return StoreFiles(str(local), zipped, zipped.store_folder())
    return StoreFiles.of_folder(local)


def _open_url(url: str) -> StoreFiles:
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"'{url}' can't be opened: {error}; for S3, install ptychostream[s3]"
        ) from error
    return StoreFiles(url, files, root)


def _reopened(address: str, below: str) -> StoreFiles:
    files = open_location(address)
    return files.child(below) if below else files


def is_store(path: str | Path) -> bool:
    """Return whether a path names a group store, complete or not.

    Parameters
    ----------
    path : str or Path
        A folder, a file or a URL; every URL counts as a store's.
    """
    files = open_location(path)
    return files.folder is None or (files.folder / "zarr.json").is_file()


def copy_files(
    files: Iterable[tuple[str, bytes]], target: StoreFiles
) -> Iterator[tuple[str, int, str]]:
    """Write named contents into a folder; yields name, size and SHA-256 of each."""
    for name, data in files:
        target.write(name, data)
        yield name, len(data), hashlib.sha256(data).hexdigest()
