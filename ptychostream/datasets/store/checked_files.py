"""Files of a segment that are read whole and compared with its manifest, a few at a time."""

import hashlib

from ptychostream.datasets.store.manifest import Files
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.errors import DataContractError

#: Bytes that are read together: all tables of a million patterns.
_TOGETHER = 2**26


class CheckedFiles:
    """Files that are read in one order, whose bytes are held only until others are needed.

    Parameters
    ----------
    files : dict
        The files to read, with their sizes and digests.
    """

    def __init__(self, storage: StoreFiles, files: Files) -> None:
        self._storage, self._files = storage, files
        self._number = {}
        self._batches: list[list[str]] = []
        is_small = sum(size for size, _ in files.values()) <= _TOGETHER
        # Metadata stay: each table asks for its own.
        kept = [name for name in files if is_small or name.endswith("zarr.json")]
        self._kept = self._checked(kept)
        room = 0
        for name in sorted(files.keys() - self._kept.keys(), key=_order):
            if files[name][0] > room:
                self._batches.append([])
                room = _TOGETHER
            room -= files[name][0]
            self._batches[-1].append(name)
            self._number[name] = len(self._batches) - 1
        self._read = -1
        self._content: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        DataContractError
            If it has changed, or one that is read together with it.
        """
        if name in self._kept:
            return self._kept[name]
        if name not in self._number:
            raise FileNotFoundError(name)
        number = self._number[name]
        if number != self._read:
            self._content = {}
            self._content, self._read = self._checked(self._batches[number]), number
        return self._content[name]

    def _checked(self, names: list[str]) -> dict[str, bytes]:
        content = self._storage.read_together({name: self._files[name][1] for name in names})
        changed = [
            name
            for name, data in content.items()
            if hashlib.sha256(data).hexdigest() != self._files[name][1]
        ]
        if changed:
            raise changed_files(self._storage, *changed)
        return content


def changed_files(storage: StoreFiles, *names: str) -> DataContractError:
    """Make the error that names files which are not what the manifest says."""
    return DataContractError(
        f"store '{storage}' is damaged: {', '.join(map(repr, names))} changed; copy or build the "
        "store again"
    )


def _order(name: str) -> tuple[str, list[int]]:
    """Sort chunks by their tables and numbers, as `decoded_table` reads them."""
    table, _, chunk = name.partition("/c/")
    return table, [int(part) if part.isdecimal() else -1 for part in chunk.split("/")]
