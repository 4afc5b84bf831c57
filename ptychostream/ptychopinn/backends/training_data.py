"""What callers pass as data, made into stores that the PyTorch backend trains on."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptychostream.datasets.store import GroupStore, build_group_store, open_group_store
from ptychostream.errors import DataContractError
from ptychostream.ptychopinn.raw_data import RawDataTorch
from ptychostream.scan import Scan


@contextmanager
def as_store(data: Any) -> Iterator[GroupStore]:
    """Make a store of whatever data a caller has.

    Parameters
    ----------
    data : RawDataTorch, GroupStore, Scan, or a path to a store or scan file
        The data; anything that is not a store yet becomes one in a scratch folder.

    Raises
    ------
    DataContractError
        If the data are of another kind.
    """
    if isinstance(data, str | Path) and Path(data).is_dir():
        data = open_group_store(data)
    if isinstance(data, GroupStore):
        yield data
        return
    raw = _raw_data(data)
    if raw.store is not None:
        yield raw.store
        return
    with tempfile.TemporaryDirectory(prefix="ptychostream-") as folder:
        yield build_group_store(raw.scan, Path(folder) / "data.zarr", progress=False)


def _raw_data(data: Any) -> RawDataTorch:
    if isinstance(data, str | Path):
        return RawDataTorch.from_file(data)
    if isinstance(data, Scan):
        return RawDataTorch.from_scan(data)
    if isinstance(data, RawDataTorch):
        return data
    raise DataContractError(
        f"the data are a {type(data).__name__}; pass a RawDataTorch, a store, a scan or a path"
    )
