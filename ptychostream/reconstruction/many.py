"""Reconstruct many experiments of a store: one after the other here, or by workers."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from ptychostream.cluster import connected, run_on_cluster
from ptychostream.datasets.store import GroupStore, open_group_store
from ptychostream.errors import (
    ConfigurationError,
    PtychoStreamError,
    StorageError,
    StoreExistsError,
)
from ptychostream.locks import owned
from ptychostream.reconstruction.basis import MODEL, PATTERNS, basis_of
from ptychostream.reconstruction.summary import (
    Row,
    folder_of,
    record_of,
    row_of_failure,
    row_of_result,
)
from ptychostream.reconstruction.write import Asked, write_reconstruction
from ptychostream.solver.ranks import Ranks

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle

logger = logging.getLogger(__name__)

#: What a worker writes about an experiment, beside its result.
LOG = "reconstruct.log"

#: A process reconstructs one experiment at a time: drawing is not made for several threads.
_TURN = Lock()


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a worker opens once, for all of its experiments.

    Attributes
    ----------
    store : str
        The store's address, which must be the same for all workers.
    identity : str
        Digest of its files: that of another worker must be the same store.
    cache, cache_limit : Path or None, str
        Where a remote store's files are kept.
    model_path : Path, optional
        Folder of the trained model.
    """

    store: str
    identity: str
    cache: Path | None
    cache_limit: str
    model_path: Path | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """What all experiments have in common: the source, what is asked, and the folder above all."""

    source: Source
    asked: Asked
    out: Path


def pending_experiments(
    experiments: Sequence[int],
    store: GroupStore,
    asked: Asked,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
) -> tuple[list[int], list[Row]]:
    """Return the experiments to reconstruct, and the lines of those that have a result.

    Where patterns were added or changed since, an experiment is reconstructed again.

    Raises
    ------
    StoreExistsError
        If there are results, and neither `resume` nor `overwrite` says what to do with them.
    ConfigurationError
        If `resume` finds results of other options.
    """
    pending, rows, names = [], [], store.experiment_names
    for experiment in experiments:
        folder = folder_of(out, experiment)
        row = row_of_result(experiment, names[experiment], folder) if resume else None
        if row is not None and _is_of_same_basis(asked, store, experiment, folder):
            rows.append(row)
            continue
        if not (resume or overwrite) and (folder / "object.npz").exists():
            raise StoreExistsError(
                f"'{folder}' holds a result already; add --overwrite, or --resume to leave out "
                "what is there, or choose another folder"
            )
        pending.append(experiment)
    return pending, rows


def _is_of_same_basis(asked: Asked, store: GroupStore, experiment: int, folder: Path) -> bool:
    """Return whether a result is of these patterns; that of other options is refused."""
    kept = (record_of(folder) or {}).get("basis")
    if not isinstance(kept, dict):
        logger.warning(
            "'%s' does not say with which options it was made; it is taken for a result of these",
            folder,
        )
        return True
    wanted = basis_of(asked.arguments, asked.model, store, experiment)
    others = sorted(key for key in {*kept, *wanted} if kept.get(key) != wanted.get(key))
    options = [key for key in others if key not in (PATTERNS, MODEL)]
    if options:
        listed = ", ".join(f"{key} was {kept.get(key)} and is {wanted.get(key)}" for key in options)
        raise ConfigurationError(
            f"'{folder}' holds a result of other options: {listed}; --resume goes on with those of "
            "before, --overwrite in its place makes all results anew, or choose another folder"
        )
    if MODEL in others:
        raise ConfigurationError(
            f"'{folder}' holds a result of another network, or of none; --resume goes on with the "
            "same, --overwrite in its place makes all results anew, or choose another folder"
        )
    if others:
        logger.warning(
            "experiment %d has other patterns than when its result was made: it is made anew",
            experiment,
        )
    return not others


def reconstruct_here(
    task: Task,
    experiments: Sequence[int],
    store: GroupStore,
    bundle: "ModelBundle | None",
    *,
    ranks: Ranks | None = None,
) -> Iterator[Row]:
    """Reconstruct experiments one after the other, and yield the line of each.

    An experiment that fails has a line that says so, and the next one follows.

    Raises
    ------
    KeyboardInterrupt
        If it was stopped: the result of the last experiment is partial.
    """
    for experiment in experiments:
        if ranks is None or ranks.size == 1:
            yield _row(task, experiment, store, bundle)
        else:
            # Where one of several processes fails the others would wait for it: all end.
            yield _reconstructed(task, experiment, store, bundle, ranks)


def reconstruct_by_workers(
    task: Task, experiments: Sequence[int], cluster: int | str
) -> Iterator[Row]:
    """Reconstruct experiments by workers on this machine, or of a dask cluster.

    Each worker is a process that imports, and opens store and model, once, and computes in one
    thread, so that results are the same whatever the number of workers. An experiment whose
    worker dies is given to another one.

    Parameters
    ----------
    cluster : int or str
        The number of processes to start, or the address of a dask scheduler, whose workers reach
        store, model and results under the same names.

    Raises
    ------
    ConfigurationError
        If dask.distributed is not installed, or the scheduler does not answer.
    ClusterError
        If the cluster is lost; results that were written stay.
    """
    with connected(cluster) as client:
        rows = run_on_cluster(
            client,
            _by_worker,
            task,
            experiments,
            then="go on with --resume",
            on_killed=lambda experiment, message: row_of_failure(experiment, "", message),
        )
        for _, row in rows:
            yield row


def _by_worker(task: Task, experiment: int) -> Row:
    """Reconstruct an experiment in a worker."""
    with _TURN:
        # Sums over several threads are added in another order.
        torch.set_num_threads(1)
        folder = folder_of(task.out, experiment)
        try:
            store, bundle = _opened(task.source)
            folder.mkdir(parents=True, exist_ok=True)
            with owned(folder, f"'{folder}' is being written to by another process"), _log(folder):
                return _row(task, experiment, store, bundle)
        except (PtychoStreamError, OSError) as error:
            return row_of_failure(experiment, "", str(error))


@lru_cache(maxsize=1)
def _opened(source: Source) -> tuple[GroupStore, "ModelBundle | None"]:
    store = open_group_store(
        source.store, cache_folder=source.cache, cache_limit=source.cache_limit
    )
    if store.identity != source.identity:
        raise StorageError(
            f"'{source.store}' is not the same store for the worker, or changed meanwhile; let "
            "all workers reach the same one"
        )
    if source.model_path is None:
        return store, None
    from ptychostream.persistence import load_bundle

    return store, load_bundle(source.model_path)


@contextmanager
def _log(folder: Path) -> Iterator[None]:
    """Write the log of an experiment beside its result."""
    ours = logging.getLogger("ptychostream")
    handler = logging.FileHandler(folder / LOG, mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        handler.close()


def _row(task: Task, experiment: int, store: GroupStore, bundle: "ModelBundle | None") -> Row:
    """Reconstruct an experiment; where it fails, its line says why."""
    try:
        return _reconstructed(task, experiment, store, bundle)
    except PtychoStreamError as error:
        logger.warning("experiment %d failed: %s", experiment, error)
        return row_of_failure(experiment, "", str(error))


def _reconstructed(
    task: Task,
    experiment: int,
    store: GroupStore,
    bundle: "ModelBundle | None",
    ranks: Ranks | None = None,
) -> Row:
    folder = folder_of(task.out, experiment)
    result, _ = write_reconstruction(task.asked, store, bundle, [experiment], folder, ranks=ranks)
    if result.is_partial:
        raise KeyboardInterrupt(f"the result in {folder} is partial")
    if ranks is not None and ranks.number:
        return {"experiment": experiment, "name": "", "warnings": ""}
    row = row_of_result(experiment, "", folder)
    if row is None:
        raise StorageError(f"the result in '{folder}' was changed by another process")
    return row


def with_name(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """Return a line with the name of its experiment."""
    return {**row, "name": names[row["experiment"]]}
