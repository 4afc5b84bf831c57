"""`ptychostream reconstruct`, run as a program of its own where signals matter."""

import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.training.train import initial_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store and an untrained model of it."""
    folder = tmp_path_factory.mktemp("cli")
    store = ps.build_group_store(_scan(), folder / "scan.zarr")
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_steps=2, unrolled_width=8)
    )
    model = initial_model(config, store, seed=0).eval()
    bundle = ps.ModelBundle(
        model=model, config=config, intensity_scale=1.0, probe_guess=store.probe
    )
    ps.save_bundle(bundle, folder / "run")
    return folder


def _start(folder, *words):
    program = [sys.executable, "-m", "ptychostream.cli.main", "reconstruct", "scan.zarr"]
    run = [*program, "--model_path", "run", "-o", "out", *words]
    return subprocess.Popen(run, cwd=folder, stderr=subprocess.PIPE, text=True)


def test_an_interrupt_leaves_a_partial_result_in_the_folder(folder):
    # More passes than a lifetime holds: only an interrupt ends them.
    process = _start(folder, "--refine_passes", "100000000")
    log = folder / "out" / "reconstruct.log"
    for _ in range(600):
        if log.exists() and "pass 1 of" in log.read_text():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted: the result in out is partial" in said
    assert "Traceback" not in said
    with np.load(folder / "out" / "object.npz") as arrays:
        assert arrays["is_partial"]
        assert (arrays["coverage"] > 3).any()
        assert np.isfinite(arrays["object"]).all()
    with h5py.File(folder / "out" / "object.h5") as product:
        assert "partial" in product.attrs["comments"]


def test_options_choose_what_is_stitched_and_how(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = (
        "reconstruct scan.zarr --model_path run -o some --n_groups 40 --placement bilinear "
        "--weight uniform --execution.middle_trim 8 --refine_passes 0 --align_phases false"
    )
    assert main(words.split()) == 0
    said = capsys.readouterr()
    assert "24 of 64 positions have no patch" in said.err
    assert "40 patches" in said.out
    assert not [f.name for f in (folder / "some").iterdir() if f.name.startswith(".")]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--follow --n_groups 5", 2, "--n_groups is not available with --follow"),
        ("--follow --seeds covering", 2, "--seeds is not available with --follow"),
        ("--follow --interval_s 0", 1, "interval_s=0.0 must be positive"),
        ("--execution.learning_rate 1e-4", 2, "learning_rate belongs to `ptychostream train`"),
        ("--execution.pin_memory true", 1, "pin_memory=True is not available"),
        ("--execution.num_nodes 2", 1, "num_nodes=2 is not available"),
        ("--execution.middle_trim 7", 1, "7 px must be an even number in 2 … 16"),
        ("--neighbor_pool_size 5", 1, "does nothing without enable_oversampling"),
        ("--groups_per_position 0", 1, "groups_per_position=0 must be at least 1"),
        ("--scratch_folder nowhere", 1, "scratch_folder='nowhere' is no folder; make it first"),
        ("--execution.devices 100", 1, "64 groups cannot be shared by devices=100"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_one_line(
    folder, monkeypatch, capsys, words, code, message
):
    monkeypatch.chdir(folder)
    run = ["reconstruct", "scan.zarr", "--model_path", "run", "-o", "refused", *words.split()]
    assert main(run) == code
    assert message in capsys.readouterr().err


def test_a_result_folder_that_is_a_file_is_one_clear_message(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "file").write_text("")
    for out in ("file", "file/out"):
        run = ["reconstruct", "scan.zarr", "--model_path", "run", "-o", out]
        assert main(run) == 1
        said = capsys.readouterr().err
        assert f"'{out}'" in said
        assert "folder" in said


def test_following_writes_the_object_so_far_and_in_the_end_that_of_the_finished_store(
    folder, tmp_path
):
    scan, live, out = _scan(), tmp_path / "live.zarr", tmp_path / "out"
    ps.build_group_store(scan.select(np.arange(32)), live, growing=True)
    process = _follow(folder, live, out)
    _wait_for((out / "report.html").exists, process)
    with np.load(out / "object.npz") as so_far:
        assert so_far["is_partial"]
        assert len(so_far["positions"]) == 32
    ps.append_patterns(live, scan.select(np.arange(32, 64)))
    ps.finish_group_store(live)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    offline = ps.reconstruct(ps.load_bundle(folder / "run"), ps.open_group_store(live))
    with np.load(out / "object.npz") as last:
        assert not last["is_partial"]
        np.testing.assert_allclose(last["object"], offline.object, atol=1e-5)


def test_an_interrupt_while_following_keeps_the_object_so_far(folder, tmp_path):
    live, out = tmp_path / "live.zarr", tmp_path / "out"
    ps.build_group_store(_scan().select(np.arange(32)), live, growing=True)
    process = _follow(folder, live, out)
    _wait_for((out / "report.html").exists, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"interrupted: the result in {out} is partial" in said
    assert "Traceback" not in said


def _follow(folder, store, out):
    program = [sys.executable, "-m", "ptychostream.cli.main", "reconstruct", str(store)]
    words = ["--model_path", "run", "-o", str(out), "--follow", "--interval_s", "0.1"]
    run = [*program, *words]
    return subprocess.Popen(run, cwd=folder, stderr=subprocess.PIPE, text=True)


def _scan():
    return ps.simulate_scan(num_positions=64, N=16, step=2.5, nphotons=1e5)


def _wait_for(happens, process):
    for _ in range(600):
        if happens():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("nothing happened within a minute")


def test_a_scan_that_is_not_there_is_said_whatever_options_come_with_it(tmp_path, capsys):
    words = [
        "reconstruct",
        str(tmp_path / "none.h5"),
        "-o",
        str(tmp_path / "o"),
        "--energy",
        "8keV",
    ]
    assert main(words) == 1
    assert "no scan file and no store" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_folder_of_ptychodus_is_reconstructed_from(tmp_path):
    folder, out = tmp_path / "scan", tmp_path / "out"
    assert main(["simulate", str(folder), "--num_positions", "16", "--N", "16"]) == 0
    words = ["reconstruct", str(folder), "-o", str(out), "--passes", "2", "--checks_fit", "false"]
    assert main(words) == 0
    assert (out / "object.npz").is_file()
