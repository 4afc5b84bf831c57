import json
import pickle

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.ptychodus.product import write_product
from ptychostream.errors import DataContractError
from ptychostream.scan import ScanMetadata


@pytest.fixture
def folder(tiny_scan, tmp_path):
    write_product(
        tmp_path / "product.h5",
        obj=tiny_scan.object_guess,
        probe=tiny_scan.probe,
        positions=tiny_scan.positions,
        metadata=ScanMetadata(energy_eV=9000.0, detector_distance_m=2.0),
    )
    with h5py.File(tmp_path / "diffraction.h5", "w") as file:
        file["indexes"] = np.arange(64)
        file["patterns"] = tiny_scan.patterns.read(np.arange(64))
        file["patterns"].attrs["detector_pixel_width_m"] = 75e-6
        file["bad_pixels"] = np.eye(16, dtype=bool)
    return tmp_path


@pytest.mark.parametrize("name", ["", "product.h5", "diffraction.h5"])
def test_a_folder_or_one_of_its_files_is_the_scan(tiny_scan, folder, name):
    scan = ps.read_scan(folder / name)
    assert scan.measurement_domain == "counts"
    np.testing.assert_allclose(scan.positions, tiny_scan.positions, atol=1e-6)
    np.testing.assert_array_equal(scan.probe, tiny_scan.probe)
    np.testing.assert_array_equal(scan.object_guess, tiny_scan.object_guess)
    rows = np.array([7, 63, 7, 0])
    np.testing.assert_array_equal(scan.patterns.read(rows), tiny_scan.patterns.read(rows))
    assert scan.bad_pixels.sum() == 16
    assert scan.metadata.energy_eV == 9000
    assert scan.metadata.detector_pixel_size_m == 75e-6


def test_pixels_may_be_taller_than_wide_and_the_object_off_centre(tiny_scan, folder):
    with h5py.File(folder / "product.h5", "r+") as file:
        attributes = file["object"].attrs
        attributes["pixel_height_m"] *= 3
        attributes["center_y_m"] = 3 * attributes["center_y_m"] - 5e-6
        file["probe_position_y_m"][:] = 3 * file["probe_position_y_m"][:] - 5e-6
    scan = ps.read_scan(folder)
    np.testing.assert_allclose(scan.positions, tiny_scan.positions, atol=1e-6)


def test_patterns_and_positions_are_paired_by_index(tiny_scan, folder):
    with h5py.File(folder / "diffraction.h5", "r+") as file:
        file["indexes"][...] = np.arange(64) + 3
    scan = ps.read_scan(folder)
    assert scan.num_patterns == 61
    np.testing.assert_allclose(scan.positions, tiny_scan.positions[3:], atol=1e-6)
    first = tiny_scan.patterns.read(np.arange(61))
    np.testing.assert_array_equal(np.concatenate(list(scan.patterns.blocks(20))), first)
    assert "3 patterns dropped" in scan.provenance["pairing"]
    store = ps.build_group_store(scan, folder / "s.zarr")
    np.testing.assert_array_equal(store.diffraction(np.arange(61)), first)


def test_a_product_may_carry_amplitudes_of_its_own(tiny_scan, folder):
    amplitude = np.sqrt(tiny_scan.patterns.read(np.arange(64)), dtype=np.float32)
    (folder / "diffraction.h5").unlink()
    (folder / "product.h5").rename(folder / "other.h5")
    with h5py.File(folder / "other.h5", "r+") as file:
        file["raw_data/diffraction"] = amplitude
        file["raw_data/_metadata"] = np.void(pickle.dumps(json.dumps({"nphotons": 1e6})))
    scan = ps.read_scan(folder / "other.h5")
    assert scan.metadata.nphotons == 1e6
    assert scan.measurement_domain == "amplitude"
    np.testing.assert_array_equal(scan.patterns.read(np.arange(64)), amplitude)


@pytest.mark.parametrize(
    ("file", "key"),
    [("product.h5", "probe"), ("product.h5", "object"), ("diffraction.h5", "patterns")],
)
def test_a_missing_dataset_is_named(folder, file, key):
    with h5py.File(folder / file, "r+") as opened:
        del opened[key]
    with pytest.raises(DataContractError, match=f"{file}' lacks '{key}'"):
        ps.read_scan(folder)


def test_patterns_by_external_link_and_virtual_dataset_are_read(tiny_scan, folder):
    counts = tiny_scan.patterns.read(np.arange(64))
    for part in range(2):
        with h5py.File(folder / f"part{part}.h5", "w") as file:
            file["data"] = counts[32 * part : 32 * part + 32]
    layout = h5py.VirtualLayout((64, 16, 16), counts.dtype)
    for part in range(2):
        source = h5py.VirtualSource(f"part{part}.h5", "data", (32, 16, 16))
        layout[32 * part : 32 * part + 32] = source
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with h5py.File(folder / "diffraction.h5", "r+") as file:
        del file["patterns"]
        file["patterns"] = h5py.ExternalLink("all.h5", "data")
    np.testing.assert_array_equal(ps.read_scan(folder).patterns.read(np.arange(64)), counts)
    (folder / "all.h5").unlink()
    with pytest.raises(DataContractError, match=r"diffraction\.h5"):
        ps.read_scan(folder)


def test_truncated_files_are_refused(folder):
    for name in ("product.h5", "diffraction.h5"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(DataContractError, match=name.replace(".", r"\.")):
            ps.read_scan(folder)
        (folder / name).write_bytes(data)


def test_layers_of_an_object_are_multiplied(tiny_scan, folder, caplog):
    with h5py.File(folder / "product.h5", "r+") as file:
        attributes = dict(file["object"].attrs)
        obj = file["object"][:].reshape(1, *tiny_scan.object_guess.shape)
        del file["object"]
        file["object"] = np.concatenate([obj, np.full_like(obj, 0.5j)])
        file["object"].attrs.update(attributes)
    np.testing.assert_allclose(
        ps.read_scan(folder).object_guess, 0.5j * tiny_scan.object_guess, rtol=1e-6
    )
    assert "the object has 2 layers" in caplog.text
