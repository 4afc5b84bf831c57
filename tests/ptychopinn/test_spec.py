from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ptychostream as ps
from ptychostream.errors import DataContractError
from ptychostream.scan import ArrayPatterns


@given(
    gridsize=st.sampled_from([1, 2, 3]),
    rows=st.lists(st.integers(0, 63), min_size=1),
    physics_scale=st.floats(0.1, 100),
)
@settings(max_examples=25, deadline=None)
def test_spec_dictionary_round_trips(tiny_store, gridsize, rows, physics_scale):
    groups = tiny_store.groups(gridsize, 10)
    spec = ps.to_spec_dict(tiny_store, groups, np.array(rows))
    batch = ps.from_spec_dict(spec, tiny_store.probe[0], physics_scale=physics_scale)
    back = {name: value.numpy() for name, value in batch.items()}
    np.testing.assert_array_equal(np.moveaxis(back["diffraction"], 1, -1), spec["diffraction"])
    np.testing.assert_array_equal(back["nn_indices"], groups.nn_indices[rows])
    np.testing.assert_array_equal(back["experiment_id"], spec["experiment_id"])
    for name in ("coords_offsets", "coords_relative"):
        np.testing.assert_array_equal(np.moveaxis(back[name], 1, -1), spec[name].astype(np.float32))
    np.testing.assert_allclose(
        np.moveaxis(back["diffraction"] * back["rms_scale"], 1, -1), spec["X_full"], rtol=1e-6
    )
    np.testing.assert_allclose(back["physics_scale"], physics_scale, rtol=1e-6)
    np.testing.assert_allclose(
        spec["coords_offsets"] - spec["coords_relative"], spec["coords_nn"], atol=1e-9
    )


@given(gridsize=st.sampled_from([1, 2, 3]), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_a_dictionary_becomes_the_batch_that_a_loader_gives(tiny_store, gridsize, seed):
    groups = tiny_store.groups(gridsize, 10)
    loader = ps.make_loader(tiny_store, groups, batch_size=64, seed=seed)
    (expected,) = list(loader)
    order = [
        int(np.flatnonzero((groups.nn_indices == members).all(axis=1))[0])
        for members in expected["nn_indices"].numpy()
    ]
    batch = ps.from_spec_dict(ps.to_spec_dict(tiny_store, groups, np.array(order)))
    for name, value in expected.items():
        # A loader normalises over the store, a dictionary over the groups.
        rtol = 0.2 if name == "rms_scale" else 1e-6
        np.testing.assert_allclose(batch[name].numpy(), value.numpy(), rtol=rtol, err_msg=name)


@pytest.mark.parametrize("gridsize", [1, 2, 3])
@pytest.mark.parametrize("which", ["tiny_store", "two_experiments"])
def test_blocks_of_rows_are_the_whole(request, gridsize, which):
    store = request.getfixturevalue(which)
    groups = store.groups(gridsize, 10)
    whole = ps.to_spec_dict(store, groups)
    blocks = [
        ps.to_spec_dict(store, groups, rows) for rows in np.array_split(np.arange(len(groups)), 5)
    ]
    for name in whole.keys() - {"objectGuess"}:
        together = np.concatenate([block[name] for block in blocks])
        np.testing.assert_array_equal(together, whole[name], err_msg=name)


def test_each_experiment_is_normalised_by_itself(two_experiments):
    spec = ps.to_spec_dict(two_experiments, two_experiments.groups(2, 6))
    for experiment in (0, 1):
        here = spec["X_full"][spec["experiment_id"] == experiment]
        assert np.square(here, dtype=np.float64).sum(axis=(1, 2)).mean() == pytest.approx(64)


def test_only_the_rows_that_are_asked_for_are_read(tiny_store, monkeypatch):
    read = []
    original = type(tiny_store).diffraction

    def watched(store, rows):
        read.append(len(rows))
        return original(store, rows)

    monkeypatch.setattr(type(tiny_store), "diffraction", watched)
    ps.to_spec_dict(tiny_store, tiny_store.groups(2, 6), np.arange(3))
    assert read == [12]


def test_flagged_pixels_are_zero_in_a_dictionary(tiny_scan, tmp_path):
    bad = np.zeros((16, 16), bool)
    bad[3, 4] = bad[8, 8] = True
    hot = next(tiny_scan.patterns.blocks(64)).copy()
    hot[:, bad] = 60000
    scan = replace(tiny_scan, patterns=ArrayPatterns(hot), bad_pixels=bad)
    store = ps.build_group_store(scan, tmp_path / "s.zarr", progress=False)
    raw = ps.RawDataTorch.from_scan(scan).generate_grouped_data(16, nsamples=64, gridsize=1)
    for spec in (ps.to_spec_dict(store, store.groups(1)), raw):
        assert (spec["diffraction"][:, bad] == 0).all()
        energy = np.square(spec["X_full"], dtype=np.float64).sum(axis=(1, 2)).mean()
        assert energy == pytest.approx(64)


def test_kinds_and_shapes_are_the_specifications(tiny_store):
    spec = ps.to_spec_dict(tiny_store, tiny_store.groups(2, 6), np.arange(5))
    expected = {
        "diffraction": ((5, 16, 16, 4), np.float32),
        "X_full": ((5, 16, 16, 4), np.float32),
        "Y": ((5, 16, 16, 4), np.complex64),
        "coords_offsets": ((5, 1, 2, 1), np.float64),
        "coords_relative": ((5, 1, 2, 4), np.float64),
        "coords_nn": ((5, 1, 2, 4), np.float64),
        "coords_start_offsets": ((5, 1, 2, 1), np.float64),
        "coords_start_relative": ((5, 1, 2, 4), np.float64),
        "coords_start_nn": ((5, 1, 2, 4), np.float64),
        "nn_indices": ((5, 4), np.int64),
    }
    assert {k: (spec[k].shape, spec[k].dtype) for k in expected} == {
        k: (shape, np.dtype(kind)) for k, (shape, kind) in expected.items()
    }
    whole = ps.to_spec_dict(tiny_store, tiny_store.groups(2, 6))
    energy = np.square(whole["X_full"], dtype=np.float64).sum(axis=(1, 2)).mean()
    assert energy == pytest.approx(64)


def test_labels_lie_at_the_true_positions(tiny_store):
    groups = tiny_store.groups(1)
    spec = ps.to_spec_dict(tiny_store, groups, np.arange(3))
    x, y = tiny_store.positions[0]
    obj, column, row = tiny_store.object_guess, int(x), int(y)
    corner = obj[row : row + 2, column : column + 2]
    fx, fy = x - column, y - row
    expected = np.array([1 - fy, fy]) @ corner @ np.array([1 - fx, fx])
    assert spec["Y"][0, 8, 8, 0] == pytest.approx(expected, rel=1e-5)


def test_a_missing_key_is_named(tiny_store):
    spec = ps.to_spec_dict(tiny_store, tiny_store.groups(1), np.arange(3))
    del spec["coords_relative"]
    with pytest.raises(DataContractError, match="'coords_relative'"):
        ps.from_spec_dict(spec)
