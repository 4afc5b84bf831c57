import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ptychostream as ps
from ptychostream.errors import DataContractError


@given(gridsize=st.sampled_from([1, 2, 3]), rows=st.lists(st.integers(0, 63), min_size=1))
@settings(max_examples=25, deadline=None)
def test_spec_dictionary_round_trips(tiny_store, gridsize, rows):
    groups = tiny_store.groups(gridsize, 10)
    spec = ps.to_spec_dict(tiny_store, groups, np.array(rows))
    batch = ps.from_spec_dict(spec, tiny_store.probe[0])
    members = gridsize**2
    assert spec["diffraction"].shape == (len(rows), 16, 16, members)
    np.testing.assert_array_equal(
        np.moveaxis(batch["diffraction"].numpy(), 1, -1), spec["diffraction"]
    )
    np.testing.assert_array_equal(batch["nn_indices"], groups.nn_indices[rows])
    np.testing.assert_allclose(
        spec["coords_offsets"] - spec["coords_relative"], spec["coords_nn"], atol=1e-9
    )
    np.testing.assert_allclose(
        batch["coords_relative"].numpy(), np.moveaxis(spec["coords_relative"], -1, 1), rtol=1e-6
    )


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
    energy = np.square(spec["X_full"], dtype=np.float64).sum(axis=(1, 2)).mean()
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
