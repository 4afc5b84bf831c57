from pathlib import Path

import numpy as np
import pytest

from ptychostream.errors import ConfigurationError
from ptychostream.ptychopinn.reassembly import reassemble_position

FIXTURE = dict(np.load(Path(__file__).parents[1] / "data" / "contract" / "reassembly.npz"))


@pytest.mark.parametrize("M", [10, 20])
def test_the_canvas_is_that_of_the_existing_backend(M):
    expected = FIXTURE[f"reasm_M{M}"]
    obj = reassemble_position(FIXTURE["reasm_in"], FIXTURE["reasm_off"], M)
    assert obj.dtype == np.complex64
    np.testing.assert_allclose(obj, expected, atol=1e-6)


def test_true_patches_give_the_object_back():
    y, x = np.mgrid[:60, :60]
    truth = (1 + 0.01 * x + 0.02j * y).astype(np.complex64)
    centres = np.array([[20, 22], [30, 26], [26, 32], [36, 24]])
    patches = np.stack([truth[r - 8 : r + 8, c - 8 : c + 8] for c, r in centres])[..., None]
    obj = reassemble_position(patches, centres[:, None, :, None].astype(float), 12)[..., 0]
    rows, columns = np.nonzero(np.abs(obj) > 0.5)
    mean = centres.mean(axis=0)
    half = len(obj) // 2
    expected = truth[(rows - half + mean[1]).astype(int), (columns - half + mean[0]).astype(int)]
    np.testing.assert_allclose(obj[rows, columns], expected, rtol=1e-5)
    assert len(rows) > 12 * 12


@pytest.mark.parametrize("M", [0, 7, 40])
def test_a_window_that_is_none_is_refused(M):
    with pytest.raises(ConfigurationError, match=rf"M={M} must be an even number"):
        reassemble_position(FIXTURE["reasm_in"], FIXTURE["reasm_off"], M)
