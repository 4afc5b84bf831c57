import numpy as np
import torch
from test_accumulator import _object, _true_patches, _weight

from ptychostream.stitching import PhaseAlignment


def test_phases_between_patches_are_found():
    obj = _object()
    x, y = np.meshgrid(np.arange(18, 58, 5.0), np.arange(18, 70, 5.0))
    positions = np.stack([x.ravel(), y.ravel()], axis=1)
    positions += np.random.default_rng(0).uniform(-1, 1, positions.shape)
    patches = _true_patches(obj, positions, 32)
    turned = np.random.default_rng(1).uniform(-1, 1, len(positions))
    # A slow drift, too, which no pair of neighbours shows.
    turned += 0.05 * positions[:, 0]
    factors = torch.as_tensor(np.exp(1j * turned), dtype=torch.complex64)
    alignment = PhaseAlignment(_weight(32), positions)
    for part in np.array_split(np.arange(len(positions)), 5):
        alignment.add((patches * factors[:, None, None])[part], part)
    rest = alignment.solve() + turned
    assert np.std(rest) < 0.01


def test_a_lone_patch_and_patches_without_overlap_stay():
    patch = torch.ones(1, 16, 16, dtype=torch.complex64)
    alone = PhaseAlignment(_weight(16), np.array([[8.0, 8.0]]))
    alone.add(patch, np.array([0]))
    assert alone.solve().tolist() == [0.0]
    apart = PhaseAlignment(_weight(16), np.array([[8.0, 8], [200, 8]]))
    turned = patch.repeat(2, 1, 1) * torch.tensor([1, 1j])[:, None, None]
    apart.add(turned, np.array([0, 1]))
    np.testing.assert_allclose(apart.solve(), 0, atol=1e-6)
    assert PhaseAlignment(_weight(16), np.zeros((0, 2))).solve().shape == (0,)


def test_thumbnails_leave_the_memory_when_their_neighbours_have_come():
    x, y = np.meshgrid(np.arange(0, 400, 4.0), np.arange(0, 400, 4.0))
    positions = np.stack([x.ravel(), y.ravel()], axis=1)
    alignment = PhaseAlignment(_weight(16), positions)
    patch = torch.ones(100, 16, 16, dtype=torch.complex64)
    for row in range(100):
        alignment.add(patch, np.arange(100 * row, 100 * row + 100))
    assert alignment.num_kept < 2500
    assert np.abs(alignment.solve()).max() < 1e-6


def test_patches_that_never_come_or_are_not_finite_do_not_spoil_the_others():
    obj = _object()
    positions = np.random.default_rng(0).uniform(18, 58, (40, 2))
    turned = np.random.default_rng(1).uniform(-1, 1, 40)
    factors = torch.as_tensor(np.exp(1j * turned), dtype=torch.complex64)
    patches = _true_patches(obj, positions, 32) * factors[:, None, None]
    patches[3, 5, 5] = np.inf
    alignment = PhaseAlignment(_weight(32), positions)
    came = np.random.default_rng(2).permutation(40)[:30]
    alignment.add(patches[came], came)
    rest = alignment.solve() + turned
    assert np.std(rest[came[came != 3]]) < 0.02
    assert (alignment.solve()[np.setdiff1d(np.arange(40), came)] == 0).all()
