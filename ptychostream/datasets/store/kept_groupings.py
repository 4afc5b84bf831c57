"""Groupings are computed once: they are kept in their store, under what decides them."""

import hashlib
import json
import logging
from typing import Any

import numpy as np

from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store.format import GROUPINGS
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.datasets.store.tables import decoded_table, encoded_tables
from ptychostream.errors import DataContractError, StorageError
from ptychostream.files import check_expansion

logger = logging.getLogger(__name__)

_RECORD = "grouping.json"

#: Bytes of a table at a place that does not tell: no bound.
_UNKNOWN = 2**62


def load_grouping(
    storage: StoreFiles, parameters: GroupingParameters, *, num_patterns: int, grown_to: int
) -> Groups | None:
    """Find a grouping in a store.

    Parameters
    ----------
    num_patterns : int
        Patterns in the store, M.
    grown_to : int
        Patterns in a store that has been appended to; 0 for one as it was built.

    Raises
    ------
    DataContractError
        If the kept table is damaged.
    """
    folder = _folder(parameters, grown_to)
    try:
        # Written last: where it is missing, another process is still keeping the table.
        record: dict[str, Any] = json.loads(storage.read(f"{folder}/{_RECORD}"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(storage, folder, str(error)) from error
    try:
        stored = sum(storage.sizes(folder).values()) if storage.can_list else _UNKNOWN

        def check(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
            size = dtype.itemsize * int(np.prod(shape, dtype=object))
            check_expansion(f"'{storage}': table '{name}'", size, stored)

        table = decoded_table(f"{folder}/nn_indices", storage.read, check)
        expected = record["sha256"]
    except FileNotFoundError:
        # Another process is taking it away, as the store has grown.
        return None
    except (StorageError, MemoryError):
        raise
    except Exception as error:  # damaged metadata raise many kinds
        raise _damaged(storage, folder, str(error)) from error
    if hashlib.sha256(table.data).hexdigest() != expected:
        raise _damaged(storage, folder, "its checksum does not match")
    if table.ndim != 2 or table.dtype.kind not in "iu":
        raise _damaged(storage, folder, f"it is {table.dtype} {list(table.shape)}")
    if table.size and not 0 <= table.min() <= table.max() < num_patterns:
        raise _damaged(storage, folder, "it names patterns that the store does not hold")
    return Groups(nn_indices=table, parameters=parameters)


def keep_grouping(storage: StoreFiles, groups: Groups, *, grown_to: int) -> None:
    """Keep a grouping in its store.

    A store that can't be written to is left as it is. The same grouping of fewer patterns, from
    before the store grew, is removed.

    Parameters
    ----------
    grown_to : int
        Patterns in a store that has been appended to; 0 for one as it was built.
    """
    folder = _folder(groups.parameters, grown_to)
    table = np.ascontiguousarray(groups.nn_indices)
    record = {
        "parameters": groups.parameters.record(),
        "sha256": hashlib.sha256(table.data).hexdigest(),
    }
    try:
        for name, data in encoded_tables({"nn_indices": table}):
            if name.startswith("nn_indices/"):
                storage.clear_left(f"{folder}/{name}")
                storage.write(f"{folder}/{name}", data)
        storage.clear_left(f"{folder}/{_RECORD}")
        storage.write(f"{folder}/{_RECORD}", json.dumps(record, indent=1).encode())
        _remove_outgrown(storage, groups.parameters, grown_to)
    except OSError as error:
        logger.warning("could not keep the grouping in '%s': %s", storage, error)


def _remove_outgrown(storage: StoreFiles, parameters: GroupingParameters, grown_to: int) -> None:
    for name in storage.folders(GROUPINGS):
        key, _, patterns = name.partition("-")
        if key == parameters.key() and int(patterns or 0) < grown_to:
            # Remove grouping.json first, so that readers never see half a table.
            storage.remove(f"{GROUPINGS}/{name}/{_RECORD}")
            storage.remove(f"{GROUPINGS}/{name}")


def _folder(parameters: GroupingParameters, grown_to: int) -> str:
    suffix = f"-{grown_to}" if grown_to else ""
    return f"{GROUPINGS}/{parameters.key()}{suffix}"


def _damaged(storage: StoreFiles, folder: str, reason: str) -> DataContractError:
    return DataContractError(
        f"the grouping in '{storage}/{folder}' is damaged ({reason}); delete this folder, it will "
        "be computed again"
    )
