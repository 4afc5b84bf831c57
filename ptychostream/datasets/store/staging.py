"""Where a store is built: out of sight until it is complete, by one builder at a time."""

import fcntl
import logging
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from typing_extensions import override

from ptychostream.datasets.store.format import MANIFEST
from ptychostream.datasets.store.places import LocalPlace, Place
from ptychostream.datasets.store.remote_place import RemotePlace
from ptychostream.errors import ConfigurationError, DataContractError, StoreExistsError

logger = logging.getLogger(__name__)

_FINGERPRINT = "fingerprint"


class BuildingSite(ABC):
    """A store under construction.

    Attributes
    ----------
    records : Place
        What is known about finished shards; it goes when the store is published.
    """

    target: Place
    place: Place
    records: Place

    @abstractmethod
    def check_target(self, *, overwrite: bool) -> None:
        """Refuse a target that may not be made.

        Raises
        ------
        StoreExistsError
            If something stands there that may not be replaced.
        """

    @abstractmethod
    def occupied(self) -> AbstractContextManager[Path]:
        """Be the only builder, and have a scratch folder of this machine, for a while.

        Raises
        ------
        StoreExistsError
            If another process builds here.
        """

    @abstractmethod
    def publish(self, manifest: bytes) -> None:
        """Make the store appear."""

    @abstractmethod
    def holds(self, name: str, size: int, digest: str) -> bool:
        """Say whether a recorded file is still what it was."""

    def begin(self, fingerprint: str, *, resume: bool, overwrite: bool) -> None:
        """Begin a build, or go on with one.

        Raises
        ------
        StoreExistsError
            If there is an unfinished build, and neither was asked for.
        DataContractError
            If the unfinished build was of other sources.
        """
        try:
            begun = self.records.read(_FINGERPRINT).decode()
        except FileNotFoundError:
            begun = None
        if begun is not None and resume:
            if begun == fingerprint:
                return
            raise DataContractError(
                f"the unfinished build of '{self.target}' was begun from other sources or "
                "options; resume with the same, or overwrite it"
            )
        if begun is not None and not overwrite:
            raise StoreExistsError(
                f"there is an unfinished build of '{self.target}': resume it, or overwrite it to "
                "begin anew"
            )
        self.discard()
        # Last: a build without it has nothing that is worth resuming.
        self.records.write(_FINGERPRINT, fingerprint.encode())

    def remove_strays(self, keep: set[str]) -> None:
        """Delete what a killed build left."""
        for name in self.place.sizes():
            if name not in keep and not name.startswith(RemoteSite.RECORDS):
                self.place.remove(name)

    @abstractmethod
    def discard(self) -> None:
        """Delete all that was built."""


class LocalSite(BuildingSite):
    """Beside the target, under a hidden name; published by one rename.

    Parameters
    ----------
    partial : Path
        Folder to build in, on the same file system.
    """

    def __init__(self, folder: Path, partial: Path) -> None:
        self.target: LocalPlace = LocalPlace(folder)
        self.place: LocalPlace = LocalPlace(partial)
        self.records: LocalPlace = LocalPlace(partial.with_name(f"{partial.name}.work"))

    @override
    def check_target(self, *, overwrite: bool) -> None:
        target = self.target.folder
        if not target.exists() and not target.is_symlink():
            return
        if not (target / MANIFEST).is_file():
            raise StoreExistsError(
                f"'{target}' exists and is not a group store; choose another name"
            )
        if not overwrite:
            raise StoreExistsError(
                f"'{target}' exists; choose another name, or add --overwrite "
                "(overwrite=True in Python)"
            )

    @contextmanager
    @override
    def occupied(self) -> Iterator[Path]:
        self.place.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.place.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreExistsError(
                    f"another process is building '{self.place}'; wait for it, or stop it"
                ) from error
            self.records.folder.mkdir(exist_ok=True)
            yield self.records.folder
        finally:
            os.close(handle)

    @override
    def publish(self, manifest: bytes) -> None:
        self.place.write(MANIFEST, manifest)
        target, partial = self.target.folder, self.place.folder
        target.parent.mkdir(parents=True, exist_ok=True)
        old = target.with_name(f".{target.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.replace(old)
        partial.replace(target)
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self.records.remove("")
        shutil.rmtree(old, ignore_errors=True)
        if old.exists():
            logger.warning("the store that was replaced is still there: remove '%s'", old)

    @override
    def holds(self, name: str, size: int, digest: str) -> bool:
        file = self.place.folder / name
        return file.is_file() and file.stat().st_size == size and self.place.digest(name) == digest

    @override
    def discard(self) -> None:
        for entry in self.place.folder.iterdir():
            self.place.remove(entry.name)
        for entry in self.records.folder.iterdir():
            self.records.remove(entry.name)


class RemoteSite(BuildingSite):
    """The target itself: a store is one from the moment that its manifest is there."""

    #: Folder of the records in the target.
    RECORDS = "building/"

    def __init__(self, place: RemotePlace) -> None:
        self.target = self.place = place
        self.records = place.child(self.RECORDS.rstrip("/"))

    @override
    def check_target(self, *, overwrite: bool) -> None:
        if self.place.has(MANIFEST):
            raise StoreExistsError(
                f"'{self.target}' exists, and remote stores are not replaced; delete it first, or "
                "choose another name"
            )
        if not self.records.has(_FINGERPRINT) and self.place.sizes():
            raise StoreExistsError(
                f"'{self.target}' exists and is not a group store; choose another name"
            )

    @contextmanager
    @override
    def occupied(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ptychostream-build-") as scratch:
            yield Path(scratch)

    @override
    def publish(self, manifest: bytes) -> None:
        self.place.write(MANIFEST, manifest)
        self.records.remove("")

    @override
    def holds(self, name: str, size: int, digest: str) -> bool:
        return self.place.sizes(name.rsplit("/", 1)[0]).get(name) == size

    @override
    def discard(self) -> None:
        self.place.remove("")


def building_site(place: Place) -> BuildingSite:
    """Choose where a store is built.

    Raises
    ------
    ConfigurationError
        If it would be a zip file.
    """
    if str(place).endswith(".zip"):
        raise ConfigurationError(
            f"'{place}': stores in zip files are read, never written; build a folder, then zip it"
        )
    if isinstance(place, LocalPlace):
        return LocalSite(place.folder, place.folder.with_name(f".{place.folder.name}.partial"))
    assert isinstance(place, RemotePlace)
    return RemoteSite(place)
