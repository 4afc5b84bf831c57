import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.errors import ConfigurationError
from ptychostream.models.forward_model import probe_power
from ptychostream.models.probe_mask import mask_of
from ptychostream.physics import fourier_shift


@pytest.fixture
def batch(tiny_store):
    return next(iter(ps.make_loader(tiny_store, tiny_store.groups(2, 6), batch_size=5)))


def _model(store, **changes):
    options = {"probe_trainable": False, "intensity_scale_trainable": False}
    config = {"N": 16, "gridsize": 2, "architecture": "unrolled", "unrolled_steps": 2}
    for name in list(changes):
        if name in options:
            options[name] = changes.pop(name)
    torch.manual_seed(0)
    return ps.PtychoPINN(ps.ModelConfig(**(config | changes)), store.probe, **options)


def test_prediction_has_the_batchs_shape_and_about_the_measured_energy(tiny_store, batch):
    prediction = _model(tiny_store)(batch)
    assert prediction.object_patches.shape == (5, 4, 16, 16)
    measured = (batch["diffraction"] * batch["rms_scale"]).square().sum((-2, -1))
    predicted = prediction.intensity.sum((-2, -1))
    torch.testing.assert_close(predicted, measured, rtol=0.2, atol=0)


def test_the_probes_own_scale_does_not_matter(tiny_store, batch):
    model = _model(tiny_store)
    louder = ps.PtychoPINN(model.config, 50 * tiny_store.probe)
    louder.generator = model.generator
    torch.testing.assert_close(model(batch).intensity, louder(batch).intensity)
    assert model.probe.matches_initial_guess(50 * tiny_store.probe)
    assert not model.probe.matches_initial_guess(np.roll(tiny_store.probe, 1, axis=-1))


@pytest.mark.parametrize("trainable", [True, False])
def test_probe_and_scale_learn_only_when_asked(tiny_store, batch, trainable):
    model = _model(tiny_store, probe_trainable=trainable, intensity_scale_trainable=trainable)
    model(batch).intensity.sum().backward()
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert ("probe.parts" in names) is trainable
    assert ("log_scale" in names) is trainable
    assert (model.probe.parts.grad is not None) is trainable
    assert (model.log_scale.grad is not None) is trainable


def test_probe_scale_sets_the_amplitude_of_the_object(tiny_store, batch):
    means = [
        _model(tiny_store, probe_scale=scale)(batch).object_patches.abs().mean().item()
        for scale in (4.0, 8.0)
    ]
    assert means[0] / means[1] == pytest.approx(2, rel=1e-3)
    power = _model(tiny_store).scaled_probe(torch.tensor([0])).abs().square().sum()
    assert power.item() == pytest.approx(probe_power(16, 4.0), rel=1e-4)


def test_smoothing_and_mask_change_the_prediction(tiny_store, batch):
    plain = _model(tiny_store)(batch).intensity
    smooth = _model(tiny_store, gaussian_smoothing_sigma=1.0)(batch).intensity
    masked = _model(tiny_store, probe_mask=True)(batch).intensity
    assert (plain - smooth).abs().max() > 1e-3
    assert (plain - masked).abs().max() > 1e-3


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_the_mask_has_the_area_of_its_disk(sigma):
    config = ps.ModelConfig(N=64, probe_mask_diameter=24, probe_mask_sigma=sigma)
    mask = mask_of(config)
    assert mask.sum().item() == pytest.approx(np.pi * 12**2, rel=0.02)
    assert ((mask == 0) | (mask == 1)).all().item() is (sigma == 0)


def test_bad_pixels_of_the_data_are_taken_over(tiny_store):
    bad = np.zeros((1, 16, 16), bool)
    bad[0, 2, 3] = True
    model = ps.PtychoPINN(
        ps.ModelConfig(N=16, architecture="unrolled"), tiny_store.probe, bad_pixels=bad
    )
    assert not model.good_pixels[0, 2, 3]
    assert model.good_pixels.sum() == 255


@pytest.mark.parametrize("held_out", [1, 3])
def test_witnesses_are_predicted_from_the_seeds_patch(tmp_path, held_out):
    # With the true patches, their diffraction is right, though they are off the seed's centre.
    scan = ps.simulate_scan(
        object="bars_and_ellipses", probe="gaussian", num_positions=100, N=32, step=1.5, noise=False
    )
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    groups = store.groups(1, 4, held_out=held_out)
    assert groups.group_size == 1 + held_out
    batch = next(iter(ps.make_loader(store, groups, batch_size=100, order="table")))
    model = ps.PtychoPINN(ps.ModelConfig(N=32, architecture="unrolled"), store.probe)
    truth = torch.tensor(store.object_guess)
    patches = []
    for x, y in store.positions:
        left, top = int(np.floor(x)) - 16, int(np.floor(y)) - 16
        rest = torch.tensor([np.floor(x) - x, np.floor(y) - y])
        patches.append(fourier_shift(truth, rest)[top : top + 32, left : left + 32])
    unit = (store.N / 2) / np.sqrt(store.total_counts.mean())
    power = np.sqrt(probe_power(32, 4.0) / np.sum(np.abs(store.probe) ** 2))
    true_patches = torch.stack(patches)[:, None] * (unit / power)
    model.generator.forward = lambda *_: true_patches
    predicted = model(batch).intensity
    measured = (batch["diffraction"] * batch["rms_scale"]).square()
    assert predicted.shape == measured.shape == (100, 1 + held_out, 32, 32)
    error = (predicted - measured).abs().sum((-2, -1)) / measured.sum((-2, -1))
    inner = (store.positions > 18 + 3).all(axis=1) & (store.positions < 18 + 11).all(axis=1)
    assert error[inner].max() < 0.02


def test_the_mask_is_the_datas_also_where_the_probe_is_the_models(tiny_store):
    model = _model(tiny_store)
    bad = np.zeros((1, 16, 16), bool)
    bad[0, 2, 3] = True
    assert not model.with_probe(tiny_store.probe, bad).good_pixels[0, 2, 3]
    assert model.with_probe(tiny_store.probe).good_pixels.all()
    assert model.good_pixels.all()


def test_the_generator_knows_bad_pixels_where_there_are_any(tiny_store, batch):
    bad = np.zeros((1, 16, 16), bool)
    bad[0, 8, 8] = True
    model = _model(tiny_store)
    masked = model.with_probe(tiny_store.probe, bad)
    assert (model(batch).object_patches - masked(batch).object_patches).abs().max() > 1e-3
    again = masked.with_probe(tiny_store.probe)
    torch.testing.assert_close(again(batch).object_patches, model(batch).object_patches)


def test_other_data_keep_the_learned_scale(tiny_store):
    model = _model(tiny_store, intensity_scale_trainable=True)
    with torch.no_grad():
        model.log_scale.fill_(0.7)
    other = model.with_probe(1j * tiny_store.probe[:, :, ::-1].copy())
    assert other.log_scale == model.log_scale
    one, two = (m.scaled_probe(torch.tensor([0])).abs().square().sum() for m in (model, other))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("wrong", [lambda p: p.real, lambda p: p[:, :1], lambda p: p[..., 1:]])
def test_patches_of_another_kind_or_shape_are_refused_by_the_generators_name(
    tiny_store, batch, wrong
):
    model = _model(tiny_store)
    model.generator.register_forward_hook(lambda module, inputs, patches: wrong(patches))
    with pytest.raises(ConfigurationError, match=type(model.generator).__name__):
        model(batch)
