import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.errors import DataContractError

PIXEL = 1.239841984e-6 / 8000 * 2.0 / (16 * 75e-6)


@pytest.fixture
def cxi(tiny_scan, tmp_path):
    path = tmp_path / "scan.cxi"
    metres = np.pad(tiny_scan.positions * PIXEL, ((0, 0), (0, 1)))
    with h5py.File(path, "w") as file:
        file["entry_1/data_1/data"] = tiny_scan.patterns.read(np.arange(64))
        file["entry_1/sample_1/geometry_1/translation"] = metres
        file["entry_1/instrument_1/source_1/energy"] = 8000 * 1.602176634e-19
        file["entry_1/instrument_1/detector_1/distance"] = 2.0
        file["entry_1/instrument_1/detector_1/x_pixel_size"] = 75e-6
        file["entry_1/instrument_1/detector_1/mask"] = np.eye(16, dtype=np.int32)
        file["entry_1/instrument_1/source_1/illumination"] = tiny_scan.probe[0]
    return path


def test_a_cxi_file_is_the_scan_with_positions_from_its_first_patch(tiny_scan, cxi):
    scan = ps.read_scan(cxi)
    shift = tiny_scan.positions - scan.positions
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-6)
    assert scan.positions.min() == pytest.approx(8)
    np.testing.assert_array_equal(
        scan.patterns.read(np.arange(64)), tiny_scan.patterns.read(np.arange(64))
    )
    np.testing.assert_array_equal(scan.probe, tiny_scan.probe)
    assert scan.bad_pixels.sum() == 16
    assert scan.metadata.energy_eV == pytest.approx(8000)
    assert scan.metadata.object_pixel_size_m == pytest.approx(PIXEL)
    assert scan.provenance["format"] == "cxi"


def test_nxptycho_places_are_found_too(tiny_scan, tmp_path):
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = tiny_scan.patterns.read(np.arange(64))
        for axis, label in enumerate("xy"):
            column = tiny_scan.positions[:, axis] * PIXEL
            file[f"entry/sample/transformations/{label}_translation"] = column
        file["entry/instrument/beam/incident_energy"] = 8000.0
        file["entry/instrument/detector/distance"] = 2.0
        file["entry/instrument/detector/x_pixel_size"] = [75e-6]
        file["entry/instrument/beam/probe"] = tiny_scan.probe
    np.testing.assert_allclose(
        np.diff(ps.read_scan(path).positions, axis=0),
        np.diff(tiny_scan.positions, axis=0),
        atol=1e-6,
    )


def test_patterns_that_have_checksums_are_compared_with_them(tiny_scan, cxi):
    with h5py.File(cxi, "r+") as file:
        del file["entry_1/data_1/data"]
        data = file.create_dataset(
            "entry_1/data_1/data",
            data=tiny_scan.patterns.read(np.arange(64)),
            chunks=(8, 16, 16),
            fletcher32=True,
        )
        at = data.id.get_chunk_info(5).byte_offset
    content = bytearray(cxi.read_bytes())
    content[at + 100] ^= 1
    cxi.write_bytes(content)
    scan = ps.read_scan(cxi, options=InputOptions(look="none"))
    with pytest.raises(DataContractError, match="can't be read in rows 40 to 47"):
        scan.patterns.read(np.arange(40, 48))


def test_bitshuffled_patterns_are_read(tiny_scan, cxi):
    import hdf5plugin

    counts = tiny_scan.patterns.read(np.arange(64))
    with h5py.File(cxi, "r+") as file:
        del file["entry_1/data_1/data"]
        file.create_dataset(
            "entry_1/data_1/data", data=counts, chunks=(8, 16, 16), **hdf5plugin.Bitshuffle()
        )
    np.testing.assert_array_equal(ps.read_scan(cxi).patterns.read(np.arange(64)), counts)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("entry_1/instrument_1/source_1/illumination", "no probe: looked for entry_1"),
        ("entry_1/sample_1/geometry_1/translation", "no positions: looked for entry_1"),
        ("entry_1/instrument_1/source_1/energy", "given: the photon energy"),
        ("entry_1/instrument_1/detector_1/distance", "given: the distance to the detector"),
    ],
)
def test_what_is_missing_is_named_with_its_places(cxi, name, message):
    with h5py.File(cxi, "r+") as file:
        del file[name]
    with pytest.raises(DataContractError, match=message):
        ps.read_scan(cxi)


def test_axes_that_do_not_fit_are_refused(cxi):
    with h5py.File(cxi, "r+") as file:
        del file["entry_1/sample_1/geometry_1/translation"]
        file["entry_1/sample_1/geometry_1/translation"] = np.zeros(64)
    with pytest.raises(DataContractError, match=r"\(64,\), expected \(M, 3\)"):
        ps.read_scan(cxi)


def test_any_flag_of_the_mask_marks_a_pixel_as_bad(cxi):
    # Of the CXI format: invalid, saturated, hot, dead, shadowed, bad, missing, and two at once.
    flags = [1, 2, 4, 8, 16, 0x80, 0x200, 3]
    mask = np.zeros((16, 16), np.uint32)
    mask[2, : len(flags)] = flags
    with h5py.File(cxi, "r+") as file:
        file["entry_1/instrument_1/detector_1/mask"][...] = mask
        # What was found in a pixel, or done with it, does not make it bad.
        file["entry_1/instrument_1/detector_1/mask"][5, :5] = [0x20, 0x800, 0x2000, 0x4000, 0x820]
    assert np.argwhere(ps.read_scan(cxi).bad_pixels).tolist() == [[2, i] for i in range(8)]


def test_detector_pixels_may_be_higher_than_wide(tiny_scan, cxi, caplog):
    square = ps.read_scan(cxi).positions
    with h5py.File(cxi, "r+") as file:
        file["entry_1/instrument_1/detector_1/y_pixel_size"] = 150e-6
    # A detector that reaches twice as far shows half as large pixels of the object.
    positions = ps.read_scan(cxi).positions
    np.testing.assert_allclose(positions[:, 0], square[:, 0])
    np.testing.assert_allclose(positions[:, 1] - 8, 2 * (square[:, 1] - 8), atol=1e-9)
    assert "7.5e-05 m wide and 0.00015 m high" in caplog.text
