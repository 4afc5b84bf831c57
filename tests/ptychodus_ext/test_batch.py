"""The application's own batch command, from the files that it is given to those that it leaves."""

import shutil
import zipfile

import h5py
import numpy as np
import pytest
from ptychodus_runs import CENTRE, lay_out_ptycho, make_experiment, phase_correlation, run_batch

import ptychostream as ps

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

SMALL = {"UnrolledSteps": 3, "UnrolledWidth": 8}


def _export(experiment):
    """Write training data as the application's users have them: counts, half of the scan each."""
    scan = ps.read_scan(experiment.folder)
    counts = scan.patterns.read(np.arange(scan.num_patterns))
    for name, half in (("train", slice(0, None, 2)), ("test", slice(1, None, 2))):
        np.savez(
            experiment.folder / f"{name}_data.npz",
            xcoords=scan.positions[half, 0],
            ycoords=scan.positions[half, 1],
            diff3d=counts[half],
            probeGuess=scan.probe,
            objectGuess=scan.object_guess,
            bad_pixels=np.zeros((scan.N, scan.N), bool)
            if scan.bad_pixels is None
            else scan.bad_pixels,
        )


def _train(experiment, out):
    """Train a network in two epochs; returns what is logged of the last one."""
    experiment.write_settings(
        Processing={"Algorithm": "PtychoStream_PINN"},
        PtychoStreamModel=SMALL,
        PtychoStreamTraining={"NumEpochs": 2, "BatchSize": 8},
    )
    trained = run_batch("train", experiment.folder, out)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert [path.name for path in out.iterdir()] == ["model.zip"]
    assert "with backend pytorch" in trained.stdout
    last_epoch = next(line for line in trained.stdout.splitlines() if "epoch 2 of 2" in line)
    assert "train_loss" in last_epoch
    return last_epoch


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment, the folder of a model that was trained on what is loaded, and its log."""
    folder = tmp_path_factory.mktemp("trained")
    experiment = make_experiment(folder / "in", modes=2, bad=True)
    return experiment, folder / "out", _train(experiment, folder / "out")


def test_files_in_the_folder_are_trained_on_and_compared_with(tmp_path):
    experiment = make_experiment(tmp_path / "in")
    _export(experiment)
    assert "val_loss" in _train(experiment, tmp_path / "out")


def test_a_scan_is_trained_on_and_reconstructed_on_its_own_grid(trained, tmp_path):
    experiment, models, last_epoch = trained
    assert "val_loss" not in last_epoch
    shutil.copy(models / "model.zip", experiment.folder)
    out = tmp_path / "out"
    done = run_batch("reconstruct", experiment.folder, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "_ptychostream_pinn..." in done.stdout
    assert "reconstructing on" in done.stdout
    products = sorted(out.glob("product*.h5"))
    assert [path.name for path in products] == ["product.000100.h5"]
    with h5py.File(products[0]) as file:
        obj, probe = file["object"], file["probe"]
        assert obj.shape == (1, *experiment.truth.shape)
        found = [obj.attrs[f"center_{axis}_m"] for axis in "xy"]
        assert found == pytest.approx(CENTRE, rel=1e-9)
        positions = np.stack([file[f"probe_position_{axis}_m"][:] for axis in "xy"], axis=1)
        np.testing.assert_allclose(positions, experiment.positions, atol=1e-15)
        assert phase_correlation(obj[0], experiment) > 0.9
        assert probe.shape == (1, 2, 32, 32)
        with h5py.File(experiment.folder / "diffraction.h5") as data:
            counts = data["patterns"][:].astype(float)
            counts[:, data["bad_pixels"][:]] = 0
        power = float((np.abs(probe[:]) ** 2).sum())
        assert power == pytest.approx(counts.sum(axis=(1, 2)).mean(), rel=1e-3)
        losses = file["loss_values"][:]
        # Two passes, and up to two more while the probe still changes.
        assert 2 <= len(losses) <= 4
        assert losses[-1] < losses[0]


def test_a_store_needs_no_patterns_of_the_application(trained, tmp_path):
    experiment = make_experiment(tmp_path / "in")
    # What the application holds is one pattern; the store has the scan, and the folder is named.
    ps.build_group_store(experiment.folder, tmp_path / "in" / "scan.zarr")
    with h5py.File(experiment.folder / "diffraction.h5", "r+") as file:
        first = {name: file[name][:1] for name in ("patterns", "indexes")}
        attributes = dict(file["patterns"].attrs)
        for name, values in first.items():
            del file[name]
            file[name] = values
        file["patterns"].attrs.update(attributes)
    experiment.write_settings(
        Processing={"Algorithm": "PtychoStream_PINN"},
        PtychoStreamInference={"ModelPath": trained[1]},
        PtychoStreamData={"StorePath": tmp_path / "in" / "scan.zarr"},
    )
    done = run_batch("reconstruct", experiment.folder, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 patterns of store" in done.stdout
    with h5py.File(tmp_path / "out" / "product.000100.h5") as file:
        assert phase_correlation(file["object"][0], experiment) > 0.9
        positions = np.stack([file[f"probe_position_{axis}_m"][:] for axis in "xy"], axis=1)
        np.testing.assert_allclose(positions, experiment.positions, atol=1e-15)


def test_the_tensorflow_backend_is_an_installed_ptycho(tmp_path):
    experiment = make_experiment(tmp_path / "in")
    ptycho = lay_out_ptycho(tmp_path, experiment.truth)
    _export(experiment)
    experiment.write_settings(
        Processing={"Algorithm": "PtychoStream_PINN"},
        PtychoStreamModel={"Backend": "tensorflow"},
        PtychoStreamTraining={"NumEpochs": 2},
    )
    trained = run_batch("train", experiment.folder, tmp_path / "out", **ptycho)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    # Archived as a folder, the way that the application's own library does it.
    with zipfile.ZipFile(experiment.folder / "model.zip", "w") as archive:
        archive.write(tmp_path / "out" / "model.zip", "bundle/wts.h5.zip")
    done = run_batch("reconstruct", experiment.folder, tmp_path / "out", **ptycho)
    assert done.returncode == 0, done.stdout + done.stderr
    with h5py.File(tmp_path / "out" / "product.000100.h5") as file:
        obj = file["object"][0]
        # Its patches are cut at whole pixels.
        assert np.abs(obj - experiment.truth)[experiment.inside].mean() < 0.15
        assert phase_correlation(obj, experiment) > 0.9


def test_a_reconstruction_without_a_model_says_where_one_is_looked_for(tmp_path):
    experiment = make_experiment(tmp_path / "in")
    experiment.write_settings(Processing={"Algorithm": "PtychoStream_Supervised"})
    done = run_batch("reconstruct", experiment.folder, tmp_path / "out")
    assert done.returncode == 1
    assert "put model.zip into the input folder" in done.stdout
