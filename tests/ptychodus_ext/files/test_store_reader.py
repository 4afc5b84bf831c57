import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from ptychodus.api.assemble import assemble_dataset
from ptychodus.api.diffraction import CropRegion
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import load_product
from ptychodus.api.plugins import PluginRegistry
from ptychodus.api.reconstruct import PositionIndexFilter, prepare_reconstruct_input

import ptychostream as ps
from ptychodus_ext.files import register_files
from ptychodus_ext.files.store_reader import StoreReader
from ptychostream.errors import DataContractError
from ptychostream.scan import ArrayPatterns


def assemble(path, **options):
    dataset = StoreReader().read(path)
    return assemble_dataset(dataset, raw_pixel_geometry=PixelGeometry(75e-6, 75e-6), **options)


def counts_of(scan):
    return scan.patterns.read(np.arange(scan.num_patterns))


def zip_of(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.fixture(scope="module", params=["folder", "zip of the content", "zip of the folder"])
def opened(request, store, tmp_path_factory):
    """Path by which ptychodus opens the store."""
    if request.param == "folder":
        return store.path / "zarr.json"
    prefix = "scan.zarr/" if "folder" in request.param else ""
    return zip_of(store.path, tmp_path_factory.mktemp("zip") / "scan.zarr.zip", prefix)


def test_every_pattern_arrives_once_with_its_number(opened, scan):
    data = assemble(opened)
    order = np.argsort(data.get_indexes())
    assert np.array_equal(data.get_indexes()[order], np.arange(64))
    expected = np.where(scan.bad_pixels, 0, counts_of(scan))  # assembling zeroes them
    found = data.get_patterns()[order]
    assert np.array_equal(found, expected)
    assert found.dtype == expected.dtype
    assert np.array_equal(data.get_bad_pixels(), scan.bad_pixels)


def test_there_is_one_array_per_shard_and_nothing_is_read_before_it_is_asked_for(store, tmp_path):
    copy = shutil.copytree(store.path, tmp_path / "copy.zarr")
    dataset = StoreReader().read(copy / "zarr.json")
    shutil.rmtree(copy / "diffraction" / "c" / "2")
    assert len(dataset) == 4
    assert [array.get_num_patterns() for array in dataset] == [16] * 4
    assert dataset.get_metadata().num_patterns_per_array == [16] * 4
    assert len(dataset[1].get_patterns()) == 16
    with pytest.raises(DataContractError, match="is damaged"):
        dataset[2].get_patterns()


def test_only_the_region_that_is_asked_for_is_handed_over(opened, scan):
    region = CropRegion((3, 11), (5, 9))
    array = StoreReader().read(opened)[3]
    patterns = array.get_patterns(read_region=region)
    assert np.array_equal(patterns, counts_of(scan)[array.get_indexes(), 5:9, 3:11])
    assert patterns.base is None
    assert assemble(opened, read_region=region).get_patterns_shape() == (64, 4, 8)


def test_what_the_store_knows_of_the_experiment_arrives(opened):
    metadata = StoreReader().read(opened).get_metadata()
    # ptychodus 1.6 and 1.7 name the energy differently.
    names = {"photon_energy_eV", "probe_energy_eV"} & set(vars(metadata))
    assert [getattr(metadata, name) for name in names] == [8000.0]
    assert metadata.detector_distance_m == 2.5
    assert metadata.detector_pixel_geometry == PixelGeometry(55e-6, 55e-6)
    assert metadata.file_path == opened


@pytest.mark.parametrize("whole", [True, False])
def test_amplitudes_are_squared(whole, scan, tmp_path, caplog):
    counts = counts_of(scan).astype(np.float32) * (1 if whole else 1e-6)
    amplitudes = replace(
        scan, patterns=ArrayPatterns(np.sqrt(counts)), measurement_domain="amplitude"
    )
    store = ps.build_group_store(amplitudes, tmp_path / "a.zarr")
    with caplog.at_level(logging.WARNING, "ptychostream"):
        dataset = StoreReader().read(store.path / "zarr.json")
    assert ("without photon counts" in caplog.text) == (not whole)
    (array,) = dataset
    good = ~scan.bad_pixels
    expected = counts[array.get_indexes()][:, good]
    found = array.get_patterns()
    assert found.dtype == dataset.get_metadata().pattern_dtype == np.float32
    if whole:
        assert np.array_equal(found[:, good], expected)
    else:
        assert np.allclose(found[:, good], expected, rtol=1e-6)


def test_patterns_meet_their_positions_by_number(experiment, scan, tmp_path):
    """A store of every second pattern of ptychodus's files, opened beside the whole product."""
    whole = ps.read_scan(experiment)
    rows = np.arange(1, 64, 2)
    half = replace(
        whole,
        patterns=ArrayPatterns(whole.patterns.read(rows)),
        positions=whole.positions[rows],
        scan_index=whole.scan_index[rows],
    )
    store = ps.build_group_store(half, tmp_path / "half.zarr")
    product = load_product(experiment / "product.h5")
    found = prepare_reconstruct_input(
        assemble(store.path / "zarr.json"), product, PositionIndexFilter.ALL
    )
    expected = dict(zip(rows.tolist(), counts_of(scan)[rows], strict=True))
    metres = {point.index: (point.x_m, point.y_m) for point in product.probe_positions}
    good = ~scan.bad_pixels
    assert len(found.diffraction_patterns) == 32
    for point, pattern in zip(
        found.product.probe_positions, found.diffraction_patterns, strict=True
    ):
        assert (point.x_m, point.y_m) == metres[point.index]
        assert np.array_equal(pattern[good], expected[point.index][good])


def test_a_store_of_several_scans_is_refused(two_experiments):
    with pytest.raises(DataContractError, match="2 experiments but ptychodus takes one"):
        StoreReader().read(two_experiments.path / "zarr.json")


def test_what_is_no_store_is_refused(tmp_path, store):
    other = tmp_path / "scan.h5"
    other.write_bytes(b"no zip")
    with pytest.raises(DataContractError, match="no group store; open 'zarr.json'"):
        StoreReader().read(other)
    empty = tmp_path / "empty.zarr.zip"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(DataContractError, match="no group store; open 'zarr.json'"):
        StoreReader().read(empty)
    unfinished = shutil.copytree(store.path, tmp_path / "unfinished.zarr")
    (unfinished / "manifest.json").unlink()
    with pytest.raises(DataContractError, match="not a complete group store"):
        StoreReader().read(unfinished / "zarr.json")


def test_the_readers_are_listed_by_the_names_that_settings_hold():
    registry = PluginRegistry()
    register_files(registry)
    names = {
        plugin.simple_name: plugin.display_name for plugin in registry.diffraction_file_readers
    }
    assert names == {
        "PtychoStream_NPZ": "PtychoStream Scans (*.npz)",
        "PtychoStream_Store": "PtychoStream Stores (zarr.json *.zarr.zip)",
    }


_OPEN = """
import json, sys
from pathlib import Path
from ptychodus_ext.hook import activate
activate()
from ptychodus.model.core import ModelCore
with ModelCore() as model:
    repository = model.diffraction_core.repository
    facts = {"found": [], "names": []}
    def load(path, *, process):
        handle = model.workflow_api.load_diffraction_data(
            Path(path), file_type="PtychoStream_Store", process_patterns=process, block=True
        )
        facts["names"].append(repository[len(repository) - 1].get_name())
        return handle
    for path in sys.argv[1:3]:
        load(path, process=False)
        data = model.diffraction_core.diffraction_api.get_assembled_data(len(facts["found"]))
        facts["found"].append(
            [data.get_indexes().tolist(), data.get_patterns().sum(axis=(1, 2)).tolist()]
        )
    settings = model.settings_registry["Diffraction"].parameters()
    binning = {"CropEnabled": False, "BinningEnabled": True, "BinSizeX": 2, "BinSizeY": 2}
    for key, value in binning.items():
        settings[key].set_value(value)
    binned = load(sys.argv[1], process=True)
    patterns = binned.get_assembled_data().get_patterns()
    facts["binned"] = [str(patterns.dtype), *patterns.shape]
    product = model.workflow_api.create_product("binned", diffraction=binned)
    product.export_training_data(Path(sys.argv[3]), algorithm="PtychoStream_PINN")
print(json.dumps(facts))
"""


@pytest.mark.slow
def test_the_application_opens_stores_by_name_and_exports_what_it_has_binned(store, scan, tmp_path):
    zipped = zip_of(store.path, tmp_path / "scan.zarr.zip")
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, store.path / "zarr.json", zipped, tmp_path / "binned"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["names"][0] == store.path.stem
    assert facts["names"][1].startswith("scan")
    found = facts["found"]
    assert len(found) == 2
    expected = np.where(scan.bad_pixels, 0, counts_of(scan))
    for indexes, sums in found:
        assert sorted(indexes) == list(range(64))
        assert np.array_equal(sums, expected[indexes].sum(axis=(1, 2)))
    # uint32 becomes the type that NumPy calls ULongLong, of which no store has a name.
    assert facts["binned"] == ["uint64", 64, scan.N // 2, scan.N // 2]
    exported = ps.read_scan(tmp_path / "binned.npz")
    assert exported.N == scan.N // 2
