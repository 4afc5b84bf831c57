"""The command line, called as users call it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import COMMANDS, main

SMALL = ["--model.unrolled_steps", "2", "--model.unrolled_width", "8", "--nepochs", "1"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_whole_path_from_simulation_to_evaluation(tmp_path, capsys):
    run = [
        "simulate scan.npz --num_positions 100 --N 16 --step 2 --probe gaussian",
        "build scan.npz scan.zarr",
        "verify scan.zarr",
        "train scan.zarr -o run --model.architecture unrolled --model.gridsize 2 "
        "--neighbor_count 6 " + " ".join(SMALL),
        "reconstruct scan.zarr --model_path run -o result --refine_passes 5",
        "evaluate result/object.npz --reference scan.npz",
    ]
    for line in run:
        assert main(line.split()) == 0, line
    said = capsys.readouterr().out
    assert "next: ptychostream train scan.zarr" in said
    made = {p.name for p in (tmp_path / "result").iterdir()}
    assert made >= {
        "object.npz",
        "object.h5",
        "amplitude.png",
        "phase.png",
        "coverage.png",
        "losses.png",
        "config.yaml",
        "reconstruct.log",
        "evaluation.json",
        "evaluation.png",
        "frc.png",
        "timing.png",
        "report.html",
        "report.json",
    }
    made = {p.name for p in (tmp_path / "run").iterdir()}
    assert made >= {"wts.h5.zip", "config.yaml", "execution.yaml", "losses.png", "train.log"}
    assert "epoch 1 of 1" in (tmp_path / "run" / "train.log").read_text()
    metrics = json.loads((tmp_path / "result" / "evaluation.json").read_text())
    assert metrics["phase_correlation"] > 0.8
    with h5py.File(tmp_path / "result" / "object.h5") as product:
        assert product["object"].shape[1:] == ps.read_scan("scan.npz").object_guess.shape
    for path in ("scan.npz", "scan.zarr", "run", "run/wts.h5.zip"):
        assert main(["info", path]) == 0
    assert "unrolled" in capsys.readouterr().out
    assert main(["evaluate", "result/object.npz", "--reference", "scan.zarr", "-o", "b"]) == 0
    assert main(["evaluate", "result/object.npz", "--reference", "result/object.h5"]) == 0


def test_the_configuration_that_was_used_trains_again(tmp_path):
    assert main(["simulate", "s.zarr", "--num_positions", "36", "--N", "16", "--step", "2"]) == 0
    first = ["train", "s.zarr", "-o", "a", "--model.architecture", "unrolled", *SMALL]
    assert main([*first, "--subsample_seed", "4", "--execution.learning_rate", "2e-3"]) == 0
    used = ps.config.read_yaml(ps.TrainingConfig, tmp_path / "a" / "config.yaml")
    assert used.model.unrolled_width == 8
    assert used.model.N == 16
    assert used.subsample_seed == 4
    execution = ps.config.read_yaml(ps.PyTorchExecutionConfig, tmp_path / "a" / "execution.yaml")
    assert execution.learning_rate == 2e-3
    again = "train s.zarr -o b --config a/config.yaml --execution a/execution.yaml"
    assert main(again.split()) == 0
    first, second = (ps.load_bundle(folder) for folder in "ab")
    for name, value in first.model.state_dict().items():
        assert (value == second.model.state_dict()[name]).all()
    assert main("train s.zarr -o c --config a/config.yaml --nepochs 2".split()) == 0
    changed = ps.load_bundle("c").config
    assert (changed.nepochs, changed.subsample_seed) == (2, 4)


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_a_store_exports_what_it_was_built_from(ending):
    assert main(["simulate", f"a.{ending}", "--num_positions", "30", "--N", "16"]) == 0
    assert main(["build", f"a.{ending}", "s.zarr"]) == 0
    assert main(["export", "s.zarr", f"b.{ending}"]) == 0
    first, second = ps.read_scan(f"a.{ending}"), ps.read_scan(f"b.{ending}")
    every = np.arange(30)
    np.testing.assert_array_equal(first.patterns.read(every), second.patterns.read(every))
    np.testing.assert_allclose(first.positions, second.positions)
    np.testing.assert_array_equal(first.probe, second.probe)
    np.testing.assert_array_equal(first.object_guess, second.object_guess)


def _broken(name, change):
    scan = ps.simulate_scan(num_positions=30, N=16)
    arrays = {
        "xcoords": scan.positions[:, 0],
        "ycoords": scan.positions[:, 1],
        "diff3d": np.sqrt(scan.patterns.read(np.arange(30))).astype(np.float32),
        "probeGuess": scan.probe[0],
    }
    change(arrays)
    np.savez(name, **arrays)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("diff3d"), ["'bad.npz'", "'diff3d'"]),
        (lambda a: a.update(diff3d=a["diff3d"][:, :14]), ["(30, 14, 16)"]),
        (lambda a: a.update(diff3d=a["diff3d"][:29]), ["29 diffraction patterns", "30"]),
        (lambda a: a["xcoords"].__setitem__(3, np.nan), ["not finite", "--leave_out '[3]'"]),
        (lambda a: a["ycoords"].__setitem__(3, -np.inf), ["not finite", "--leave_out '[3]'"]),
        (lambda a: a["diff3d"].__setitem__((5, 1, 1), np.nan), ["pattern 5", "nan"]),
        (lambda a: a["diff3d"].__setitem__((7, 1, 1), np.inf), ["pattern 7", "inf"]),
        (lambda a: a["xcoords"].__setitem__(9, 1e7), ["position 9", "1e+07", "--leave_out '[9]'"]),
    ],
)
def test_bad_input_ends_in_one_message_and_leaves_nothing(tmp_path, capsys, change, words):
    _broken("bad.npz", change)
    assert main(["build", "bad.npz", "s.zarr"]) == 1
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "Traceback" not in error
    for word in ["bad.npz", *words]:
        assert word in error
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npz"]


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("build none.npz s.zarr", 1, "no scan file 'none.npz'"),
        ("train none.zarr -o run", 1, "no group store 'none.zarr'"),
        ("verify none.zarr", 1, "no group store"),
        ("info none", 1, "no file or folder 'none'"),
        ("reconstruct none.zarr --model_path none -o out", 1, "no model archive"),
        ("evaluate none.npz --reference none.npz", 1, "no file 'none.npz'"),
        ("simulate scan.tiff", 1, "must end in .npz, .zarr or .h5"),
        ("simulate s.npz --object cat", 1, "no object 'cat'"),
        ("simulate s.npz --nphotons many", 2, "nphotons"),
        ("train s.zarr", 2, "required: -o/--out"),
        ("paint s.zarr", 2, "no command 'paint'"),
    ],
)
def test_exit_codes_say_who_is_at_fault(tmp_path, capsys, line, code, word):
    assert main(line.split()) == code
    captured = capsys.readouterr()
    assert word in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


def test_impossible_configurations_are_refused_before_anything_is_written(tmp_path, capsys):
    assert main(["simulate", "s.zarr", "--num_positions", "36", "--N", "16"]) == 0
    line = "train s.zarr -o run --model.architecture resnet"
    assert main(line.split()) == 1
    assert "there are cnn, fast, ffno, fno, unrolled" in capsys.readouterr().err
    assert main(["train", "s.zarr", "-o", "run", "--nepochs", "0"]) in (1, 2)
    assert "nepochs=0" in capsys.readouterr().err
    assert main("train s.zarr -o run --nepochs 2 --stage_1_epochs 3".split()) in (1, 2)
    assert "the stages take 3" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


def test_data_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, capsys):
    assert main("simulate s.zarr --num_positions 36 --N 16 --step 2".split()) == 0
    assert main("simulate few.zarr --num_positions 3 --N 16".split()) == 0
    assert main(["train", "s.zarr", "-o", "a", "--model.architecture", "unrolled", *SMALL]) == 0
    assert main("simulate big.zarr --num_positions 4 --N 32".split()) == 0
    before = {path.name for path in tmp_path.iterdir()}
    for line in (
        "train s.zarr -o run --model.N 32 --model.architecture unrolled",
        "train few.zarr -o run --model.gridsize 2 --model.architecture unrolled",
        "reconstruct big.zarr --model_path a -o result",
        "reconstruct s.zarr --model_path a -o result --experiment 4",
    ):
        assert main(line.split()) == 1, line
    assert {path.name for path in tmp_path.iterdir()} == before
    # A second run in the same folder takes the place of the first, where that is asked for.
    again = ["train", "s.zarr", "-o", "a", "--model.architecture", "unrolled", *SMALL]
    assert main([*again, "--overwrite"]) == 0
    kept = sorted(path.name for path in (tmp_path / "a" / "checkpoints").iterdir())
    assert kept == ["best-epoch=0.ckpt", "last.ckpt"]


def test_debug_shows_where_an_error_comes_from():
    with pytest.raises(FileNotFoundError):
        main(["verify", "none.zarr", "--debug"])


def test_nothing_is_overwritten_unless_asked(capsys):
    assert main(["simulate", "s.npz", "--num_positions", "4", "--N", "16"]) == 0
    assert main(["simulate", "s.npz", "--num_positions", "4", "--N", "16"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["simulate", "s.npz", "--num_positions", "4", "--N", "16", "--overwrite"]) == 0


def test_options_come_from_yaml(tmp_path):
    (tmp_path / "s.yaml").write_text("num_positions: 12\nN: 16\nprobe: disk\n")
    assert main(["simulate", "s.npz", "--config", "s.yaml", "--num_positions", "14"]) == 0
    assert ps.read_scan("s.npz").num_patterns == 14


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        assert command in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert all(command in (out := capsys.readouterr().out) or out == "" for command in COMMANDS)
    assert main(["--version"]) == 0
    assert main([]) == 2


def test_doctor_reports_the_environment(capsys):
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    for word in ("torch", "zarr", "devices", "cpu", "zstd with bitshuffle and CRC32C work"):
        assert word in report
    assert main(["info", "."]) == 1


def test_quiet_says_nothing(capsys):
    assert main(["simulate", "s.npz", "--num_positions", "4", "--N", "16", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_patterns_are_changed_on_the_way_into_a_store():
    assert main("simulate a.npz --num_positions 30 --N 32".split()) == 0
    assert main("build a.npz s.zarr --orientation rot90 --bin 2".split()) == 0
    store = ps.open_group_store("s.zarr")
    assert store.N == 16
    assert store.attributes["provenance"][0]["preprocessing"]["orientation"] == "rot90"


def test_single_patterns_are_left_out_of_one_scan(capsys):
    assert main("simulate a.npz --num_positions 30 --N 32".split()) == 0
    assert main(["build", "a.npz", "s.zarr", "--leave_out", "[3,4]"]) == 0
    store = ps.open_group_store("s.zarr")
    assert store.num_patterns == 28
    assert store.attributes["provenance"][0]["options"]["leave_out"] == "[3,4]"
    assert main(["build", "a.npz", "a.npz", "t.zarr", "--leave_out", "[3]"]) == 1
    assert "--leave_out [3] belongs to one scan, and there are 2" in capsys.readouterr().err


def test_an_empty_file_of_options_is_named(tmp_path, capsys):
    (tmp_path / "none.yaml").touch()
    for words in (["--config", "none.yaml"], ["--config=none.yaml"]):
        assert main(["train", "s.zarr", "-o", "run", *words]) == 2
        assert "'none.yaml' is empty" in capsys.readouterr().err


def test_info_describes_a_reconstructed_object(tiny_store, capsys):
    train = ["train", str(tiny_store.path), "-o", "run", "--model.architecture", "unrolled"]
    assert main([*train, *SMALL]) == 0
    config = Path("run/config.yaml").read_bytes()
    # Into the folder of the run, whose own configuration stays.
    reconstruct = ["reconstruct", str(tiny_store.path), "--model_path", "run", "-o", "run"]
    assert main(reconstruct) == 0
    assert Path("run/config.yaml").read_bytes() == config
    capsys.readouterr()
    with np.load("run/object.npz") as arrays:
        height, width = arrays["object"].shape
        mean = np.abs(arrays["object"][arrays["object"] != 0]).mean()
    for name in ("object.npz", "object.h5"):
        assert main(["info", f"run/{name}"]) == 0
        shown = capsys.readouterr().out
        assert f"{height} x {width} px, first pixel at x 0, y 0" in shown
        assert f"mean {mean:.3g}, standard deviation" in shown


def test_damaged_objects_are_refused_by_evaluate(tmp_path, capsys):
    np.savez("whole.npz", object=np.ones((40, 40), "c8"), coverage=np.ones((40, 40), "f4"))
    data = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(data[: len(data) // 2])
    np.savez("pickled.npz", object=np.array([{}], dtype=object), coverage=np.ones(4))
    np.save("plain.npy", np.ones((40, 40)))
    for name in ("half.npz", "pickled.npz", "plain.npy"):
        for line in (
            f"evaluate {name} --reference whole.npz",
            f"evaluate whole.npz --reference {name}",
        ):
            if line.endswith("--reference plain.npy"):
                continue  # an array alone is a reference, but no result with its coverage
            assert main(line.split()) == 1, line
            error = capsys.readouterr().err
            assert name in error
            assert "Traceback" not in error


def test_info_names_what_was_appended(capsys):
    scan = ps.simulate_scan(num_positions=12, N=16, step=2)
    parts = [
        replace(scan.select(np.arange(at, at + 2)), provenance={"file": f"{at}.npz"})
        for at in range(0, 12, 2)
    ]
    ps.build_group_store(parts[0], "s.zarr", growing=True)
    for part in parts[1:]:
        ps.append_patterns("s.zarr", part)
    assert main(["info", "s.zarr"]) == 0
    assert "0.npz, 2.npz, 4.npz, 6.npz and 2 more" in capsys.readouterr().out


def test_results_do_not_go_into_a_store_and_a_reference_may_be_zipped(tmp_path, capsys):
    assert main(["simulate", "s.npz", "--num_positions", "36", "--N", "16", "--step", "2"]) == 0
    assert main(["build", f"file://{tmp_path}/s.npz", "s.zarr"]) == 0
    train = ["train", "s.zarr", "--model.architecture", "unrolled", *SMALL]
    before = sorted(path.name for path in (tmp_path / "s.zarr").iterdir())
    assert main([*train, "-o", "s.zarr"]) == 1
    assert "'s.zarr' is a group store; name another folder" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "s.zarr").iterdir()) == before
    assert main([*train, "-o", "run"]) == 0
    reconstruct = ["reconstruct", "s.zarr", "--model_path", "run", "-o", "result"]
    assert main(reconstruct) == 0
    shutil.make_archive("s.zarr", "zip", "s.zarr")
    evaluate = ["evaluate", "result/object.npz", "--min_coverage", "1", "--reference"]
    for reference in ("s.zarr.zip", f"file://{tmp_path}/s.zarr", "s.npz"):
        assert main([*evaluate, reference]) == 0
    assert main([*evaluate, "s.npz", "--experiment", "5"]) == 1
    assert "experiment=5 chooses one of a store" in capsys.readouterr().err
    assert main([*reconstruct, "--interval_s", "9"]) == 2
    assert "--interval_s has no effect without --follow" in capsys.readouterr().err
    assert main([*reconstruct, "--overwrite", "--neighbor_count", "-1"]) == 1
    assert "neighbor_count=-1 must be a whole number" in capsys.readouterr().err
    assert main(["build", "s.npz", "t.zarr.zip"]) == 1
    assert "stores in zip files are read, never written" in capsys.readouterr().err
    assert main(["build", "s.npz", "t.zarr", "--patterns_per_chunk", "0"]) == 1
    assert "patterns_per_chunk=0 must be at least 1" in capsys.readouterr().err
    assert main([*reconstruct, "--overwrite", "--n_groups", "99"]) == 0
    assert "n_groups=99, but 's.zarr' has 36 to draw" in capsys.readouterr().err
    log = Path("result/reconstruct.log").read_bytes()
    assert main([*reconstruct, "--execution.memory_budget", "foo"]) == 1
    assert "foo" in capsys.readouterr().err
    assert Path("result/reconstruct.log").read_bytes() == log
