"""Each field of training and execution, changed on its own: what comes out is different.

A field that is not in the tables has no test, and fails one.
"""

import dataclasses
import logging

import pytest
import torch

import ptychostream as ps
from ptychostream.errors import ConfigurationError, DataContractError

#: Field → the change, and what the comparison needs besides, in both runs.
RESULT = {
    "batch_size": ({"batch_size": 4}, {}),
    "nepochs": ({"nepochs": 2}, {}),
    "mae_weight": ({"mae_weight": 1.0}, {}),
    "nll_weight": ({"nll_weight": 0.5}, {"mae_weight": 1.0}),
    "realspace_mae_weight": ({"realspace_mae_weight": 1.0}, {}),
    "realspace_weight": ({"realspace_weight": 10.0}, {}),
    "amplitude_variation_weight": ({"amplitude_variation_weight": 1.0}, {}),
    "phase_variation_weight": ({"phase_variation_weight": 1.0}, {}),
    "overlap_weight": ({"overlap_weight": 0.5}, {}),
    "n_groups": ({"n_groups": 20}, {}),
    "n_subsample": ({"n_subsample": 30}, {}),
    "subsample_seed": ({"subsample_seed": 3}, {}),
    "neighbor_count": ({"neighbor_count": 12}, {"model": {"gridsize": 2}}),
    "enable_oversampling": (
        {"enable_oversampling": True, "n_groups": 90},
        {"model": {"gridsize": 2}},
    ),
    "neighbor_pool_size": (
        {"neighbor_pool_size": 5},
        {"model": {"gridsize": 2}, "enable_oversampling": True, "n_groups": 90},
    ),
    "probe_trainable": ({"probe_trainable": True}, {}),
    "intensity_scale_trainable": ({"intensity_scale_trainable": False}, {}),
    "sequential_sampling": ({"sequential_sampling": True}, {"n_groups": 20}),
    "torch_loss_mode": ({"torch_loss_mode": "mae"}, {}),
    "torch_mae_pred_l2_match_target": (
        {"torch_mae_pred_l2_match_target": True},
        {"torch_loss_mode": "mae"},
    ),
    "gradient_clip_val": ({"gradient_clip_val": 1e-4}, {"optimizer": "sgd"}),
    "gradient_clip_algorithm": (
        {"gradient_clip_algorithm": "agc"},
        {"optimizer": "sgd", "gradient_clip_val": 1e-4},
    ),
    "optimizer": ({"optimizer": "sgd"}, {}),
    "momentum": ({"momentum": 0.5}, {"optimizer": "sgd"}),
    "weight_decay": ({"weight_decay": 0.1}, {}),
    "adam_beta1": ({"adam_beta1": 0.5}, {}),
    "adam_beta2": ({"adam_beta2": 0.5}, {}),
    "scheduler": ({"scheduler": "Exponential"}, {"nepochs": 2}),
    "lr_warmup_epochs": ({"lr_warmup_epochs": 1}, {"scheduler": "WarmupCosine", "nepochs": 2}),
    "lr_min_ratio": ({"lr_min_ratio": 0.0}, {"scheduler": "Exponential", "nepochs": 2}),
    "plateau_factor": ({"plateau_factor": 0.9}, {"plateau": True}),
    "plateau_patience": ({"plateau_patience": 1}, {"plateau": True}),
    "plateau_min_lr": ({"plateau_min_lr": 9e-4}, {"plateau": True}),
    "plateau_threshold": ({"plateau_threshold": 0.0}, {"plateau": True}),
    "stage_1_epochs": ({"stage_1_epochs": 1}, {"nepochs": 2}),
    "stage_2_epochs": ({"stage_2_epochs": 1}, {"nepochs": 2}),
    "stage_3_epochs": ({"stage_3_epochs": 1}, {"nepochs": 2}),
    "physics_weight_schedule": (
        {"physics_weight_schedule": "exponential"},
        {"nepochs": 2, "stage_2_epochs": 1},
    ),
    "stage_3_lr_factor": ({"stage_3_lr_factor": 0.5}, {"nepochs": 2, "stage_3_epochs": 1}),
    "validation_fraction": ({"validation_fraction": 0.3}, {}),
}
#: Where another test changes the field, and why this one can't.
ELSEWHERE = {
    "model": "tests/models",
    "train_data_file": "tests/cli: the command's own",
    "test_data_file": "tests/cli: the command's own",
    "n_images": "tests/config: another name of n_groups",
    "nphotons": "below: an offset of the loss, for data without counts",
    "positions_provided": "refused",
    "scale_contract_version": "tests/ptychopinn/test_scaling_profiles.py",
    "measurement_domain": "tests/ptychopinn/test_scaling_profiles.py",
    "output_dir": "below",
    "backend": "tests/ptychopinn: workflows",
}
EXECUTION_RESULT = {
    "gradient_clip_val": ({"gradient_clip_val": 1e-4}, {"optimizer": "sgd"}, {}),
    "gradient_clip_algorithm": (
        {"gradient_clip_algorithm": "value"},
        {"optimizer": "sgd", "gradient_clip_val": 1e-4},
        {},
    ),
    "precision": ({"precision": "bf16-mixed"}, {}, {}),
    "accum_steps": ({"accum_steps": 2}, {}, {}),
    "learning_rate": ({"learning_rate": 1e-2}, {}, {}),
    "scheduler": ({"scheduler": "Exponential"}, {"nepochs": 2}, {}),
    "early_stop_patience": ({"early_stop_patience": 1}, {"nepochs": 5, "stuck": True}, {}),
    "checkpoint_mode": (
        {"checkpoint_mode": "max"},
        {"nepochs": 3},
        {"early_stop_patience": 1},
    ),
}
EXECUTION_ELSEWHERE = {
    "accelerator": "tests/training/test_training.py: refused without one",
    "devices": "tests/training/test_distributed.py",
    "num_nodes": "tests/training/test_training.py: refused without a launcher",
    "strategy": "tests/training/test_distributed.py, tests/training/test_training.py",
    "deterministic": "below",
    "num_workers": "below",
    "pin_memory": "tests/training/test_training.py: refused without a GPU",
    "persistent_workers": "below: refused",
    "prefetch_factor": "below",
    "enable_progress_bar": "below",
    "enable_checkpointing": "below",
    "checkpoint_save_top_k": "below",
    "checkpoint_monitor_metric": "below",
    "logger_backend": "tests/training/test_trackers.py",
    "recon_log_every_n_epochs": "tests/training/test_trackers.py",
    "recon_log_num_patches": "tests/training/test_trackers.py",
    "recon_log_fixed_indices": "tests/training/test_trackers.py",
    "recon_log_stitch": "tests/training/test_trackers.py",
    "recon_log_max_stitch_samples": "tests/training/test_trackers.py",
    "inference_batch_size": "tests/reconstruction/test_reconstruct.py",
    "middle_trim": "tests/reconstruction/test_reconstruct.py",
    "pad_eval": "tests/reconstruction/test_reconstruct.py",
    "memory_budget": "below",
}
PLATEAU = {
    "scheduler": "ReduceLROnPlateau",
    "nepochs": 3,
    "plateau_patience": 0,
    # No epoch can make as much progress: every one is a plateau.
    "plateau_threshold": 1e9,
}
STUCK = {"weight_decay": 0.0, "optimizer": "sgd", "momentum": 0.0}


@pytest.mark.parametrize(
    ("kind", "tables"),
    [
        (ps.TrainingConfig, (RESULT, ELSEWHERE)),
        (ps.PyTorchExecutionConfig, (EXECUTION_RESULT, EXECUTION_ELSEWHERE)),
    ],
)
def test_every_field_has_a_test(kind, tables):
    listed = [name for table in tables for name in table]
    assert sorted(listed) == sorted(field.name for field in dataclasses.fields(kind))


def _options(changes):
    plain = dict(changes)
    if plain.pop("plateau", False):
        plain = PLATEAU | plain
    if plain.pop("stuck", False):
        plain = STUCK | plain
    return plain


class Outcomes:
    """Trains each configuration once."""

    def __init__(self, store, make_config):
        self._store, self._make, self._kept = store, make_config, {}

    def __call__(self, training, execution=()):
        key = repr((sorted(training.items()), sorted(dict(execution).items())))
        if key not in self._kept:
            options = {"logger_backend": None, "enable_checkpointing": False} | dict(execution)
            bundle = ps.train(
                self._make(**training),
                self._store,
                execution=ps.PyTorchExecutionConfig(**options),
            )
            weights = torch.cat([p.detach().flatten() for p in bundle.model.parameters()])
            self._kept[key] = weights, bundle.history
        return self._kept[key]


@pytest.fixture(scope="module")
def outcome(tiny_store, tmp_path_factory):
    from tiny import tiny_config

    folder = tmp_path_factory.mktemp("fields")
    return Outcomes(tiny_store, lambda **changes: tiny_config(folder, **changes))


@pytest.mark.parametrize("name", RESULT)
def test_training_fields_change_the_result(outcome, name):
    change, shared = (_options(part) for part in RESULT[name])
    assert name in change
    weights, _ = outcome(shared)
    changed, _ = outcome(shared | change)
    assert weights.shape != changed.shape or not torch.equal(weights, changed)


@pytest.mark.parametrize("name", EXECUTION_RESULT)
def test_execution_fields_change_the_result(outcome, name):
    change, training, shared = EXECUTION_RESULT[name]
    assert name in change
    if name == "early_stop_patience":
        # A learning rate that changes no bit: no epoch is better than the first.
        shared = {"learning_rate": 1e-30}
    weights, history = outcome(_options(training), shared)
    changed, changed_history = outcome(_options(training), shared | change)
    if name in ("early_stop_patience", "checkpoint_mode"):
        assert len(history["train_loss"]) > len(changed_history["train_loss"])
    else:
        assert not torch.equal(weights, changed)


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


def test_determinism_is_asked_for_only_while_training_runs(tiny_store, make_config):
    seen = []
    for deterministic in (True, False):
        ps.train(
            make_config(),
            tiny_store,
            execution=ps.PyTorchExecutionConfig(
                logger_backend=None, enable_checkpointing=False, deterministic=deterministic
            ),
            on_epoch=lambda _: seen.append(torch.are_deterministic_algorithms_enabled()),
        )
        assert not torch.are_deterministic_algorithms_enabled()
    assert seen == [True, False]


def test_a_progress_bar_is_shown_where_asked_for(tiny_store, make_config, capsys):
    _run(tiny_store, make_config)
    assert "Epoch" not in "".join(capsys.readouterr())
    _run(tiny_store, make_config, enable_progress_bar=True)
    shown = "".join(capsys.readouterr())
    assert "Epoch 0" in shown
    assert "8/8" in shown


def test_threads_windows_and_memory_reach_the_loader(tiny_store, make_config, monkeypatch):
    import ptychostream.training.train as training

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


def test_results_go_into_the_output_folder(tiny_store, make_config, tmp_path):
    _run(
        tiny_store,
        make_config,
        {"output_dir": tmp_path / "there"},
        enable_checkpointing=True,
        logger_backend="csv",
    )
    assert (tmp_path / "there" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "there" / "log" / "metrics.csv").is_file()


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


@pytest.mark.parametrize("positions", [1, 3, 4])
def test_very_few_positions_train(tmp_path, make_config, positions, caplog):
    caplog.set_level(logging.INFO)
    scan = ps.simulate_scan(num_positions=positions, N=16)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    assert len(_run(store, make_config).history["train_loss"]) == 1
    assert ("overlap_weight is 0" in caplog.text) == (positions < 4)
