import numpy as np
import pytest
from scipy.spatial import cKDTree

from ptychostream.datasets.grouping import nearest, table
from ptychostream.datasets.grouping.neighbors_by_cell import neighbors_by_cell
from ptychostream.datasets.grouping.parameters import GroupingParameters


def _positions(kind: str, number: int = 600) -> np.ndarray:
    rng = np.random.default_rng(3)
    spread = rng.normal(scale=50, size=(number, 2))
    if kind == "line":
        spread[:, 0] = 7
    elif kind == "outliers":
        spread[::100] *= 1e4
    elif kind == "clusters":
        spread += rng.integers(3, size=(number, 1)) * 1e5
    elif kind == "one place":
        spread[: number // 2] = 1.5
    return spread


@pytest.mark.parametrize("kind", ["cloud", "line", "outliers", "clusters", "one place"])
@pytest.mark.parametrize(("per_cell", "some"), [(5, False), (40, True), (1000, True)])
def test_neighbours_found_cell_by_cell_are_those_of_one_search(kind, per_cell, some):
    positions, count = _positions(kind), 7
    centres = np.arange(len(positions))
    if some:
        centres = np.sort(np.random.default_rng(0).choice(centres, 150, replace=False))
    found = neighbors_by_cell(positions, centres, count, per_cell=per_cell)
    distances = np.linalg.norm(positions[found] - positions[centres, None], axis=2)
    all_near, _ = cKDTree(positions).query(positions[centres], k=count + 1)
    assert not (found == centres[:, None]).any()
    assert all(len(set(row)) == count for row in found.tolist())
    np.testing.assert_allclose(distances, all_near[:, 1:], rtol=1e-12)


def test_groups_of_many_positions_are_those_of_few(monkeypatch):
    positions = _positions("cloud", 900)
    experiments = np.repeat([0, 1, 0], 300)
    parameters = GroupingParameters(gridsize=2, neighbor_count=5, groups_per_position=2)
    whole = table.compute_groups(positions, experiments, parameters)
    monkeypatch.setattr(nearest, "_IN_ONE_TREE", 100)
    monkeypatch.setattr("ptychostream.datasets.large_tables.IN_MEMORY", 500)
    monkeypatch.setattr("ptychostream.datasets.large_tables._BLOCK", 128)
    by_cell = table.compute_groups(positions, experiments, parameters)
    np.testing.assert_array_equal(by_cell.nn_indices, whole.nn_indices)
    assert (experiments[whole.nn_indices] == experiments[whole.nn_indices[:, :1]]).all()
