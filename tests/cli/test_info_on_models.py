"""`ptychostream info` on each kind of trained model; those of TensorFlow and checkpoints are in
the tests of their readers.
"""

import pickle
import shutil
import zipfile
from pathlib import Path

import pytest

from ptychostream.cli.main import main

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_archive_of_ours(version, capsys):
    assert main(["info", str(DATA / f"archive-{version}" / "wts.h5.zip")]) == 0
    said = capsys.readouterr().out
    expected = ["pytorch", f"format {version}", "unrolled, 9257 parameters", "N 16, gridsize 2"]
    expected += ["2, last train_loss -6.29", "39.53", "weights.safetensors 43524 B"]
    if version == "1.1":
        expected += ["autoencoder (object, amplitude, intensity)", "1 mode(s)", "python 3."]
    for text in expected:
        assert text in said


def test_weights_are_not_read(tmp_path, capsys):
    shutil.copy(DATA / "archive-1.1" / "wts.h5.zip", tmp_path)
    path = tmp_path / "wts.h5.zip"
    data = bytearray(path.read_bytes())
    # Weights are stored as they are: change what only their digest would notice.
    data[-len(data) // 2] ^= 1
    path.write_bytes(data)
    assert main(["info", str(tmp_path)]) == 0
    assert "9257 parameters" in capsys.readouterr().out


def test_a_zipped_model_folder(tmp_path, capsys):
    outer = shutil.make_archive(str(tmp_path / "model"), "zip", root_dir=DATA / "archive-1.1")
    assert main(["info", outer]) == 0
    said = capsys.readouterr().out
    assert "model.zip: wts.h5.zip" in said
    assert "N 16, gridsize 2" in said


def test_an_archive_of_the_existing_pytorch_backend(tmp_path, capsys):
    manifest = {"models": ["diffraction_to_obj", "autoencoder"], "version": "2.0-pytorch"}
    with zipfile.ZipFile(tmp_path / "wts.h5.zip", "w") as archive:
        archive.writestr("manifest.dill", pickle.dumps(manifest))
        archive.writestr("diffraction_to_obj/model.pth", b"never read")
        values = {"N": 64, "gridsize": 1, "architecture": "cnn", "n_filters_scale": 1}
        archive.writestr("diffraction_to_obj/params.dill", pickle.dumps(values))
    assert main(["info", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for text in ("PyTorch backend, format 2.0-pytorch", "N 64, gridsize 1", "PtychoPINN"):
        assert text in said


def test_what_is_no_archive_ends_in_one_message(tmp_path, capsys):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x")
    for content in (path.read_bytes(), b"no zip"):
        path.write_bytes(content)
        assert main(["info", str(path)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert "some.zip" in said
