"""Runs that are interrupted or killed, and those that go on with them."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import ptychostream as ps
from ptychostream import errors as ps_errors
from ptychostream.errors import ConfigurationError, MissingFileError
from ptychostream.training.solver_runs import refine_probes
from ptychostream.training.train import initial_model


def _execution(**changes):
    return ps.PyTorchExecutionConfig(**({"logger_backend": None} | changes))


def _weights(bundle):
    return torch.cat([p.detach().flatten() for p in bundle.model.parameters()])


def _stop_after(batches):
    asked = []

    def should_stop():
        asked.append(None)
        return len(asked) >= batches

    return should_stop


def _asks_of_probe_search(config, store):
    """How often a search for the probe asks whether to stop."""
    asked = []
    model = initial_model(config, store, seed=0)
    refine_probes(model, store, config, _execution(), lambda: bool(asked.append(None)))
    return len(asked)


CASES = {
    "plain": {},
    "plateau": {"scheduler": "ReduceLROnPlateau", "plateau_patience": 0, "plateau_threshold": 0.9},
    "stages": {"stage_1_epochs": 1, "stage_2_epochs": 1, "stage_3_epochs": 1},
    "held out": {"validation_fraction": 0.3, "optimizer": "sgd"},
    "probe": {"probe_trainable": True, "model": {"gridsize": 2}},
}


@pytest.mark.parametrize(
    ("case", "batches"), [("plain", 3), ("plain", 8), *((case, 12) for case in CASES)]
)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tiny_store, make_config, tmp_path, case, batches
):
    config = make_config(nepochs=3, **CASES[case])
    whole = ps.train(config, tiny_store, execution=_execution(enable_checkpointing=False))
    skipped = _asks_of_probe_search(config, tiny_store) if config.probe_trainable else 0
    part = ps.train(
        config, tiny_store, execution=_execution(), should_stop=_stop_after(skipped + batches)
    )
    assert "stopped_after" in part.history
    assert not torch.equal(_weights(part), _weights(whole))
    resumed = ps.train(config, tiny_store, execution=_execution(), resume_from=tmp_path)
    assert torch.equal(_weights(resumed), _weights(whole))
    assert resumed.history == whole.history


def test_accumulated_gradients_are_not_lost(tiny_store, make_config, tmp_path):
    execution = {"accum_steps": 3}
    config = make_config(nepochs=2)
    whole = ps.train(config, tiny_store, execution=_execution(**execution))
    ps.train(config, tiny_store, execution=_execution(**execution), should_stop=_stop_after(6))
    resumed = ps.train(config, tiny_store, execution=_execution(**execution), resume_from=tmp_path)
    assert torch.equal(_weights(resumed), _weights(whole))


def test_more_epochs_go_on_where_a_run_ended(tiny_store, make_config, tmp_path):
    ps.train(make_config(nepochs=1), tiny_store, execution=_execution())
    more = ps.train(
        make_config(nepochs=3), tiny_store, execution=_execution(), resume_from=tmp_path
    )
    assert len(more.history["train_loss"]) == 3


@pytest.mark.parametrize("fewer", [1, 2])
def test_fewer_epochs_than_are_done_are_refused(tiny_store, make_config, tmp_path, fewer, caplog):
    ps.train(make_config(nepochs=4), tiny_store, execution=_execution())
    with pytest.raises(ConfigurationError, match=f"but nepochs={fewer}: take as many"):
        ps.train(make_config(nepochs=fewer), tiny_store, resume_from=tmp_path)
    assert "nothing was trained" not in caplog.text
    again = ps.train(make_config(nepochs=4), tiny_store, resume_from=tmp_path)
    assert len(again.history["train_loss"]) == 4
    assert "nothing was trained: the run had come to its end" in caplog.text


def test_what_cannot_be_resumed_is_refused(
    tiny_store, two_experiments, make_config, tmp_path, tmp_path_factory
):
    with pytest.raises(MissingFileError, match=r"last\.ckpt"):
        ps.train(make_config(), tiny_store, resume_from=tmp_path)
    ps.train(make_config(), tiny_store, execution=_execution())
    with pytest.raises(ConfigurationError, match="optimizer='adam', this run has 'sgd'"):
        ps.train(make_config(optimizer="sgd"), tiny_store, resume_from=tmp_path)
    with pytest.raises(ConfigurationError, match=r"model\.unrolled_width=8"):
        ps.train(make_config(model={"unrolled_width": 4}), tiny_store, resume_from=tmp_path)
    other = ps.build_group_store(
        ps.simulate_scan(num_positions=30, N=16), tmp_path_factory.mktemp("other") / "s.zarr"
    )
    with pytest.raises(ConfigurationError, match="other data"):
        ps.train(make_config(), other, resume_from=tmp_path)


TRAIN = ["--model.architecture", "unrolled", "--model.unrolled_steps", "2"]
TRAIN += ["--model.unrolled_width", "8", "--batch_size", "4", "--nepochs", "7"]


def _command(store, out, *more):
    return [
        sys.executable,
        "-m",
        "ptychostream.cli.main",
        "train",
        str(store),
        "-o",
        str(out),
        *more,
    ]


def _run(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def _when_epoch_is_done(process, out, epochs):
    log = out / "train.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if log.is_file() and log.read_text().count("epoch ") >= epochs:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_command_can_be_resumed(tiny_store, tmp_path, how):
    store, cut = tiny_store.path, tmp_path / "cut"
    process = subprocess.Popen(
        _command(store, cut, *TRAIN), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    _when_epoch_is_done(process, cut, 2)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    if how == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, said
        assert "interrupted" in said
        assert "--resume" in said
        assert "Traceback" not in said
    assert not (cut / "wts.h5.zip").exists()
    # Both leave the same: the newest checkpoint that is whole.
    if how == signal.SIGINT:
        return
    resumed = _run(_command(store, cut, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    bundle = ps.load_bundle(cut)
    assert len(bundle.history["train_loss"]) == 7
    config = dataclasses.replace(bundle.config, output_dir=tmp_path)
    whole = ps.train(config, tiny_store, execution=_execution())
    assert torch.equal(_weights(bundle), _weights(whole))
    assert bundle.history == whole.history
    # What was logged before is kept.
    assert (cut / "log" / "resumed-1" / "metrics.csv").is_file()


def test_signals_are_the_host_programs_own_again(tiny_store, make_config):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ps.train(make_config(), tiny_store, execution=_execution())
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        ps.train(
            make_config(nepochs=3),
            tiny_store,
            execution=_execution(),
            on_epoch=lambda _: os.kill(os.getpid(), signal.SIGTERM),
        )
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_stopped_in_its_search_for_the_probe_leaves_nothing_to_resume(
    tiny_store, make_config, tmp_path
):
    config = make_config(probe_trainable=True)
    part = ps.train(config, tiny_store, execution=_execution(), should_stop=_stop_after(9))
    assert "stopped_after" in part.history
    with pytest.raises(ps_errors.PtychoStreamError):
        ps.train(config, tiny_store, execution=_execution(), resume_from=tmp_path)


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e-4}, {"accum_steps": 2}, {"gradient_clip_val": 0.5}]
)
def test_what_an_optimiser_cannot_change_half_way_is_refused(
    tiny_store, make_config, tmp_path, changes
):
    first = {"logger_backend": None, "learning_rate": 1e-3}
    ps.train(make_config(nepochs=1), tiny_store, execution=ps.PyTorchExecutionConfig(**first))
    (name, value), *_ = changes.items()
    with pytest.raises(ConfigurationError, match=f"{name}=.* this run has {value}"):
        ps.train(
            make_config(nepochs=2),
            tiny_store,
            execution=ps.PyTorchExecutionConfig(**(first | changes)),
            resume_from=tmp_path,
        )
