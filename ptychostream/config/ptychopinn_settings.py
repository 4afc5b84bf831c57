"""PtychoPINN's settings that are no fields here: what stands for each, or why there is nothing.

`from_older_schema`, the configurations and the command line name such a setting in a message; the
page for those who come from PtychoPINN lists all.
"""

from dataclasses import dataclass
from typing import Any

_NETWORK = (
    "a layer of PtychoPINN's own network; here the networks are 'cnn', 'unrolled', 'fno' and "
    "'ffno' (architecture), and attention is cbam_encoder"
)
_BOTTLENECK = "PtychoPINN's spectral bottleneck; use architecture='fno' or 'ffno' with fno_modes"
_FFNO = "PtychoPINN's own ffno encoder; ours is architecture='ffno' with fno_blocks and fno_modes"
_SCALED = "patterns and probes are always scaled, per experiment, to a mean energy of (N/2)²"
_CANVAS = "the canvas of a group is as large as its positions need"
_GROUPED = "follows from gridsize"
_TRACKED = "runs are named by their output folder, and by the tracker of logger_backend"
#: Why PtychoPINN's second forward model is not here.
RECTANGULAR = (
    "which parts of the wave its factors s1 and s2 multiply, and what they begin at, is nowhere "
    "stated"
)
_RECTANGULAR_ONLY = (
    "belongs to physics_forward_mode='rectangular_scaled', which is not here; the one scale is "
    "learned by intensity_scale_trainable"
)
_LOGGED = "predicted patches are logged as pictures: recon_log_every_n_epochs"


@dataclass(frozen=True)
class Setting:
    """What becomes of a setting.

    Attributes
    ----------
    advice : str
        What stands for it, or why nothing does.
    off : tuple
        Values with which it does nothing in PtychoPINN either: accepted.
    is_refused : bool
        Whether other values are errors; else a warning says that they do nothing.
    """

    advice: str
    off: tuple[Any, ...] = (None, False)
    is_refused: bool = True


def _idle(advice: str, *off: Any) -> Setting:
    return Setting(advice, (None, *off), is_refused=False)


#: Class of PtychoPINN → setting → what becomes of it.
SETTINGS: dict[str, dict[str, Setting]] = {
    "DataConfig": {
        "K_quadrant": _idle("neighbor_function='four_quadrant' takes the nearest of each quadrant"),
        "scan_pattern": _idle("groups are found from positions, whatever the pattern"),
        "normalize": _idle(_SCALED),
        "probe_normalize": _idle(_SCALED),
        "data_scaling": _idle(_SCALED),
        "phase_subtraction": Setting(
            "phases between patches are aligned when they are stitched (align_phases of "
            "`ptychostream.reconstruct`)"
        ),
        "x_bounds": Setting(
            "leave some out by `ptychostream build --leave_out`, or use n_subsample"
        ),
        "y_bounds": Setting(
            "leave some out by `ptychostream build --leave_out`, or use n_subsample"
        ),
    },
    "ModelConfig": {
        "cnn_output_mode": Setting(
            "the cnn predicts amplitude and phase; a Fourier network has generator_output_mode",
            (None, "amp_phase"),
        ),
        "use_shared_decoder": Setting(_NETWORK),
        "intensity_scale": _idle("it is found from the data, for each training"),
        "max_position_jitter": _idle(_CANVAS),
        "num_datasets": _idle("a store knows its experiments"),
        "C_model": _idle(_GROUPED),
        "C_forward": _idle(_GROUPED),
        "batch_norm": Setting(_NETWORK),
        "probe_mask_tensor": Setting("set probe_mask, probe_mask_diameter and probe_mask_sigma"),
        "edge_pad": _idle(_CANVAS),
        "offset": _idle(_CANVAS),
        "decoder_last_c_outer_fraction": Setting(_NETWORK, (None,)),
        "decoder_last_amp_channels": Setting(_NETWORK, (None, 1)),
        "use_legacy_decoder_channel_override": Setting(_NETWORK),
        "eca_encoder": Setting(_NETWORK),
        "cbam_bottleneck": Setting(_NETWORK),
        "cbam_decoder": Setting(_NETWORK),
        "eca_decoder": Setting(_NETWORK),
        "spatial_decoder": Setting(_NETWORK),
        "decoder_spatial_kernel": _idle("belongs to spatial_decoder, which is not here"),
        "training_patch_weighting": Setting(
            "patches of a group are always averaged by the light on each pixel",
            (None, "probe", "probe_weighted"),
        ),
        "physics_forward_mode": Setting(
            f"of 'rectangular_scaled', {RECTANGULAR}; leave it at 'amplitude': counts are compared "
            "with counts by scale_contract_version='ci_intensity_v2', one scale is learned by "
            "intensity_scale_trainable, and cnn_input='intensity' shows the network intensities",
            (None, "amplitude"),
        ),
        "rect_s1s2_trainable": Setting(_RECTANGULAR_ONLY, is_refused=False),
        "rect_s1s2_init": _idle(_RECTANGULAR_ONLY),
        "amp_loss": Setting("set amplitude_variation_weight or realspace_weight", (None, "None")),
        "phase_loss": Setting("set phase_variation_weight", (None, "None")),
        "amp_loss_coeff": _idle("set amplitude_variation_weight", 0, 0.0),
        "phase_loss_coeff": _idle("set phase_variation_weight", 0, 0.0),
    },
    "TrainingConfig": {
        "training_directories": Setting(
            "name the store: `ptychostream build` makes one of folders", (None, False, [])
        ),
        "device": _idle("it belongs to PyTorchExecutionConfig(accelerator=...)", "auto"),
        "n_devices": _idle("it belongs to PyTorchExecutionConfig(devices=...)", 1),
        "framework": _idle("training is Lightning's"),
        "orchestrator": _idle("training is Lightning's"),
        "epochs_fine_tune": Setting("set stage_3_epochs: last epochs at a lower rate", (None, 0)),
        "fine_tune_gamma": _idle("set stage_3_lr_factor"),
        "log_grad_norm": Setting("gradients are limited by gradient_clip_val, and not logged"),
        "grad_norm_log_freq": _idle("belongs to log_grad_norm, which is not here"),
        "experiment_name": _idle(_TRACKED),
        "notes": _idle(_TRACKED),
        "model_name": _idle(_TRACKED),
    },
    "InferenceConfig": {
        "experiment_number": _idle("name it to reconstruct: experiment"),
        "window": _idle("name it to reconstruct: PyTorchExecutionConfig(middle_trim=...)"),
        "patch_weighting": _idle("name it to reconstruct: weight", "probe"),
        "varpro_scaling": Setting("name it to reconstruct: rescale_patches", is_refused=False),
        "log_patch_stats": Setting(_LOGGED),
        "patch_stats_limit": _idle(_LOGGED),
    },
    "PyTorchExecutionConfig": {
        **{
            f"ffno_encoder_{name}": Setting(_FFNO, ())
            for name in ("blocks", "modes", "share_weights", "gate_init", "norm", "mlp_ratio")
        },
        **{
            f"spectral_bottleneck_{name}": Setting(_BOTTLENECK, ())
            for name in ("blocks", "modes", "share_weights", "gate_init", "gate_mode")
        },
    },
}

#: Field → value of PtychoPINN that is none of ours → what to choose.
VALUES: dict[str, dict[str, str]] = {
    "strategy": {
        "ddp_spawn": "use 'ddp': processes are started for you",
        "fsdp": "the networks fit on one device: use 'ddp'",
        "deepspeed": "the networks fit on one device: use 'ddp'",
    },
    "scheduler": {
        "MultiStage": "use 'Default' with stage_1_epochs, stage_2_epochs and stage_3_epochs",
        "Adaptive": "use 'ReduceLROnPlateau'",
    },
    "accelerator": {"tpu": "use 'auto', 'cpu' or 'gpu'"},
    "architecture": {
        "fno_vanilla": "use 'fno'",
        "neuralop_uno": "use 'fno' or 'ffno'",
    },
}

_BY_NAME = {name: each for settings in SETTINGS.values() for name, each in settings.items()}
_BY_NAME |= SETTINGS["PyTorchExecutionConfig"]


def setting(name: str) -> Setting | None:
    """Find what becomes of a setting that is no field; None for one that PtychoPINN lacks too."""
    return _BY_NAME.get(name)


def advice_for_value(field: str, value: object) -> str:
    """Return what to choose instead of one of PtychoPINN's values; empty for other values."""
    return VALUES.get(field, {}).get(value, "") if isinstance(value, str) else ""
