import numpy as np
import pytest

from ptychostream.errors import DataContractError
from ptychostream.geometry import check_extent, object_grid, patch_corners, split_coordinates


def test_relative_coordinates_are_centre_minus_member():
    positions = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0]])
    offsets, relative = split_coordinates(positions, np.array([[0, 1], [1, 2]]))
    np.testing.assert_allclose(offsets, [[2, 0], [4, 1]])
    np.testing.assert_allclose(relative[0], [[2, 0], [-2, 0]])
    np.testing.assert_allclose(offsets[:, None] - relative, positions[[[0, 1], [1, 2]]])


def test_corners_are_row_then_column_and_fractions_x_then_y():
    corners, fractions = patch_corners(np.array([[20.75, 9.5]]), 8)
    assert corners.tolist() == [[5, 16]]
    np.testing.assert_allclose(fractions, [[0.75, 0.5]])


def test_grid_is_the_smallest_that_holds_every_patch():
    grid = object_grid(np.array([[8.0, 8.0], [20.25, 11.0]]), 16)
    assert grid.shape == (19, 29)
    assert grid.origin == (0, 0)


def test_metres_are_no_pixels():
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), axis=-1).reshape(-1, 2)
    check_extent(grid, 16, name="scan")
    check_extent(grid[:2] * 1e-8, 16, name="the first of a scan that grows")
    check_extent(grid * 0, 16, name="repeated exposures")
    with pytest.raises(DataContractError, match="within 3e-08 x 3e-08 px.*if these are metres"):
        check_extent(grid * 1e-8, 16, name="scan")


def test_grid_begins_before_zero_where_patches_do():
    grid = object_grid(np.array([[-3.0, 2.5], [0.0, 9.0]]), 8)
    assert grid.origin == (-7, -2)
    assert grid.shape == (13 + 2, 4 + 7)


def test_the_object_guess_decides_the_grid():
    assert object_grid(np.array([[8.0, 8.0]]), 16, (40, 50)).shape == (40, 50)


def test_a_scan_far_from_the_origin_has_a_grid_of_its_own_size():
    near = np.array([[8.0, 8.0], [20.25, 11.0]])
    assert object_grid(near + 60, 16).origin == (0, 0)
    far = object_grid(near + [1e5, 2e5], 16)
    assert far.origin == (100_000, 200_000)
    assert far.shape == object_grid(near, 16).shape
    check_extent(near + [1e5, 2e5], 16, name="far")


def test_an_outlier_is_refused_with_its_row_and_values():
    positions = np.random.default_rng(0).uniform(8, 60, (100, 2))
    check_extent(positions, 16, name="scan")
    positions[17] = (1e6, 3.0)
    with pytest.raises(DataContractError, match=r"position 17 at \(x=1e\+06, y=3\)"):
        check_extent(positions, 16, name="scan")
