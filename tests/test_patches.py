import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from ptychostream.patches import extract_patches, place_patches


def _case(seed: int, groups: int, members: int):
    generator = torch.Generator().manual_seed(seed)
    obj = torch.randn(groups, 21, 18, dtype=torch.complex128, generator=generator)
    patches = torch.randn(groups, members, 8, 8, dtype=torch.complex128, generator=generator)
    reach = torch.tensor([30.0, 33.0], dtype=torch.float64)
    positions = torch.rand(groups, members, 2, dtype=torch.float64, generator=generator)
    return obj, patches, positions * reach - 6


@given(seed=st.integers(0, 2**31), groups=st.integers(1, 3), members=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_place_is_adjoint_of_extract(seed, groups, members):
    obj, patches, positions = _case(seed, groups, members)
    forward = torch.vdot(extract_patches(obj, positions, 8).flatten(), patches.flatten())
    back = torch.vdot(obj.flatten(), place_patches(patches, positions, (21, 18)).flatten())
    torch.testing.assert_close(forward, back)


def test_extraction_is_bilinear_with_zeros_outside():
    obj, _, positions = _case(1, 1, 4)
    patches = extract_patches(obj[0], positions[0], 8)
    padded = np.pad(obj[0].numpy(), 20)
    for patch, (x, y) in zip(patches, positions[0].numpy(), strict=True):
        rows, columns = np.meshgrid(
            y + np.arange(8) - 4 + 20, x + np.arange(8) - 4 + 20, indexing="ij"
        )
        expected = map_coordinates(padded.real, [rows, columns], order=1) + 1j * map_coordinates(
            padded.imag, [rows, columns], order=1
        )
        np.testing.assert_allclose(patch, expected, atol=1e-12)


def test_a_position_is_the_pixel_under_the_patch_centre():
    obj = torch.arange(30 * 40, dtype=torch.float32).reshape(30, 40)
    patch = extract_patches(obj, torch.tensor([[13.0, 9.0]]), 8)[0]
    assert patch[4, 4] == obj[9, 13]


def test_slopes_are_those_of_the_linear_maps():
    obj, patches, positions = _case(2, 2, 3)
    obj, patches = obj[:, :9, :8], patches[..., :4, :4]
    assert torch.autograd.gradcheck(
        lambda x: extract_patches(x, positions, 4), obj.clone().requires_grad_()
    )
    assert torch.autograd.gradcheck(
        lambda x: place_patches(x, positions, (9, 8)), patches.clone().requires_grad_()
    )
    assert torch.autograd.gradcheck(
        lambda x: place_patches(x, positions, (9, 8)), patches.real.clone().requires_grad_()
    )


def test_small_shares_keep_their_digits():
    """Where little lies on a pixel, a sum is divided by that little."""
    ones = torch.ones(1, 4, 4)
    placed = place_patches(ones, torch.tensor([[6 + 2.0**-20, 6.0]]), (12, 12))
    assert placed[6, 8] == 2.0**-20


def test_slopes_by_position_are_refused_and_not_left_out():
    positions = torch.tensor([[6.0, 6.0]], requires_grad=True)
    with pytest.raises(NotImplementedError, match="detach"):
        place_patches(torch.ones(1, 4, 4), positions, (12, 12))
    with pytest.raises(NotImplementedError, match="detach"):
        extract_patches(torch.ones(12, 12), positions, 4)
