"""A small file of each format: positions are exact, and patterns equal.

Files are written by the format's own library where one can be installed, and otherwise in the
layout that its programs write.
"""

import importlib
from functools import partial
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from scipy.io import savemat

import ptychostream as ps
from ptychostream.datasets.sources import InputOptions
from ptychostream.datasets.sources.units import HC_EV_M
from ptychostream.errors import DataContractError
from ptychostream.geometry import far_field_pixel_m

ROWS, COLUMNS, N = 4, 6, 16
M = ROWS * COLUMNS
ENERGY, DISTANCE, PIXEL = 8800.0, 1.9, 75e-6
SIZE = far_field_pixel_m(ENERGY, DISTANCE, PIXEL, N)
GEOMETRY = {"energy": "8.8keV", "distance": "1.9m", "detector_pixel": "75um"}


@pytest.fixture(scope="module")
def truth(tiny_scan):
    """Counts on a raster of whole pixels, and its positions in pixels and metres."""
    counts = tiny_scan.patterns.read(np.arange(M)).astype(np.uint32)
    rows, columns = np.indices((ROWS, COLUMNS)).reshape(2, -1)
    pixels = np.stack([columns * 3.0, rows * 2.0], axis=1)
    return SimpleNamespace(
        counts=counts,
        raster=counts.reshape(ROWS, COLUMNS, N, N),
        pixels=pixels,
        metres=pixels * SIZE,
        probe=tiny_scan.probe,
    )


def library(name):
    return pytest.importorskip(name, reason="needs ptychostream[formats]")


def write_npz(truth, path):
    x, y = truth.pixels.T
    np.savez(path, xcoords=x, ycoords=y, diff3d=truth.counts, probeGuess=truth.probe)


def write_npz_of_other_names(truth, path):
    x, y = truth.pixels.T
    np.savez(path, fast=x, slow=y, frames=truth.counts, beam=truth.probe)


def write_cxi(truth, path, *, patterns=None, where="entry_1/data_1/data"):
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        file[where] = truth.counts if patterns is None else patterns
        steps = np.column_stack([truth.metres, np.zeros(M)])
        file["entry_1/sample_1/geometry_1/translation"] = steps
        instrument = file.create_group("entry_1/instrument_1")
        instrument["source_1/energy"] = ENERGY * 1.602176634e-19
        instrument["detector_1/distance"] = DISTANCE
        instrument["detector_1/x_pixel_size"] = PIXEL
        instrument["detector_1/y_pixel_size"] = PIXEL


def write_virtual(truth, path):
    """Two files of patterns, and h5py's view of both."""
    layout = h5py.VirtualLayout((M, N, N), np.uint32)
    for part, rows in enumerate((slice(0, 10), slice(10, M))):
        name = path.with_name(f"part{part}.h5")
        with h5py.File(name, "w") as file:
            file["frames"] = truth.counts[rows]
            layout[rows] = h5py.VirtualSource(file["frames"])
    write_cxi(truth, path)
    with h5py.File(path, "r+") as file:
        del file["entry_1/data_1/data"]
        file["entry_1/data_1"].create_virtual_dataset("data", layout)


def write_nxcxi_ptycho(truth, path):
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry_1")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXcxi_ptycho"
        for name, kind in (("instrument_1", "NXinstrument"), ("data_1", "NXdata")):
            entry.create_group(name).attrs["NX_class"] = kind
        instrument = entry["instrument_1"]
        for name, kind in (("beam_1", "NXbeam"), ("source_1", "NXsource")):
            instrument.create_group(name).attrs["NX_class"] = kind
        instrument.create_group("detector_1").attrs["NX_class"] = "NXdetector"
        for name, value, unit in (
            ("source_1/energy", 3.0, "GeV"),
            ("beam_1/energy", ENERGY / 1e3, "keV"),
            ("detector_1/distance", DISTANCE * 1e3, "mm"),
            ("detector_1/x_pixel_size", PIXEL * 1e6, "um"),
            ("detector_1/y_pixel_size", PIXEL * 1e6, "um"),
        ):
            instrument[name] = value
            instrument[name].attrs["units"] = unit
        instrument["detector_1/data"] = truth.raster
        entry["data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        entry["data_1/x_set"], entry["data_1/y_set"] = truth.metres.T * 1e3
        for name in ("x_set", "y_set"):
            entry[f"data_1/{name}"].attrs["units"] = "mm"


def write_dectris(truth, path):
    """A master with two linked files, as Eiger detectors write them."""
    with h5py.File(path, "w") as file:
        file.create_group("entry").attrs["NX_class"] = "NXentry"
        file.create_group("entry/data").attrs["NX_class"] = "NXdata"
        for part, rows in enumerate((slice(0, 10), slice(10, M)), 1):
            name = f"scan_data_{part:06}.h5"
            with h5py.File(path.with_name(name), "w") as other:
                other["entry/data/data"] = truth.counts[rows]
            file[f"entry/data/data_{part:06}"] = h5py.ExternalLink(name, "entry/data/data")
        detector = file.create_group("entry/instrument/detector")
        for name, value, unit in (
            ("detector_distance", DISTANCE, "m"),
            ("x_pixel_size", PIXEL, "m"),
            ("y_pixel_size", PIXEL, "m"),
            ("detectorSpecific/photon_energy", ENERGY, "eV"),
        ):
            detector[name] = value
            detector[name].attrs["units"] = unit
        detector["detectorSpecific/pixel_mask"] = np.zeros((N, N), np.uint32)


def write_ptyd(truth, path):
    with h5py.File(path, "w") as file:
        for number, rows in enumerate((slice(0, 10), slice(10, M))):
            chunk = file.create_group(f"chunks/{number}")
            chunk["data"] = truth.counts[rows]
            chunk["positions"] = truth.metres[rows, ::-1]
            chunk["weights"] = np.ones((10 if number == 0 else M - 10, N, N), bool)
        file["meta/energy"], file["meta/distance"] = ENERGY / 1e3, DISTANCE
        file["meta/psize"] = [PIXEL, PIXEL]


def write_ptychi(truth, path):
    with h5py.File(path, "w") as file:
        file["dp"] = truth.counts
    with h5py.File(path.with_name("metadata_1.hdf5"), "w") as file:
        file["probe"] = truth.probe[None]
        file["probe_position_x_m"], file["probe_position_y_m"] = truth.metres.T
        file["detector_distance_m"], file["detector_pixel_size_m"] = DISTANCE, PIXEL
        file["wavelength_m"] = HC_EV_M / ENERGY
        file["object"] = np.ones((1, 40, 40), np.complex64)
        file["object"].attrs["pixel_width_m"] = SIZE


def write_ptychoshelves(truth, path):
    with h5py.File(path, "w") as file:
        file["dp"] = truth.counts
    with h5py.File(path.with_name("scan1_data_roi0_para.hdf5"), "w") as file:
        file["ppX"], file["ppY"] = truth.metres.T
        file["detectorDistance"], file["lambda"] = DISTANCE, HC_EV_M / ENERGY
        file["dx"] = SIZE


def write_hxn(truth, path):
    amplitudes = np.sqrt(truth.counts).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["diffamp"] = np.fft.fftshift(amplitudes, axes=(1, 2))
        file["points"] = truth.metres.T * 1e6
        file["z_m"], file["ccd_pixel_um"] = DISTANCE, PIXEL * 1e6
        file["lambda_nm"] = HC_EV_M / ENERGY * 1e9


def write_npy(truth, path, *, raster=False):
    np.save(path, truth.raster if raster else truth.counts)


def write_matlab(truth, path):
    # MATLAB's habit: the number of the pattern comes last.
    savemat(path, {"dp": np.moveaxis(truth.counts, 0, -1)})


def write_tiff(truth, path):
    library("tifffile").imwrite(path, truth.counts, photometric="minisblack")


def write_images(truth, path, *, ending):
    path.mkdir()
    for number, counts in enumerate(truth.counts):
        # Numbers without leading zeros: 10 comes after 9.
        name = str(path / f"frame_{number + 1}.{ending}")
        if ending == "tif":
            library("tifffile").imwrite(name, counts)
        else:
            image = library(f"fabio.{ending}image")
            kind = {"cbf": "CbfImage", "edf": "EdfImage"}[ending]
            getattr(image, kind)(data=counts.astype(np.int32)).write(name)


def write_4d_stem(truth, path, *, plugin, unit="nm", angle="nm"):
    library("rsciio")
    metres = {"nm": 1e-9, "": 1.0}[unit]
    sizes = (ROWS, COLUMNS, N, N)
    steps = (2 * SIZE / metres, 3 * SIZE / metres, 1.0, 1.0)
    axes = [
        {
            "name": name, "size": size, "scale": step, "offset": 0.0, "index_in_array": index,
            "units": unit if index < 2 else angle, "navigate": index < 2, "is_binned": False,
            "_type": "UniformDataAxis",
        }
        for index, (name, size, step) in enumerate(zip("yxvu", sizes, steps, strict=True))
    ]  # fmt: skip
    signal = {
        "data": truth.raster,
        "axes": axes,
        "metadata": {"General": {"title": "scan"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "learning_results": {}, "tmp_parameters": {},
        "models": {},
        "attributes": {"_lazy": False},
        "package_info": {"package": "ptychostream", "package_version": "0"},
    }  # fmt: skip
    importlib.import_module(f"rsciio.{plugin}").file_writer(str(path), signal)


def write_mib(truth, path):
    """A Merlin detector's frames, each after a header of 384 bytes: big-endian, last row first."""
    library("rsciio")
    words = ("00384", "01", f"{N:04}", f"{N:04}", "U32", "   1x1", "01")
    end = ("2020-01-01 00:00:00.0", "0.01", "0", "0", "0", "120", "MQ1A")
    last = ("2020-01-01T00:00:00.000000Z", "10000000ns", "24")
    with path.open("wb") as stream:
        for number, counts in enumerate(truth.counts, 1):
            head = ",".join(("MQ1", f"{number:06}", *words, *end, *last)) + ","
            stream.write(head.encode().ljust(384, b"\0") + counts[::-1].astype(">u4").tobytes())


STEPS = {"step": "3,2", "scan_shape": f"{ROWS},{COLUMNS}"}
AFAR = {"probe": "gaussian:4"}

#: File, who writes it, the options that say what it does not hold, and its recognised format.
FORMATS = {
    "npz": ("scan.npz", write_npz, {}, "npz"),
    "npz-map": (
        "other.npz",
        write_npz_of_other_names,
        {"map": "diff3d=frames,xcoords=fast,ycoords=slow,probeGuess=beam"},
        "npz",
    ),
    "cxi": ("scan.cxi", write_cxi, AFAR, "cxi"),
    "virtual": ("scan.h5", write_virtual, AFAR, "cxi"),
    "nxcxi_ptycho": ("scan.nxs", write_nxcxi_ptycho, AFAR, "cxi"),
    "dectris": ("scan_master.h5", write_dectris, AFAR | STEPS, "cxi"),
    "ptyd": ("scan.ptyd", write_ptyd, AFAR, "ptyd"),
    "ptychi": ("dp_1.hdf5", write_ptychi, {}, "ptychoshelves"),
    "ptychoshelves": ("scan1_data_roi0_dp.hdf5", write_ptychoshelves, AFAR, "ptychoshelves"),
    "hxn": ("scan.h5", write_hxn, AFAR, "hxn"),
    "npy": ("scan.npy", write_npy, AFAR | STEPS, "stack"),
    "npy-4d": ("scan.npy", partial(write_npy, raster=True), AFAR | STEPS, "stack"),
    "matlab": ("scan.mat", write_matlab, AFAR | STEPS, "stack"),
    "tiff": ("scan.tif", write_tiff, AFAR | STEPS, "stack"),
    "tiff-folder": ("frames", partial(write_images, ending="tif"), AFAR | STEPS, "stack"),
    "cbf": ("frames", partial(write_images, ending="cbf"), AFAR | STEPS, "stack"),
    "edf": ("frames", partial(write_images, ending="edf"), AFAR | STEPS, "stack"),
    "hspy": ("scan.hspy", partial(write_4d_stem, plugin="hspy"), AFAR | GEOMETRY, "electron"),
    "mib": ("scan.mib", write_mib, AFAR | STEPS, "electron"),
    "emd": ("scan.emd", partial(write_4d_stem, plugin="emd"), AFAR | GEOMETRY, "electron"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_each_format_is_read_exactly(truth, tmp_path, kind):
    name, write, options, format_name = FORMATS[kind]
    path = tmp_path / name
    write(truth, path)
    assert ps.datasets.sources.find_format(path) == format_name
    scan = ps.read_scan(path, options=InputOptions(**options))
    values = scan.patterns.read(np.arange(M))
    if scan.measurement_domain == "amplitude":
        np.testing.assert_allclose(values.astype(np.float64) ** 2, truth.counts, rtol=1e-6)
    else:
        np.testing.assert_array_equal(values, truth.counts)
    steps = scan.positions - scan.positions[0]
    np.testing.assert_allclose(steps, truth.pixels - truth.pixels[0], atol=1e-9)
    if kind not in ("npz", "npz-map") and scan.metadata.energy_eV is not None:
        assert scan.metadata.object_pixel_size_m == pytest.approx(SIZE)
    rows = np.array([M - 1, 3, 3, 0])
    np.testing.assert_array_equal(scan.patterns.read(rows), values[rows])


def test_empads_raw_frames_are_read_exactly(truth, tmp_path):
    """128 x 128 floats and two rows that are no pixels, beside an XML file."""
    library("rsciio")
    frames = np.zeros((M, 130, 128), "<f4")
    frames[:, 128:] = np.nan
    frames[:, 56:72, 56:72] = truth.counts
    frames.tofile(tmp_path / f"scan_x{COLUMNS}_y{ROWS}.raw")
    (tmp_path / "scan.xml").write_text(
        f'<root><raw_file filename="scan_x{COLUMNS}_y{ROWS}.raw"/>'
        f"<pix_x>{COLUMNS}</pix_x><pix_y>{ROWS}</pix_y></root>"
    )
    options = InputOptions(step="3,2", probe="gaussian:20", measurement_domain="counts")
    scan = ps.read_scan(tmp_path / "scan.xml", options=options)
    values = scan.patterns.read(np.arange(M))
    np.testing.assert_array_equal(values, frames[:, :128])
    np.testing.assert_array_equal(scan.positions - scan.positions[0], truth.pixels)


def test_a_blockfiles_bytes_are_read_exactly(truth, tmp_path):
    path = tmp_path / "scan.blo"
    few = SimpleNamespace(raster=np.minimum(truth.raster, 250).astype(np.uint8))
    write_4d_stem(few, path, plugin="blockfile", angle="cm")
    scan = ps.read_scan(path, options=InputOptions(look="none", **AFAR, **GEOMETRY))
    np.testing.assert_array_equal(scan.patterns.read(np.arange(M)), few.raster.reshape(M, N, N))
    np.testing.assert_allclose(scan.positions - scan.positions[0], truth.pixels, atol=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_reader_of_ptychodus_is_used_by_its_name(truth, tmp_path):
    pytest.importorskip("ptychodus")
    np.save(tmp_path / "scan.npy", truth.counts)
    options = InputOptions(reader="NPY", **AFAR, **STEPS)
    scan = ps.read_scan(tmp_path / "scan.npy", options=options)
    np.testing.assert_array_equal(scan.patterns.read(np.arange(M)), truth.counts)
    np.testing.assert_array_equal(scan.positions - scan.positions[0], truth.pixels)


def test_4d_stem_without_lengths_asks_for_the_step(truth, tmp_path):
    path = tmp_path / "scan.hspy"
    write_4d_stem(truth, path, plugin="hspy", unit="", angle="")
    with pytest.raises(DataContractError, match="--step"):
        ps.read_scan(path, options=InputOptions(**AFAR))
    scan = ps.read_scan(path, options=InputOptions(step="3,2", **AFAR))
    np.testing.assert_array_equal(scan.positions - scan.positions[0], truth.pixels)


def test_zspy_that_cannot_be_read_is_refused_with_another_format(tmp_path):
    library("rsciio")
    (tmp_path / "scan.zspy").mkdir()
    with pytest.raises(DataContractError, match=r"save it as HSPY|scan\.zspy"):
        ps.read_scan(tmp_path / "scan.zspy", options=InputOptions(**AFAR))
