"""Write a build's shards as tasks on a dask.distributed cluster."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ptychostream.datasets.store.shard_writer import ShardJob, ShardRecord
from ptychostream.errors import ConfigurationError


@contextmanager
def connected(cluster: Any) -> Iterator[Any]:
    """Connect to a cluster while the context lasts.

    Raises
    ------
    ConfigurationError
        If dask.distributed is not installed, or the scheduler does not answer.
    """
    if cluster is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigurationError(
            "building on a cluster needs dask.distributed; install ptychostream[dask]"
        ) from error
    if isinstance(cluster, Client):
        yield cluster
        return
    try:
        client = Client(cluster, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"no dask scheduler answers at {cluster!r}: {error}; start one, or build without "
            "a cluster"
        ) from error
    with client:
        yield client


def write_on_cluster(
    client: Any, job: ShardJob, pending: list[int]
) -> Iterator[tuple[int, ShardRecord]]:
    """Write shards on a cluster, one per thread of each worker at a time.

    Yields
    ------
    (int, ShardRecord)
        Each shard, as soon as it is written.
    """
    from distributed import as_completed, wait

    # Once per worker, not once per shard: the tables of a large scan are megabytes.
    there = client.scatter(job, broadcast=True, hash=False)
    waiting = deque(pending)
    running: dict[Any, int] = {}
    done = as_completed()
    try:
        while waiting or running:
            # Workers may come and go; one shard waits for each thread, so that none is idle.
            slots = 2 * max(sum(client.nthreads().values()), 1)
            while waiting and len(running) < slots:
                shard = waiting.popleft()
                task = client.submit(_write, there, shard, pure=False)
                running[task] = shard
                done.add(task)
            task = next(done)
            yield running.pop(task), task.result()
    finally:
        # Tasks that still run would write into a folder that is being cleared. A cluster that has
        # ended raises an error here, and writes nothing.
        with suppress(Exception):
            wait(list(running), timeout=60)


def _write(job: ShardJob, shard: int) -> ShardRecord:
    return job.write(shard)
