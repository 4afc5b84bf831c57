"""Where a store's files lie on other machines: any URL that fsspec knows."""

from typing import Any

from typing_extensions import override

from ptychostream.datasets.store.places import Place
from ptychostream.errors import ConfigurationError, StorageError


class RemotePlace(Place):
    """A folder in an object store or on another machine.

    Parameters
    ----------
    url : str
        Any URL of fsspec, say `s3://bucket/scan.zarr`; its options come from fsspec's own
        configuration and from the environment.

    Raises
    ------
    ConfigurationError
        If the protocol is unknown, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"'{url}' can't be opened: {error}; for S3, install ptychostream[s3]"
            ) from error

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["url"])  # type: ignore[misc]

    @override
    def child(self, name: str) -> "RemotePlace":
        return RemotePlace(f"{self.url}/{name}")

    @override
    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        path = f"{self._root}/{name}"
        try:
            stop = None if length is None else start + length
            data: bytes = self._files.cat_file(path, start=start or None, end=stop)
        except FileNotFoundError:
            raise
        except Exception as error:  # every protocol has errors of its own
            if self._begins_beyond(path, start):
                return b""
            raise self._unreachable(error) from error
        return data

    @override
    def write(self, name: str, data: bytes) -> None:
        path = f"{self._root}/{name}"
        try:
            self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._files.pipe_file(path, data)
        except Exception as error:  # every protocol has errors of its own
            raise StorageError(
                f"could not write '{self.url}/{name}': {error}; check address, credentials and "
                "space"
            ) from error

    @override
    def sizes(self, below: str = "") -> dict[str, int]:
        root = f"{self._root}/{below}".rstrip("/")
        try:
            self._files.invalidate_cache()
            found = self._files.find(root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # every protocol has errors of its own
            raise self._unreachable(error) from error
        skip = len(self._root.rstrip("/")) + 1
        return {name[skip:]: int(entry["size"]) for name, entry in found.items()}

    @override
    def folders(self, below: str) -> list[str]:
        inside = (name[len(below) + 1 :] for name in self.sizes(below))
        return sorted({name.split("/")[0] for name in inside if "/" in name})

    @override
    def remove(self, name: str) -> None:
        try:
            self._files.rm(f"{self._root}/{name}".rstrip("/"), recursive=True)
        except FileNotFoundError:
            return

    @override
    def zarr_store(self) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(self.url, read_only=True)

    def _begins_beyond(self, path: str, start: int) -> bool:
        """Say whether a reading failed because it begins at the file's end or behind it."""
        if not start:
            return False
        try:
            return int(self._files.info(path)["size"]) <= start
        except Exception:
            return False

    def _unreachable(self, error: Exception) -> StorageError:
        return StorageError(
            f"'{self.url}' can't be read: {error}; check address, credentials and network"
        )
