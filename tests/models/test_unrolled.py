import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.models.canvas_size import canvas_reach
from ptychostream.models.generators.group_canvas import GroupCanvas
from ptychostream.models.generators.unrolled import Unrolled
from ptychostream.physics import fourier_shift, intensity, propagate_far_field


@pytest.fixture(scope="module")
def weak_object():
    """Groups of four patterns of a weak object, noise-free, with true patches."""
    return ps.simulate_scan(
        object="bars_and_ellipses",
        probe="gaussian",
        num_positions=100,
        N=32,
        step=2.5,
        noise=False,
        seed=1,
    )


def _group(scan, rows):
    amplitude = torch.tensor(np.sqrt(scan.patterns.read(np.array(rows))))[None]
    positions = torch.tensor(scan.positions[rows])
    relative = (positions.mean(0) - positions)[None, :, None].float()
    return amplitude, torch.tensor(scan.probe)[None], relative


def test_canvas_adds_as_the_adjoint_of_cutting():
    generator = torch.Generator().manual_seed(0)
    relative = 4 * torch.randn(2, 4, 1, 2, generator=generator)
    group = GroupCanvas(relative, 8, canvas_reach(relative))
    canvas = torch.randn(2, group.size, group.size, dtype=torch.complex64, generator=generator)
    patches = torch.randn(2, 4, 8, 8, dtype=torch.complex64, generator=generator)
    torch.testing.assert_close(
        torch.vdot(group.cut(canvas).flatten(), patches.flatten()),
        torch.vdot(canvas.flatten(), group.add(patches).flatten()),
    )
    whole = -relative[:, :, 0] - group.fractions
    torch.testing.assert_close(whole, whole.round())


def test_untrained_steps_lower_the_error_of_the_diffraction(weak_object):
    amplitude, probe, relative = _group(weak_object, [44, 45, 54, 55])

    def misfit(steps):
        torch.manual_seed(0)
        with torch.no_grad():
            patches = Unrolled(group_size=4, steps=steps)(amplitude, probe, relative)
        waves = propagate_far_field(patches[:, :, None] * probe[:, None])
        return ((intensity(waves).sqrt() - amplitude) ** 2).sum().item()

    flat = torch.ones_like(amplitude).to(torch.complex64)
    start = intensity(propagate_far_field(flat[:, :, None] * probe[:, None])).sqrt()
    errors = [((start - amplitude) ** 2).sum().item(), misfit(1), misfit(5), misfit(15)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.03 * errors[0]


def test_untrained_groups_find_the_object(weak_object):
    rows = [44, 45, 54, 55]
    amplitude, probe, relative = _group(weak_object, rows)
    with torch.no_grad():
        patches = Unrolled(group_size=4, steps=15)(amplitude, probe, relative)[0]
    # Truth at sub-pixel positions: the whole object, shifted in Fourier space.
    truth = torch.tensor(weak_object.object_guess)
    light = intensity(probe[0])
    for patch, (x, y) in zip(patches, weak_object.positions[rows], strict=True):
        left, top = int(np.floor(x)) - 16, int(np.floor(y)) - 16
        fraction = torch.tensor([np.floor(x) - x, np.floor(y) - y])
        wanted = fourier_shift(truth, fraction)[top : top + 32, left : left + 32]
        weight = light / light.sum()
        scale = (weight * wanted * patch.conj()).sum() / (weight * patch.abs() ** 2).sum()
        error = (weight * (scale * patch - wanted).abs() ** 2).sum().sqrt()
        contrast = (weight * (wanted - (weight * wanted).sum()).abs() ** 2).sum().sqrt()
        assert error < 0.45 * contrast


@pytest.mark.parametrize("rows", [[44], [44, 45, 54, 55]])
def test_the_dose_does_not_change_the_object(weak_object, rows):
    amplitude, probe, relative = _group(weak_object, rows)
    torch.manual_seed(0)
    network = Unrolled(group_size=len(rows))
    for correction in network.corrections:
        torch.nn.init.normal_(correction.last.weight, std=0.05)
    with torch.no_grad():
        once = network(amplitude, probe, relative)
        more = network(3 * amplitude, 3 * probe, relative)
    torch.testing.assert_close(once, more, rtol=1e-3, atol=1e-4)


def test_incoherent_modes_explain_what_they_made():
    first = ps.simulate_scan(num_positions=1, N=32, probe="gaussian", noise=False).probe[0]
    x = (np.arange(32) - 16) / 8
    modes = np.stack([first, 0.7 * first * x]).astype(np.complex64)
    scan = ps.simulate_scan(
        object="bars_and_ellipses", probe=modes, num_positions=100, N=32, step=2.5, noise=False
    )
    amplitude, probe, relative = _group(scan, [44, 45, 54, 55])
    errors = []
    for steps in (1, 15):
        with torch.no_grad():
            patches = Unrolled(group_size=4, steps=steps)(amplitude, probe, relative)
        waves = propagate_far_field(patches[:, :, None] * probe[:, None])
        errors.append(((intensity(waves).sqrt() - amplitude) ** 2).sum().item())
    assert errors[1] < 0.3 * errors[0]


def test_an_empty_pattern_gives_finite_patches_and_gradients(weak_object):
    amplitude, probe, relative = _group(weak_object, [44, 45, 54, 55])
    network = Unrolled(group_size=4, steps=2)
    patches = network(0 * amplitude, probe.requires_grad_(), relative)
    patches.abs().square().sum().backward()
    assert torch.isfinite(torch.view_as_real(patches)).all()
    assert torch.isfinite(torch.view_as_real(probe.grad)).all()


def _masked_error(scan, bad, rows, *, told, steps=15):
    """Error of the true patches' diffraction where the detector is good and nothing else is."""
    amplitude, probe, relative = _group(scan, rows)
    good = ~torch.as_tensor(bad)
    with torch.no_grad():
        patches = Unrolled(group_size=len(rows), steps=steps)(
            amplitude * good, probe, relative, good[None] if told else None
        )
    waves = propagate_far_field(patches[:, :, None] * probe[:, None])
    predicted = intensity(waves).sqrt()
    return ((predicted - amplitude) ** 2 * ~good).sum().item() / (amplitude**2 * ~good).sum().item()


@pytest.mark.parametrize("rows", [[44], [44, 45, 54, 55]])
def test_bad_pixels_are_filled_in_rather_than_taken_for_dark(weak_object, rows):
    bad = np.zeros((32, 32), bool)
    bad[15:18, 14:17] = True
    told = _masked_error(weak_object, bad, rows, told=True)
    untold = _masked_error(weak_object, bad, rows, told=False)
    assert told < 0.1 * untold
    assert told < 0.02


def test_what_bad_pixels_hold_does_not_matter(weak_object):
    amplitude, probe, relative = _group(weak_object, [44, 45, 54, 55])
    good = torch.ones(1, 32, 32, dtype=torch.bool)
    good[0, 3:6] = False
    spoilt = torch.where(good, amplitude, 1e3)
    network = Unrolled(group_size=4)
    with torch.no_grad():
        first = network(amplitude, probe, relative, good)
        torch.testing.assert_close(network(spoilt, probe, relative, good), first)


def test_modes_of_groups_and_of_lone_patterns_are_told_apart(weak_object):
    # A second mode that takes light: the object found with one mode would be another.
    amplitude, probe, relative = _group(weak_object, [44])
    modes = torch.cat((probe, 0.5 * probe.roll(5, dims=-1)), dim=1)
    with torch.no_grad():
        one = Unrolled(group_size=1, steps=5)(amplitude, probe, relative)
        two = Unrolled(group_size=1, steps=5)(amplitude, modes, relative)
    assert (one - two).abs().max() > 0.01
    assert two.isfinite().all()
