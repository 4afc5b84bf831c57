import time

import pytest

from ptychostream import cluster as cluster_module
from ptychostream.cluster import connected, run_on_cluster
from ptychostream.errors import ClusterError, ConfigurationError

distributed = pytest.importorskip("distributed", reason="the dask extra is not installed")


@pytest.fixture
def cluster():
    """One worker of one thread, in this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


def _times(factor, number):
    time.sleep(0.02)
    if number < 0:
        raise ConfigurationError("negative")
    return factor * number


def test_every_item_has_its_result_and_an_error_of_a_task_is_raised_as_it_is(cluster):
    with connected(cluster.scheduler_address) as client:
        assert dict(run_on_cluster(client, _times, 3, range(9), then="")) == {
            number: 3 * number for number in range(9)
        }
        with pytest.raises(ConfigurationError, match="negative"):
            list(run_on_cluster(client, _times, 3, [1, -1, 2], then=""))


def test_tasks_wait_for_a_worker_but_not_for_ever_once_all_are_lost(cluster, monkeypatch):
    monkeypatch.setattr(cluster_module, "_LOOK_S", 0.05)
    monkeypatch.setattr(cluster_module, "_PATIENCE_S", 0.3)
    with connected(cluster.scheduler_address) as client:
        results = run_on_cluster(client, _times, 3, range(9), then="go on with --resume")
        next(results)
        cluster.scale(0)
        with pytest.raises(ClusterError, match="lost all its workers.* go on with --resume"):
            list(results)
        results = run_on_cluster(client, _times, 3, [1], then="")
        cluster.scale(1)
        assert list(results) == [(1, 3)]
