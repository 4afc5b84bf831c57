import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptychostream.datasets.sources.pairing import pair_by_index
from ptychostream.errors import DataContractError


def test_duplicates_are_averaged_gaps_interpolated_and_the_rest_dropped():
    pairing = pair_by_index(
        np.array([0, 1, 2, 3, 4, 9]),
        np.array([4, 1, 1, 3]),
        np.array([[8.0, 0.0], [1.0, 1.0], [3.0, 5.0], [6.0, 9.0]]),
    )
    assert pairing.rows.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(pairing.positions, [[2, 3], [4, 6], [6, 9], [8, 0]])
    assert (pairing.averaged, pairing.interpolated, pairing.dropped) == (1, 1, 2)
    assert "1 indexes averaged, 1 interpolated, 2 patterns dropped" in pairing.report()


@given(seed=st.integers(0, 2**31), number=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_complete_indexes_in_any_order_return_every_position(seed, number):
    rng = np.random.default_rng(seed)
    positions, order = rng.normal(size=(number, 2)), rng.permutation(number)
    pairing = pair_by_index(np.arange(number), order, positions[order])
    np.testing.assert_allclose(pairing.positions, positions)
    assert (pairing.averaged, pairing.interpolated, pairing.dropped) == (0, 0, 0)


def test_patterns_without_any_position_are_refused():
    with pytest.raises(DataContractError, match="indexes 5 to 9, positions 0 to 2"):
        pair_by_index(np.arange(5, 10), np.arange(3), np.zeros((3, 2)))
    with pytest.raises(DataContractError, match="no positions"):
        pair_by_index(np.arange(5), np.arange(0), np.zeros((0, 2)))
