"""Every field that is not refused changes what a run does: set it, and see the effect."""

import functools
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fields import REFUSED
from test_legacy import PAIR

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.errors import PtychoStreamError
from ptychostream.scan import ArrayPatterns
from ptychostream.workflows import train_cdi_model

#: A rate that is lowered after every epoch: no progress is as large as is asked for.
PLATEAUS = {
    "scheduler": "ReduceLROnPlateau",
    "plateau_patience": 0,
    "plateau_threshold": 1e9,
    "nepochs": 3,
}
RECON_LOG = {"recon_log_every_n_epochs": 1, "logger_backend": "csv"}
#: What a field needs beside it to act at all.
BESIDE = {
    "momentum": {"optimizer": "sgd"},
    "weight_decay": {"optimizer": "adamw"},
    "lr_warmup_epochs": {"scheduler": "WarmupCosine", "nepochs": 3},
    "lr_min_ratio": {"scheduler": "WarmupCosine", "nepochs": 3},
    "scheduler": {"nepochs": 3},
    "torch_mae_pred_l2_match_target": {"torch_loss_mode": "mae"},
    # Adam makes the size of gradients all one.
    "gradient_clip_val": {"optimizer": "sgd"},
    "gradient_clip_algorithm": {"gradient_clip_val": 1e-6, "optimizer": "sgd"},
    "architecture": {"architecture": "unrolled"},
    "backend": {"backend": "pytorch"},
    "logger_backend": {"logger_backend": None},
    "enable_checkpointing": {"enable_checkpointing": False},
    "neighbor_pool_size": {"enable_oversampling": True, "n_groups": 90},
    "enable_oversampling": {"n_groups": 90},
    "n_groups": {"subsample_seed": 1},
    "groups_per_position": {"gridsize": 2},
    "neighbor_function": {"gridsize": 2},
    "min_neighbor_distance": {"gridsize": 2, "neighbor_function": "min_distance"},
    "max_neighbor_distance": {
        "gridsize": 2,
        "neighbor_function": "min_distance",
        "neighbor_count": 12,
    },
    "sequential_sampling": {"n_groups": 20},
    "nphotons": {"_data": "amplitude"},
    "scale_contract_version": {"nphotons": 1e3},
    "measurement_domain": {"nphotons": 1e3},
    "probe_mask_sigma": {"probe_mask": True, "probe_mask_diameter": 8.0},
    "probe_mask_diameter": {"probe_mask": True},
    "plateau_factor": PLATEAUS,
    "plateau_patience": PLATEAUS,
    "plateau_min_lr": PLATEAUS,
    "plateau_threshold": PLATEAUS,
    "prefetch_factor": {"memory_budget": "20 KiB"},
    "physics_weight_schedule": {"nepochs": 3, "stage_2_epochs": 3},
    "stage_3_lr_factor": {"nepochs": 3, "stage_3_epochs": 2},
    "recon_log_every_n_epochs": {},
    "recon_log_num_patches": RECON_LOG,
    "recon_log_fixed_indices": RECON_LOG,
    "recon_log_stitch": RECON_LOG,
    "recon_log_max_stitch_samples": RECON_LOG | {"recon_log_stitch": True},
    "checkpoint_mode": {"enable_checkpointing": True, "nepochs": 3},
    "checkpoint_save_top_k": {"enable_checkpointing": True, "nepochs": 3},
}
CNN = {"architecture": "cnn", "N": 64, "gridsize": 2}
CNN_FIELDS = "n_filters_scale cbam_encoder cnn_input amp_activation object_big probe_big pad_object"
BESIDE |= {each: {"_model": CNN} for each in CNN_FIELDS.split()}
BESIDE["border_channels"] = {"_model": CNN | {"gridsize": 1}}
FOURIER = {"architecture": "fno", "N": 64, "gridsize": 2, "fno_width": 8, "fno_modes": 4}
FOURIER_FIELDS = (
    *("fno_modes", "fno_width", "fno_blocks", "fno_cnn_blocks", "learned_input_channels"),
    *("fno_input_transform", "generator_output_mode"),
)
BESIDE |= {each: {"_model": FOURIER} for each in FOURIER_FIELDS}
BESIDE["fast_width"] = {"_model": {"architecture": "fast"}}
# A network that computes with the probe follows its scale.
BESIDE["amplitude_physics_gain"] = {
    "architecture": "cnn",
    "n_filters_scale": 1,
    "N": 64,
    "_data": "wide",
}
BESIDE["compat"] = {"architecture": "cnn", "N": 64, "_data": "wide", "gridsize": 2}

#: The value that is set.
VALUE = {
    "N": 32,
    "gridsize": 2,
    "model_type": "supervised",
    "compat": "upstream",
    "border_channels": "outputs",
    "cnn_input": "intensity",
    "learned_input_channels": 4,
    "prefetch_factor": 3,
    "fno_modes": 3,
    "fno_width": 6,
    "fno_input_transform": "sqrt",
    "generator_output_mode": "amp_phase",
    "physics_weight_schedule": "linear",
    "recon_log_fixed_indices": [1],
    "architecture": "cnn",
    "amp_activation": "relu",
    "validation_fraction": 0.25,
    "realspace_mae_weight": 0.5,
    "amplitude_variation_weight": 0.5,
    "phase_variation_weight": 0.5,
    "overlap_weight": 0.5,
    "mae_weight": 0.5,
    "nll_weight": 0.5,
    "n_groups": 30,
    "n_images": 30,
    "n_subsample": 30,
    "groups_per_position": 3,
    "neighbor_function": "four_quadrant",
    "min_neighbor_distance": 3.0,
    "max_neighbor_distance": 4.0,
    "neighbor_count": 12,
    "neighbor_pool_size": 12,
    "realspace_weight": 0.5,
    "targets": "solver",
    "fast_width": 4,
    "nphotons": 1e3,
    "scale_contract_version": "legacy_v1",
    "measurement_domain": "normalized_amplitude",
    "backend": "tensorflow",
    "torch_loss_mode": "mae",
    "gradient_clip_val": 1e-6,
    "gradient_clip_algorithm": "value",
    "optimizer": "sgd",
    "momentum": 0.1,
    "weight_decay": 0.5,
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "scheduler": "Exponential",
    "lr_warmup_epochs": 2,
    "lr_min_ratio": 0.5,
    "plateau_factor": 0.1,
    "plateau_patience": 3,
    "plateau_min_lr": 9e-4,
    "plateau_threshold": 0.0,
    "probe_mask_diameter": 5.0,
    "unrolled_width": 4,
    "accum_steps": 2,
    "learning_rate": 1e-2,
    "memory_budget": "4 KiB",
    "logger_backend": "csv",
    "checkpoint_mode": "max",
    "checkpoint_save_top_k": -1,
}

#: Fields that leave the numbers as they are: the test that shows what they do.
SHOWN_BY = {
    "middle_trim": "tests/cli/test_reconstruct_command.py",
    "pad_eval": "tests/reconstruction/test_reconstruct.py",
    "devices": "tests/training/test_distributed.py",
    "num_nodes": "tests/training/test_training.py",
    "strategy": "tests/training/test_distributed.py",
}


def names_of(kind):
    return [item.name for item in fields(kind) if item.name != "model"]


TRAINING = [
    (kind, name)
    for kind in (ps.ModelConfig, ps.TrainingConfig, ps.PyTorchExecutionConfig)
    for name in names_of(kind)
    if name not in REFUSED and name not in SHOWN_BY
]


@pytest.fixture(scope="module")
def stores(tiny_scan, tiny_store, tmp_path_factory):
    amplitude = np.sqrt(next(tiny_scan.patterns.blocks(64)) / 7).astype(np.float32)
    scan = replace(
        tiny_scan,
        patterns=ArrayPatterns(amplitude),
        measurement_domain="amplitude",
    )
    path = tmp_path_factory.mktemp("store") / "amplitude.zarr"
    without_counts = ps.build_group_store(scan, path, progress=False)
    wide = ps.build_group_store(
        ps.simulate_scan(num_positions=16, N=64, seed=1),
        path.with_name("wide.zarr"),
        progress=False,
    )
    return {"counts": tiny_store, "amplitude": without_counts, "wide": wide}


#: Runs without the field, by what stands beside it: many fields need nothing.
_PLAIN = {}


@functools.cache
def _network(changes):
    """Predict with an untrained network of seeded weights: for those that train slowly."""
    torch.manual_seed(0)
    config = ps.ModelConfig(**dict(changes))
    model, size = ps.PtychoPINN(config, np.ones((1, 1, 64, 64), np.complex64)), config.group_size
    with torch.no_grad():
        patches = model.reconstruct(torch.rand(1, size, 64, 64), torch.zeros(1, size, 1, 2))
    return patches.numpy().tobytes()


def _observe(stores, kind, changes):
    """Train, and return whatever a caller can see of it."""
    changes = dict(changes)
    if "_model" in changes:
        return _network(tuple((changes.pop("_model") | changes).items()))
    store = stores[changes.pop("_data", "counts")]
    held_out = store if changes.pop("_validate", False) else None
    model = {"N": 16, "architecture": "unrolled", "unrolled_steps": 2, "unrolled_width": 8}
    if changes.get("architecture", "unrolled") != "unrolled":
        model = {"N": 16}
    training = {"nepochs": 1, "batch_size": 8, "neighbor_count": 6, "backend": "pytorch"}
    execution = {"logger_backend": None, "enable_checkpointing": False}
    for name, value in changes.items():
        own = [
            (part, target)
            for part, target in (
                (ps.ModelConfig, model),
                (ps.TrainingConfig, training),
                (ps.PyTorchExecutionConfig, execution),
            )
            if name in names_of(part)
        ]
        # Some names are both training's and execution's.
        target = next((target for part, target in own if part is kind), own[0][1])
        target[name] = value
    with tempfile.TemporaryDirectory() as folder:
        training.setdefault("output_dir", Path(folder))
        try:
            results = train_cdi_model(
                store,
                held_out,
                ps.TrainingConfig(model=ps.ModelConfig(**model), **training),
                ps.PyTorchExecutionConfig(**execution),
            )
        except PtychoStreamError as error:
            return str(error)
        files = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
        pictures = [path.read_bytes() for path in sorted(Path(folder).rglob("*.png"))]
    state = results["bundle"].model.state_dict()
    weights = b"".join(value.numpy().tobytes() for value in state.values())
    return weights, results["history"], files, pictures


@pytest.mark.parametrize(("kind", "name"), TRAINING, ids=[f"{k.__name__}.{n}" for k, n in TRAINING])
@pytest.mark.filterwarnings("ignore:n_images")
def test_a_field_that_is_set_is_seen_in_the_run(stores, kind, name, tmp_path, capfd):
    if name in _OTHERWISE:
        _OTHERWISE[name](stores, tmp_path, capfd)
        return
    beside = BESIDE.get(name, {})
    default = beside.get(name, getattr(kind(), name))
    key = repr(beside) if "_model" in beside or not beside else repr((kind, beside))
    if key not in _PLAIN:
        _PLAIN[key] = _observe(stores, kind, beside)
    value = VALUE.get(name)
    if value is None:
        value = (not default) if isinstance(default, bool) else (default or 0) + 1
    assert value != default
    # Half of a pair is refused.
    changes = PAIR if name in PAIR else {name: value}
    assert _observe(stores, kind, beside | changes) != _PLAIN[key]


def _loader(stores, **execution):
    from ptychostream.training.run import resolve_run

    config = ps.TrainingConfig(model=ps.ModelConfig(N=16))
    chosen = ps.PyTorchExecutionConfig(**execution)
    run = resolve_run(config, stores["counts"], None, chosen, None)
    return run.loader("train", 0, 1, torch.device("cpu"))


def _output_dir(stores, folder, _):
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_width=8),
        nepochs=1,
        backend="pytorch",
        output_dir=folder / "here",
    )
    assert train_cdi_model(stores["counts"], None, config)["archive"].parent == (folder / "here")


def _data_files(stores, folder, _):
    run = ["train", str(stores["counts"].path), "-o", str(folder), "--quiet"]
    options = ["--model.architecture", "unrolled", "--nepochs", "1", "--model.unrolled_width", "4"]
    held_out = ["--validation", str(stores["counts"].path)]
    assert main([*run, *options, *held_out]) == 0
    assert "val_loss" in ps.load_bundle(folder).history
    used = ps.config.read_yaml(ps.TrainingConfig, folder / "config.yaml")
    assert used.train_data_file == used.test_data_file == stores["counts"].path
    # Named in a file, it is the same.
    again = ["--config", str(folder / "config.yaml"), "-o", str(folder / "again"), "--quiet"]
    assert main(["train", str(stores["counts"].path), *again]) == 0
    assert "val_loss" in ps.load_bundle(folder / "again").history


def _accelerator(stores, *_):
    if torch.backends.mps.is_available():
        pytest.skip("this machine has every kind of device")
    said = _observe(stores, ps.PyTorchExecutionConfig, {"accelerator": "mps"})
    assert isinstance(said, str)
    assert "mps" in said


def _precision(stores, *_):
    results = [
        _observe(
            stores,
            ps.PyTorchExecutionConfig,
            {
                "precision": precision,
                "architecture": "cnn",
                "N": 64,
                "_data": "wide",
                "n_filters_scale": 1,
            },
        )
        for precision in ("32-true", "bf16-mixed")
    ]
    assert results[0] != results[1]


def _prefetch_factor(stores, *_):
    assert _loader(stores, prefetch_factor=3)._ahead == 3


def _num_workers(stores, *_):
    assert _loader(stores, num_workers=3).num_threads == 3


def _inference_batch_size(stores, *_):
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=16, architecture="unrolled"), nepochs=1, backend="pytorch"
    )
    bundle = ps.ModelBundle(
        model=ps.PtychoPINN(config.model, stores["counts"].probe).eval(),
        config=config,
        intensity_scale=1.0,
        probe_guess=stores["counts"].probe,
    )
    seen = []
    original = bundle.model.reconstruct
    bundle.model.reconstruct = lambda x, *rest: seen.append(len(x)) or original(x, *rest)
    execution = ps.PyTorchExecutionConfig(inference_batch_size=5)
    ps.reconstruct(bundle, stores["counts"], execution=execution, passes=0)
    assert set(seen) == {5, 4}


def _deterministic(stores, folder, _):
    seen = []

    def look():
        is_on = torch.are_deterministic_algorithms_enabled()
        seen.append((is_on, torch.is_deterministic_algorithms_warn_only_enabled()))

    for value in (True, "warn", False):
        config = ps.TrainingConfig(
            model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_width=8),
            nepochs=1,
            output_dir=folder,
            backend="pytorch",
        )
        quiet = {"logger_backend": None, "enable_checkpointing": False}
        execution = ps.PyTorchExecutionConfig(deterministic=value, **quiet)
        ps.train(config, stores["counts"], execution=execution, on_epoch=lambda _: look())
    assert seen == [(True, False), (True, True), (False, False)]


def _checkpoint_monitor_metric(stores, folder, _):
    for metric in ("val_loss", "train_loss"):
        config = ps.TrainingConfig(
            model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_width=8),
            nepochs=1,
            output_dir=folder / metric,
            backend="pytorch",
        )
        execution = ps.PyTorchExecutionConfig(logger_backend=None, checkpoint_monitor_metric=metric)
        ps.train(config, stores["counts"], validation=stores["counts"], execution=execution)
        (kept,) = (folder / metric / "checkpoints").glob("last*.ckpt")
        callbacks = torch.load(kept, weights_only=False)["callbacks"]
        assert any(f"'monitor': '{metric}'" in name for name in callbacks)


def _early_stop_patience(stores, *_):
    stuck = {"learning_rate": 1e-30, "nepochs": 6}
    waits, ends = (
        _observe(stores, ps.PyTorchExecutionConfig, stuck | {"early_stop_patience": patience})
        for patience in (100, 1)
    )
    assert len(waits[1]["train_loss"]) == 6
    assert len(ends[1]["train_loss"]) < 6


def _enable_progress_bar(stores, _, captured):
    _observe(stores, ps.PyTorchExecutionConfig, {})
    assert "Epoch" not in captured.readouterr().out
    _observe(stores, ps.PyTorchExecutionConfig, {"enable_progress_bar": True})
    assert "Epoch" in captured.readouterr().out


_OTHERWISE = {
    "output_dir": _output_dir,
    "train_data_file": _data_files,
    "test_data_file": _data_files,
    "accelerator": _accelerator,
    "precision": _precision,
    "prefetch_factor": _prefetch_factor,
    "num_workers": _num_workers,
    "inference_batch_size": _inference_batch_size,
    "deterministic": _deterministic,
    "checkpoint_monitor_metric": _checkpoint_monitor_metric,
    "early_stop_patience": _early_stop_patience,
    "enable_progress_bar": _enable_progress_bar,
}


@pytest.mark.parametrize(("name", "place"), SHOWN_BY.items())
def test_what_leaves_the_numbers_alone_has_a_test_of_its_own(name, place):
    text = (Path(__file__).parents[2] / place).read_text()
    assert name in text
