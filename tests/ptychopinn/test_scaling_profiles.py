"""The two scaling profiles: an inseparable pair in configuration, file, store and archive."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.datasets.batches.scaling import profile_of, scales_of
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.ptychopinn.container import load
from ptychostream.scan import ArrayPatterns
from ptychostream.workflows import train_cdi_model

COUNTS = {"scale_contract_version": "ci_intensity_v2", "measurement_domain": "count_intensity"}
AMPLITUDES = {"scale_contract_version": "legacy_v1", "measurement_domain": "normalized_amplitude"}
QUIET = ps.PyTorchExecutionConfig(logger_backend=None, enable_checkpointing=False)


def _scaled(scan, dose):
    """The same measurement with more light: counts and the probe's power grow together."""
    counts = next(scan.patterns.blocks(scan.num_patterns)).astype(np.uint32) * dose
    probe = (scan.probe * np.sqrt(dose)).astype(np.complex64)
    return replace(scan, patterns=ArrayPatterns(counts), probe=probe)


@pytest.fixture
def amplitudes(tiny_scan, tmp_path):
    """A store of amplitudes whose squares are no whole numbers: the dose is lost."""
    amplitude = np.sqrt(next(tiny_scan.patterns.blocks(64)) / 7).astype(np.float32)
    scan = replace(tiny_scan, patterns=ArrayPatterns(amplitude), measurement_domain="amplitude")
    return ps.build_group_store(scan, tmp_path / "amplitude.zarr", progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {"scale_contract_version": "ci_intensity_v2"},
        {"measurement_domain": "count_intensity"},
        COUNTS | {"measurement_domain": "normalized_amplitude"},
        AMPLITUDES | {"scale_contract_version": "ci_intensity_v2"},
    ],
    ids=str,
)
def test_half_a_pair_is_refused(options):
    with pytest.raises(ConfigurationError, match="are no scaling profile; set"):
        ps.TrainingConfig(**options)


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigurationError, match="scale_contract_version='v3'"):
        ps.TrainingConfig(scale_contract_version="v3", measurement_domain="count_intensity")


def test_data_that_carry_counts_are_compared_in_counts(tiny_store, amplitudes):
    assert profile_of(tiny_store) == "ci_intensity_v2"
    assert profile_of(amplitudes) == "legacy_v1"
    assert scales_of(tiny_store, 1e9).physics == 1
    scales = scales_of(tiny_store, 1e9, "legacy_v1")
    # The closed form of the contract: √nphotons / (N/2).
    assert scales.intensity_scale[0] == pytest.approx(np.sqrt(1e9) / 8)
    assert scales_of(amplitudes, 1e9).intensity_scale[0] == pytest.approx(np.sqrt(1e9) / 8)
    # And from counts: √(mean photons) / (N/2).
    photons = np.sqrt(tiny_store.total_counts.mean())
    assert scales_of(tiny_store).intensity_scale[0] == pytest.approx(photons / 8)


@pytest.mark.parametrize("asked", [{}, COUNTS, AMPLITUDES], ids=["by the data", "ci", "legacy"])
def test_the_archive_says_which_it_was(tiny_store, make_config, tmp_path, asked):
    config = make_config(backend="pytorch", **asked)
    train_cdi_model(tiny_store, None, config, QUIET)
    kept = ps.load_bundle(tmp_path)
    expected = asked or COUNTS
    assert {name: getattr(kept.config, name) for name in expected} == expected
    version = expected["scale_contract_version"]
    # The dose that the scan was simulated with, as the configuration leaves it open.
    scale = scales_of(tiny_store, 1e5, version).intensity_scale[0]
    assert kept.intensity_scale == pytest.approx(scale)


def test_amplitudes_without_counts_are_not_compared_with_counts(amplitudes, make_config):
    with pytest.raises(DataContractError, match="without photon counts"):
        ps.train(make_config(**COUNTS), amplitudes, execution=QUIET)
    bundle = ps.train(make_config(), amplitudes, execution=QUIET)
    assert bundle.config.scale_contract_version == "legacy_v1"


def test_a_container_holds_normalised_amplitudes(tiny_scan, make_config):
    raw = ps.RawDataTorch.from_scan(tiny_scan)
    grouped = raw.generate_grouped_data(16, nsamples=64, gridsize=1, seed=0)
    container = load(lambda: grouped, raw.probeGuess, nphotons=1e5)
    options = {"backend": "pytorch"}
    with pytest.raises(DataContractError, match="holds amplitudes without photon counts"):
        train_cdi_model(container, None, make_config(**options, **COUNTS), QUIET)
    results = train_cdi_model(container, None, make_config(**options), QUIET)
    assert results["bundle"].config.measurement_domain == "normalized_amplitude"


@pytest.mark.parametrize("asked", [COUNTS, AMPLITUDES], ids=["ci", "legacy"])
def test_the_object_does_not_change_with_the_dose(tiny_scan, make_config, tmp_path, asked):
    objects = []
    for dose in (1, 100):
        scan = _scaled(tiny_scan, dose)
        store = ps.build_group_store(scan, tmp_path / f"{dose}.zarr", progress=False)
        bundle = ps.train(make_config(nepochs=2, **asked), store, execution=QUIET)
        objects.append(ps.reconstruct(bundle, store, passes=0).object)
    assert np.abs(objects[0]).mean() > 0.3
    np.testing.assert_allclose(objects[1], objects[0], atol=1e-3)


def test_a_file_may_name_its_profile(tiny_scan, tmp_path):
    raw = ps.RawDataTorch.from_scan(tiny_scan)
    raw.to_file(tmp_path / "scan.npz")
    with np.load(tmp_path / "scan.npz") as written:
        members = dict(written)
    counts = next(tiny_scan.patterns.blocks(64)).astype(np.float32)

    def read(**names):
        np.savez(tmp_path / "named.npz", **(members | {"diff3d": counts + 0.5} | names))
        return ps.read_scan(tmp_path / "named.npz").measurement_domain

    assert read(**COUNTS) == "counts"
    assert read(**AMPLITUDES) == "amplitude"
    with pytest.raises(ConfigurationError, match=r"named\.npz.*are no scaling profile"):
        read(**(COUNTS | {"measurement_domain": "normalized_amplitude"}))
    with pytest.raises(ConfigurationError, match=r"named\.npz.*are no scaling profile"):
        read(**(COUNTS | {"scale_contract_version": "v3"}))
    del members["measurement_domain"]
    with pytest.raises(ConfigurationError, match="measurement_domain=None"):
        read(scale_contract_version="ci_intensity_v2")


def test_a_profile_changes_nothing_but_the_unit_of_the_loss(tiny_store, make_config):
    models = [
        ps.train(make_config(**asked), tiny_store, execution=QUIET).model.state_dict()
        for asked in ({}, COUNTS)
    ]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())
