"""PtychoPINN's own simulator, from numbers that it has written."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ptychostream.errors import ConfigurationError
from ptychostream.patches import extract_patches
from ptychostream.ptychopinn.illuminated import dose_scale, illuminate_and_diffract
from ptychostream.ptychopinn.labels import cut_in_single_precision
from ptychostream.simulation.objects.lines import blurred_lines


@pytest.fixture(scope="module")
def written():
    with np.load(Path(__file__).parents[1] / "data" / "illuminated_amplitude.npz") as archive:
        return dict(archive)


def test_the_amplitude_that_comes_back_is_illuminated(written):
    amplitude, phase = written["gs1_in_YI"][..., 0], written["gs1_in_Yphi"][..., 0]
    scale = float(written["gs1_auto_scale"])
    diffraction, illuminated, same_phase, used = illuminate_and_diffract(
        amplitude, phase, written["gs1_in_probe"], intensity_scale=scale
    )
    np.testing.assert_allclose(diffraction, written["gs1_auto_X"][..., 0], atol=1e-6)
    np.testing.assert_allclose(illuminated, written["gs1_auto_YI"][..., 0], atol=1e-6)
    np.testing.assert_array_equal(same_phase, phase)
    assert used == scale


def test_the_scale_is_found_from_the_dose(written):
    amplitude, phase = written["gs1_in_YI"][..., 0], written["gs1_in_Yphi"][..., 0]
    scale = illuminate_and_diffract(amplitude, phase, written["gs1_in_probe"], nphotons=1e6)[3]
    assert scale == pytest.approx(float(written["gs1_auto_scale"]), rel=1e-6)


def test_a_scan_of_an_object_gives_the_written_patterns_and_labels(written):
    positions = np.stack([written["sim_x"], written["sim_y"]], axis=1)
    patches = cut_in_single_precision(written["sim_obj"], positions, 32)
    np.testing.assert_allclose(patches[:3], written["sim_Y"], rtol=0, atol=3e-7)
    diffraction = illuminate_and_diffract(np.abs(patches), np.angle(patches), written["sim_probe"])[
        0
    ]
    np.testing.assert_allclose(diffraction, written["sim_diff3d"], atol=1e-6)


def test_single_precision_moves_its_patches_by_a_millionth(written):
    positions = np.stack([written["sim_x"], written["sim_y"]], axis=1)
    obj = torch.as_tensor(written["sim_obj"]).to(torch.complex128)
    exact = extract_patches(obj, torch.as_tensor(positions), 32).numpy()
    difference = np.abs(cut_in_single_precision(written["sim_obj"], positions, 32) - exact).max()
    assert 1e-8 < difference < 3e-6


def test_its_patches_reach_beyond_the_object():
    patches = cut_in_single_precision(np.ones((8, 8)), np.array([[0.5, 7.5]]), 8)
    assert patches[0, 0, 0] == 0
    assert patches[0, 3, 3] == 0.5
    assert patches[0, 3, 4] == 1
    assert patches[0, 5, 5] == 0


def test_lines_are_those_it_draws(written):
    draws = np.random.RandomState(0).uniform(size=40)
    ends = (64 * draws).astype(int).reshape(10, 4)
    np.testing.assert_allclose(blurred_lines((64, 64), ends), written["lines64_seed0"], rtol=1e-6)


def test_noise_is_that_of_the_photons():
    amplitude, probe = np.ones((200, 8, 8)), np.ones((8, 8))
    clean = illuminate_and_diffract(amplitude, 0 * amplitude, probe, nphotons=100)
    noisy = illuminate_and_diffract(amplitude, 0 * amplitude, probe, nphotons=100, seed=1)
    photons = (noisy[0].astype(float) * noisy[3]) ** 2
    np.testing.assert_allclose(photons, np.round(photons), atol=1e-4)
    assert photons.sum(axis=(1, 2)).var() == pytest.approx(100, rel=0.3)
    assert (clean[0] * clean[3]).max() == pytest.approx(10)


def test_darkness_and_unequal_shapes_are_refused():
    ones = np.ones((2, 8, 8))
    with pytest.raises(ConfigurationError, match="energy 0"):
        dose_scale(0 * ones, 1e3)
    with pytest.raises(ConfigurationError, match=r"\(2, 8, 8\)"):
        illuminate_and_diffract(ones, ones, np.ones((9, 9)))
