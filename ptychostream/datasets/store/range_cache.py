"""Parts of remote files, kept in a folder of this machine within a limit."""

import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import google_crc32c

logger = logging.getLogger(__name__)

_CRC_BYTES = 4


class RangeCache:
    """Keep what was fetched; what was not used for longest is removed first.

    Parts are named by the digest of the file that they belong to, so that a store that takes
    another's name is never read from them. Several processes may share a folder.

    Parameters
    ----------
    folder : Path
        Where the parts lie; it is made.
    limit : int
        Bytes that they may take.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._lock = Lock()
        self._used: int | None = None

    def get(self, key: str, fetch: Callable[[], bytes]) -> bytes:
        """Return a part, fetched if it is not there or damaged."""
        file = self.folder / hashlib.sha256(key.encode()).hexdigest()[:32]
        try:
            kept = file.read_bytes()
            if kept[-_CRC_BYTES:] == _checksum(kept[:-_CRC_BYTES]):
                os.utime(file)
                return kept[:-_CRC_BYTES]
        except OSError:
            pass
        data = fetch()
        try:
            self._keep(file, data + _checksum(data))
        except OSError as error:
            logger.warning("could not keep a part in '%s': %s", self.folder, error)
        return data

    def _keep(self, file: Path, data: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        try:
            # Not synced to the disk: a part that is cut short fails its checksum.
            partial.write_bytes(data)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        with self._lock:
            if self._used is not None:
                self._used += len(data)
            if self._used is None or self._used > self.limit:
                self._used = self._trim()

    def _trim(self) -> int:
        """Remove the oldest parts beyond the limit; returns the bytes that are left."""
        found = []
        for path in self.folder.iterdir():
            try:
                state = path.stat()
            except FileNotFoundError:  # another process has removed it
                continue
            found.append((state.st_mtime_ns, state.st_size, path))
        used = sum(size for _, size, _ in found)
        if used > self.limit:
            for _, size, path in sorted(found):
                path.unlink(missing_ok=True)
                used -= size
                # Trim below the limit, so that the next part does not trim again.
                if used <= 0.9 * self.limit:
                    break
        return used


def _checksum(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CRC_BYTES, "little")
