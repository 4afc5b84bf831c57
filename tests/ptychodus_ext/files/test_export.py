import tracemalloc

import numpy as np
import pytest
from ptychodus.api.reconstruct import ReconstructInput

import ptychostream as ps
from ptychodus_ext.files import export_training_data
from ptychostream.errors import ConfigurationError, StoreExistsError


def test_a_store_holds_the_counts_as_they_are(parameters, scan, tmp_path):
    export_training_data(tmp_path / "a.zarr", parameters)
    store = ps.open_group_store(tmp_path / "a.zarr")
    store.verify()
    assert store.measurement_domain == "counts"
    found = store.diffraction(np.arange(32))
    assert found.dtype == parameters.diffraction_patterns.dtype
    assert np.array_equal(found, parameters.diffraction_patterns)
    assert np.array_equal(store.bad_pixels[0], scan.bad_pixels)
    assert np.array_equal(store.probe[0], scan.probe)
    assert np.allclose(store.positions, scan.positions[1::2], atol=1e-6)
    assert np.array_equal(store.scan_index, np.arange(1, 64, 2))
    assert np.array_equal(store.object_guess, scan.object_guess)


def test_an_npz_file_holds_declared_amplitudes_without_bad_pixels(parameters, scan, tmp_path):
    export_training_data(tmp_path / "a.npz", parameters)
    found = ps.read_scan(tmp_path / "a.npz")
    assert found.measurement_domain == "amplitude"
    amplitudes = found.patterns.read(np.arange(32))
    assert amplitudes.dtype == np.float32
    expected = np.where(scan.bad_pixels, 0, parameters.diffraction_patterns)
    assert np.allclose(np.square(amplitudes.astype(float)), expected, rtol=1e-6)
    assert np.array_equal(found.bad_pixels, scan.bad_pixels)
    assert np.allclose(found.positions, scan.positions[1::2], atol=1e-6)
    assert np.array_equal(found.probe, scan.probe)
    assert ps.build_group_store(found, tmp_path / "a.zarr").has_photon_counts


def test_positions_are_those_of_ptychodus_and_half_a_pixel(
    parameters, written_by_ptychodus, tmp_path
):
    """The other route to pixels is ptychodus's own."""
    export_training_data(tmp_path / "ours.npz", parameters)
    with np.load(tmp_path / "ours.npz") as ours, np.load(written_by_ptychodus) as theirs:
        for axis in "xy":
            assert np.allclose(ours[f"{axis}coords"], theirs[f"{axis}coords"] + 0.5, atol=1e-6)
        assert np.array_equal(ours["probeGuess"], theirs["probeGuess"])
        assert np.array_equal(ours["objectGuess"], theirs["objectGuess"])


def test_no_copy_of_the_stack_is_made(parameters, tmp_path):
    stack = np.tile(parameters.diffraction_patterns, (400, 1, 1))
    points = list(parameters.product.probe_positions) * 400
    product = parameters.product
    many = type(product)(
        product.metadata,
        type(product.probe_positions)(points),
        product.probes,
        product.object_,
        product.losses,
    )
    large = ReconstructInput(stack, parameters.bad_pixels, many)
    tracemalloc.start()
    export_training_data(tmp_path / "a.npz", large)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < stack.nbytes / 2


def test_a_store_that_exists_is_kept_and_other_endings_are_refused(parameters, tmp_path):
    export_training_data(tmp_path / "a.zarr", parameters)
    with pytest.raises(StoreExistsError, match="exists"):
        export_training_data(tmp_path / "a.zarr", parameters)
    with pytest.raises(ConfigurationError, match=r"must end in .npz or .zarr"):
        export_training_data(tmp_path / "a.h5", parameters)


def test_a_name_without_a_suffix_is_completed(parameters, tmp_path):
    assert export_training_data(tmp_path / "a", parameters) == tmp_path / "a.npz"
    assert (tmp_path / "a.npz").is_file()
