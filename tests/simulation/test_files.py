"""Objects, probes and positions in files: paths, damage, and numbers that are none."""

import json
import traceback

import h5py
import numpy as np
import pytest
import skimage.io

import ptychostream as ps
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError
from ptychostream.scan import ScanMetadata
from ptychostream.simulation import Detector, labels_from_experiment

SMALL = {"num_positions": 9, "N": 16}
OBJECT = np.full((60, 60), 0.9 + 0.1j, np.complex64)
PROBE = np.ones((1, 16, 16), np.complex64)
POSITIONS = np.random.default_rng(0).uniform(20, 30, (9, 2))


def write(path):
    """One file with object, probe and positions; of `.npy` and pictures the object alone."""
    if path.suffix == ".npy":
        np.save(path, OBJECT)
    elif path.suffix == ".npz":
        x, y = POSITIONS.T
        np.savez(path, objectGuess=OBJECT, probeGuess=PROBE, xcoords=x, ycoords=y)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["object"], file["probe"] = OBJECT, PROBE
            file["probe_position_x_px"], file["probe_position_y_px"] = POSITIONS.T
    else:
        pixels = np.random.default_rng(0).integers(0, 255, (60, 60)).astype(np.uint8)
        skimage.io.imsave(path, pixels, check_contrast=False)
    return path


DAMAGE = {
    "empty": lambda content: b"",
    "something else": lambda content: b"this is no array of any kind\n",
    "cut": lambda content: content[: len(content) // 2],
    "beginning lost": lambda content: content[20:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("ending", ["npy", "npz", "h5", "png", "tif", "jpg"])
def test_a_damaged_file_is_named_and_never_to_be_unpickled(tmp_path, ending, damage):
    path = write(tmp_path / f"o.{ending}")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    is_picture = ending not in ("npy", "npz", "h5")
    for role in ("object",) if is_picture else ("object", "probe", "scan_pattern"):
        with pytest.raises(DataContractError) as caught:
            ps.simulate_scan(**SMALL, **{role: str(path)})
        message = str(caught.value)
        assert f"'{path}' can't be read (" in message
        assert message.endswith("; copy or convert it again")
        assert "\n" not in message and "pickle" not in message
        assert "unsafely" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_files_of_python_objects_are_refused_and_never_run(tmp_path, ending):
    path, objects = tmp_path / f"o.{ending}", np.array([{"a": 1}], dtype=object)
    if ending == "npy":
        np.save(path, objects)
    else:
        np.savez(path, objectGuess=objects)
    with pytest.raises(DataContractError, match="holds no array of plain numbers") as caught:
        ps.simulate_scan(**SMALL, object=path)
    assert "unsafely" not in "".join(traceback.format_exception(caught.value))


def test_files_of_words_or_folders_are_refused_by_name(tmp_path):
    np.save(tmp_path / "o.npy", np.array([["a", "b"]]))
    with h5py.File(tmp_path / "o.h5", "w") as file:
        file.create_group("object")
        file["probe_position_x_px"] = np.ones(9)
    for name in ("o.npy", "o.h5"):
        with pytest.raises(DataContractError, match=f"{name}': 'object' is .*expected"):
            ps.simulate_scan(**SMALL, object=tmp_path / name)
    with pytest.raises(DataContractError, match=r"o\.h5' can't be read .*probe_position_y_px"):
        ps.simulate_scan(**SMALL, scan_pattern=tmp_path / "o.h5")


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_columns_of_unequal_length_are_named_with_their_shapes(tmp_path, ending):
    path = tmp_path / f"p.{ending}"
    if ending == "npz":
        np.savez(path, xcoords=np.ones(9), ycoords=np.ones(8))
    else:
        with h5py.File(path, "w") as file:
            file["probe_position_x_px"], file["probe_position_y_px"] = np.ones(9), np.ones(8)
    with pytest.raises(DataContractError, match=rf"p\.{ending}' holds .* \(9,\) but .* \(8,\)"):
        ps.simulate_scan(**SMALL, scan_pattern=path)


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_a_path_is_as_good_as_its_name(tmp_path, ending):
    path = write(tmp_path / f"all.{ending}")
    by_path, by_name = (
        ps.simulate_scan(N=16, object=file, probe=file, scan_pattern=file, noise=False)
        for file in (path, str(path))
    )
    rows = np.arange(9)
    np.testing.assert_array_equal(by_path.patterns.read(rows), by_name.patterns.read(rows))
    np.testing.assert_array_equal(by_path.object_guess, OBJECT)
    origin = by_path.provenance["simulated"]
    assert origin == by_name.provenance["simulated"]
    assert [origin[key] for key in ("object", "probe", "scan_pattern")] == [str(path)] * 3
    np.testing.assert_array_equal(labels_from_experiment(path).positions, by_path.positions)


@pytest.mark.parametrize("role", ["object", "probe", "scan_pattern"])
def test_a_path_that_leads_nowhere_is_refused_by_name(tmp_path, role):
    with pytest.raises(MissingFileError, match="no file '.*nowhere.npy'"):
        ps.simulate_scan(**SMALL, **{role: tmp_path / "nowhere.npy"})
    with pytest.raises(ConfigurationError, match="'.*disk' must have an ending"):
        ps.simulate_scan(**SMALL, **{role: tmp_path / "disk"})


@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, np.nan)])
def test_an_object_that_is_not_finite_is_said_to_be_so(tmp_path, bad):
    obj = OBJECT.copy()
    obj[3, 5:7] = bad
    np.save(tmp_path / "o.npy", obj)
    expected = r"holds 2 values that are not finite, the first at row 3, column 5"
    with pytest.raises(DataContractError, match=f"^the object {expected}"):
        ps.simulate_scan(**SMALL, object=obj)
    with pytest.raises(DataContractError, match=rf"o\.npy': 'object' {expected}"):
        ps.simulate_scan(**SMALL, object=tmp_path / "o.npy")


def test_an_object_without_transmission_is_said_to_be_so():
    with pytest.raises(ConfigurationError, match="the object lets 0 of the probe's power"):
        ps.simulate_scan(**SMALL, object=np.zeros((60, 60), np.complex64))


def plain(value):
    if isinstance(value, dict):
        return all(type(key) in (str, int) and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


def test_numbers_of_numpy_are_as_good_as_those_of_python(tmp_path):
    def simulated(real, whole, several, flag):
        return ps.simulate_scan(
            num_positions=whole(9),
            N=whole(16),
            object="lines",
            object_options={"absorption": several([0.0, 0.25]), "phase_shift": (real(0), real(-1))},
            probe="zernike",
            probe_options={"aberrations": {whole(4): real(1.5)}, "aperture": real(0.25)},
            nphotons=real(1e4),
            step=real(1.5),
            drift=several([0.5, 0.25]),
            position_noise=real(0.5),
            apodisation=real(0.25),
            mode_powers=several([3.0, 1.0]),
            noise=flag(True),
            detector=Detector(background=real(0.5), bit_depth=whole(16)),
            metadata=ScanMetadata(energy_eV=real(8800), nphotons=real(1e4)),
            seed=whole(3),
        )

    scan = simulated(np.float32, np.int64, np.array, np.bool_)
    same = simulated(float, int, list, bool)
    assert plain(scan.provenance)
    assert json.loads(json.dumps(scan.provenance)) == json.loads(json.dumps(same.provenance))
    assert type(scan.metadata.energy_eV) is type(scan.metadata.nphotons) is float
    assert scan.metadata == same.metadata
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    assert store.attributes["provenance"][0]["simulated"]["nphotons"] == 1e4
