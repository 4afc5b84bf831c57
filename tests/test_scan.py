from dataclasses import replace

import numpy as np
import pytest

from ptychostream.errors import DataContractError
from ptychostream.scan import ArrayPatterns


def _changed(scan, **changes):
    return replace(scan, **changes)


def test_a_scan_counts_its_patterns(tiny_scan):
    assert (tiny_scan.num_patterns, tiny_scan.N) == (64, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.ones((63, 2))}, "64 diffraction patterns but 63 scan positions"),
        ({"positions": np.full((64, 2), np.nan)}, "64 of positions are not finite, .* row 0"),
        ({"positions": np.ones(64)}, r"expected \(M, 2\)"),
        ({"probe": np.ones((1, 8, 8), np.complex64)}, r"\(1, 8, 8\) but patterns are 16 x 16"),
        ({"probe": np.zeros((1, 16, 16), np.complex64)}, "zero everywhere"),
        ({"patterns": ArrayPatterns(np.ones((64, 16, 12)))}, r"\(64, 16, 12\), expected"),
        ({"patterns": ArrayPatterns(np.ones((16, 16, 64)))}, r"np.moveaxis"),
        ({"patterns": ArrayPatterns(np.ones((64, 15, 15)))}, "even number"),
        ({"patterns": ArrayPatterns(np.ones((0, 16, 16)))}, "no patterns"),
        ({"patterns": ArrayPatterns(np.ones((64, 16, 16), complex))}, "expected real"),
        ({"measurement_domain": "intensity"}, "'counts' or 'amplitude'"),
        ({"object_guess": np.ones((4, 4, 4), np.complex64)}, "object guess"),
        ({"scan_index": np.zeros(3, np.int64)}, "scan_index"),
        ({"bad_pixels": np.zeros((4, 4), bool)}, "bad_pixels"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tiny_scan, changes, message):
    with pytest.raises(DataContractError, match=message):
        _changed(tiny_scan, **changes)
