"""Patches that wait in a file come back as they were, in few bytes."""

import numpy as np
import pytest
import torch

from ptychostream.stitching import PatchSpool, PlacedPatches
from ptychostream.stitching.spool import pack, unpack


@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 2, 4, 4), (1, 1, 1), (0, 4, 4)])
def test_the_dimmer_a_pixel_the_finer_its_steps(shape):
    rng = np.random.default_rng(0)
    blocks = (rng.normal(size=(*shape, 2)) @ np.array([1, 1j])).astype(np.complex64)
    blocks *= 10.0 ** rng.uniform(-4, 0, shape)
    blocks *= 10.0 ** np.arange(len(blocks)).reshape(-1, *(1,) * (len(shape) - 1))
    again = unpack(*pack(blocks), shape)
    assert again.dtype == np.complex64
    pixels = tuple(range(1, len(shape)))
    largest = np.abs(blocks).max(axis=pixels, initial=0, keepdims=True)
    # Half a step of the square root of each part, in 511 steps up to the largest.
    bound = np.sqrt(2) * (np.sqrt(np.abs(blocks) * largest) / 511 + largest / 1022**2)
    is_dark = np.abs(again) == 0
    assert (np.abs(again - blocks) <= 1.001 * bound)[~is_dark].all()
    assert (np.abs(blocks) <= np.sqrt(2) * (10.5 / 511) ** 2 * largest)[is_dark].all()


def test_dark_blocks_stay_dark():
    dark = np.zeros((2, 4, 4), np.complex64)
    assert (unpack(*pack(dark), dark.shape) == 0).all()


def test_patches_take_no_more_than_patterns_of_sixteen_bits(tmp_path):
    edge, number = 64, 32
    along = torch.arange(edge) - edge / 2
    # A beam of 18 px full width at half maximum, which fades out before the patch's edge.
    light = torch.exp2(-((along[:, None] ** 2 + along**2) / 9**2))
    blocks = light * torch.polar(torch.ones(number, edge, edge), torch.rand(number, edge, edge))
    placed = PlacedPatches(
        blocks, np.zeros((number, 2), np.int64), np.arange(number), np.zeros(number, bool)
    )
    spool = PatchSpool(tmp_path)
    spool.append(placed, np.arange(number))
    (back,) = spool
    assert (back.blocks - blocks).abs().max() < 3e-3
    assert spool.size <= 2 * edge**2 * number
    spool.close()
