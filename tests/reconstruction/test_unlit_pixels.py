import numpy as np
import pytest
from tiny import untrained

import ptychostream as ps


@pytest.mark.parametrize("passes", [0, 1])
def test_no_unlit_pixel_is_brighter_than_every_lit_one(
    tiny_scan, tiny_store, tmp_path, make_config, passes
):
    config = make_config()
    bundle = untrained(config, tiny_store)
    whole = ps.reconstruct(bundle, tiny_store, passes=passes)
    _check(whole)
    if passes:
        return
    # The objects so far of a scan that grows, too.
    path = tmp_path / "growing.zarr"
    ps.build_group_store(tiny_scan, path, growing=True)
    results = ps.reconstruct(bundle, ps.open_group_store(path), follow=True, interval_s=0.1)
    _check(next(iter(results)))


def _check(result):
    size, is_lit = np.abs(result.object), result.coverage > 0
    # The beam's tail reaches pixels that it hardly holds to anything.
    assert (size[~is_lit] > 0).sum() > 50
    assert size[~is_lit].max() == pytest.approx(size[is_lit].max(), rel=1e-5)
