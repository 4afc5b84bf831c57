import torch

from ptychostream.models.merge import merge_group
from ptychostream.patches import extract_patches


def _weight(edge: int) -> torch.Tensor:
    window = torch.hann_window(edge, periodic=True)
    return (window[:, None] * window)[None]


def test_patches_of_one_object_stay_as_they_are():
    obj = torch.polar(torch.rand(48, 48), torch.rand(48, 48))
    relative = torch.tensor([[4.0, 1.0], [-4.0, 2.0], [3.0, -2.0], [-3.0, -1.0]])[None, :, None]
    patches = extract_patches(obj, 24 - relative[0, :, 0], 16)[None]
    merged = merge_group(patches, relative, _weight(16))
    torch.testing.assert_close(merged, patches, rtol=1e-4, atol=1e-5)


def test_merging_amplifies_nothing():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(3, 4, 16, 16, dtype=torch.complex64, generator=generator)
    relative = 3 * torch.randn(3, 4, 1, 2, generator=generator)
    merged = merge_group(patches, relative, _weight(16))
    assert merged.abs().max() <= patches.abs().max() * 1.001


def test_groups_do_not_touch_each_other_whatever_the_batch():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(40, 4, 16, 16, dtype=torch.complex64, generator=generator)
    relative = 3 * torch.randn(40, 4, 1, 2, generator=generator)
    weight = _weight(16).expand(40, -1, -1)
    together = merge_group(patches, relative, weight)
    alone = merge_group(patches[7:8], relative[7:8], weight[:1])
    torch.testing.assert_close(together[7:8], alone)


def test_a_lone_patch_is_returned_itself():
    patch = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    assert merge_group(patch, torch.zeros(2, 1, 1, 2), _weight(8)) is patch
