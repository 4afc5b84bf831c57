"""Patches scaled to their own patterns: PtychoPINN's VarPro scaling."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tiny import tiny_config, untrained

import ptychostream as ps
from ptychostream.cli.aliases import expand_aliases
from ptychostream.reconstruction.rescale import best_scale, rescaled


def _misfit(measured, patch, probe, good):
    """The squared error of amplitudes, plainly, in double precision."""
    waves = np.fft.fftshift(np.fft.fft2(patch * probe, norm="ortho"), axes=(-2, -1))
    amplitude = np.sqrt((np.abs(waves) ** 2).sum(axis=-3))
    return ((measured - amplitude) ** 2)[good].sum()


@pytest.fixture(scope="module")
def network(tiny_store, tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("run"), model={"gridsize": 2})
    return untrained(config, tiny_store)


def test_no_other_scale_of_a_patch_fits_its_pattern_better(network):
    rng = np.random.default_rng(0)
    bad = rng.random((1, 16, 16)) < 0.1
    model = network.model.with_probe(network.probe_guess, bad)
    patches = rng.normal(size=(3, 4, 16, 16)) + 1j * rng.normal(size=(3, 4, 16, 16))
    measured = rng.random((3, 4, 16, 16)) * 5
    measured[:, :, bad[0]] = 1e6
    batch = TensorDict(
        {
            "diffraction": torch.tensor(measured, dtype=torch.float32) / 2,
            "rms_scale": torch.full((3, 1, 1, 1), 2.0),
            "experiment_id": torch.zeros(3, dtype=torch.int64),
        },
        batch_size=[3],
    )
    with torch.no_grad():
        found = rescaled(model, torch.tensor(patches, dtype=torch.complex64), batch).numpy()
        probe = model.scaled_probe(torch.zeros(1, dtype=torch.int64))[0].numpy().astype(complex)
    for b, c in np.ndindex(3, 4):
        best = _misfit(measured[b, c], found[b, c].astype(complex), probe, ~bad[0])
        for other in (0.99, 1.01):
            assert best < _misfit(measured[b, c], other * found[b, c], probe, ~bad[0])
        ratio = found[b, c] / patches[b, c]
        np.testing.assert_allclose(ratio, ratio.real.mean(), rtol=1e-4)


def test_where_nothing_is_predicted_a_patch_stays_as_it_is():
    nothing, good = torch.zeros(1, 4, 4), torch.ones(4, 4, dtype=torch.bool)
    assert best_scale(torch.ones(1, 4, 4), nothing, good).item() == 1
    assert best_scale(nothing, torch.ones(1, 4, 4), good).item() == 1


class _Flat(torch.nn.Module):
    """A generator of one object, whatever the probe."""

    merges_groups = True

    def forward(self, diffraction, *_):
        return torch.ones(diffraction.shape, dtype=torch.complex64)


def test_a_probe_that_is_too_weak_by_any_factor_gives_the_same_object(
    network, tiny_store, monkeypatch
):
    monkeypatch.setattr(network.model, "generator", _Flat())

    def made(log_scale, **options):
        with torch.no_grad():
            network.model.log_scale.fill_(log_scale)
        return ps.reconstruct(network, tiny_store, passes=0, align_phases=False, **options).object

    weak, plain = made(-1.0), made(0.0)
    scaled_weak, scaled = made(-1.0, rescale_patches=True), made(0.0, rescale_patches=True)
    assert np.abs(plain - weak).max() > 0.1 * np.abs(plain).max()
    np.testing.assert_allclose(scaled, scaled_weak, atol=1e-3 * np.abs(scaled).max())


def test_the_names_of_the_port_choose_it():
    assert expand_aliases("reconstruct", ["--varpro-scaling"]) == ["--rescale_patches", "true"]
    assert expand_aliases("reconstruct", ["--patch-weighting", "probe"]) == ["--weight", "probe"]
    uniform = expand_aliases("reconstruct", ["--patch-weighting=uniform"])
    assert uniform == ["--weight", "uniform"]


def test_a_gain_of_the_prediction_is_a_factor_of_probe_scale(network):
    def predicted(probe_scale):
        config = ps.ModelConfig(N=16, architecture="unrolled", probe_scale=probe_scale)
        model = ps.PtychoPINN(config, network.probe_guess)
        return model.scaled_probe(torch.zeros(1, dtype=torch.int64)).detach().numpy()

    np.testing.assert_allclose(predicted(4.0 * 1.7), 1.7 * predicted(4.0), rtol=1e-6)
