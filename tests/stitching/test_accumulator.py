import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import ptychostream as ps
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid, split_coordinates
from ptychostream.physics import fourier_shift
from ptychostream.stitching import DeviceCanvas, HostCanvas, PatchAccumulator, patch_weight
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


def _light(edge):
    """A beam that fades out well within the patch."""
    along = torch.arange(edge) - edge // 2
    return torch.exp(-(along[:, None] ** 2 + along**2) / (2 * (edge / 8) ** 2))


@pytest.mark.parametrize("placement", ["fourier", "bilinear"])
@pytest.mark.parametrize("weight", ["probe", "uniform", "custom"])
@pytest.mark.parametrize("window", [0, 12, 20])
def test_exact_patches_give_the_exact_object_whatever_the_accumulator(placement, weight, window):
    obj = _object()
    rng = np.random.default_rng(5)
    chosen = torch.tensor(rng.uniform(0.5, 1, (32, 32))) if weight == "custom" else weight
    # Weights that do not fade out are for whole pixels: a shift in Fourier space needs them to.
    is_hard = weight == "custom"
    positions = rng.uniform(24, 52, (200, 2))
    for whole in (True, False):
        if whole:
            positions = positions.round()
        elif is_hard and placement == "fourier":
            continue
        else:
            positions = rng.uniform(24, 52, (200, 2))
        weights = patch_weight(
            chosen, _light(32), window=window, fades=placement == "fourier" and not is_hard
        )
        accumulator = PatchAccumulator(ObjectGrid(90, 76), weights, placement=placement)
        accumulator.add(_true_patches(obj, positions, 32), positions)
        stitched, coverage = accumulator.result()
        known = coverage >= 3
        error = np.abs(stitched - obj)[known]
        assert known.sum() > 600
        if whole:
            assert error.max() < 1e-5
        else:
            # Between pixels, bilinear shares blur, and only they do.
            assert error.mean() < {"fourier": 5e-4, "bilinear": 5e-3}[placement]
            assert error.max() < {"fourier": 5e-3, "bilinear": 6e-2}[placement]


def test_bilinear_sums_are_those_of_a_plain_loop_in_double_precision():
    rng = np.random.default_rng(0)
    patches = rng.standard_normal((7, 6, 6)) + 1j * rng.standard_normal((7, 6, 6))
    positions, weight = rng.uniform(-2, 14, (7, 2)), rng.uniform(0.1, 1, (6, 6))
    total, cover = np.zeros((12, 12), complex), np.zeros((12, 12))
    for patch, (x, y) in zip(patches, positions, strict=True):
        for row, column in np.ndindex(6, 6):
            top, left = y - 3 + row, x - 3 + column
            for r in (int(np.floor(top)), int(np.floor(top)) + 1):
                for c in (int(np.floor(left)), int(np.floor(left)) + 1):
                    part = weight[row, column] * (1 - abs(top - r)) * (1 - abs(left - c))
                    if 0 <= r < 12 and 0 <= c < 12:
                        total[r, c] += part * patch[row, column]
                        cover[r, c] += part
    accumulator = PatchAccumulator(ObjectGrid(12, 12), torch.tensor(weight), placement="bilinear")
    accumulator.add(torch.tensor(patches, dtype=torch.complex64), positions)
    sums = accumulator.sums()
    np.testing.assert_allclose(sums[0] * weight.max(), total, atol=1e-5)
    np.testing.assert_allclose(sums[1] * weight.max(), cover, atol=1e-5)


@pytest.mark.parametrize("folder", [False, True])
def test_groups_layers_and_files_give_the_same_object(folder, tmp_path):
    obj = _object()
    rng = np.random.default_rng(1)
    positions = rng.uniform(20, 52, (15, 1, 2)).repeat(4, axis=1).reshape(60, 2)
    positions += rng.uniform(0, 4, (60, 2))
    patches = _true_patches(obj, positions, 32)
    plain = PatchAccumulator(ObjectGrid(90, 76), _light(32))
    plain.add(patches, positions)
    layered = PatchAccumulator(
        ObjectGrid(90, 76),
        _light(32),
        num_layers=2,
        scratch_folder=tmp_path if folder else None,
    )
    both = torch.stack([patches, 2j * patches], dim=1)
    turned = both * torch.exp(-1j * torch.arange(15).repeat_interleave(4))[:, None, None, None]
    placed = layered.place(turned.reshape(15, 4, 2, 32, 32), positions.reshape(15, 4, 2))
    assert len(placed.blocks) == 15
    layered.add_placed(placed, np.arange(15.0))
    stitched, coverage = layered.result()
    expected = plain.result()
    np.testing.assert_allclose(stitched[0], expected[0], atol=3e-4)
    np.testing.assert_allclose(stitched[1], 2j * expected[0], atol=6e-4)
    np.testing.assert_array_equal(coverage, expected[1])
    assert isinstance(stitched, np.memmap) == folder
    assert not list(tmp_path.iterdir())


def test_members_far_apart_do_not_make_blocks_of_nothing():
    positions = np.array([[[10.0, 10], [500, 300]]])
    accumulator = PatchAccumulator(ObjectGrid(320, 520), _light(16))
    placed = accumulator.place(torch.ones(1, 2, 16, 16, dtype=torch.complex64), positions)
    assert placed.blocks.shape[-1] <= 16
    accumulator.add_placed(placed, np.zeros(1))
    assert np.abs(accumulator.result()[0][[10, 300], [10, 500]] - 1).max() < 1e-5


def test_duplicates_and_drops_are_counted_in_any_order():
    obj, rng = _object(), np.random.default_rng(1)
    positions = rng.uniform(20, 56, (40, 2))
    patches = _true_patches(obj, positions, 32)
    patches[7, 3, 3] = np.nan
    positions[9] = (1000, 0)
    rows = np.concatenate([np.arange(40), np.arange(20)])
    results = []
    for order in (np.arange(60), rng.permutation(60)):
        accumulator = PatchAccumulator(ObjectGrid(90, 76), _light(32))
        for part in np.array_split(rows[order], 7):
            accumulator.add(patches[part], positions[part], part)
        assert accumulator.num_patches == 56
        assert accumulator.num_dropped == 4
        assert accumulator.num_duplicates == 18
        has = accumulator.has_patch(np.arange(45))
        assert np.flatnonzero(~has).tolist() == [7, 9, 40, 41, 42, 43, 44]
        results.append(accumulator.result())
    np.testing.assert_allclose(results[0][0], results[1][0], atol=2e-5)
    np.testing.assert_array_equal(results[0][1], results[1][1])
    once = PatchAccumulator(ObjectGrid(90, 76), _light(32))
    good = np.setdiff1d(np.arange(40), [7, 9])
    once.add(patches[good], positions[good])
    np.testing.assert_array_equal(results[0][1], once.result()[1])


def test_a_canvas_on_a_device_adds_up_as_one_in_memory():
    rng = np.random.default_rng(0)
    blocks = torch.tensor(rng.standard_normal((30, 2, 5, 7)) + 0j).to(torch.complex64)
    corners = rng.integers(-8, 25, (30, 2))
    host = HostCanvas((2, 20, 22), np.complex64)
    device = DeviceCanvas((2, 20, 22), np.complex64, torch.device("cpu"))
    for canvas in (host, device):
        canvas.add(blocks, corners)
    np.testing.assert_allclose(device.values(), host.values(), atol=1e-5)
    assert np.abs(host.values()).sum() > 10


def test_weights_and_windows_that_are_none_are_refused():
    light = _light(16)
    with pytest.raises(ConfigurationError, match="central window of 18 px"):
        patch_weight("probe", light, window=18)
    with pytest.raises(ConfigurationError, match=r"must be \(16, 16\), none negative"):
        patch_weight(torch.ones(8, 8), light)
    with pytest.raises(ConfigurationError, match="none negative"):
        patch_weight(-light, light)


def test_a_disk_that_is_too_full_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigurationError, match="GB free; choose another scratch_folder"):
        HostCanvas((10**8, 10**8), np.complex64, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lit", [(4, 12), (3, 13), (5, 10), (6, 11)])
def test_patches_are_clipped_and_dropped_by_what_is_lit_of_them(lit):
    weight = torch.zeros(16, 16)
    weight[slice(*lit), slice(*lit)] = 1
    for x in range(-8, 28):
        accumulator = PatchAccumulator(ObjectGrid(20, 20), weight)
        accumulator.add(torch.ones(1, 16, 16, dtype=torch.complex64), np.array([[x, 10.0]]))
        inside = sum(0 <= x - 8 + column < 20 for column in range(*lit))
        is_cut = 0 < inside < lit[1] - lit[0]
        assert accumulator.num_patches + accumulator.num_dropped == 1
        # What is lit off its centre may count too early, but never too late.
        is_centred = sum(lit) == 16
        assert accumulator.num_patches >= (inside > 0)
        assert accumulator.num_clipped >= is_cut
        if is_centred:
            assert accumulator.num_patches == (inside > 0)
            assert accumulator.num_clipped == is_cut
