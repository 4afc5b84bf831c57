"""The compatible mode, and operators that do not differ, against the existing backends' numbers.

`upstream_physics.npz` holds arrays made by running them on synthetic inputs; channels last.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.models import ptychopinn as upstream
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.probe_mask import hard_disk, mask_of
from ptychostream.models.smoothing import gaussian_smooth
from ptychostream.patches import extract_patches
from ptychostream.physics import exit_wave, intensity, propagate_far_field

with np.load(Path(__file__).parents[1] / "data" / "upstream_physics.npz") as _file:
    NUMBERS = {name: _file[name] for name in _file}

#: √(1e6) / (N/2): what the existing backend multiplies its prediction with.
INTENSITY_SCALE = 31.25


def _first(name):
    """Channels first."""
    return torch.tensor(NUMBERS[name]).movedim(-1, 1)


def _relative(name):
    return _first(name).float()


def _close(ours, theirs, tolerance=1e-6):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("number", ["", "2"])
def test_translating_is_cutting_at_the_opposite_place(number):
    images = torch.tensor(NUMBERS["translate_in"])[..., 0].double()
    shifts = torch.tensor(NUMBERS[f"translate_off{number}"]).double()
    moved = extract_patches(images, 8 - shifts[:, None], 16)[:, 0]
    _close(moved, NUMBERS[f"translate_out{number}"][..., 0])


def test_a_groups_object_is_cut_as_theirs():
    canvas = torch.tensor(NUMBERS["extract_in"])[..., 0]
    relative = _relative("off_gs2")[:, :, 0]
    cut = extract_patches(canvas, 15 - relative, 16).flatten(0, 1)
    # Theirs adds pixel numbers to shifts in single precision first.
    _close(cut, NUMBERS["extract_patches_position"][..., 0], 4e-6)


def test_merged_groups_are_theirs():
    patches, relative = _first("reasmpatch_in"), _relative("off_gs2")
    theirs = torch.tensor(NUMBERS["reasmpatch"])[..., 0]
    expected = extract_patches(theirs, 15 - relative[:, :, 0].double(), 16)
    _close(upstream.merge_group(patches, relative)[0], expected)


def test_merging_takes_any_batch():
    torch.manual_seed(0)
    patches = torch.randn(40, 4, 16, 16, dtype=torch.complex64)
    relative = torch.randn(40, 4, 1, 2)
    together = upstream.merge_group(patches, relative)[0]
    alone = upstream.merge_group(patches[7:8], relative[7:8])[0]
    torch.testing.assert_close(together[7:8], alone)


@pytest.mark.parametrize("scale", [4, 10])
def test_probes_are_scaled_as_theirs(scale):
    probe = torch.tensor(NUMBERS["probe_in_N64"])
    ours = upstream.scale_probe(probe, hard_disk(64), scale)
    _close(ours, NUMBERS[f"probe_set_N64_s{scale}"][..., 0])


@pytest.mark.parametrize("masked", [0, 1])
@pytest.mark.parametrize("smooth", [0, 1])
def test_illumination_is_smoothed_then_masked(masked, smooth):
    waves = _first("illum_in") * torch.tensor(NUMBERS["illum_probe"])[..., 0]
    waves = gaussian_smooth(waves, smooth)
    if masked:
        waves = waves * hard_disk(32)
    _close(waves, _first(f"illum_mask{masked}_sig{smooth}"))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_smoothing_is_theirs(sigma):
    _close(gaussian_smooth(_first("diffract_in"), sigma), _first(f"gauss_sigma{sigma}"))


def test_far_field_amplitudes_are_theirs():
    amplitude = propagate_far_field(_first("diffract_in")).abs()
    _close(amplitude, _first("diffract_amp"))


def test_modes_add_coherently_there_and_incoherently_here():
    waves = torch.tensor(NUMBERS["pd_in"])
    _close(upstream.predict_intensity(waves, None).sqrt(), NUMBERS["pd_amp"])
    ours = intensity(propagate_far_field(waves)).sqrt().numpy()
    assert np.abs(ours - NUMBERS["pd_amp"]).max() > 0.1


def test_soft_masks_are_theirs():
    _close(mask_of(ps.ModelConfig(N=64)), NUMBERS["softmask64"])
    config = ps.ModelConfig(N=64, probe_mask_sigma=2, probe_mask_diameter=20)
    _close(mask_of(config), NUMBERS["softmask64_s2_d20"])


def _predicted(config, patches, relative):
    model = PtychoPINN(config, NUMBERS["forward_probe"][None, None, ..., 0])
    model.generator.forward = lambda *_: patches
    batch = {
        "experiment_id": torch.zeros(1, dtype=torch.int64),
        "coords_relative": relative,
        "diffraction": torch.zeros(patches.shape),
        "rms_scale": torch.ones(()),
    }
    amplitude = model(batch).intensity.sqrt() * INTENSITY_SCALE
    return amplitude.detach().movedim(1, -1)[:, ::2, 1::2].numpy()


def test_the_whole_forward_model_is_theirs():
    config = ps.ModelConfig(gridsize=2, n_filters_scale=1, compat="upstream")
    ours = _predicted(config, _first("forward_obj"), _relative("forward_off"))
    _close(ours, NUMBERS["forward_amplitude"], 2e-6)
    default = ps.ModelConfig(gridsize=2, n_filters_scale=1)
    other = _predicted(default, _first("forward_obj"), _relative("forward_off"))
    assert np.abs(other - NUMBERS["forward_amplitude"]).max() > 0.1


def test_so_it_is_with_mask_and_smoothing():
    config = ps.ModelConfig(
        n_filters_scale=1, probe_mask=True, gaussian_smoothing_sigma=1.0, compat="upstream"
    )
    ours = _predicted(config, _first("masked_obj"), torch.zeros(1, 1, 1, 2))
    _close(ours, NUMBERS["masked_amplitude"], 2e-6)


def test_single_waves_of_one_mode_are_the_same_in_both():
    torch.manual_seed(0)
    patches = torch.randn(2, 3, 8, 8, dtype=torch.complex64)
    waves = exit_wave(patches, torch.randn(1, 8, 8, dtype=torch.complex64))
    torch.testing.assert_close(
        upstream.predict_intensity(waves, None), intensity(propagate_far_field(waves))
    )
