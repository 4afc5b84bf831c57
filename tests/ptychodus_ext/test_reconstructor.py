"""The reconstructors, called as the application calls them, without the application."""

import zipfile

import numpy as np
import pytest

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus.api.io import load_diffraction_data, load_product
from ptychodus.api.reconstruct import prepare_reconstruct_input
from ptychodus.api.settings import SettingsRegistry
from ptychodus_runs import make_experiment, phase_correlation

import ptychostream as ps
from ptychodus_ext.library import PtychoStreamLibrary
from ptychodus_ext.network_files import find_training_files
from ptychostream.errors import DataContractError, MissingFileError


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("reconstructor") / "in")


@pytest.fixture(scope="module")
def parameters(experiment):
    data = load_diffraction_data(experiment.folder / "diffraction.h5")
    return prepare_reconstruct_input(data, load_product(experiment.folder / "product.h5"))


@pytest.fixture
def library(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    library = PtychoStreamLibrary(SettingsRegistry())
    library.settings.model["unrolled_steps"].set_value(3)
    library.settings.model["unrolled_width"].set_value(8)
    library.settings.training["nepochs"].set_value(2)
    return library


def _reconstructor(library, name):
    return next(one for one in library if one.name == name)


def test_supervised_training_and_inference_in_children(library, experiment, parameters, tmp_path):
    supervised = _reconstructor(library, "Supervised")
    scan = ps.read_scan(experiment.folder)
    (tmp_path / "data").mkdir()
    np.savez(
        tmp_path / "data" / "scan.npz",
        xcoords=scan.positions[:, 0],
        ycoords=scan.positions[:, 1],
        diff3d=scan.patterns.read(np.arange(scan.num_patterns)),
        probeGuess=scan.probe,
        objectGuess=experiment.truth,
    )
    assert not supervised.is_model_loaded()
    outputs = list(supervised.train(tmp_path / "data", tmp_path / "out"))
    assert [output.progress for output in outputs] == [50, 99]
    assert [loss.epoch for loss in outputs[-1].training_loss] == [1, 2]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.zip"]
    assert supervised.is_model_loaded()
    results = list(supervised.reconstruct(parameters))
    assert supervised.get_progress_goal() == results[-1].progress == 100
    assert len(results) == 1
    obj = results[0].product.object_.get_array()[0]
    assert phase_correlation(obj, experiment) > 0.9

    supervised.save_model(tmp_path / "copy.zip")
    other = _reconstructor(library, "PINN")
    assert not other.is_model_loaded()
    other.load_model_from_file(tmp_path / "copy.zip")
    assert other.is_model_loaded()
    library.settings.model["backend"].set_value("tensorflow")
    with pytest.raises(DataContractError, match="model of the pytorch backend but .* tensorflow"):
        other.load_model_from_file(tmp_path / "copy.zip")
    with pytest.raises(DataContractError, match="set it to pytorch"):
        next(iter(other.reconstruct(parameters)))
    assert "tensorflow" in other.get_model_file_filter()


def test_stop_before_the_child_begins_ends_the_run_and_says_so(
    library, parameters, tmp_path, monkeypatch, caplog
):
    pinn = _reconstructor(library, "PINN")
    monkeypatch.setattr(library.application, "should_stop", lambda: True)
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("ptychostream.json", "{}")
    pinn.load_model_from_file(tmp_path / "model.zip")
    assert list(pinn.reconstruct(parameters)) == []
    assert "stopped before there was a result" in caplog.text
    monkeypatch.setattr(library.application, "take_training_inputs", lambda: [parameters])
    assert list(pinn.train(tmp_path / "none", tmp_path / "out")) == []
    assert "stopped before there was a model" in caplog.text
    assert pinn.model == tmp_path / "model.zip"


def test_a_file_that_is_no_model_is_refused_when_it_is_loaded(library, tmp_path):
    pinn = _reconstructor(library, "PINN")
    with pytest.raises(MissingFileError, match="no model archive"):
        pinn.load_model_from_file(tmp_path / "model.zip")
    (tmp_path / "model.zip").write_text("not a zip file")
    with pytest.raises(DataContractError, match="not a readable archive"):
        pinn.load_model_from_file(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(DataContractError, match="no model archive"):
        pinn.load_model_from_file(tmp_path / "model.zip")
    assert not pinn.is_model_loaded()
    library.settings.inference["model_path"].set_value(tmp_path)
    assert pinn.is_model_loaded()


@pytest.mark.parametrize(
    ("present", "train", "test"),
    [
        (["train_data.npz", "test_data.npz"], ["train_data.npz"], "test_data.npz"),
        (["b.npz", "a.npz"], ["a.npz", "b.npz"], None),
        (["a.npz", "test_data.npz"], ["a.npz"], "test_data.npz"),
        (["train_data.npz", "a.npz"], ["train_data.npz"], None),
        (["a.npz", "s.zarr/", "test_data.zarr/"], ["s.zarr"], "test_data.zarr"),
        (["s.zarr/", "train_data.zarr/"], ["train_data.zarr"], None),
    ],
)
def test_stores_are_trained_on_first_then_named_files_then_all(tmp_path, present, train, test):
    for name in present:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    found = find_training_files(tmp_path, tmp_path / "elsewhere.zarr")
    assert [path.name for path in found.train] == train
    assert (found.test and found.test.name) == test


def test_a_folder_without_data_names_what_is_looked_for(tmp_path):
    with pytest.raises(MissingFileError, match=r"no train_data.npz.*StorePath"):
        find_training_files(tmp_path, None)
    assert find_training_files(tmp_path, tmp_path / "s.zarr").train == [tmp_path / "s.zarr"]
    for name in ("a.zarr", "b.zarr"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataContractError, match="holds 2 stores"):
        find_training_files(tmp_path, None)
