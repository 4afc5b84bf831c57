import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import ptychostream as ps
from ptychostream.geometry import ObjectGrid, split_coordinates
from ptychostream.physics import fourier_shift
from ptychostream.stitching import PatchAccumulator
from ptychostream.stitching.weights import covering_area


def _object(shape=(90, 76)):
    """Asymmetric, periodic, and smooth enough for a pixel grid to hold it."""
    rng = np.random.default_rng(0)
    amplitude, phase = (
        gaussian_filter(rng.standard_normal(shape), 2.5, mode="wrap") for _ in range(2)
    )
    return ((1 + 0.4 * amplitude) * np.exp(1.5j * phase)).astype(np.complex64)


def _true_patches(obj, positions, edge):
    patches = []
    for x, y in positions:
        left, top = int(np.floor(x)) - edge // 2, int(np.floor(y)) - edge // 2
        rest = torch.tensor([np.floor(x) - x, np.floor(y) - y])
        moved = fourier_shift(torch.as_tensor(obj), rest)
        patches.append(moved[top : top + edge, left : left + edge])
    return torch.stack(patches)


def _weight(edge):
    window = torch.hann_window(edge, periodic=True)
    return window[:, None] * window


@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_stitching_exact_patches_returns_the_object(gridsize, tmp_path):
    obj = _object()
    scan = ps.simulate_scan(
        object=obj, probe="gaussian", num_positions=144, N=32, step=3.1, noise=False
    )
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    groups = store.groups(gridsize, 10)
    weight = torch.tensor(np.abs(scan.probe[0]) ** 2)
    accumulator = PatchAccumulator(ObjectGrid(*obj.shape), weight)
    # By way of group centres and relative offsets, as a model's patches come.
    offsets, relative = split_coordinates(store.positions, groups.nn_indices)
    for start in range(0, len(groups), 16):
        members = (offsets[:, None] - relative)[start : start + 16].reshape(-1, 2)
        accumulator.add(_true_patches(obj, members, 32), members)
    stitched, coverage = accumulator.result()
    known = coverage >= 3
    assert known.mean() > 0.2
    assert np.abs(stitched - obj)[known].max() < 1e-3
    assert accumulator.num_clipped == 0
    assert accumulator.num_patches == 144 * gridsize**2


def test_the_order_of_arrival_does_not_matter():
    obj, rng = _object(), np.random.default_rng(1)
    positions = rng.uniform(16, 60, (50, 2))
    patches = _true_patches(obj, positions, 32)
    results = []
    for order in (np.arange(50), rng.permutation(50)):
        accumulator = PatchAccumulator(ObjectGrid(90, 76), _weight(32))
        for part in np.array_split(order, 7):
            accumulator.add(patches[part], positions[part])
        results.append(accumulator.result())
    np.testing.assert_allclose(results[0][0], results[1][0], atol=2e-5)
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_patches_beyond_the_grid_are_counted_and_cut():
    obj = _object()
    accumulator = PatchAccumulator(ObjectGrid(40, 32), _weight(32))
    positions = np.array([[16.0, 16.0], [25.0, 20.0], [-100.0, 1e4]])
    accumulator.add(_true_patches(obj, np.full((3, 2), 30.0), 32), positions)
    assert (accumulator.num_patches, accumulator.num_clipped, accumulator.num_dropped) == (2, 1, 1)
    stitched, coverage = accumulator.result()
    assert stitched.shape == (40, 32)
    assert coverage.max() <= 2


def test_a_grid_that_begins_before_zero_holds_the_same_object():
    obj = _object()
    positions = np.random.default_rng(2).uniform(20, 50, (30, 2))
    patches = _true_patches(obj, positions, 32)
    plain = PatchAccumulator(ObjectGrid(90, 76), _weight(32))
    plain.add(patches, positions)
    moved = PatchAccumulator(ObjectGrid(100, 96, (-20, -10)), _weight(32))
    moved.add(patches, positions)
    np.testing.assert_allclose(moved.result()[0][10:, 20:], plain.result()[0], atol=1e-6)


def test_coverage_counts_patches_by_their_lit_area():
    weight = torch.zeros(8, 8)
    weight[2:6, 2:6] = 1
    assert covering_area(weight).sum() == 16
    accumulator = PatchAccumulator(ObjectGrid(20, 20), weight)
    accumulator.add(torch.ones(2, 8, 8, dtype=torch.complex64), np.array([[8.0, 8.0], [10.0, 8.0]]))
    coverage = accumulator.result()[1]
    assert coverage.sum() == 32
    assert coverage[8, 8] == 2
    assert coverage[8, 6] == 1


def test_stitch_patches_takes_all_at_once():
    obj = _object()
    positions = np.random.default_rng(2).uniform(20, 50, (300, 2))
    patches = _true_patches(obj, positions, 32)
    stitched = ps.stitch_patches(patches, positions, obj.shape)
    inside = (slice(22, 48), slice(22, 48))
    assert np.abs(stitched - obj)[inside].max() < 1e-3
    with pytest.raises(ValueError, match="300 patches but 7 positions"):
        ps.stitch_patches(patches, positions[:7], obj.shape)
