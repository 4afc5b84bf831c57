"""Scans as beamlines leave them end right, or in a sentence whose advice works."""

import re
from itertools import product

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources import InputOptions
from ptychostream.datasets.sources.odd_pixels import shadowed_pixels
from ptychostream.datasets.store import append_patterns
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.geometry import far_field_pixel_m

M, N = 64, 16
ENERGY, DISTANCE, PIXEL = 8800.0, 1.9, 75e-6
SIZE = far_field_pixel_m(ENERGY, DISTANCE, PIXEL, N)
EVERY = np.arange(M)
XY = ("x_translation", "y_translation")


@pytest.fixture(scope="module")
def truth(tiny_scan):
    return {
        "diff3d": tiny_scan.patterns.read(EVERY).astype(np.uint32),
        "xcoords": tiny_scan.positions[:, 0],
        "ycoords": tiny_scan.positions[:, 1],
        "probeGuess": tiny_scan.probe,
    }


@pytest.fixture
def npz(truth, tmp_path):
    """Write the scan with some arrays changed; None leaves one out."""

    def write(**changes):
        path = tmp_path / "scan.npz"
        arrays = {**truth, **changes}
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return write


@pytest.fixture
def nexus(truth, tmp_path):
    """Write the scan as NeXus, with values in units of their own."""

    def write(factors=(), units=(), **changes):
        factors, units = dict(factors), dict(units)
        metres = np.stack([truth["xcoords"], truth["ycoords"]], axis=1) * SIZE
        values = {
            "entry/data/data": truth["diff3d"],
            "entry/sample/transformations/x_translation": metres[:, 0],
            "entry/sample/transformations/y_translation": metres[:, 1],
            "entry/instrument/beam/incident_energy": ENERGY,
            "entry/instrument/detector/distance": DISTANCE,
            "entry/instrument/detector/x_pixel_size": PIXEL,
            "entry/instrument/beam/probe": truth["probeGuess"],
        } | changes
        path = tmp_path / "scan.nxs"
        with h5py.File(path, "w") as file:
            for name, value in values.items():
                if value is None:
                    continue
                key = name.split("/")[-1]
                factor = factors.get(key)
                file[name] = value if factor is None else np.asarray(value) * factor
                if key in units:
                    file[name].attrs["units"] = units[key]
        return path

    return write


def read(path, **options):
    return ps.read_scan(path, options=InputOptions(**options)) if options else ps.read_scan(path)


def assert_is(scan, truth, rows=EVERY):
    """The patterns of some rows, and their positions up to a shift."""
    np.testing.assert_array_equal(scan.patterns.read(np.arange(len(rows))), truth["diff3d"][rows])
    true = np.stack([truth["xcoords"], truth["ycoords"]], axis=1)[rows]
    np.testing.assert_allclose(
        scan.positions - scan.positions[0], true - true[0], atol=1e-9 * np.abs(true).max()
    )


@pytest.mark.parametrize(
    ("factors", "units"),
    [
        ({"distance": 1e3}, {"distance": "mm"}),
        ({"distance": 1e2, "x_pixel_size": 1e6}, {"distance": "cm", "x_pixel_size": "um"}),
        (dict.fromkeys(XY, 1e6), dict.fromkeys(XY, "µm")),
        (dict(zip(XY, (1e9, 1e3), strict=True)), dict(zip(XY, ("nm", "mm"), strict=True))),
        ({"incident_energy": 1e-3}, {"incident_energy": "keV"}),
        ({"incident_energy": 1.602176634e-19}, {"incident_energy": "J"}),
    ],
)  # fmt: skip
def test_lengths_and_energies_are_read_in_the_units_that_the_file_says(
    truth, nexus, factors, units
):
    scan = read(nexus(factors, units))
    assert_is(scan, truth)
    assert scan.metadata.energy_eV == pytest.approx(ENERGY)
    assert scan.metadata.detector_distance_m == pytest.approx(DISTANCE)
    assert scan.metadata.object_pixel_size_m == pytest.approx(SIZE)


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("instrument/detector/distance", DISTANCE * 1e3, "MM"),
        ("instrument/detector/distance", DISTANCE, "Meters"),
        ("instrument/detector/x_pixel_size", PIXEL * 1e6, "µm".encode("latin-1")),
        ("instrument/beam/incident_energy", "8.8 keV", None),
        ("instrument/beam/incident_energy", ENERGY / 1e3, None),
    ],
)
def test_units_are_read_however_they_are_spelled(truth, nexus, name, value, unit):
    path = nexus(**{f"entry/{name}": value})
    if unit is not None:
        with h5py.File(path, "r+") as file:
            file[f"entry/{name}"].attrs["units"] = np.bytes_(unit)
    scan = read(path)
    assert_is(scan, truth)
    assert scan.metadata.energy_eV == pytest.approx(ENERGY)
    assert len(scan.warnings) == (unit is None and value == ENERGY / 1e3)


@pytest.mark.parametrize(("factor", "unit"), [(1e6, "um"), (1e3, "mm"), (1e9, "nm")])
def test_positions_of_another_unit_are_refused_with_it(truth, nexus, factor, unit):
    path = nexus(factors=dict.fromkeys(XY, factor))
    with pytest.raises(DataContractError, match=f"--position_unit {unit}"):
        read(path)
    assert_is(read(path, position_unit=unit), truth)


def test_of_a_wrong_unit_the_right_one_is_named(npz, truth, tmp_path):
    """Whichever unit is given for whichever file, the advice leads to the scan."""
    path, table = npz(xcoords=None, ycoords=None), tmp_path / "xy.csv"
    geometry = {"energy": "8.8keV", "distance": "1.9m", "detector_pixel": "75um"}
    options = {"positions": str(table), **geometry}
    factors = {"m": SIZE, "mm": SIZE * 1e3, "um": SIZE * 1e6, "nm": SIZE * 1e9}
    for true, factor in factors.items():
        xy = np.stack([truth["xcoords"], truth["ycoords"]], axis=1) * factor
        np.savetxt(table, xy, fmt="%.17g")
        for given in [*factors.keys() - {true}, "px"] if true != "um" else ["m", "mm", "nm"]:
            with pytest.raises(DataContractError, match=f"read in {given} ") as refused:
                read(path, position_unit=given, **options)
            said = re.findall(r"--position_unit (\w+)", str(refused.value))
            assert said == [true], (true, given)
        assert_is(read(path, position_unit=true, **options), truth)


@pytest.mark.parametrize(
    ("option", "bare", "meant"),
    [
        ("energy", "8.8", "8.8keV"),
        ("distance", "1900", "1900mm"),
        ("detector_pixel", "75", "75um"),
        ("wavelength", "1.409", "1.409angstrom"),
    ],
)
def test_an_amount_without_a_unit_that_can_not_be_is_refused_as_advised(
    truth, nexus, option, bare, meant
):
    with pytest.raises(ConfigurationError, match=f"no unit.* as {meant}"):
        read(nexus(), **{option: bare})
    scan = read(nexus(), **{option: meant})
    np.testing.assert_allclose(
        np.ptp(scan.positions, axis=0), np.ptp([truth["xcoords"], truth["ycoords"]], axis=1), 1e-3
    )


def test_what_an_option_replaces_is_said_with_both_values(nexus, caplog):
    read(nexus(), energy="8.8keV", distance="190cm")
    assert "says that" not in caplog.text
    read(nexus(), energy="9keV", distance="2m")
    assert "photon energy is 8800 eV; 9000 eV is used" in caplog.text
    assert "distance to the detector is 1.9 m; 2 m is used" in caplog.text


def test_only_what_is_missing_is_asked_for(nexus):
    with pytest.raises(DataContractError, match=r"given: the photon energy \(as --energy \S+\)$"):
        read(nexus(**{"entry/instrument/beam/incident_energy": None}))


@pytest.mark.parametrize("given", ["flip_x", "identity"])
def test_a_file_that_says_nothing_of_its_detectors_axes_is_not_quoted(nexus, caplog, given):
    read(nexus(), orientation=given)
    assert "says" not in caplog.text


def test_a_length_without_its_unit_is_named(truth, nexus):
    path = nexus(**{"entry/instrument/detector/x_pixel_size": PIXEL * 1e6})
    with pytest.raises(DataContractError, match="pixel is 75 m.*--detector_pixel"):
        read(path)
    assert_is(read(path, detector_pixel="75um"), truth)


def test_an_unknown_unit_is_refused_by_name(nexus):
    with pytest.raises(DataContractError, match=r"distance'.*'furlongs per week'"):
        read(nexus(units={"distance": "furlongs per week"}))


@pytest.mark.parametrize(
    ("value", "unit"), [(3.0, "GeV"), (3e9 * 1.602176634e-19, "J"), (3e9, None)]
)
def test_the_storage_ring_is_not_the_beam(truth, nexus, value, unit):
    path = nexus(**{"entry/instrument/source/energy": value})
    if unit:
        with h5py.File(path, "r+") as file:
            file["entry/instrument/source/energy"].attrs["units"] = unit
    assert read(path).metadata.energy_eV == pytest.approx(ENERGY)
    with h5py.File(path, "r+") as file:
        del file["entry/instrument/beam/incident_energy"]
    with pytest.raises(DataContractError, match="--energy"):
        read(path)
    assert_is(read(path, energy="8.8keV"), truth)


@pytest.mark.parametrize("unit", ["angstrom", "nm", "m", None])
def test_a_wavelength_is_as_good_as_an_energy(nexus, unit):
    factor = {"angstrom": 1e10, "nm": 1e9, "m": 1.0, None: 1e10}[unit]
    name = "entry/instrument/beam/incident_wavelength"
    path = nexus(
        units={"incident_wavelength": unit} if unit else {},
        **{name: 1.239841984e-6 / ENERGY * factor, "entry/instrument/beam/incident_energy": None},
    )
    assert read(path).metadata.energy_eV == pytest.approx(ENERGY)


def test_raster_data_of_four_dimensions_are_flattened(truth, nexus):
    path = nexus(**{"entry/data/data": truth["diff3d"].reshape(8, 8, N, N)})
    scan = read(path)
    assert_is(scan, truth)
    np.testing.assert_array_equal(
        scan.patterns.read(np.array([9, 3, 60])), truth["diff3d"][[9, 3, 60]]
    )


def _mirror(patterns, *axes):
    return np.roll(np.flip(patterns, axes), 1, axes)


@pytest.mark.parametrize(
    ("slow", "fast", "written"),
    [
        ((0, -1), (-1, 0), lambda p: p),
        ((0, 1), (-1, 0), lambda p: _mirror(p, 1)),
        ((0, -1), (1, 0), lambda p: _mirror(p, 2)),
        ((0, 1), (1, 0), lambda p: _mirror(p, 1, 2)),
        ((-1, 0), (0, -1), lambda p: p.swapaxes(1, 2)),
        ((1, 0), (0, -1), lambda p: _mirror(p, 2).swapaxes(1, 2)),
    ],
)
@pytest.mark.parametrize("form", ["rows", "columns"])
def test_the_detectors_axes_are_followed(truth, nexus, slow, fast, written, form):
    basis = np.array([[*slow, 0], [*fast, 0]]) * PIXEL
    path = nexus(
        **{
            "entry/data/data": written(truth["diff3d"]),
            "entry/instrument/detector/basis_vectors": basis if form == "rows" else basis.T,
        }
    )
    assert_is(read(path), truth)


def test_an_orientation_that_is_given_replaces_the_files(truth, nexus, caplog):
    axes = np.array([[0, 1, 0], [-1, 0, 0]])
    path = nexus(
        **{
            "entry/data/data": _mirror(truth["diff3d"], 1),
            "entry/instrument/detector/basis_vectors": axes,
        }
    )
    assert_is(read(path), truth)
    assert_is(read(path, orientation="flip_y"), truth)
    scan = read(path, orientation="identity")
    np.testing.assert_array_equal(scan.patterns.read(EVERY), _mirror(truth["diff3d"], 1))
    assert "--orientation flip_y; identity is used" in caplog.text


@pytest.mark.parametrize(
    ("axes", "said"), [([[1, 1, 0], [-1, 1, 0]], "45 degrees"), (np.full((2, 3), np.nan), "NaN")]
)
def test_axes_that_no_symmetry_of_the_square_has_are_refused(nexus, axes, said):
    path = nexus(**{"entry/instrument/detector/basis_vectors": np.array(axes, float)})
    with pytest.raises(DataContractError, match=said):
        read(path)


def test_axes_along_one_line_are_refused(nexus):
    with pytest.raises(DataContractError, match="not perpendicular"):
        read(
            nexus(**{"entry/instrument/detector/basis_vectors": np.array([[0, -1, 0], [0, 1, 0]])})
        )


def test_missing_files_are_named_and_never_read_as_zeros(truth, nexus, tmp_path):
    path = nexus(**{"entry/data/data": None})
    layout = h5py.VirtualLayout((M, N, N), np.uint32)
    for part in range(4):
        name = tmp_path / f"part{part}.h5"
        with h5py.File(name, "w") as file:
            file["data"] = truth["diff3d"][16 * part : 16 * part + 16]
        layout[16 * part : 16 * part + 16] = h5py.VirtualSource(name.name, "data", (16, N, N))
    with h5py.File(path, "r+") as file:
        file.require_group("entry/data").create_virtual_dataset("data", layout)
    assert_is(read(path), truth)
    (tmp_path / "part1.h5").unlink()
    (tmp_path / "part3.h5").unlink()
    with pytest.raises(DataContractError, match=r"2 can't be read: 'part1.h5', 'part3.h5'"):
        read(path)
    with h5py.File(path, "r+") as file:
        del file["entry/data/data"]
        file["entry/data/data"] = h5py.ExternalLink("gone.h5", "data")
    with pytest.raises(DataContractError, match=r"'gone.h5', which is missing"):
        read(path)


@pytest.mark.parametrize("part", ["whole", "beginning"])
def test_a_source_that_is_shorter_than_its_virtual_view_is_named(truth, nexus, tmp_path, part):
    path = nexus(**{"entry/data/data": None})
    short = tmp_path / "short.h5"
    with h5py.File(short, "w") as file:
        file["data"] = truth["diff3d"][: M - 3]
    rows = M if part == "whole" else M - 2
    layout = h5py.VirtualLayout((rows, N, N), np.uint32)
    source = h5py.VirtualSource("short.h5", "data", (M, N, N))
    layout[:] = source if part == "whole" else source[: M - 2]
    with h5py.File(path, "r+") as file:
        file.require_group("entry/data").create_virtual_dataset("data", layout)
    with pytest.raises(DataContractError, match=rf"'short.h5' .*shape \({M - 3}, {N}, {N}\)"):
        read(path)


def test_a_file_in_use_is_not_called_damaged(nexus):
    fcntl = pytest.importorskip("fcntl")
    path = nexus()
    with path.open("rb") as writer:
        # As HDF5 locks a file that it writes to.
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(DataContractError, match="HDF5_USE_FILE_LOCKING"):
            read(path)
    assert read(path).num_patterns == M


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.uint16, 65535),
        (np.uint32, 2**32 - 1),
        (np.uint32, 2**32 - 2),
        (np.uint32, 2**16 - 1),
        (np.int32, 2**31 - 1),
        (np.int32, -1),
        (np.uint64, 2**64 - 1),
        (np.float32, np.nan),
        (np.float32, np.inf),
        (np.float64, 2.0**32 - 1),
        (np.float32, 1e9),
    ],
)
@pytest.mark.parametrize("gap", [np.s_[:, 5:7], np.s_[3], np.s_[11:14, 2:5]])
def test_gaps_are_flagged_whatever_they_hold(truth, npz, dtype, value, gap):
    true = np.zeros((N, N), bool)
    true[gap] = True
    patterns = np.minimum(truth["diff3d"], 60000).astype(dtype)
    patterns[:, true] = value
    scan = read(npz(diff3d=patterns))
    np.testing.assert_array_equal(scan.bad_pixels, true)
    assert scan.measurement_domain == "counts"


def test_a_sound_scan_is_not_accused(npz, truth, tmp_path, caplog):
    for scale in (1, 0.01, 0.0005):
        counts = np.random.default_rng(0).poisson(truth["diff3d"] * scale)
        scan = read(npz(diff3d=counts.astype(np.uint16)))
        assert scan.bad_pixels is None and scan.warnings == ()


@pytest.mark.parametrize(("row", "column"), [(2, 13), (12, 4), (6, 11)])
def test_hot_and_dead_pixels_are_flagged(npz, truth, row, column):
    rng = np.random.default_rng(0)
    patterns = rng.poisson(truth["diff3d"] + 50).astype(np.uint32)
    patterns[:, row, column] = rng.poisson(400_000, M)
    patterns[:, column, row] = 0
    assert np.argwhere(read(npz(diff3d=patterns)).bad_pixels).tolist() == sorted(
        [[row, column], [column, row]]
    )


@pytest.mark.parametrize("nphotons", [1e5, 1e8])
@pytest.mark.parametrize("kind", ["dead_leaves", "lines"])
def test_the_shadow_of_a_beam_stop_is_flagged_and_that_of_a_zone_plate_is_not(kind, nphotons):
    scan = ps.simulate_scan(object=kind, num_positions=64, N=64, nphotons=nphotons, seed=1)
    totals = scan.patterns.read(EVERY).sum(axis=0, dtype=np.float64)
    bad = np.zeros(totals.shape, bool)
    assert not shadowed_pixels(totals, bad).any()
    row, column = np.indices(totals.shape) - 32
    stop = np.hypot(row - 4, column - 6) < 5.5
    stop |= (np.abs(column - 6) < 2) & (row > 4)
    stopped = np.where(stop, np.random.default_rng(0).poisson(0.64, totals.shape), totals)
    found = shadowed_pixels(stopped, bad)
    bright = stop & (totals > 0.1 * totals.max())
    assert (found & bright).sum() > 0.95 * bright.sum()
    assert not (found & ~stop & (totals > 10)).any()


@pytest.mark.parametrize("gap", [np.s_[:, 7:9], np.s_[9:10], np.s_[6:10, 6:10]])
def test_gaps_through_the_beam_that_hold_zero_are_flagged(npz, truth, gap):
    true = np.zeros((N, N), bool)
    true[gap] = True
    dim = np.exp(-((np.indices((N, N)) - N / 2) ** 2) / 12).prod(axis=0)
    counts = np.random.default_rng(0).poisson(truth["diff3d"].mean() * dim * 3, (M, N, N))
    for patterns in (counts, np.where(true, 0, counts)):
        scan = read(npz(diff3d=patterns.astype(np.uint16)))
        found = np.zeros((N, N), bool) if scan.bad_pixels is None else scan.bad_pixels
        np.testing.assert_array_equal(found[true], (patterns == 0).all(axis=0)[true])
        assert not found[~true].any()


@pytest.mark.parametrize("cluster", [np.s_[2:4, 11:13], np.s_[0, 0], np.s_[8, 9], np.s_[5, 2:4]])
def test_hot_clusters_are_flagged_wherever_they_lie(npz, truth, cluster):
    true = np.zeros((N, N), bool)
    true[cluster] = True
    rng = np.random.default_rng(0)
    patterns = rng.poisson(truth["diff3d"])
    patterns[:, true] = rng.poisson(4_000_000, (M, true.sum()))
    np.testing.assert_array_equal(read(npz(diff3d=patterns.astype(np.uint32))).bad_pixels, true)


@pytest.mark.parametrize("value", [2**32 - 1, 2**31 - 1])
def test_masked_pixels_are_no_light_and_data_files_name_their_master(truth, tmp_path, value):
    patterns = truth["diff3d"].copy()
    patterns[:, 6] = value
    patterns[::3, 9, 9] = value
    xy = np.stack([truth["xcoords"], truth["ycoords"], truth["xcoords"]], axis=1)
    said = []
    for name in ("scan_master.h5", "scan_data_000001.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["entry/data/data"] = patterns
            file["entry/data/translation"] = xy * SIZE
            file["entry/instrument/beam/probe"] = truth["probeGuess"]
        options = {"energy": ENERGY, "distance": DISTANCE, "detector_pixel": PIXEL}
        said.append(read(tmp_path / name, **options).warnings)
    assert said[0] == ()
    (hint,) = said[1]
    assert f"give the master file instead, '{tmp_path / 'scan_master.h5'}'" in hint


@pytest.mark.parametrize("amplitudes", [False, True])
def test_a_detector_that_counts_no_further_is_noticed(npz, truth, amplitudes):
    top = int(np.percentile(truth["diff3d"] * 9, 97))
    patterns = np.minimum(truth["diff3d"] * 9, top)
    reached = (patterns == top).any(axis=0)
    patterns = np.sqrt(patterns).astype(np.float32) if amplitudes else patterns
    scan = read(npz(diff3d=patterns))
    np.testing.assert_array_equal(scan.bad_pixels, reached)
    assert "the detector saturates at" in scan.warnings[0]
    assert read(npz(diff3d=patterns), saturation=float(patterns.max())).warnings == ()


@pytest.mark.parametrize(
    ("dtype", "value", "option"),
    [
        (np.float32, np.nan, {"leave_out": "[5,50]"}),
        (np.float64, np.inf, {"leave_out": "[5,50]"}),
        (np.int32, -1, {"leave_out": "[5,50]"}),
        (np.uint16, 777, {"leave_out": "[5,50]"}),
        (np.float32, 12.5, {"leave_out": "[5,50]"}),
    ],
)
def test_all_lost_patterns_are_named_at_once(npz, truth, tmp_path, dtype, value, option):
    patterns = truth["diff3d"].astype(dtype)
    patterns[[5, 50]] = value
    path = npz(diff3d=patterns)
    try:
        said = ps.build_group_store(path, tmp_path / "s.zarr").attributes["warnings"][0]
    except DataContractError as error:
        said = str(error)
    assert _advice(said) == option["leave_out"]
    store = ps.build_group_store(
        path, tmp_path / "s.zarr", options=InputOptions(**option), overwrite=True
    )
    assert store.attributes["warnings"] == []


def test_a_few_patterns_whose_middle_saturates_cost_no_pixels(npz, truth, tmp_path):
    patterns = truth["diff3d"].astype(np.uint16)
    patterns[[5, 50], 6:10, 6:10] = 65535
    store = ps.build_group_store(npz(diff3d=patterns), tmp_path / "s.zarr")
    assert not store.bad_pixels.any()
    assert _advice(store.attributes["warnings"][0]) == "[5,50]"


def test_noise_around_zero_is_neither_a_gap_nor_hot(npz, truth, tmp_path):
    noise = np.random.default_rng(0).normal(0, 2, truth["diff3d"].shape)
    path = npz(diff3d=(truth["diff3d"] * (truth["diff3d"] > 5) + noise).astype(np.float32))
    with pytest.raises(DataContractError, match="64 of 64 .* --negative zero"):
        ps.build_group_store(path, tmp_path / "s.zarr")
    store = ps.build_group_store(path, tmp_path / "s.zarr", options=InputOptions(negative="zero"))
    assert not store.bad_pixels.any()


def test_counts_that_ran_over_a_signed_type_are_not_taken_for_dark_noise(npz, truth):
    patterns = (truth["diff3d"] * (45_000 / truth["diff3d"].max())).astype(np.uint16)
    with pytest.raises(DataContractError, match=r"ran over int16.*view\('<u2'\)"):
        read(npz(diff3d=patterns.view(np.int16)), negative="zero")
    assert read(npz(diff3d=patterns.view(np.int16).view("<u2"))).bad_pixels is None


def test_a_value_that_the_sample_missed_is_found_in_the_end(npz, truth, tmp_path, caplog):
    patterns = np.tile(truth["diff3d"], (6, 1, 1)).astype(np.uint16)
    rng = np.random.default_rng(0)
    x, y = (np.tile(truth[k], 6) + rng.uniform(0, 1, 6 * M) for k in ("xcoords", "ycoords"))
    patterns[101, 3, 4] = 65535
    store = ps.build_group_store(npz(diff3d=patterns, xcoords=x, ycoords=y), tmp_path / "s.zarr")
    assert np.argwhere(store.bad_pixels[0]).tolist() == [[3, 4]]


def test_a_mask_of_good_pixels_is_refused_and_inverted(npz, truth, tmp_path):
    good = np.ones((N, N), bool)
    good[:, 5:7] = False
    patterns = np.where(good, truth["diff3d"], 0)
    path = npz(bad_pixels=good, diff3d=patterns)
    with pytest.raises(DataContractError, match="looks inverted.*--invert_mask"):
        read(path)
    np.testing.assert_array_equal(read(path, invert_mask=True).bad_pixels, ~good)
    with pytest.raises(DataContractError, match="flags every pixel"):
        read(npz(bad_pixels=np.ones((N, N), bool)))
    np.save(tmp_path / "mask.npy", ~good)
    joined = read(npz(diff3d=patterns), mask=str(tmp_path / "mask.npy"))
    np.testing.assert_array_equal(joined.bad_pixels, ~good)


def _advice(message):
    (found,) = set(re.findall(r"--leave_out '(.*?)'", message))
    return found


FEW = ([3], [0, 63], [20, 21, 22, 23, 40])


# Nearly half of the positions are no outliers, nor half of the patterns an exception.
@pytest.mark.parametrize(
    ("what", "bad"),
    [
        *product(["nan", "outlier", "dark", "bright"], FEW),
        *product(["nan", "dark"], [[*range(30, 60)]]),
    ],
)
def test_the_advice_to_leave_out_mends_in_one_step_and_then_is_quiet(
    npz, truth, tmp_path, caplog, bad, what
):
    x, patterns = truth["xcoords"].copy(), truth["diff3d"].copy()
    if what in ("nan", "outlier"):
        x[bad] = np.nan if what == "nan" else 4e4
    elif what == "dark":
        patterns[bad] = 0
    else:
        patterns[bad] = 60_000
    path = npz(xcoords=x, diff3d=patterns)
    before = "[10]"
    options = InputOptions(leave_out=before)
    if what in ("nan", "outlier"):
        with pytest.raises(DataContractError) as caught:
            ps.build_group_store(path, tmp_path / "s.zarr", options=options)
        said = str(caught.value)
    else:
        store = ps.build_group_store(path, tmp_path / "s.zarr", options=options)
        (said,) = store.attributes["warnings"]
    caplog.clear()
    options = InputOptions(leave_out=_advice(said))
    store = ps.build_group_store(path, tmp_path / "s.zarr", options=options, overwrite=True)
    assert store.attributes["warnings"] == []
    assert_is(store.scan(0), truth, np.setdiff1d(EVERY, [10, *bad]))


@pytest.mark.parametrize("more", [1, 5])
def test_more_patterns_than_positions_are_paired_as_advised(npz, truth, more):
    path = npz(diff3d=np.concatenate([truth["diff3d"], truth["diff3d"][:more]]))
    with pytest.raises(DataContractError, match="diffraction patterns but") as caught:
        read(path)
    assert_is(read(path, leave_out=_advice(str(caught.value))), truth)


@pytest.mark.parametrize("more", [1, 5])
@pytest.mark.parametrize("before", [(), (2, 60)])
@pytest.mark.parametrize("as_table", [False, True])
def test_more_positions_than_patterns_are_paired_as_advised(
    npz, truth, tmp_path, more, before, as_table
):
    """Positions at the end or at the beginning are left out, and no pattern with them."""
    given = {"leave_out_positions": ",".join(map(str, before))}
    rows = np.setdiff1d(EVERY, before)
    if as_table:
        np.savetxt(tmp_path / "xy.txt", np.stack([truth["xcoords"], truth["ycoords"]], axis=1))
        given |= {"positions": str(tmp_path / "xy.txt"), "position_unit": "px"}
    for number, kept in enumerate((rows[:-more], rows[more:])):
        path = npz(diff3d=truth["diff3d"][kept], **({"xcoords": None} if as_table else {}))
        with pytest.raises(DataContractError, match="diffraction patterns but") as caught:
            read(path, **given)
        advised = re.findall(r"--leave_out_positions '(.*?)'", str(caught.value))
        assert_is(read(path, **given | {"leave_out_positions": advised[number]}), truth, kept)


def test_numbers_come_from_ranges_and_files(npz, truth, tmp_path):
    (tmp_path / "lost.txt").write_text("7 8\n30:33\n")
    scan = read(npz(), leave_out=f"3,50:60,{tmp_path / 'lost.txt'}")
    left = [3, 7, 8, 30, 31, 32, *range(50, 60)]
    assert_is(scan, truth, np.setdiff1d(EVERY, left))
    for wrong in ("64", "-1", "60:70"):
        with pytest.raises(DataContractError, match="no pattern"):
            read(npz(), leave_out=wrong)


@pytest.mark.parametrize(
    ("text", "unit", "header"),
    [
        ("um", None, "x_um,y_um"),
        ("mm", "mm", ""),
        ("nm", None, "Y (nm),X (nm)"),
        ("px", "px", "x,y"),
    ],
)
def test_positions_come_from_a_table_in_any_unit(npz, truth, tmp_path, text, unit, header):
    factor = {"um": 1e6 * SIZE, "mm": 1e3 * SIZE, "nm": 1e9 * SIZE, "px": 1.0}[text]
    table = np.stack([truth["xcoords"], truth["ycoords"]], axis=1) * factor
    if header.startswith("Y"):
        table = table[:, ::-1]
    np.savetxt(tmp_path / "xy.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
    geometry = {"energy": "8.8keV", "distance": "190cm", "detector_pixel": "75um"}
    path = npz(xcoords=None, ycoords=None)
    scan = read(path, positions=str(tmp_path / "xy.csv"), position_unit=unit, **geometry)
    assert_is(scan, truth)


def test_positions_without_a_unit_are_refused_with_the_option(npz, tmp_path):
    np.savetxt(tmp_path / "xy.csv", np.ones((M, 2)), delimiter=",")
    with pytest.raises(DataContractError, match="--position_unit"):
        read(npz(), positions=str(tmp_path / "xy.csv"))


@pytest.mark.parametrize("first", [0, 1, 99_000])
@pytest.mark.parametrize("columns", ["", "::x_px,y_px", "::x_px,y_px,trigger", "::1,2,0"])
def test_triggers_pair_positions_with_patterns_wherever_they_begin(
    npz, truth, tmp_path, first, columns
):
    rows = np.random.default_rng(0).permutation(M)
    table = np.column_stack([rows + first, truth["xcoords"][rows], truth["ycoords"][rows]])
    header = "trigger,x_px,y_px"
    np.savetxt(tmp_path / "t.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
    scan = read(npz(xcoords=None, ycoords=None), positions=f"{tmp_path / 't.csv'}{columns}")
    assert_is(scan, truth)
    assert not scan.warnings


@pytest.mark.parametrize("lines", [range(1, M), range(1, M + 2), range(2, M), range(5, M + 9)])
def test_triggers_that_may_be_counted_in_two_ways_are_said_with_both(npz, truth, tmp_path, lines):
    """Each reading that is named, given as an option, is quiet and pairs patterns by it."""
    xy = np.random.default_rng(0).uniform(0, 9, (len(lines), 2))
    table = np.column_stack([lines, xy])
    header = "trigger,x_px,y_px"
    np.savetxt(tmp_path / "t.csv", table, delimiter=",", header=header, comments="", fmt="%.17g")
    path, options = npz(xcoords=None, ycoords=None), {"positions": str(tmp_path / "t.csv")}
    said = read(path, **options).warnings[0]
    readings = {int(number) for number in re.findall(r"--first_trigger (\d+)", said)}
    assert len(readings) == 2
    for first in readings:
        scan = read(path, **options, first_trigger=first)
        assert not any("--first_trigger" in text for text in scan.warnings)
        inside = [(n, xy) for n, *xy in table if 0 <= n - first < M]
        assert scan.num_patterns == len(inside)
        np.testing.assert_allclose(scan.positions, [xy for _, xy in inside])


def _spec(truth, scans):
    """Write scans as SPEC does, the positions scaled by a number of each."""
    text = "#F day\n#E 1790000000\n#O0 samx  samy\n"
    for number, factor in scans:
        text += f"\n#S {number}  fermat samx\n#D today\n#N 3\n#L samx  samy  Two words\n"
        for x, y in zip(truth["xcoords"], truth["ycoords"], strict=True):
            text += f"{x * factor!r} {y * factor!r} 7\n@A 1 2 3\n" if factor else ""
    return text.replace("np.float64(", "").replace(")", "")


@pytest.mark.parametrize("name", ["day.spec", "day.dat", "day_2026"])
def test_a_scan_of_a_spec_file_is_chosen_by_its_number(npz, truth, tmp_path, name):
    """Without a choice it is refused, listing them; a number used twice has a second part."""
    path, file = npz(xcoords=None, ycoords=None), tmp_path / name
    file.write_text(_spec(truth, [(42, 2), (43, 1), (43, 3), (44, 0)]))
    options = {"position_unit": "px"}
    with pytest.raises(
        DataContractError, match=r"42 \(64 points\), 43.1 \(64.*, 43.2 \(64 points\);"
    ):
        read(path, positions=f"{file}::samx,samy", **options)
    assert_is(read(path, positions=f"{file}::43.1::samx,samy", **options), truth)
    with pytest.raises(DataContractError, match="no scan 44 with points"):
        read(path, positions=f"{file}::44::samx,samy", **options)
    file.write_text(_spec(truth, [(42, 1), (43, 0)]))
    assert_is(read(path, positions=f"{file}::samx,samy", **options), truth)


@pytest.mark.parametrize("transform", ["swap", "flip_x", "flip_y", "scale=2", "swap,flip_x"])
def test_positions_are_changed_back(npz, truth, transform):
    x, y = truth["xcoords"], truth["ycoords"]
    x, y = {
        "swap": (y, x),
        "flip_x": (-x, y),
        "flip_y": (x, -y),
        "scale=2": (x / 2, y / 2),
        "swap,flip_x": (y, -x),
    }[transform]
    assert_is(read(npz(xcoords=x, ycoords=y), position_transform=transform), truth)


def test_a_raster_needs_its_step_alone(npz, truth):
    path = npz(xcoords=None, ycoords=None, diff3d=truth["diff3d"].reshape(4, 16, N, N))
    scan = read(path, step="2,3")
    steps = scan.positions - scan.positions[0]
    assert steps[1].tolist() == [2, 0] and steps[16].tolist() == [0, 3]
    assert scan.num_patterns == M
    with pytest.raises(ConfigurationError, match="fewer than the 64 patterns"):
        read(path, step="2,3", scan_shape="4,4")
    (warning,) = read(path, step="2,3", scan_shape=f"{M},2").warnings
    assert f"{2 * M} positions, and there are {M} patterns" in warning


@pytest.mark.parametrize(
    "pad", [((0, 0), (4, 4)), ((3, 5), (6, 2)), ((0, 1), (0, 1)), ((7, 0), (0, 0))]
)
def test_a_window_is_cut_before_shapes_are_judged(npz, truth, pad):
    patterns = np.pad(truth["diff3d"], ((0, 0), *pad))
    path = npz(diff3d=patterns)
    centre = f"{pad[1][0] + N // 2},{pad[0][0] + N // 2}"
    assert_is(read(path, centre=centre, crop=N), truth)


def test_a_beam_off_the_centre_is_said_with_the_option(npz, truth):
    patterns = np.roll(truth["diff3d"], (4, -3), axis=(1, 2))
    (warning,) = read(npz(diff3d=patterns)).warnings
    x, y = re.findall(r"--centre (\d+),(\d+)", warning)[0]
    assert abs(int(x) - (N // 2 - 3)) <= 1 and abs(int(y) - (N // 2 + 4)) <= 1


@pytest.mark.parametrize("dtype", [">u2", ">u4", "<i4", ">f4", ">f8", "<f2", "u1"])
@pytest.mark.parametrize("domain", ["counts", "amplitude"])
def test_every_type_is_binned_exactly(npz, truth, tmp_path, dtype, domain):
    counts = np.minimum(truth["diff3d"], 250)
    values = (counts if domain == "counts" else np.sqrt(counts)).astype(dtype)
    path = npz(diff3d=values, probeGuess=truth["probeGuess"])
    options = InputOptions(bin=2, measurement_domain=domain, look="none")
    store = ps.build_group_store(path, tmp_path / "s.zarr", options=options)
    true = values.astype(np.float64)
    true = true if domain == "counts" else true**2
    true = true.reshape(M, N // 2, 2, N // 2, 2).sum(axis=(2, 4))
    found = store.diffraction(EVERY).astype(np.float64)
    np.testing.assert_allclose(found if domain == "counts" else found**2, true, rtol=1e-6)


@pytest.mark.parametrize("gain", [1.0, 0.37, 12.5])
@pytest.mark.parametrize("domain", ["counts", "amplitude"])
def test_counts_and_amplitudes_are_told_apart(npz, truth, gain, domain):
    values = truth["diff3d"] * gain
    values = (values if domain == "counts" else np.sqrt(values)).astype(np.float32)
    scan = read(npz(diff3d=values))
    assert scan.measurement_domain == domain
    assert scan.warnings == ()


@pytest.mark.parametrize(
    ("x", "y", "rows", "said"),
    [
        (-1.0, -1.0, slice(55, 64), "exactly (-1, -1)"),
        (20.0, 21.0, slice(55, 64), "exactly (20, 21)"),
        (90.0, 21.0, slice(7, 8), "far from all others"),
    ],
)
def test_positions_that_were_never_measured_are_named(npz, truth, x, y, rows, said):
    xs, ys = truth["xcoords"].copy(), truth["ycoords"].copy()
    xs[rows], ys[rows] = x, y
    path = npz(xcoords=xs, ycoords=ys)
    (warning,) = read(path).warnings
    assert said in warning
    scan = read(path, leave_out=_advice(warning))
    assert_is(scan, truth, np.setdiff1d(EVERY, EVERY[rows]))
    assert scan.warnings == ()


def test_positions_on_one_line_are_a_warning(npz, truth):
    assert "one line" in read(npz(xcoords=truth["ycoords"])).warnings[0]


def test_a_frame_too_many_at_the_beginning_is_left_out_as_advised(npz, truth):
    patterns = np.concatenate([0 * truth["diff3d"][:1], truth["diff3d"]])
    path = npz(diff3d=patterns)
    with pytest.raises(DataContractError, match=r"'\[64\]'.*--trigger_shift -1"):
        read(path)
    assert_is(read(path, leave_out="[64]", trigger_shift=-1), truth, EVERY[:-1])


@pytest.mark.parametrize("stack", [lambda p: p[None], lambda p: np.moveaxis(p, 0, -1)])
def test_modes_are_found_whichever_axis_they_have(npz, truth, stack):
    probe = np.concatenate([truth["probeGuess"], 0.5j * truth["probeGuess"]])
    np.testing.assert_array_equal(read(npz(probeGuess=stack(probe))).probe, probe)


def test_a_probe_in_the_corner_is_said_and_brought_to_the_centre(npz, truth):
    path = npz(probeGuess=np.fft.ifftshift(truth["probeGuess"], axes=(1, 2)))
    assert "--probe_transform swap_quadrants" in read(path).warnings[0]
    scan = read(path, probe_transform="swap_quadrants")
    np.testing.assert_array_equal(scan.probe, truth["probeGuess"])
    assert scan.warnings == ()


def test_a_missing_filter_is_named_when_a_file_is_opened(nexus, truth):
    path = nexus()
    with h5py.File(path, "r+") as file:
        del file["entry/data/data"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, N, N))
        plist.set_filter(399, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((M, N, N))
        h5py.h5d.create(file["entry/data"].id, b"data", h5py.h5t.NATIVE_UINT32, space, plist)
    with pytest.raises(DataContractError, match="filter 399"):
        read(path)


def test_a_file_of_another_energy_does_not_continue_a_scan(nexus, tmp_path):
    ps.build_group_store(nexus(), tmp_path / "s.zarr", growing=True)
    other = ps.read_scan(nexus(**{"entry/instrument/beam/incident_energy": ENERGY - 500}))
    with pytest.raises(DataContractError, match="object pixel.*--experiment new"):
        append_patterns(tmp_path / "s.zarr", other)


def test_files_of_one_stage_keep_their_places(nexus, truth, tmp_path):
    left = np.flatnonzero(truth["xcoords"] < np.median(truth["xcoords"]))
    right = np.setdiff1d(EVERY, left)
    metres = np.stack([truth["xcoords"], truth["ycoords"]], axis=1) * SIZE
    paths = []
    for name, rows in (("a", left), ("b", right)):
        path = nexus(
            **{
                "entry/data/data": truth["diff3d"][rows],
                "entry/sample/transformations/x_translation": metres[rows, 0],
                "entry/sample/transformations/y_translation": metres[rows, 1],
            }
        )
        paths.append(path.rename(tmp_path / f"{name}.nxs"))
    true = np.stack([truth["xcoords"], truth["ycoords"]], axis=1)[np.concatenate([left, right])]
    both = ps.build_group_store(paths, tmp_path / "both.zarr")
    np.testing.assert_allclose(both.positions - both.positions[0], true - true[0], atol=1e-9)
    ps.build_group_store(paths[0], tmp_path / "grown.zarr", growing=True)
    for experiment in (0, "new"):
        grown = ps.append_patterns(
            tmp_path / "grown.zarr", ps.read_scan(paths[1]), experiment=experiment
        )
        placed = grown.positions[np.r_[: len(left), -len(right) : 0]]
        np.testing.assert_allclose(placed - placed[0], true - true[0], atol=1e-9)


@pytest.mark.parametrize("chunks", [(M, 4, 4), (M, 16, 1), (5, 16, 16), (1, 8, 8)])
def test_patterns_are_equal_whatever_the_order_of_the_chunks(truth, nexus, chunks, monkeypatch):
    many = np.tile(truth["diff3d"], (30, 1, 1))
    chunks = (len(many), *chunks[1:]) if chunks[0] == M else chunks
    path = nexus(**{"entry/data/data": None})
    with h5py.File(path, "r+") as file:
        file.create_dataset("entry/data/data", data=many, chunks=chunks, compression="lzf")
    from ptychostream.datasets.sources import hdf5_patterns

    monkeypatch.setattr(hdf5_patterns, "_HELD", 2**16)
    with h5py.File(path) as file:
        source = hdf5_patterns.hdf5_patterns(file, "entry/data/data", path)
    blocks = [*source.blocks(100)]
    assert {len(block) for block in blocks[:-1]} <= {*range(1, 101)}
    np.testing.assert_array_equal(np.concatenate(blocks), many)


@pytest.mark.parametrize(
    "probe", ["gaussian:5", "gaussian:500nm", "fzp:diameter=120um,outer=300nm"]
)
def test_a_beam_is_made_with_the_power_of_the_patterns(npz, truth, probe):
    geometry = {"energy": "8.8keV", "distance": "1.9m", "detector_pixel": "75um"}
    scan = read(npz(probeGuess=None), probe=probe, **geometry)
    power = float((np.abs(scan.probe) ** 2).sum())
    assert power == pytest.approx(np.percentile(truth["diff3d"].sum(axis=(1, 2)), 90), rel=0.2)


def test_without_a_probe_the_options_are_named_and_a_finder_is_asked(npz, truth):
    with pytest.raises(DataContractError, match=r"lacks 'probeGuess'.*--probe FILE"):
        read(npz(probeGuess=None))
    options = InputOptions(probe="from_patterns")
    found = ps.datasets.sources.read_scan(
        npz(probeGuess=None), options=options, find_probe=lambda scan, _: truth["probeGuess"]
    )
    np.testing.assert_array_equal(found.probe, truth["probeGuess"])


def test_other_names_are_proposed_and_mapped(tmp_path, truth):
    path = tmp_path / "other.npz"
    np.savez(
        path,
        frames=truth["diff3d"],
        pos_x=truth["xcoords"],
        pos_y=truth["ycoords"],
        beam=truth["probeGuess"],
    )
    with pytest.raises(DataContractError, match="--map") as caught:
        read(path)
    proposed = re.findall(r"--map (diff3d=\S+?)[;\s]", str(caught.value) + " ")[0]
    assert_is(read(path, map=proposed), truth)


def test_options_come_from_a_file_and_what_is_given_wins(npz, tmp_path, truth):
    (tmp_path / "b.yaml").write_text("energy: 9keV\ndistance: 1.9\ndetector_pixel: 75um\ncrop: 8\n")
    scan = read(npz(), metadata=str(tmp_path / "b.yaml"), energy="8.8keV", crop=16)
    assert scan.metadata.energy_eV == ENERGY and scan.N == 16
    (tmp_path / "b.yaml").write_text("enrgy: 9keV\n")
    with pytest.raises(ConfigurationError, match="no option enrgy"):
        read(npz(), metadata=str(tmp_path / "b.yaml"))
