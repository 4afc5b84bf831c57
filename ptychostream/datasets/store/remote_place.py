"""Where a store's files lie on other machines: any URL that fsspec knows."""

from typing import Any

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

    def child(self, name: str) -> "RemotePlace":
        """Return the place of a folder in this one.

        Parameters
        ----------
        name : str
            The folder's name.

        Returns
        -------
        RemotePlace
            The folder, whether it exists or not.
        """
        return RemotePlace(f"{self.url}/{name}")

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a file or a part of it.

        Parameters
        ----------
        name : str
            The file, relative to this place.
        start : int
            First byte.
        length : int, optional
            Bytes; fewer come back where the file ends. None is all that follow.

        Returns
        -------
        bytes
            The content.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        StorageError
            If the place can't be read.
        """
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

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which appears when it is complete.

        Parameters
        ----------
        name : str
            The file, relative to this place.
        data : bytes
            Its content.

        Raises
        ------
        StorageError
            If the place can't be written to.
        """
        path = f"{self._root}/{name}"
        try:
            self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._files.pipe_file(path, data)
        except Exception as error:  # every protocol has errors of its own
            raise StorageError(
                f"could not write '{self.url}/{name}': {error}; check address, credentials and "
                "space"
            ) from error

    def sizes(self, below: str = "") -> dict[str, int]:
        """Measure all files.

        Parameters
        ----------
        below : str
            A folder of this place; empty is the place itself.

        Returns
        -------
        dict
            Size in bytes of every file, by name relative to this place.
        """
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

    def folders(self, below: str) -> list[str]:
        """List the folders in a folder.

        Parameters
        ----------
        below : str
            A folder of this place; it may be absent.

        Returns
        -------
        list of str
            Their names, sorted.
        """
        inside = (name[len(below) + 1 :] for name in self.sizes(below))
        return sorted({name.split("/")[0] for name in inside if "/" in name})

    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; what is absent is no error.

        Parameters
        ----------
        name : str
            Relative to this place; empty is the place itself.
        """
        try:
            self._files.rm(f"{self._root}/{name}".rstrip("/"), recursive=True)
        except FileNotFoundError:
            return

    def zarr_store(self) -> Any:
        """Return the place as zarr takes it, for reading."""
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
