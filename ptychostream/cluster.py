"""Run independent tasks on a dask.distributed cluster, whose workers may come and go."""

import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ptychostream.errors import ClusterError, ConfigurationError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

#: Seconds between two looks for workers while no task ends, and without any worker, where there
#: was one, before the tasks are given up.
_LOOK_S, _PATIENCE_S = 2.0, 60.0

#: Seconds that a scheduler may take to answer at first.
_CONNECT_S = 10.0

#: What a lost connection raises.
_LOST = (OSError, CancelledError, TimeoutError)


@contextmanager
def connected(cluster: Any) -> Iterator[Any]:
    """Connect to a cluster while the context lasts.

    `cluster`: a client, the address of a scheduler, or the number of processes to start on this
        machine; None yields None.
    """
    if cluster is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigurationError(
            "several workers need dask.distributed; install ptychostream[dask]"
        ) from error
    if isinstance(cluster, Client):
        yield cluster
        return
    with ExitStack() as stack:
        if isinstance(cluster, int):
            cluster = stack.enter_context(_started(cluster))
        try:
            client = Client(cluster, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"no dask scheduler answers at {cluster!r}: {error}; start one, or go on without "
                "a cluster"
            ) from error
        yield stack.enter_context(client)


@contextmanager
def _started(number: int) -> Iterator[Any]:
    """Start workers on this machine, a process of one thread each."""
    from distributed import LocalCluster

    # Memory is bounded by our own budgets: dask would end workers at a part of the machine's.
    with (
        tempfile.TemporaryDirectory(prefix="ptychostream-dask-") as folder,
        LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            local_directory=folder,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


def run_on_cluster(
    client: Any,
    function: Callable[[Any, Item], Any],
    shared: Any,
    items: Iterable[Item],
    *,
    then: str,
    scatters: bool = False,
    waits: bool = False,
    on_killed: Callable[[Item, str], Any] | None = None,
) -> Iterator[tuple[Item, Any]]:
    """Call `function(shared, item)` for every item on a cluster, and yield results as they come.

    The tasks of a worker that dies are given to others.

    `shared`: what all tasks have in common.
    `then`: what to do once the cluster is gone, for the message.
    `scatters`: whether `shared` is large: each worker then gets it once, and not with each task.
    `waits`: whether to wait, where this ends early, for tasks that run already: they can't be
        stopped.
    `on_killed`: makes the result of an item whose every worker died, from the item and a message;
        without it that is an error.
    """
    waiting = deque(items)
    running: dict[Any, Item] = {}
    ended: SimpleQueue[Any] = SimpleQueue()
    workers = _Workers(client)
    try:
        if scatters:
            shared = workers.scattered(shared)
        while waiting or running:
            # Workers may come and go; one task waits for each thread, so that none is idle.
            slots = 2 * workers.threads()
            while waiting and len(running) < slots:
                task = workers.submit(function, shared, waiting[0])
                running[task] = waiting.popleft()
                task.add_done_callback(ended.put)
            try:
                task = ended.get(timeout=_LOOK_S)
            except Empty:
                continue
            item = running.pop(task)
            yield item, _result(task, item, on_killed)
    except _Gone as error:
        running.clear()
        raise ClusterError(f"{error}; start one, then {then}") from error
    finally:
        with suppress(Exception):
            _end(client, list(running), waits=waits)


class _Gone(Exception):
    """The scheduler, or every worker, can't be reached any more."""


class _Workers:
    """The workers of a cluster, as often as they are asked for."""

    def __init__(self, client: Any) -> None:
        self._client, self._seen, self._is_said = client, 0.0, False
        self._name = f"the dask scheduler at {client.scheduler.address}"

    def scattered(self, value: Any) -> Any:
        """Give every worker a value; returns what stands for it in a task."""
        with self._answering():
            return self._client.scatter(value, broadcast=True, hash=False)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Add a task."""
        with self._answering():
            return self._client.submit(function, *arguments, pure=False)

    def threads(self) -> int:
        """Return the number of threads; at least one, which then waits for a worker to come."""
        with self._answering():
            number = sum(self._client.nthreads().values())
        now = time.monotonic()
        if number:
            self._seen, self._is_said = now, False
            return number
        if self._seen and now - self._seen > _PATIENCE_S:
            raise _Gone(f"{self._name} has lost all its workers")
        if not self._is_said:
            logger.warning("%s has no worker: waiting for one", self._name)
            self._is_said = True
        return 1

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what a lost scheduler raises into one error."""
        try:
            yield
        except Exception as error:  # of any kind, once the connection is gone
            if isinstance(error, _LOST) or self._client.status != "running":
                raise _Gone(f"{self._name} has no worker, or does not answer any more") from error
            raise


def _result(task: Any, item: Item, on_killed: Callable[[Item, str], Any] | None) -> Any:
    """Return what a task returned, or raise what it raised."""
    from distributed import KilledWorker

    if task.status not in ("finished", "error"):
        raise _Gone("the dask scheduler, or all of its workers, are gone")
    if task.status == "error":
        error = task.exception()
        if not isinstance(error, KilledWorker):
            raise error
        message = (
            f"each dask worker that took task {item} died, which often means that its memory was "
            "used up"
        )
        if on_killed is None:
            raise _Gone(message) from error
        return on_killed(item, message)
    try:
        return task.result()
    except _LOST as error:
        raise _Gone("the dask scheduler does not answer any more") from error


def _end(client: Any, tasks: list[Any], *, waits: bool) -> None:
    """Drop the tasks that are left; those that run go on, and may be waited for."""
    if waits:
        from distributed import wait

        wait(tasks, timeout=60)
    else:
        client.cancel(tasks)
