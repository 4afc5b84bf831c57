"""`amplitude_physics_gain` multiplies the predicted amplitude."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

import ptychostream as ps

GAIN = 2.5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    scan = ps.simulate_scan(num_positions=12, N=64, seed=1, nphotons=1e5)
    return ps.build_group_store(scan, tmp_path_factory.mktemp("s") / "scan.zarr", progress=False)


def _bundle(store, gain, **options):
    torch.manual_seed(0)
    model = ps.ModelConfig(N=64, n_filters_scale=1, amplitude_physics_gain=gain, **options)
    return ps.ModelBundle(
        model=ps.PtychoPINN(model, store.probe).eval(),
        config=ps.TrainingConfig(model=model, backend="pytorch"),
        intensity_scale=1.0,
        probe_guess=store.probe,
    )


@pytest.mark.parametrize("compat", ["none", "upstream"])
def test_the_predicted_diffraction_is_that_of_a_stronger_probe(store, compat):
    bundle = _bundle(store, GAIN, compat=compat)
    batch = TensorDict(
        {
            "diffraction": torch.rand(2, 1, 64, 64),
            "rms_scale": torch.ones(2, 1, 1, 1),
            "coords_relative": torch.zeros(2, 1, 1, 2),
            "experiment_id": torch.zeros(2, dtype=torch.int64),
        },
        batch_size=[2],
    )
    with torch.no_grad():
        patches, found = bundle.model(batch)
    probe = bundle.model.probe.parts.detach().numpy().astype(np.float64)[0, 0]
    waves = patches.numpy()[:, 0].astype(np.complex128) * (probe[..., 0] + 1j * probe[..., 1])
    amplitude = np.abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1)))
    expected = (GAIN * amplitude) ** 2
    np.testing.assert_allclose(found.numpy()[:, 0], expected, atol=1e-5 * expected.max())


def test_the_true_beam_is_that_many_times_the_given_probe(store):
    # This network's patches do not depend on the probe.
    plain, louder = (ps.reconstruct(_bundle(store, gain), store, passes=0) for gain in (1.0, 1.25))
    np.testing.assert_allclose(louder.object, plain.object, atol=1e-3)
    np.testing.assert_allclose(louder.probe, 1.25 * plain.probe, rtol=1e-4, atol=1e-4)


def test_the_archive_keeps_it(store, tmp_path):
    kept = ps.load_bundle(ps.save_bundle(_bundle(store, GAIN), tmp_path))
    assert kept.config.model.amplitude_physics_gain == GAIN
    assert float(kept.model.scale.detach()) == pytest.approx(GAIN)


def test_it_is_a_setting_of_the_port():
    read = ps.config.from_older_schema
    assert read({"amplitude_physics_gain": 2}).model.amplitude_physics_gain == 2.0
    assert read({"model": {"amplitude_physics_gain": None}}) == read({})
    with pytest.raises(ps.errors.ConfigurationError, match="amplitude_physics_gain"):
        read({"amplitude_physics_gain": 0})
