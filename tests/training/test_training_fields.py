"""What fields of training and execution do, beyond that each changes the result."""

import logging

import pytest
import torch

import ptychostream as ps
from ptychostream.errors import ConfigurationError, DataContractError


def _run(store, make_config, config=None, **execution):
    options = {"logger_backend": None, "enable_checkpointing": False} | execution
    return ps.train(
        make_config(**(config or {})), store, execution=ps.PyTorchExecutionConfig(**options)
    )


def test_checkpoints_are_as_many_and_as_good_as_asked_for(tiny_store, make_config, tmp_path):
    config = {"nepochs": 3, "validation_fraction": 0.3}
    _run(tiny_store, make_config, config)
    assert not (tmp_path / "checkpoints").exists()
    for kept in (1, -1):
        _run(
            tiny_store,
            make_config,
            config | {"output_dir": tmp_path / str(kept)},
            enable_checkpointing=True,
            checkpoint_save_top_k=kept,
            checkpoint_monitor_metric="train_loss",
        )
        found = list((tmp_path / str(kept) / "checkpoints").glob("best-*.ckpt"))
        assert len(found) == (3 if kept == -1 else 1)
    state = torch.load(tmp_path / "1" / "checkpoints" / "last.ckpt", weights_only=True)
    monitors = {value["monitor"] for value in state["callbacks"].values() if "monitor" in value}
    assert monitors == {"train_loss"}


def test_threads_windows_and_memory_reach_the_loader(tiny_store, make_config, monkeypatch):
    import ptychostream.training.run as training

    asked = []
    make_loader = training.make_loader
    monkeypatch.setattr(
        training, "make_loader", lambda *a, **k: asked.append(k) or make_loader(*a, **k)
    )
    plain = _run(tiny_store, make_config)
    small = _run(tiny_store, make_config, num_workers=3, prefetch_factor=4, memory_budget="20 KiB")
    assert [asked[-1][k] for k in ("num_threads", "ahead", "memory_budget")] == [3, 4, "20 KiB"]
    # The order of the windows, and with it the shuffle, follows the memory.
    assert plain.history != small.history
    with pytest.raises(ConfigurationError, match="no worker processes"):
        _run(tiny_store, make_config, persistent_workers=True)


def test_photons_are_told_to_data_without_counts(tmp_path, make_config):
    import numpy as np

    scan = ps.simulate_scan(num_positions=30, N=16, nphotons=1e4)
    counts = scan.patterns.read(np.arange(30)).astype(np.float32)
    amplitude = 0.1234 * np.sqrt(counts)
    path = tmp_path / "amplitudes.npz"
    np.savez(
        path,
        xcoords=scan.positions[:, 0],
        ycoords=scan.positions[:, 1],
        diff3d=amplitude,
        probeGuess=scan.probe[0],
    )
    store = ps.build_group_store(ps.read_scan(path), tmp_path / "s.zarr")
    scales = [
        _run(store, make_config, {"nphotons": photons}).intensity_scale for photons in (1e4, 4e4)
    ]
    assert scales[1] == pytest.approx(2 * scales[0])


@pytest.mark.parametrize("gridsize", [1, 2])
def test_labels_teach_a_network_without_diffraction(tiny_store, make_config, gridsize):
    config = {
        "model": {"model_type": "supervised", "gridsize": gridsize},
        "nepochs": 4,
        "validation_fraction": 0.3,
    }
    bundle = _run(tiny_store, make_config, config, learning_rate=3e-3)
    for losses in bundle.history.values():
        assert losses[-1] < losses[0]


def test_labels_are_missed_before_training(tmp_path, make_config):
    scan = ps.simulate_scan(num_positions=30, N=16)
    object.__setattr__(scan, "object_guess", None)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    for config in ({"model": {"model_type": "supervised"}}, {"realspace_mae_weight": 1.0}):
        with pytest.raises(DataContractError, match=r"s\.zarr' has no object_guess"):
            _run(store, make_config, config)


def test_the_solver_teaches_where_no_object_is_known(tmp_path, make_config, caplog):
    caplog.set_level(logging.INFO)
    scan = ps.simulate_scan(num_positions=49, N=16, nphotons=1e5)
    object.__setattr__(scan, "object_guess", None)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    config = {"model": {"model_type": "supervised"}, "targets": "solver", "nepochs": 4}
    bundle = _run(store, make_config, config, learning_rate=3e-3)
    assert "experiment 1 of 1 solved for labels" in caplog.text
    losses = bundle.history["train_loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("positions", [1, 3, 4])
def test_very_few_positions_train(tmp_path, make_config, positions, caplog):
    caplog.set_level(logging.INFO)
    scan = ps.simulate_scan(num_positions=positions, N=16)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    assert len(_run(store, make_config).history["train_loss"]) == 1
    assert ("overlap_weight is 0" in caplog.text) == (positions < 4)
