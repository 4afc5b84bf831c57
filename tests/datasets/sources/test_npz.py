import zipfile
from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.errors import DataContractError, MissingFileError


@pytest.fixture
def contract(tiny_scan):
    """The arrays of the NPZ contract: amplitude, complex probe."""
    return {
        "xcoords": tiny_scan.positions[:, 0],
        "ycoords": tiny_scan.positions[:, 1],
        "diff3d": np.sqrt(tiny_scan.patterns.read(np.arange(64))).astype(np.float32),
        "probeGuess": tiny_scan.probe[0],
        "objectGuess": tiny_scan.object_guess,
    }


@pytest.mark.parametrize("compress", [True, False])
def test_a_written_scan_is_read_back(tiny_scan, tmp_path, compress):
    write_npz(tiny_scan, tmp_path / "scan.npz", compress=compress)
    scan = ps.read_scan(tmp_path / "scan.npz")
    rows = np.array([5, 63, 5, 0])
    np.testing.assert_array_equal(scan.patterns.read(rows), tiny_scan.patterns.read(rows))
    joined = np.concatenate(list(scan.patterns.blocks(10)))
    np.testing.assert_array_equal(joined, tiny_scan.patterns.read(np.arange(64)))
    np.testing.assert_array_equal(scan.positions, tiny_scan.positions)
    np.testing.assert_array_equal(scan.probe, tiny_scan.probe)
    np.testing.assert_array_equal(scan.object_guess, tiny_scan.object_guess)
    assert scan.measurement_domain == "counts"
    assert scan.patterns.random_access is not compress


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_contract_is_amplitude_and_the_alias_is_accepted(contract, tmp_path, save):
    contract["diffraction"] = contract.pop("diff3d")
    save(tmp_path / "scan.npz", **contract)
    scan = ps.read_scan(tmp_path / "scan.npz")
    assert scan.measurement_domain == "amplitude"
    np.testing.assert_array_equal(scan.patterns.read(np.arange(64)), contract["diffraction"])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_whole_numbers_are_taken_for_counts_and_an_override_wins(contract, tmp_path, dtype):
    contract["diff3d"] = np.rint(contract["diff3d"] ** 2).astype(dtype)
    np.savez(tmp_path / "scan.npz", **contract)
    assert ps.read_scan(tmp_path / "scan.npz").measurement_domain == "counts"
    asked = ps.read_scan(tmp_path / "scan.npz", measurement_domain="amplitude")
    assert asked.measurement_domain == "amplitude"


@pytest.mark.parametrize("value", [np.nan, 0.25])
def test_what_a_flagged_pixel_holds_does_not_make_counts_amplitudes(contract, tmp_path, value):
    contract["diff3d"] = np.rint(contract["diff3d"] ** 2)
    contract["diff3d"][:, 4, 5] = value
    contract["bad_pixels"] = np.zeros((16, 16), bool)
    contract["bad_pixels"][4, 5] = True
    np.savez(tmp_path / "scan.npz", **contract)
    assert ps.read_scan(tmp_path / "scan.npz").measurement_domain == "counts"


def test_ptychodus_flavour_with_a_stack_of_modes(contract, tmp_path):
    contract["diff3d"] = np.rint(contract["diff3d"] ** 2).astype(np.uint32)
    contract["probeGuess"] = np.stack([contract["probeGuess"]] * 3)
    contract["bad_pixels"] = np.eye(16, dtype=bool)
    np.savez(tmp_path / "scan.npz", **contract)
    scan = ps.read_scan(tmp_path / "scan.npz")
    assert scan.probe.shape == (3, 16, 16)
    assert scan.bad_pixels.sum() == 16


def test_patterns_with_the_last_axis_first_are_named_by_their_key(contract, tmp_path):
    contract["diffraction"] = np.moveaxis(contract.pop("diff3d"), 0, -1)
    np.savez(tmp_path / "scan.npz", **contract)
    with pytest.raises(DataContractError, match=r"np\.moveaxis\(diffraction, -1, 0\)"):
        ps.read_scan(tmp_path / "scan.npz")


def test_a_trailing_mode_axis_is_moved(contract, tmp_path):
    contract["probeGuess"] = contract["probeGuess"][..., None]
    np.savez(tmp_path / "scan.npz", **contract)
    assert ps.read_scan(tmp_path / "scan.npz").probe.shape == (1, 16, 16)


class Bomb:
    def __reduce__(self):
        return (eval, ("1/0",))


def test_pickled_members_are_named_and_never_unpickled(contract, tmp_path, caplog):
    np.savez(tmp_path / "scan.npz", **contract, notes=np.array([Bomb()], dtype=object))
    assert ps.read_scan(tmp_path / "scan.npz").num_patterns == 64
    assert "'notes' is pickled" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("diff3d"), "lacks 'diff3d'; it holds 'xcoords'"),
        (lambda a: a.pop("xcoords"), "lacks 'xcoords'"),
        (lambda a: a.pop("probeGuess"), "lacks 'probeGuess'"),
        (lambda a: a.update(xcoords=a["xcoords"][:60]), "'xcoords' has 60 values"),
        (lambda a: a.update(xcoords=a["xcoords"][:60], ycoords=a["ycoords"][:60]), "64 .* 60"),
        (lambda a: a.update(ycoords=np.full(64, np.inf)), "not finite"),
        (lambda a: a.update(ycoords=np.array(["a"] * 64)), "expected .* real numbers"),
        (lambda a: a.update(diff3d=a["diff3d"][0]), r"expected \(M, N, N\)"),
        (lambda a: a.update(diff3d=np.moveaxis(a["diff3d"], 0, -1)), "np.moveaxis"),
        (lambda a: a.update(diff3d=a["diff3d"][:, :12]), r"\(64, 12, 16\)"),
        (lambda a: a.update(diff3d=a["diff3d"].astype(complex)), "expected real"),
        (lambda a: a.update(probeGuess=a["probeGuess"][:8, :8]), r"\(1, 8, 8\)"),
        (lambda a: a.update(probeGuess=a["probeGuess"][0]), "'probeGuess' is"),
        (lambda a: a.update(probeGuess=np.full((16, 16), np.nan)), "NaN"),
        (lambda a: a.update(measurement_domain=np.array("volts")), "'volts'"),
    ],
)
def test_broken_files_are_refused_with_the_key(contract, tmp_path, change, message):
    change(contract)
    np.savez(tmp_path / "scan.npz", **contract)
    with pytest.raises(DataContractError, match=message):
        ps.read_scan(tmp_path / "scan.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_truncated_files_are_refused(contract, tmp_path, save, part):
    path = tmp_path / "scan.npz"
    save(path, **contract)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DataContractError, match=r"scan\.npz"):
        ps.read_scan(path)


def test_a_flipped_bit_in_compressed_patterns_is_an_error_not_data(contract, tmp_path):
    path = tmp_path / "scan.npz"
    np.savez_compressed(path, **contract)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("diff3d.npy")
    data = bytearray(path.read_bytes())
    data[entry.header_offset + entry.compress_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataContractError, match="diff3d"):
        for _ in ps.read_scan(path, measurement_domain="amplitude").patterns.blocks(64):
            pass


def test_fortran_order_is_refused_where_it_cannot_be_streamed(contract, tmp_path):
    contract["diff3d"] = np.asfortranarray(contract["diff3d"])
    np.savez(tmp_path / "scan.npz", **contract)
    with pytest.raises(DataContractError, match="ascontiguousarray"):
        ps.read_scan(tmp_path / "scan.npz")


def test_missing_and_unknown_files_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.npz"):
        ps.read_scan(tmp_path / "none.npz")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(DataContractError, match="no known scan format"):
        ps.read_scan(tmp_path / "x.txt")
    with pytest.raises(DataContractError, match="no format 'tiff'"):
        ps.read_scan(tmp_path / "x.txt", format="tiff")


def test_nothing_is_left_behind_when_writing_fails(tiny_scan, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(type(tiny_scan.patterns), "blocks", fail)
    with pytest.raises(OSError, match="disk full"):
        write_npz(tiny_scan, tmp_path / "scan.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"energy_eV": "high"}', "'scan_metadata' holds energy_eV='high'"),
        ('{"colour": 3}', "'scan_metadata' holds colour=3; there are detector_distance_m"),
        ("[1, 2]", "'scan_metadata' is not a JSON mapping"),
    ],
)
def test_metadata_that_are_none_are_refused(contract, tmp_path, text, message):
    np.savez(tmp_path / "scan.npz", **contract, scan_metadata=np.array(text))
    with pytest.raises(DataContractError, match=message):
        ps.read_scan(tmp_path / "scan.npz")


def test_both_flavours_hold_what_their_readers_expect(tiny_scan, tiny_store, tmp_path):
    counts = tiny_scan.patterns.read(np.arange(64))
    bad = np.zeros((16, 16), bool)
    bad[4, 5] = True
    scan = replace(tiny_store.scan(), bad_pixels=bad)
    write_npz(scan, tmp_path / "contract.npz", flavour="contract")
    with np.load(tmp_path / "contract.npz") as file:
        assert file["diff3d"].dtype == np.float32
        expected = np.where(bad, 0, np.sqrt(counts.astype(np.float64)))
        np.testing.assert_allclose(file["diff3d"], expected, rtol=1e-6)
        assert file["probeGuess"].shape == (16, 16)
    write_npz(scan, tmp_path / "ptychodus.npz", flavour="ptychodus")
    with np.load(tmp_path / "ptychodus.npz") as file:
        np.testing.assert_array_equal(file["diff3d"], counts)
        assert file["diff3d"].dtype == counts.dtype
        assert file["probeGuess"].shape == (1, 16, 16)
        assert {"xcoords_start", "ycoords_start", "bad_pixels", "scan_index"} <= set(file.files)
    for name, domain in (("contract", "amplitude"), ("ptychodus", "counts")):
        back = ps.read_scan(tmp_path / f"{name}.npz")
        assert back.measurement_domain == domain
        np.testing.assert_array_equal(back.positions, tiny_scan.positions)
        assert (back.bad_pixels == bad).all()
    amplitude = ps.read_scan(tmp_path / "contract.npz")
    with pytest.raises(DataContractError, match="holds amplitude"):
        write_npz(amplitude, tmp_path / "no.npz", flavour="ptychodus")
    assert not (tmp_path / "no.npz").exists()
