"""What appended patterns take over from the experiment that they continue."""

from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.errors import DataContractError
from ptychostream.scan import ArrayPatterns


def test_patterns_far_from_the_experiments_others_are_refused(tiny_scan, tmp_path):
    target = tmp_path / "s.zarr"
    ps.build_group_store(tiny_scan.select(np.arange(40)), target, growing=True)
    near = tiny_scan.select(np.arange(40, 64))
    # Each half alone is a scan like any other.
    far = replace(near, positions=near.positions + np.array([4000, 0]))
    with pytest.raises(DataContractError, match=r"positions span 4\d\d\d x"):
        ps.append_patterns(target, far)
    assert ps.open_group_store(target).num_patterns == 40
    assert ps.append_patterns(target, near).num_patterns == 64


@pytest.mark.parametrize("is_given", [True, False])
def test_the_experiments_bad_pixels_count_for_nothing_in_what_is_appended(
    tiny_scan, tmp_path, is_given
):
    counts = tiny_scan.patterns.read(np.arange(64)).astype(np.float64)
    bad = np.zeros((16, 16), bool)
    bad[3, 4] = bad[9, 8] = True
    held = counts.copy()
    held[:, bad] = -1
    scan = replace(tiny_scan, patterns=ArrayPatterns(held), bad_pixels=bad)
    target = tmp_path / "s.zarr"
    ps.build_group_store(scan.select(np.arange(40)), target, growing=True)
    part = replace(scan.select(np.arange(40, 64)), bad_pixels=bad if is_given else None)
    store = ps.append_patterns(target, part)
    np.testing.assert_allclose(store.total_counts, counts[:, ~bad].sum(axis=1))
    (batch,) = ps.make_loader(store, store.groups(1), batch_size=64, shuffle=False)
    counts[:, bad] = 0
    np.testing.assert_allclose(batch["diffraction"][:, 0], np.sqrt(counts), rtol=1e-6)
