"""Where a store is built: hidden until it is complete, by one process at a time."""

import glob
import logging
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ptychostream.datasets.store.format import MANIFEST
from ptychostream.datasets.store.storage import StoreFiles, open_location
from ptychostream.errors import ConfigurationError, DataContractError, StoreExistsError
from ptychostream.exchange import flush_folder, replace_folder
from ptychostream.locks import locked

logger = logging.getLogger(__name__)

_FINGERPRINT = "fingerprint"

#: Folder of a remote build's records, in the target.
_REMOTE_RECORDS = "building"


class StagedStore:
    """A store under construction.

    On this machine it is built beside the target under a hidden name, and appears by one rename.
    At a URL, where nothing can be renamed, it is built in place: readers accept it as a store
    when its manifest is there, which is written last.

    Attributes
    ----------
    target, storage : StoreFiles
        Where the store will be, and where it is built.
    records : StoreFiles
        What is known about finished shards; removed when the store is published.

    Raises
    ------
    ConfigurationError
        If it would be a zip file.
    """

    def __init__(self, target: StoreFiles) -> None:
        if str(target).endswith(".zip"):
            raise ConfigurationError(
                f"'{target}': stores in zip files are read, never written; build a folder, then "
                "zip it"
            )
        self.target = self.storage = target
        self.records = target.child(_REMOTE_RECORDS)
        if (folder := target.folder) is not None:
            partial = folder.with_name(f".{folder.name}.partial")
            self.storage = StoreFiles.of_folder(partial)
            self.records = StoreFiles.of_folder(partial.with_name(f"{partial.name}.work"))

    def check_target(self, *, overwrite: bool) -> None:
        """Refuse a target that may not be made.

        Raises
        ------
        StoreExistsError
            If something stands there that may not be replaced.
        """
        if (folder := self.target.folder) is None:
            self._check_url()
            return
        if not folder.exists() and not folder.is_symlink():
            return
        if not (folder / MANIFEST).is_file():
            raise StoreExistsError(
                f"'{folder}' exists and is not a group store; choose another name"
            )
        if not overwrite:
            raise StoreExistsError(
                f"'{folder}' exists; choose another name, or add --overwrite "
                "(overwrite=True in Python)"
            )

    def _check_url(self) -> None:
        if self.target.has(MANIFEST):
            raise StoreExistsError(
                f"'{self.target}' exists, and remote stores are not replaced; delete it first, or "
                "choose another name"
            )
        if not self.records.has(_FINGERPRINT) and self.target.sizes():
            raise StoreExistsError(
                f"'{self.target}' exists and is not a group store; choose another name"
            )

    @contextmanager
    def lock(self) -> Iterator[Path]:
        """Lock the target against other builds and yield a scratch folder of this machine.

        Raises
        ------
        StoreExistsError
            If another process builds here; a URL has no locks.
        """
        folder, records = self.storage.folder, self.records.folder
        if folder is None or records is None:
            with tempfile.TemporaryDirectory(prefix="ptychostream-build-") as scratch:
                yield Path(scratch)
            return
        folder.mkdir(parents=True, exist_ok=True)
        message = f"another process is building '{folder}'; wait for it, or stop it"
        with locked(folder, message):
            self._restore()
            records.mkdir(exist_ok=True)
            yield records

    def _restore(self) -> None:
        """Give a store its name back that was killed between the two renamings of a replacement."""
        if (target := self.target.folder) is not None and not target.exists():
            for kept in _replaced(target, "*-kept"):
                kept.replace(target)
                break

    def start_or_resume(self, fingerprint: str, *, resume: bool, overwrite: bool) -> None:
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
        self.clear()
        # Written last: a build without it has nothing to resume.
        self.records.write(_FINGERPRINT, fingerprint.encode())

    def remove_strays(self, keep: set[str]) -> None:
        """Delete the files of a killed build, except these."""
        for name in self.storage.sizes():
            if name not in keep and not name.startswith(f"{_REMOTE_RECORDS}/"):
                self.storage.remove(name)

    def is_intact(self, name: str, size: int, digest: str) -> bool:
        """Return whether a recorded file is unchanged; at a URL, by its size alone."""
        if (folder := self.storage.folder) is None:
            return self.storage.sizes(name.rsplit("/", 1)[0]).get(name) == size
        file = folder / name
        return (
            file.is_file() and file.stat().st_size == size and self.storage.digest(name) == digest
        )

    def publish(self, manifest: bytes, *, keeps_readers: bool = False) -> None:
        """Make the store appear.

        Parameters
        ----------
        keeps_readers : bool
            Whether the files of a store that it replaces stay for as long as they are read.
        """
        self.storage.write(MANIFEST, manifest)
        target, partial = self.target.folder, self.storage.folder
        # Before the store appears: where this is killed, nothing is left beside it.
        self.records.remove("")
        if target is None or partial is None:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_replaced(target, also_read=not keeps_readers)
        old = target.with_name(f".{target.name}.replaced-{secrets.token_hex(4)}")
        replace_folder(partial, target, old)
        flush_folder(target.parent)
        remove_replaced(target, also_read=not keeps_readers)

    def clear(self) -> None:
        """Delete all that was built; the folders themselves stay, as they are locked."""
        for files in (self.storage, self.records):
            if files.folder is None:
                files.remove("")
                continue
            for entry in files.folder.iterdir():
                files.remove(entry.name)

    def remove_left(self) -> None:
        """Delete what a build has left that was killed after its store had appeared."""
        if self.target.folder is not None:
            remove_replaced(self.target.folder, also_read=True)

    def abandon(self) -> None:
        """Delete all that was built, and the folders."""
        self.storage.remove("")
        self.records.remove("")


def has_unfinished_build(path: Path | str) -> bool:
    """Return whether a build was begun and can be gone on with."""
    return StagedStore(open_location(path)).records.has(_FINGERPRINT)


def abandon_build(path: Path) -> None:
    """Delete what an interrupted build has left that nothing can go on with."""
    StagedStore(StoreFiles.of_folder(path)).abandon()


def remove_replaced(target: Path, *, also_read: bool = False) -> None:
    """Remove stores that another one has replaced, but for those that are still read."""
    for old in _replaced(target):
        try:
            with nullcontext() if also_read else locked(old, "it is read"):
                shutil.rmtree(old, ignore_errors=True)
        except StoreExistsError:
            logger.info("'%s' is still read: the next build or compaction removes it", old)
        except FileNotFoundError:
            continue
        else:
            if old.exists():
                logger.warning("the store that was replaced is still there: remove '%s'", old)


def is_being_replaced(target: Path) -> bool:
    """Return whether a store is about to appear under a name."""
    return not target.exists() and bool(_replaced(target))


def _replaced(target: Path, which: str = "*") -> list[Path]:
    found = target.parent.glob(f".{glob.escape(target.name)}.replaced-{which}")
    return sorted(path for path in found if path.is_dir())
