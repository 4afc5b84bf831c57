import pytest
import yaml

from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.main import main

TINY = [
    *("--model.architecture", "unrolled", "--model.unrolled_steps", "1"),
    *("--model.unrolled_width", "4", "--nepochs", "1", "--batch_size", "16"),
]

#: What existing users write, and what the run then has in its execution or training settings.
TRAIN = [
    ("--accelerator cpu", {"accelerator": "cpu"}),
    ("--deterministic", {"deterministic": True}),
    ("--no-deterministic", {"deterministic": False}),
    ("--num-workers 2", {"num_workers": 2}),
    ("--devices 2 --num-nodes 3 --strategy ddp", {"devices": 2, "num_nodes": 3, "strategy": "ddp"}),
    ("--learning-rate=2e-4", {"learning_rate": 2e-4}),
    ("--scheduler Exponential", {"scheduler": "Exponential"}),
    ("--accumulate-grad-batches 2", {"accum_steps": 2}),
    ("--enable-checkpointing", {"enable_checkpointing": True}),
    ("--disable-checkpointing", {"enable_checkpointing": False}),
    ("--checkpoint-save-top-k -1", {"checkpoint_save_top_k": -1}),
    ("--checkpoint-monitor train_loss", {"checkpoint_monitor_metric": "train_loss"}),
    ("--checkpoint-mode max", {"checkpoint_mode": "max"}),
    ("--early-stop-patience 7", {"early_stop_patience": 7}),
    ("--logger csv", {"logger_backend": "csv"}),
    ("--logger none", {"logger_backend": None}),
    ("--logger=none --quiet", {"logger_backend": None}),
]
DEPRECATED = [
    ("--device cpu", {"accelerator": "cpu"}, "--accelerator"),
    ("--disable_mlflow", {"logger_backend": None}, "--logger none --quiet"),
    ("--n_images 20", {"n_groups": 20}, "--n_groups"),
]


def _train(store, out, words):
    assert main(["train", str(store.path), "-o", str(out), *TINY, *words.split()]) == 0
    return yaml.safe_load((out / "config.yaml").read_text()) | {
        key: value
        for key, value in yaml.safe_load((out / "execution.yaml").read_text()).items()
        if key != "scheduler"
    }


def test_names_of_the_existing_train_command_set_the_fields(tiny_store, tmp_path, monkeypatch):
    # Parsing is what is tested: training itself is done once below.
    monkeypatch.setattr("ptychostream.cli.train.train_into", _record(tmp_path))
    for number, (words, expected) in enumerate(TRAIN):
        settings = _train(tiny_store, tmp_path / str(number), words)
        assert {key: settings[key] for key in expected} == expected, words


def _record(tmp_path):
    from ptychostream.config import write_yaml

    def record(config, execution, out, **options):
        out.mkdir()
        write_yaml(config, out / "config.yaml")
        write_yaml(execution, out / "execution.yaml")

    return record


@pytest.mark.parametrize(("words", "expected", "use"), DEPRECATED)
def test_deprecated_names_still_work_and_warn(
    tiny_store, tmp_path, capsys, monkeypatch, words, expected, use
):
    monkeypatch.setattr("ptychostream.cli.train.train_into", _record(tmp_path))
    settings = _train(tiny_store, tmp_path / "run", words)
    assert {key: settings[key] for key in expected} == expected
    name = words.split()[0]
    assert f"{name} is deprecated; use {use}" in capsys.readouterr().err


def test_a_run_with_existing_names_trains_and_reconstructs(tiny_store, tmp_path):
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    words = "--accelerator cpu --disable-checkpointing --logger none --quiet --n_groups 16"
    _train(tiny_store, tmp_path / "run", words)
    words = ["--accelerator", "cpu", "--num-workers", "1", "--inference-batch-size", "7", "--quiet"]
    arguments = ["reconstruct", str(tiny_store.path), "--model_path", run, "-o", out, *words]
    assert main([*arguments, "--passes", "1"]) == 0
    assert (tmp_path / "out" / "object.npz").is_file()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_our_own_names_pass_as_they_are():
    words = ["store", "--execution.accelerator", "cpu", "--nepochs=3", "-o", "run"]
    assert expand_aliases("train", words) == words


def test_an_unknown_name_is_wrong_usage(tiny_store, tmp_path):
    assert main(["train", str(tiny_store.path), "-o", str(tmp_path), "--no-such", "1"]) == 2
