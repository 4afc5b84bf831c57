"""One immutable block of a store: its patterns with their tables, behind a manifest."""

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.large_tables import blocks_of
from ptychostream.datasets.store.attributes import check_attributes
from ptychostream.datasets.store.checked_files import CheckedFiles, changed_files
from ptychostream.datasets.store.format import ATTRIBUTES, DIFFRACTION
from ptychostream.datasets.store.manifest import (
    Files,
    check_digests,
    check_sizes,
    read_manifest,
)
from ptychostream.datasets.store.pattern_array import PatternArray
from ptychostream.datasets.store.shards import ShardReader, index_length, shard_file
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.datasets.store.table_forms import TableForms, check_values, inverse_permutation
from ptychostream.datasets.store.tables import decoded_table
from ptychostream.errors import DataContractError, StorageError


@dataclass(frozen=True, eq=False, kw_only=True)
class Segment:
    """Patterns that were written together: those of a build, or of one appending.

    Attributes
    ----------
    tables : dict of str to array
        What was measured at each pattern, in acquisition order, and whatever else the folder
        holds besides the patterns; objects are read when asked for.
    blocks : (int, int)
        First and last of the appended blocks that it holds; 0, 0 is what was built.
    storage_rows : (M,) int64
        Where each acquisition row lies in the array of patterns.
    shards : ShardReader or None
        Decodes them; None where zarr has to.
    """

    storage: StoreFiles
    blocks: tuple[int, int]
    files: Files
    attributes: dict[str, Any]
    tables: dict[str, NDArray[Any]]
    storage_rows: NDArray[np.int64]
    array: PatternArray
    shards: ShardReader | None

    @property
    def num_patterns(self) -> int:
        """Number of patterns."""
        return len(self.tables["positions"])

    @property
    def patterns_per_chunk(self) -> int:
        """Patterns that are decoded together."""
        return int(self.attributes["patterns_per_chunk"])

    @property
    def begun(self) -> list[int]:
        """Experiments that begin with it."""
        return list(self.attributes.get("begun", ()))

    @property
    def sources(self) -> list[Any]:
        """Where appended blocks came from."""
        own = self.attributes
        # Segments of 0.1 hold one block.
        return list(own["sources"]) if "sources" in own else [own["provenance"]]

    @property
    def num_chunks(self) -> int:
        """Chunks that hold the patterns; the last one may not be full."""
        return -(-self.num_patterns // self.patterns_per_chunk)

    def read_chunk(
        self,
        chunk: int,
        out: NDArray[Any],
        decoding: AbstractContextManager[Any] | None = None,
    ) -> None:
        """Decode one chunk of the segment; see `StoredChunks.read_chunk`."""
        if self.shards is not None:
            self.shards.read_into(chunk, out, decoding)
            return
        start = chunk * self.patterns_per_chunk
        stop = min(start + self.patterns_per_chunk, self.num_patterns)
        try:
            out[: stop - start] = self.array.read_by_zarr(start, stop)
        except (StorageError, MemoryError):
            raise
        except Exception as error:  # zarr's codecs raise many kinds
            raise DataContractError(
                f"store '{self.storage}' is damaged: chunk {chunk} of the patterns can't be "
                f"decoded ({error}); run `ptychostream verify`, then copy or build the store again"
            ) from error

    def object_guess(self, experiment: int) -> NDArray[np.complex64] | None:
        """Read the object (H, W) of an experiment, None where it has none here."""
        name = f"object_guess/{experiment}"
        if f"{name}/zarr.json" not in self.files:
            return None

        def read(file: str) -> bytes:
            if file not in self.files:
                raise FileNotFoundError(file)
            data = self.storage.read(file)
            if hashlib.sha256(data).hexdigest() != self.files[file][1]:
                raise changed_files(self.storage, file)
            return data

        stored = sum(size for size, _ in self.files.values())
        forms = TableForms(str(self.storage), self.array, stored)
        try:
            return decoded_table(name, read, forms.check)
        except (DataContractError, StorageError, MemoryError):
            raise
        except Exception as error:  # damaged metadata raise many kinds
            raise DataContractError(
                f"store '{self.storage}' is damaged: '{name}': {error}; run `ptychostream verify`"
            ) from error

    def damage(self) -> list[str]:
        """Read every file and compare it with the manifest.

        Raises
        ------
        DataContractError
            If a file is missing, truncated or grown.
        """
        check_sizes(self.storage, self.files)
        return [self._locate(name) for name in check_digests(self.storage, self.files)]

    def _locate(self, name: str) -> str:
        if not name.startswith(f"{DIFFRACTION}/c/"):
            return f"file '{name}' has changed"
        per_shard = self.array.shards[0] // self.patterns_per_chunk
        first = int(name.split("/")[2]) * per_shard
        decoded = np.empty((self.patterns_per_chunk, *self.array.shape[1:]), self.array.dtype)
        for chunk in range(first, min(first + per_shard, self.num_chunks)):
            try:
                self.read_chunk(chunk, decoded)
            except DataContractError:
                return f"chunk {chunk} in file '{name}' has changed"
        return f"the shard index of file '{name}' has changed"


def open_segment(
    storage: StoreFiles, *, blocks: tuple[int, int] = (0, 0), present: dict[str, int] | None = None
) -> Segment:
    """Open a segment; its tables are read and checked, its patterns stay where they are.

    Parameters
    ----------
    blocks : (int, int)
        First and last of the appended blocks that it holds; 0, 0 is what was built.
    present : dict, optional
        Its files with their sizes, where they are known.

    Raises
    ------
    DataContractError
        If it is incomplete, a file is missing or truncated, a table has changed, or a newer
        version wrote it.
    """
    storage.hold()
    files = read_manifest(storage)
    check_sizes(storage, files, present)
    shards = f"{DIFFRACTION}/c/"
    # Tables are read whole now, so they can be checked whole; patterns when they are read.
    small = {name: entry for name, entry in files.items() if not name.startswith(shards)}
    read = CheckedFiles(storage, small).read
    members = {name.split("/")[0] for name in files if "/" in name}
    label = str(storage)
    try:
        attributes: Any = json.loads(read("zarr.json"))["attributes"][ATTRIBUTES]
        check_attributes(label, attributes, is_appended=blocks != (0, 0))
        array = PatternArray(storage, json.loads(read(f"{DIFFRACTION}/zarr.json")))
        forms = TableForms(label, array, sum(size for size, _ in files.values()))
        names = sorted(members - {DIFFRACTION, "object_guess"})
        tables = {name: decoded_table(name, read, forms.check) for name in names}
        _check_experiments(label, attributes, forms.sizes)
        check_values(label, tables)
        storage_rows = inverse_permutation(label, tables.pop("storage_order"))
        _compact(tables)
        for table in (storage_rows, *(tables[n] for n in tables.keys() - {"probe", "bad_pixels"})):
            # Read-only: later snapshots of a growing store share them.
            table.flags.writeable = False
        sizes = {name: size for name, (size, _) in files.items() if name.startswith(shards)}
        expected = -(-array.shape[0] // array.shards[0])
        is_short = min(sizes.values(), default=0) < index_length(array)
    except (DataContractError, StorageError, MemoryError):
        raise
    except Exception as error:  # damaged metadata raise many kinds
        raise DataContractError(
            f"store '{storage}' is damaged: {error}; run `ptychostream verify`"
        ) from error
    if len(sizes) != expected or shard_file(0) not in sizes or is_short:
        raise DataContractError(
            f"store '{storage}' is damaged: its manifest lists {len(sizes)} files of patterns for "
            f"{array.shape[0]} patterns; build the store again"
        )
    return Segment(
        storage=storage,
        blocks=blocks,
        files=files,
        attributes=attributes,
        tables=tables,
        storage_rows=storage_rows,
        array=array,
        shards=ShardReader.for_array(sizes, array, {name: files[name][1] for name in sizes}),
    )


def _compact(tables: dict[str, NDArray[Any]]) -> None:
    """Keep what is the same for all patterns, or twice the same, in memory once."""
    experiments = tables.get("experiment_id")
    if experiments is not None and len(experiments) and experiments.min() == experiments.max():
        tables["experiment_id"] = np.broadcast_to(experiments[0], experiments.shape)
    positions, start = tables["positions"], tables.get("positions_start")
    if start is None or all(
        np.array_equal(positions[rows], start[rows]) for rows in blocks_of(len(positions))
    ):
        tables["positions_start"] = positions


def _check_experiments(label: str, attributes: dict[str, Any], sizes: dict[str, int]) -> None:
    """Compare the record of each experiment with the probes, and chunks with what is declared."""
    modes = attributes.get("probe_modes", [])
    if len(modes) != sizes.get("E", 0) or max(modes, default=0) > sizes.get("P", 0):
        raise DataContractError(
            f"store '{label}' is damaged: its attribute 'probe_modes' is {modes}, but it holds "
            f"{sizes.get('E', 0)} probes of {sizes.get('P', 0)} modes; copy or build it again"
        )
