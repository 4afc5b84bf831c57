"""The network sees intensities at the scale of PtychoPINN's `ci_intensity_v2`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.config import PyTorchExecutionConfig
from ptychostream.errors import ConfigurationError
from ptychostream.scan import ArrayPatterns
from ptychostream.training.run import resolve_run
from ptychostream.training.train import initial_model

QUIET = PyTorchExecutionConfig(logger_backend=None, enable_checkpointing=False)
MODEL = ps.ModelConfig(N=64, n_filters_scale=1, cnn_input="intensity")


@pytest.fixture(scope="module")
def scan():
    return ps.simulate_scan(num_positions=12, N=64, seed=1, nphotons=1e5)


@pytest.fixture(scope="module")
def store(scan, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "scan.zarr"
    return ps.build_group_store(scan, path, progress=False)


def _config(folder, **options):
    return ps.TrainingConfig(
        model=MODEL, nepochs=1, batch_size=4, backend="pytorch", output_dir=folder, **options
    )


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    return ps.train(_config(tmp_path_factory.mktemp("run")), store, execution=QUIET)


def _expected(counts):
    """I · √((N/2)² / mean Σ I²), in double precision."""
    counts = counts.astype(np.float64)
    return counts * np.sqrt(32**2 / (counts**2).sum(axis=(1, 2)).mean())


def test_the_network_sees_intensities_at_the_stated_scale(scan, store, trained):
    counts = next(scan.patterns.blocks(scan.num_patterns))
    run = resolve_run(trained.config, store, None, QUIET, None)
    seen = np.zeros((len(counts), 64, 64))

    def look(_, given):
        shown.append(given[0])

    shown = []
    hook = trained.model.generator.register_forward_pre_hook(look)
    for batch in run.loader("train", 0, 1, torch.device("cpu")):
        with torch.no_grad():
            trained.model(batch)
        seen[batch["nn_indices"][:, 0].numpy()] = shown.pop()[:, 0].numpy()
    hook.remove()
    np.testing.assert_allclose(seen, _expected(counts), rtol=2e-5, atol=1e-6)


def test_a_brighter_beam_shows_the_network_the_same(scan, store, trained, tmp_path):
    counts = next(scan.patterns.blocks(scan.num_patterns)).astype(np.uint32) * 100
    brighter = replace(
        scan, patterns=ArrayPatterns(counts), probe=(scan.probe * 10).astype(np.complex64)
    )
    other = ps.build_group_store(brighter, tmp_path / "other.zarr", progress=False)
    again = ps.train(_config(tmp_path), other, execution=QUIET)
    torch.testing.assert_close(
        again.model.intensity_input.factors, trained.model.intensity_input.factors
    )
    objects = [ps.reconstruct(trained, each, passes=0).object for each in (store, other)]
    np.testing.assert_allclose(objects[1], objects[0], atol=1e-3 * np.abs(objects[0]).max())


def test_the_archive_keeps_the_scale(trained, tmp_path):
    kept = ps.load_bundle(ps.save_bundle(trained, tmp_path))
    assert kept.config.model.cnn_input == "intensity"
    factors = trained.model.intensity_input.factors
    assert not torch.equal(factors, torch.ones(1))
    assert torch.equal(kept.model.intensity_input.factors, factors)
    inputs = [np.random.default_rng(0).random((2, 64, 64, 1)), np.zeros((2, 1, 2, 1))]
    np.testing.assert_allclose(kept.predict(inputs), trained.predict(inputs), atol=1e-6)


def test_other_data_are_seen_at_the_scale_of_the_training(store, trained):
    probe = np.roll(np.repeat(store.probe, 2, axis=0), 9, axis=-1)
    other = trained.model.with_probe(probe)
    assert torch.equal(
        other.intensity_input.factors, trained.model.intensity_input.factors.expand(2)
    )


def test_amplitudes_are_the_default_and_add_nothing_to_the_model(store):
    config = ps.TrainingConfig(model=replace(MODEL, cnn_input="amplitude"))
    model = initial_model(config, store, seed=0)
    assert model.intensity_input is None
    assert not [name for name in model.state_dict() if "intensity" in name]


def test_a_network_of_intensities_is_not_written_for_keras(trained, tmp_path):
    from ptychostream.persistence.ptychopinn.keras_export import export_weights

    with pytest.raises(ConfigurationError, match="cnn_input='intensity' has no counterpart"):
        export_weights(trained, tmp_path / "model.weights.h5")
