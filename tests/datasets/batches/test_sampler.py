import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptychostream.datasets.batches.sampler import plan_epoch
from ptychostream.errors import ConfigurationError


def _chunks(seed: int, groups: int, num_chunks: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    seeds = rng.integers(num_chunks, size=groups)
    near = seeds[:, None] + rng.integers(-1, 2, (groups, 3))
    return np.concatenate([seeds[:, None], near], axis=1).clip(0, num_chunks - 1)


@given(
    seed=st.integers(0, 2**31),
    groups=st.integers(1, 90),
    num_chunks=st.integers(1, 40),
    batch_size=st.integers(1, 20),
    window=st.integers(1, 12),
    world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    order=st.sampled_from(["shuffled", "table", "storage"]),
)
@settings(max_examples=150, deadline=None)
def test_each_group_is_served_once_per_epoch_in_equal_numbers_of_batches(
    seed, groups, num_chunks, batch_size, window, world_size, epoch, order
):
    chunks = _chunks(seed, groups, num_chunks)
    plan = plan_epoch(
        chunks,
        num_chunks,
        batch_size=batch_size,
        order=order,
        window_chunks=window,
        seed=seed,
        epoch=epoch,
    )
    if groups < world_size:
        with pytest.raises(ConfigurationError, match="cannot be shared"):
            plan.batch_sizes(0, world_size)
        return
    served, numbers = [], set()
    for rank in range(world_size):
        sizes = plan.batch_sizes(rank, world_size)
        share = np.concatenate([w.groups for w in plan.share(rank, world_size)])
        assert sum(sizes) == len(share)
        assert min(sizes) >= 1
        assert max(sizes) <= batch_size + (world_size > 1)
        numbers.add(len(sizes))
        served += share.tolist()
        for part in plan.share(rank, world_size):
            assert set(chunks[part.groups].ravel()) <= set(part.chunks.tolist())
    assert sorted(served) == list(range(groups))
    assert len(numbers) == 1


def test_the_table_order_is_the_tables():
    plan = plan_epoch(_chunks(0, 300, 20), 20, batch_size=7, order="table", window_chunks=4)
    order = np.concatenate([window.groups for window in plan.windows])
    assert order.tolist() == list(range(300))


def test_an_epoch_is_a_pure_function_and_epochs_differ():
    def order(epoch):
        plan = plan_epoch(
            _chunks(0, 300, 40),
            40,
            batch_size=7,
            order="shuffled",
            window_chunks=20,
            seed=1,
            epoch=epoch,
        )
        return np.concatenate([window.groups for window in plan.windows]).tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_windows_keep_to_their_size():
    plan = plan_epoch(_chunks(0, 2000, 200), 200, batch_size=8, order="shuffled", window_chunks=24)
    assert max(len(window.chunks) for window in plan.windows) <= 24
    read = sum(len(window.chunks) for window in plan.windows)
    # Runs of chunks share their neighbours: far fewer reads than one chunk at a time.
    assert read < 1.6 * 200


def test_last_batches_can_be_dropped():
    plan = plan_epoch(
        _chunks(0, 23, 4), 4, batch_size=5, order="table", window_chunks=9, drop_last=True
    )
    assert plan.batch_sizes(0, 2) == plan.batch_sizes(1, 2) == [5, 5]


def test_no_groups_and_no_batch_are_refused():
    with pytest.raises(ConfigurationError, match="batch_size=0"):
        plan_epoch(_chunks(0, 3, 2), 2, batch_size=0, order="table", window_chunks=2)
    with pytest.raises(ConfigurationError, match="no groups"):
        plan_epoch(np.empty((0, 4), int), 2, batch_size=1, order="table", window_chunks=2)
