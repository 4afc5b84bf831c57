"""How every command behaves, whatever it does."""

import io
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from argparse import SUPPRESS
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.cli.common import run_guarded
from ptychostream.cli.help import EXAMPLES, USUAL
from ptychostream.cli.main import COMMANDS, find_command, main

PROGRAM = [sys.executable, "-m", "ptychostream.cli.main"]
SMALL = ["--num_positions", "20", "--N", "16"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ps.__file__).parents[1])}


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_command_has_examples_that_its_parser_takes():
    for command in COMMANDS:
        parser = find_command(command).make_parser()
        for line in EXAMPLES[command]:
            program, name, *words = shlex.split(line.split(">")[0])
            assert (program, name) == ("ptychostream", command)
            if "--config" not in words:
                parser.parse_args(words)


def test_help_ends_with_examples(capsys):
    assert main(["build", "--help"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(EXAMPLES["build"][-1])


@pytest.mark.parametrize("command", USUAL)
def test_help_shows_the_usual_options_and_help_all_the_others(command, capsys):
    assert main([command, "--help"]) == 0
    short = capsys.readouterr().out
    assert main([command, "--help_all"]) == 0
    full = capsys.readouterr().out
    options = [set(re.findall(r"--[a-z][\w.]*", text)) for text in (short, full)]
    assert {f"--{name}" for name in USUAL[command]} <= options[0]
    assert "--execution.pin_memory" in options[1] - options[0]
    hidden = int(re.search(r"(\d+) more options: --help_all", short).group(1))
    assert len(options[1] - options[0]) >= hidden
    assert short.count("\n") < 145
    # What the short help leaves out is still understood.
    assert main([command, "--execution.pin_memory", "maybe"]) == 2
    assert "pin_memory" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["frobnicate"]])
def test_the_start_imports_no_heavy_library(words):
    code = (
        f"import sys; from ptychostream.cli.main import main; main({words!r}); print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    loaded = set(result.stdout.split())
    assert "ptychostream.cli.main" in loaded
    assert not loaded & {
        "torch",
        "lightning",
        "numpy",
        "zarr",
        "h5py",
        "matplotlib",
        "jsonargparse",
    }


def test_a_slip_of_the_pen_is_understood(capsys):
    assert main(["biuld"]) == 2
    assert "did you mean 'build'?" in capsys.readouterr().err


def test_short_flags_and_a_log_file(capsys):
    words = ["simulate", "s.npz", *SMALL, "-q", "--log_file", "logs/s.log"]
    assert main(words) == 0
    assert capsys.readouterr().out == ""
    kept = Path("logs/s.log").read_text()
    assert "INFO wrote s.npz: 20 patterns" in kept
    assert main(["build", "s.npz", "s.zarr", "-v"]) == 0


def test_log_files_keep_what_went_wrong_with_its_origin(capsys):
    assert main(["build", "none.npz", "s.zarr", "--log_file", "b.log"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    kept = Path("b.log").read_text()
    assert "ERROR error: no scan file 'none.npz'" in kept
    assert "Traceback" in kept


def test_a_command_says_what_to_run_next(capsys):
    assert main(["simulate", "s.npz", *SMALL]) == 0
    steps = [("build s.npz s.zarr", "reconstruct s.zarr")]
    said = capsys.readouterr().out
    for words, following in steps:
        assert f"next: ptychostream {words}" in said
        assert main(words.split()) == 0
        said = capsys.readouterr().out
        assert f"next: ptychostream {following}" in said
    for line in (
        "simulate t.zarr --num_positions 9 --N 16",
        "verify s.zarr",
        "export s.zarr e.npz",
    ):
        assert main(line.split()) == 0
        assert "next: ptychostream" in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(capsys, tmp_path):
    for name in ("a.npz", "b.npz"):
        assert main(["simulate", name, *SMALL]) == 0
    before = sorted(path.name for path in tmp_path.iterdir())
    capsys.readouterr()
    assert main(["build", "a.npz", "b.npz", "new/s.zarr", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "would write new/s.zarr: 40 patterns of 16 x 16 px, uint32" in said
    assert "2: 'a.npz', 'b.npz'" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert main(["build", "a.npz", "s.zarr"]) == 0
    assert main(["build", "a.npz", "s.zarr", "--dry_run"]) == 0
    assert "s.zarr exists; add --overwrite" in capsys.readouterr().out
    assert main(["build", "none.npz", "s.zarr", "--dry_run"]) == 1


def test_control_c_ends_quietly_and_leaves_nothing_under_the_name(tmp_path):
    words = [*PROGRAM, "simulate", "s.npz", "--num_positions", "40000", "--N", "64"]
    with subprocess.Popen(
        [*words, "--step", "0.5", "--object", "perlin_noise"],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".s.npz*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "interrupted"
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_early_is_no_error():
    assert main(["simulate", "s.npz", *SMALL]) == 0
    command = " ".join(map(shlex.quote, [*PROGRAM, "info", "s.npz"]))
    code = f"set -o pipefail; {command} | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert result.stdout.strip() in ("0", "141")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "x"), "Permission denied: 'x'"),
        (MemoryError(), "out of memory"),
        (KeyError("gone"), "defect of ptychostream"),
    ],
)
def test_no_error_ends_in_a_traceback_unless_asked(capsys, error, message):
    def command(words):
        raise error

    assert run_guarded(command, []) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    with pytest.raises(type(error)):
        run_guarded(command, ["--debug"])
    assert not logging.getLogger("ptychostream").handlers


@pytest.fixture(scope="module")
def completion():
    """The scripts, made once each."""
    made = {}

    def script(shell):
        if shell not in made:
            with redirect_stdout(io.StringIO()) as printed:
                assert main(["completion", shell]) == 0
            made[shell] = printed.getvalue()
        return made[shell]

    return script


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tr", ["train"]),
        ("train --model.arch", ["--model.architecture"]),
        ("train --model.model_type su", ["supervised"]),
        ("build --dr", ["--dry_run"]),
        ("train sc", ["scan.zarr"]),
        ("reconstruct --model_path ru", ["run"]),
    ],
)
def test_bash_completes_commands_options_choices_and_files(completion, line, expected, tmp_path):
    for folder in ("scan.zarr", "run", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "completion.sh").write_text(completion("bash"))
    words = " ".join(map(shlex.quote, ["ptychostream", *line.split()]))
    code = (
        f"source completion.sh; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        '_shtab_ptychostream 2> /dev/null; echo "${COMPREPLY[@]}"'
    )
    result = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_knows_every_option_of_every_command(completion, shell):
    script = completion(shell)
    for command in COMMANDS:
        assert command in script
        for action in find_command(command).make_parser()._actions:
            if action.help != SUPPRESS:
                for flag in action.option_strings:
                    assert flag.lstrip("-") in script


def test_a_run_is_not_replaced_unasked(tmp_path, monkeypatch, capsys, tiny_store):
    monkeypatch.chdir(tmp_path)
    words = ["train", str(tiny_store.path), "-o", "run", "--nepochs", "1", "--n_groups", "8"]
    words += ["--model.architecture", "unrolled", "--model.unrolled_width", "8"]
    assert main(words) == 0
    model = (tmp_path / "run" / "wts.h5.zip").read_bytes()
    capsys.readouterr()
    assert main([*words, "--subsample_seed", "1"]) == 1
    assert (
        "'run' holds a run already (wts.h5.zip); choose another folder" in capsys.readouterr().err
    )
    assert (tmp_path / "run" / "wts.h5.zip").read_bytes() == model
    (tmp_path / "run" / "checkpoints" / "best-of-before.ckpt").touch()
    assert main([*words, "--subsample_seed", "1", "--overwrite"]) == 0
    assert not (tmp_path / "run" / "checkpoints" / "best-of-before.ckpt").exists()
    monkeypatch.setattr("ptychostream.training.train.train", _interrupted)
    assert main([*words, "--subsample_seed", "2", "--overwrite"]) == 130
    # No model of before is left beside the new configuration.
    assert not (tmp_path / "run" / "wts.h5.zip").exists()


def _interrupted(*_, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", ["build", "train", "reconstruct", "simulate"])
def test_help_names_types_as_people_do(command, capsys):
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "path" in said
    assert "<function" not in said
    assert "<class" not in said
