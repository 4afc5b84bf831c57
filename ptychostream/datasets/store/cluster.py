"""Write a build's shards as tasks on a dask.distributed cluster."""

from collections.abc import Callable, Iterator
from typing import Any

from ptychostream.datasets.store.shard_writer import ShardJob, ShardRecord
from ptychostream.errors import ConfigurationError


def writing_on(
    cluster: Any,
) -> Callable[[ShardJob, list[int], int], Iterator[tuple[int, ShardRecord]]]:
    """Return a function that writes shards on a cluster.

    Parameters
    ----------
    cluster : distributed.Client or str
        The cluster, or its scheduler's address.

    Returns
    -------
    callable
        Takes a job, the shards to write and a budget, and yields each shard with its record as
        soon as it is written. Each worker holds one shard per thread: the budget is the cluster's.

    Raises
    ------
    ConfigurationError
        If dask.distributed is not installed, or the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigurationError(
            "building on a cluster needs dask.distributed; install ptychostream[dask]"
        ) from error

    def write(job: ShardJob, pending: list[int], budget: int) -> Iterator[tuple[int, ShardRecord]]:
        from distributed import as_completed

        own = not isinstance(cluster, Client)
        try:
            client = Client(cluster, timeout="10s") if own else cluster
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"no dask scheduler answers at {cluster!r}: {error}; start one, or build without "
                "a cluster"
            ) from error
        try:
            # Once per worker, not once per shard: the tables of a large scan are megabytes.
            there = client.scatter(job, broadcast=True, hash=False)
            tasks = {client.submit(_write, there, shard, pure=False): shard for shard in pending}
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        finally:
            if own:
                client.close()

    return write


def _write(job: ShardJob, shard: int) -> ShardRecord:
    return job.write(shard)
