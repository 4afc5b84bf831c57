"""Every field of every configuration acts somewhere, or is refused; the reference says where.

`python tests/ptychopinn/test_fields.py` writes the tables into the reference again.
"""

import dataclasses
import re
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.config.older_schema import OLDER_FIELDS
from ptychostream.errors import ConfigurationError
from ptychostream.legacy import KEY_MAPPINGS, OWN_FIELDS
from ptychostream.training.checks import check_supported

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "contract.md"

#: A value of another network, or one that the PyTorch backend does not have: refused.
REFUSED = "refused"
#: Handed to readers of the legacy dictionary; commands take their own arguments.
LEGACY_ONLY = "legacy readers"

CNN, PROBE, FIT = "models/generators/autoencoder.py", "models/probe.py", "models/fit.py"
FOURIER = "models/generators/fourier_network.py"
SELECTION = "datasets/selection.py"
MODULE, SCHEDULE = "models/lightning_module.py", "models/schedule.py"
OBJECTIVE, STAGES = "models/objective.py", "models/stages.py"
PICTURES = "reconstruction_log.py"
WHERE = {
    ps.ModelConfig: {
        "N": "training.py",
        "gridsize": "datasets/selection.py",
        "n_filters_scale": CNN,
        "model_type": OBJECTIVE,
        "architecture": "models/generators/build.py",
        "fno_modes": FOURIER,
        "fno_width": FOURIER,
        "fno_blocks": "models/generators/fno.py",
        "fno_cnn_blocks": FOURIER,
        "learned_input_channels": FOURIER,
        "max_hidden_channels": FOURIER,
        "resnet_width": FOURIER,
        "fno_input_transform": FOURIER,
        "generator_output_mode": FOURIER,
        "amp_activation": CNN,
        "cbam_encoder": CNN,
        "object_big": CNN,
        "probe_big": CNN,
        "probe_mask": PROBE,
        "probe_mask_sigma": PROBE,
        "probe_mask_diameter": PROBE,
        "pad_object": CNN,
        "probe_scale": PROBE,
        "gaussian_smoothing_sigma": "models/pinn.py",
        "compat": "models/pinn.py",
        "unrolled_steps": "models/generators/unrolled.py",
        "unrolled_width": "models/generators/unrolled.py",
    },
    ps.TrainingConfig: {
        "train_data_file": "cli/train.py",
        "test_data_file": "cli/train.py",
        "batch_size": "training.py",
        "nepochs": FIT,
        "mae_weight": OBJECTIVE,
        "nll_weight": OBJECTIVE,
        "realspace_mae_weight": OBJECTIVE,
        "realspace_weight": OBJECTIVE,
        "amplitude_variation_weight": OBJECTIVE,
        "phase_variation_weight": OBJECTIVE,
        "overlap_weight": "config/training.py",
        "nphotons": "training.py",
        "scale_contract_version": "datasets/scaling.py",
        "measurement_domain": "config/scaling_profile.py",
        "n_groups": SELECTION,
        "n_images": "config/training.py",
        "n_subsample": SELECTION,
        "subsample_seed": SELECTION,
        "neighbor_count": SELECTION,
        "enable_oversampling": SELECTION,
        "neighbor_pool_size": SELECTION,
        "positions_provided": REFUSED,
        "probe_trainable": "training.py",
        "intensity_scale_trainable": "training.py",
        "output_dir": FIT,
        "sequential_sampling": SELECTION,
        "backend": "workflows.py",
        "torch_loss_mode": OBJECTIVE,
        "torch_mae_pred_l2_match_target": OBJECTIVE,
        "gradient_clip_val": MODULE,
        "gradient_clip_algorithm": MODULE,
        "optimizer": SCHEDULE,
        "momentum": SCHEDULE,
        "weight_decay": SCHEDULE,
        "adam_beta1": SCHEDULE,
        "adam_beta2": SCHEDULE,
        "scheduler": MODULE,
        "lr_warmup_epochs": SCHEDULE,
        "lr_min_ratio": SCHEDULE,
        "plateau_factor": SCHEDULE,
        "plateau_patience": SCHEDULE,
        "plateau_min_lr": SCHEDULE,
        "plateau_threshold": SCHEDULE,
        "stage_1_epochs": STAGES,
        "stage_2_epochs": STAGES,
        "stage_3_epochs": STAGES,
        "physics_weight_schedule": STAGES,
        "stage_3_lr_factor": STAGES,
        "validation_fraction": "training.py",
    },
    ps.InferenceConfig: {
        "model_path": LEGACY_ONLY,
        "test_data_file": LEGACY_ONLY,
        "n_groups": SELECTION,
        "n_images": "config/inference.py",
        "n_subsample": SELECTION,
        "subsample_seed": SELECTION,
        "neighbor_count": SELECTION,
        "enable_oversampling": SELECTION,
        "neighbor_pool_size": SELECTION,
        "debug": LEGACY_ONLY,
        "output_dir": LEGACY_ONLY,
        "backend": LEGACY_ONLY,
    },
    ps.PyTorchExecutionConfig: {
        "accelerator": FIT,
        "devices": FIT,
        "num_nodes": "processes.py",
        "strategy": FIT,
        "deterministic": FIT,
        "precision": FIT,
        "gradient_clip_val": MODULE,
        "gradient_clip_algorithm": MODULE,
        "accum_steps": FIT,
        "num_workers": "training.py",
        "pin_memory": MODULE,
        "persistent_workers": REFUSED,
        "prefetch_factor": "training.py",
        "learning_rate": MODULE,
        "scheduler": MODULE,
        "enable_progress_bar": FIT,
        "enable_checkpointing": FIT,
        "checkpoint_save_top_k": FIT,
        "checkpoint_monitor_metric": FIT,
        "checkpoint_mode": FIT,
        "early_stop_patience": FIT,
        "logger_backend": FIT,
        "recon_log_every_n_epochs": PICTURES,
        "recon_log_num_patches": PICTURES,
        "recon_log_fixed_indices": PICTURES,
        "recon_log_stitch": PICTURES,
        "recon_log_max_stitch_samples": PICTURES,
        "inference_batch_size": "inference/recipe.py",
        "middle_trim": "inference/recipe.py",
        "pad_eval": "inference/pipeline.py",
        "memory_budget": "training.py",
    },
}


def _other(kind, name):
    default = getattr(kind(), name)
    if isinstance(default, bool):
        return not default
    return 2 if default is None else default + 1


FIELDS = [(kind, name, where) for kind, names in WHERE.items() for name, where in names.items()]


@pytest.mark.parametrize("kind", WHERE)
def test_every_field_is_listed(kind):
    assert list(WHERE[kind]) == [f.name for f in dataclasses.fields(kind) if f.name != "model"]


@pytest.mark.parametrize(
    ("kind", "name", "where"), FIELDS, ids=[f"{k.__name__}.{n}" for k, n, _ in FIELDS]
)
def test_every_field_acts_or_is_refused(kind, name, where):
    if where == LEGACY_ONLY:
        assert kind is ps.InferenceConfig
        return
    if where != REFUSED:
        source = (ROOT / "ptychostream" / where).read_text()
        assert re.search(rf"\b{name}\b", source)
        return
    parts = {ps.ModelConfig: {}, ps.TrainingConfig: {}, ps.PyTorchExecutionConfig: {}}
    parts[kind][name] = _other(kind, name)
    config = ps.TrainingConfig(
        model=ps.ModelConfig(**parts[ps.ModelConfig]), **parts[ps.TrainingConfig]
    )
    with pytest.raises(ConfigurationError, match=name):
        check_supported(config, ps.PyTorchExecutionConfig(**parts[ps.PyTorchExecutionConfig]))


def _table(kind):
    older = {}
    for old, new in OLDER_FIELDS.items():
        older.setdefault(new, []).append(f"`{old}`")
    lines = [
        "| Field | Default | Older PyTorch name | Legacy key | Where it acts |",
        "|---|---|---|---|---|",
    ]
    for name, where in WHERE[kind].items():
        key = f"`{KEY_MAPPINGS.get(name, name)}`"
        if name in OWN_FIELDS or kind is ps.PyTorchExecutionConfig:
            key = "none"
        is_older = kind in (ps.ModelConfig, ps.TrainingConfig)
        old = ", ".join(older.get(name, ["same"])) if is_older else "none"
        default = getattr(kind(), name)
        shown = default if isinstance(default, str | int | float | type(None)) else str(default)
        place = f"`{where}`" if where.endswith(".py") else where
        lines.append(f"| `{name}` | `{shown!r}` | {old} | {key} | {place} |")
    return "\n".join(lines) + "\n"


def _section(kind):
    return rf"(?s)(?<=<!-- fields of {kind.__name__} -->\n).*?(?=<!-- end -->)"


@pytest.mark.parametrize("kind", WHERE)
def test_the_reference_lists_every_field(kind):
    found = re.search(_section(kind), REFERENCE.read_text())
    assert found is not None
    assert found[0] == _table(kind)


if __name__ == "__main__":
    text = REFERENCE.read_text()
    for each in WHERE:
        text = re.sub(_section(each), lambda _, each=each: _table(each), text, count=1)
    REFERENCE.write_text(text)
