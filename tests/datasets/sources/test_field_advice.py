"""What the program advises about beamlines' files works when it is followed."""

import json
import re

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.datasets.sources import InputOptions
from ptychostream.errors import DataContractError
from ptychostream.geometry import far_field_pixel_m

M, N = 64, 16
GEOMETRY = (8800.0, 1.9, 75e-6)
SIZE = far_field_pixel_m(*GEOMETRY, N)


@pytest.fixture(scope="module")
def counts(tiny_scan):
    return tiny_scan.patterns.read(np.arange(M)).astype(np.uint32)


@pytest.fixture
def write(tiny_scan, counts, tmp_path):
    """Write some rows of the scan, as NPZ or as CXI with metres of one stage."""

    def of(name, rows):
        x, y = tiny_scan.positions[rows].T
        path = tmp_path / name
        if path.suffix == ".npz":
            np.savez(path, xcoords=x, ycoords=y, diff3d=counts[rows], probeGuess=tiny_scan.probe)
            return path
        with h5py.File(path, "w") as file:
            file["entry_1/data_1/data"] = counts[rows]
            file["entry_1/data_1/translation"] = np.stack([x, y, 0 * x], axis=1) * SIZE
            instrument = file.create_group("entry_1/instrument_1")
            instrument["beam_1/energy"] = GEOMETRY[0] * 1.602176634e-19
            instrument["detector_1/distance"] = GEOMETRY[1]
            instrument["detector_1/x_pixel_size"] = GEOMETRY[2]
            instrument["source_1/illumination"] = tiny_scan.probe
        return path

    return of


@pytest.mark.parametrize("ending", ["npz", "cxi"])
@pytest.mark.parametrize("left_out_before", ["", "60"])
def test_a_second_scan_that_overlaps_is_appended_as_advised(
    tiny_scan, counts, write, tmp_path, capsys, ending, left_out_before
):
    first, second = np.arange(40), np.arange(30, M)
    store = tmp_path / "s.zarr"
    assert main(["build", str(write(f"a.{ending}", first)), str(store), "--growing"]) == 0
    other = ["append", str(write(f"b.{ending}", second)), str(store)]
    before = [f"--leave_out={int(left_out_before) - 30}"] if left_out_before else []
    capsys.readouterr()
    assert main([*other, *before]) == 1
    said = capsys.readouterr().err
    assert f"10 of {len(second) - len(before)} patterns" in said
    (advised,) = re.findall(r"--leave_out '(.*?)'", said)
    assert main([*other, "--leave_out", advised]) == 0
    grown = ps.open_group_store(store)
    rows = np.setdiff1d(np.arange(M), [60] if left_out_before else [])
    np.testing.assert_array_equal(grown.diffraction(np.arange(len(rows))), counts[rows])
    true = tiny_scan.positions[rows]
    np.testing.assert_allclose(grown.positions - grown.positions[0], true - true[0], atol=1e-9)


def test_what_is_there_already_is_said_when_all_is(write, tmp_path, capsys):
    path, store = write("a.npz", np.arange(40)), tmp_path / "s.zarr"
    main(["build", str(path), str(store), "--growing"])
    assert main(["append", str(path), str(store)]) == 1
    assert "there is nothing to append" in capsys.readouterr().err


def test_positions_of_one_scan_are_not_those_of_another(tiny_scan, counts, tmp_path, capsys):
    for name, rows in (("a", slice(40)), ("b", slice(30, M))):
        np.save(tmp_path / f"{name}.npy", counts[rows])
        np.savetxt(tmp_path / f"{name}.txt", tiny_scan.positions[rows])
    np.save(tmp_path / "probe.npy", tiny_scan.probe)
    first, second, store = (str(tmp_path / name) for name in ("a.npy", "b.npy", "s.zarr"))
    shared = ["--position_unit", "px", "--probe", str(tmp_path / "probe.npy")]
    own = ["--positions", str(tmp_path / "a.txt"), *shared]
    for both in ([first, second], [str(tmp_path)]):
        assert main(["build", *both, store, *own, "--format", "stack"]) == 1
    said = capsys.readouterr().err
    advised = re.findall(r"ptychostream append SCAN STORE (.*) --positions ITS_OWN", said)[0]
    assert main(["build", first, store, *own]) == 0
    its_own = ["--positions", str(tmp_path / "b.txt"), *shared]
    assert main(["append", second, store, *advised.split(), *its_own]) == 0
    found = ps.open_group_store(store)
    for experiment, rows in enumerate((slice(40), slice(30, M))):
        np.testing.assert_array_equal(
            found.positions[found.rows(experiment)], tiny_scan.positions[rows]
        )


@pytest.mark.parametrize("kind", ["npy", "dp"])
def test_info_says_what_is_missing_and_its_next_command_works(
    tiny_scan, counts, tmp_path, capsys, kind
):
    path = tmp_path / ("frames.npy" if kind == "npy" else "data_dp.h5")
    if kind == "npy":
        np.save(path, counts)
    else:
        with h5py.File(path, "w") as file:
            file["dp"] = counts
    assert main(["info", str(path), "--picture", str(tmp_path / "look.png")]) == 0
    said = capsys.readouterr().out
    assert "positions" in said and "none: --positions FILE" in said
    words = re.findall(r"next +ptychostream (reconstruct .*)", said)[0].split()
    if kind == "dp":
        return
    np.savetxt(tmp_path / "xy.txt", tiny_scan.positions)
    words[words.index("FILE")] = str(tmp_path / "xy.txt")
    words[words.index("um")] = "px"
    words[words.index("result")] = str(tmp_path / "result")
    words[words.index("from_patterns")] = "gaussian:4"
    assert main([*words, "--passes", "1", "--keep_store"]) == 0
    assert ps.open_group_store(tmp_path / "result" / "scan.zarr").num_patterns == M


@pytest.mark.parametrize("binned", [1, 2])
def test_pixels_beyond_the_detector_are_counted_apart(counts, tmp_path, capsys, binned):
    path, facts = tmp_path / "frames.npy", tmp_path / "facts.json"
    np.save(path, np.pad(counts, ((0, 0), (0, 0), (2, 2))))
    window = ["--centre", "10,4", "--bin", str(binned), "--look", "none"]
    assert main(["info", str(path), *window, "--json", str(facts)]) == 0
    found = json.loads(facts.read_text())
    assert found["padding_pixels"] == found["bad_pixels"] == 4 * N // binned**2
    assert f"of which {4 * N // binned**2} lie beyond" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["1.9 m", "1900 mm", "190cm"])
def test_a_length_that_is_text_is_read_with_its_unit(write, text):
    path = write("scan.cxi", np.arange(M))
    with h5py.File(path, "r+") as file:
        del file["entry_1/instrument_1/detector_1/distance"]
        file["entry_1/instrument_1/detector_1/distance"] = text
    assert ps.read_scan(path).metadata.detector_distance_m == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("place", "value", "option"),
    [
        ("beam_1/energy", 0.0, {"energy": "8.8keV"}),
        ("beam_1/energy", np.nan, {"energy": "8.8keV"}),
        ("detector_1/distance", -1.0, {"distance": "1.9m"}),
        ("detector_1/distance", "unknown", {"distance": "1.9m"}),
        ("detector_1/x_pixel_size", 0, {"detector_pixel": "75um"}),
    ],
)
def test_a_value_that_holds_a_place_is_asked_for_and_then_read(
    tiny_scan, write, place, value, option
):
    path = write("scan.cxi", np.arange(M))
    with h5py.File(path, "r+") as file:
        del file[f"entry_1/instrument_1/{place}"]
        file[f"entry_1/instrument_1/{place}"] = value
    (name,) = option
    with pytest.raises(DataContractError, match=f"--{name}"):
        ps.read_scan(path)
    scan = ps.read_scan(path, options=InputOptions(**option))
    true = tiny_scan.positions
    np.testing.assert_allclose(scan.positions - scan.positions[0], true - true[0], atol=1e-9)


@pytest.mark.parametrize("name", ["scan.h5", "scan.npz", "scan.npy", "scan.cxi"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataContractError, match="is empty, 0 bytes; copy it again"):
        ps.read_scan(tmp_path / name)


def test_a_system_without_locks_on_folders_builds_and_appends(write, counts, tmp_path, monkeypatch):
    monkeypatch.setattr("ptychostream.locks.HAS_LOCKS", False)
    monkeypatch.setattr("os.supports_dir_fd", set())
    ps.build_group_store(write("a.npz", np.arange(40)), tmp_path / "s.zarr", growing=True)
    later = ps.read_scan(write("b.npz", np.arange(40, M)))
    store = ps.append_patterns(tmp_path / "s.zarr", later)
    np.testing.assert_array_equal(store.diffraction(np.arange(M)), counts)


def test_near_field_patterns_are_refused_as_such(tiny_scan, tmp_path):
    """The light fills the detector, and positions are most of a patch apart."""
    rng = np.random.default_rng(0)
    y, x = np.indices((8, 8)).reshape(2, -1)
    speckle = rng.poisson(400 * (1 + 0.3 * rng.normal(size=(M, N, N)).clip(-2, 2)))
    near = {"xcoords": 9.0 * x + N, "ycoords": 9.0 * y + N, "diff3d": speckle.astype(np.uint16)}
    np.savez(tmp_path / "near.npz", **near, probeGuess=tiny_scan.probe)
    with pytest.raises(DataContractError, match="look like near-field patterns"):
        ps.read_scan(tmp_path / "near.npz")
