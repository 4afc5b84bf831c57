import tracemalloc

import numpy as np
import pytest
import torch
from test_accumulator import _object, _true_patches, _weight

from ptychostream.stitching.phase_alignment import PhaseAlignment


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
    alignment = PhaseAlignment(_weight(16), positions, per_block=1000)
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


@pytest.mark.parametrize("order", ["lines", "shuffled"])
def test_blocks_find_the_phases_that_all_at_once_do(order):
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(8, 168, 4.0), np.arange(8, 168, 4.0))
    positions = np.stack([x.ravel(), y.ravel()], axis=1)
    number = len(positions)
    if order == "shuffled":
        positions = positions[rng.permutation(number)]
    # Any phase at all of each patch, a drift, and noise that no solution can explain.
    turned = 0.2 * positions[:, 0] + rng.uniform(-np.pi, np.pi, number)
    noise = rng.normal(size=(number, 16, 16, 2)).astype(np.float32) @ np.array([1, 1j])
    patches = torch.as_tensor((1 + 0.3 * noise) * np.exp(1j * turned)[:, None, None])
    found = {}
    for per_block in (number, 200):
        alignment = PhaseAlignment(_weight(16), positions, per_block=per_block)
        for part in np.array_split(np.arange(number), 16):
            alignment.add(patches.to(torch.complex64)[part], part)
        # Whole turns between blocks are no difference.
        rest = np.exp(1j * (alignment.solve() + turned))
        found[per_block] = np.std(np.angle(rest * rest.mean().conj()))
    assert found[number] < 0.08
    assert found[200] < 1.3 * found[number]


def test_what_is_kept_of_a_patch_is_some_tens_of_bytes():
    positions = np.random.default_rng(0).uniform(0, 1200, (60_000, 2))
    positions = positions[np.lexsort((positions[:, 0], positions[:, 1] // 100))]
    tracemalloc.start()
    alignment = PhaseAlignment(_weight(16), positions)
    kept = tracemalloc.get_traced_memory()[0] / len(positions)
    tracemalloc.stop()
    assert alignment.num_patches == 60_000
    assert kept < 60
