"""Results leave as TIFF and CXI."""

import json

import h5py
import numpy as np
import pytest

from ptychostream.cli.main import main

PIXEL = 16e-9


@pytest.fixture
def result(tmp_path):
    """A result whose phase has a ramp, an offset and a hill of ten radians, lit in its middle."""
    y, x = np.indices((40, 50))
    hill = 10 * np.exp(-((x - 25) ** 2 + (y - 20) ** 2) / 80)
    amplitude = 0.8 + 0.1 * np.cos(x / 3)
    coverage = np.zeros((40, 50), np.float32)
    coverage[4:36, 5:45] = 1
    coverage[6:34, 8:42] = 5

    def write(*, pixel=PIXEL, height=1.0):
        phase = height * hill / 10 + 0.05 * x - 0.03 * y + 2.0
        obj = np.where(coverage > 0, amplitude * np.exp(1j * phase), 0)
        np.savez(
            tmp_path / "object.npz",
            object=obj.astype(np.complex64),
            coverage=coverage,
            origin=[3.0, 4.0],
            probe=np.ones((1, 8, 8), np.complex64),
            positions=np.array([[10.0, 12.0], [20.0, 22.0]]),
            object_pixel_size_m=pixel,
        )
        return hill * height / 10, amplitude, coverage

    write.folder = tmp_path
    return write


@pytest.mark.parametrize("height", [1.0, 10.0])
def test_tiff_holds_amplitude_and_phase_without_ramp_and_offset(result, height):
    tifffile = pytest.importorskip("tifffile", reason="needs ptychostream[formats]")
    hill, amplitude, coverage = result(height=height)
    words = ["export", str(result.folder), str(result.folder / "out.tif")]
    assert main([*words, *(["--unwrap"] if height > 3 else [])]) == 0
    with tifffile.TiffFile(result.folder / "out_phase.tif") as file:
        phase, tags = file.asarray(), file.pages[0].tags
        about = json.loads(file.pages[0].description)
    found = tifffile.imread(result.folder / "out_amplitude.tif")
    lit = coverage > 0
    assert found.dtype == phase.dtype == np.float32
    np.testing.assert_allclose(found[lit], amplitude[lit], rtol=1e-6)
    assert np.isnan(found[~lit]).all() and np.isnan(phase[~lit]).all()
    # A hill has a mean slope of nearly nothing: what is left is the hill and a constant.
    rest = (phase - hill)[coverage >= 3]
    assert np.std(rest) < 0.02 * np.std(hill) + 0.01
    per_cm = tags["XResolution"].value[0] / tags["XResolution"].value[1]
    assert tags["ResolutionUnit"].value == 3
    assert 0.01 / per_cm == pytest.approx(PIXEL) == about["pixel_size_m"]
    assert about["unit"] == "rad"


def test_an_unknown_pixel_is_in_no_file(result):
    tifffile = pytest.importorskip("tifffile", reason="needs ptychostream[formats]")
    result(pixel=np.nan)
    assert main(["export", str(result.folder), str(result.folder / "out.tif")]) == 0
    with tifffile.TiffFile(result.folder / "out_phase.tif") as file:
        assert json.loads(file.pages[0].description)["pixel_size_m"] == "unknown"
        assert file.pages[0].tags["ResolutionUnit"].value == 1
    assert main(["export", str(result.folder), str(result.folder / "out.cxi")]) == 0
    with h5py.File(result.folder / "out.cxi") as file:
        assert "x_pixel_size" not in file["entry_1/image_1"]


def test_cxi_holds_object_probe_and_positions_in_metres_cropped_where_asked(result):
    result()
    target = result.folder / "out.cxi"
    arrays = np.load(result.folder / "object.npz")
    assert main(["export", str(result.folder), str(target)]) == 0
    with h5py.File(target) as file:
        np.testing.assert_array_equal(file["entry_1/data_1/data"][()], arrays["object"])
        assert file["entry_1/image_1/x_pixel_size"][()] == PIXEL
        steps = file["entry_1/sample_1/geometry_1/translation"][:, :2] / PIXEL
        np.testing.assert_allclose(steps, arrays["positions"] - arrays["origin"])
    assert main(["export", str(result.folder), str(target), "--covered"]) == 1
    assert main(["export", str(result.folder), str(target), "--covered", "--overwrite"]) == 0
    with h5py.File(target) as file:
        np.testing.assert_array_equal(
            file["entry_1/image_1/data"][()], arrays["object"][6:34, 8:42]
        )
        steps = file["entry_1/sample_1/geometry_1/translation"][:, :2] / PIXEL
        np.testing.assert_allclose(steps, arrays["positions"] - arrays["origin"] - [8, 6])


def test_what_is_no_result_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), str(tmp_path / "out.tif")]) == 1
    assert "name the folder that `reconstruct` wrote" in capsys.readouterr().err
    np.savez(tmp_path / "object.npz", object=np.ones((4, 4), np.complex64))
    assert main(["export", str(tmp_path), str(tmp_path / "out.tif")]) == 1
    assert "lacks coverage" in capsys.readouterr().err


def test_a_simulated_scan_is_written_as_the_contract_has_it(tmp_path):
    words = ["simulate", str(tmp_path / "s.npz"), "--num_positions", "9", "--N", "16"]
    assert main([*words, "--flavour", "contract"]) == 0
    scan = np.load(tmp_path / "s.npz")
    assert scan["diff3d"].dtype == np.float32
    np.testing.assert_allclose(scan["diff3d"] ** 2, np.rint(scan["diff3d"] ** 2), atol=0.5)
    assert main(["simulate", str(tmp_path / "s.h5"), "--flavour", "contract"]) == 1
