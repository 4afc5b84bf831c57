"""Every setting and option of PtychoPINN is ours, said to do nothing, or refused by name."""

import dataclasses
import logging

import pytest

import ptychostream as ps
from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.main import find_command
from ptychostream.config import from_older_schema
from ptychostream.config.older_schema import OLDER_FIELDS
from ptychostream.config.ptychopinn_settings import SETTINGS, VALUES, setting
from ptychostream.errors import ConfigurationError
from ptychostream.legacy import OWN_FIELDS
from ptychostream.models.generators import check_fields

#: Settings of PtychoPINN's PyTorch port (July 2026) that were no fields here.
PORT = {
    "DataConfig": "neighbor_function K_quadrant min_neighbor_distance max_neighbor_distance "
    "scan_pattern normalize probe_normalize data_scaling phase_subtraction x_bounds y_bounds",
    "ModelConfig": "cnn_output_mode use_shared_decoder intensity_scale max_position_jitter "
    "num_datasets C_model C_forward batch_norm probe_mask_tensor edge_pad offset "
    "decoder_last_c_outer_fraction decoder_last_amp_channels use_legacy_decoder_channel_override "
    "eca_encoder cbam_bottleneck cbam_decoder eca_decoder spatial_decoder decoder_spatial_kernel "
    "training_patch_weighting physics_forward_mode rect_s1s2_trainable rect_s1s2_init "
    "amplitude_physics_gain loss_function amp_loss phase_loss amp_loss_coeff phase_loss_coeff",
    "TrainingConfig": "training_directories device n_devices framework orchestrator "
    "epochs_fine_tune fine_tune_gamma log_grad_norm grad_norm_log_freq experiment_name notes "
    "model_name",
    "InferenceConfig": "experiment_number window patch_weighting varpro_scaling log_patch_stats "
    "patch_stats_limit",
    "PyTorchExecutionConfig": "ffno_encoder_blocks ffno_encoder_modes ffno_encoder_share_weights "
    "ffno_encoder_gate_init ffno_encoder_norm ffno_encoder_mlp_ratio spectral_bottleneck_blocks "
    "spectral_bottleneck_modes spectral_bottleneck_share_weights spectral_bottleneck_gate_init "
    "spectral_bottleneck_gate_mode",
}
NAMES = [(kind, name) for kind, names in PORT.items() for name in names.split()]
FIELDS = {
    item.name for kind in (ps.ModelConfig, ps.TrainingConfig) for item in dataclasses.fields(kind)
}


@pytest.mark.parametrize(("kind", "name"), NAMES, ids=[".".join(each) for each in NAMES])
def test_a_setting_of_the_port_is_a_field_or_has_a_line(kind, name):
    if name in FIELDS or name in OLDER_FIELDS:
        assert name not in SETTINGS[kind]
        return
    assert SETTINGS[kind][name].advice
    assert setting(name) is not None


def test_there_is_no_line_for_a_setting_that_ptychopinn_does_not_have():
    assert {n for names in SETTINGS.values() for n in names} <= {name for _, name in NAMES}
    assert len(NAMES) == 70


@pytest.mark.parametrize(
    ("kind", "name"),
    [each for each in NAMES if each[1] not in FIELDS | set(OLDER_FIELDS)],
    ids=lambda each: each,
)
def test_a_setting_without_a_field_is_said_or_refused_with_what_to_do(kind, name, caplog):
    known = SETTINGS[kind][name]
    for value in known.off:
        assert from_older_schema({name: value}) == ps.TrainingConfig(backend="pytorch")
    assert not caplog.records
    if known.is_refused:
        with pytest.raises(
            ConfigurationError, match=f"PtychoPINN's {name}='other' is not a setting"
        ):
            from_older_schema({name: "other"})
        return
    with caplog.at_level(logging.WARNING, logger="ptychostream"):
        assert from_older_schema({name: "other"}) == ps.TrainingConfig(backend="pytorch")
    assert f"PtychoPINN's {name}='other' does nothing here: {known.advice}" in caplog.text


def test_a_number_of_groups_never_becomes_a_number_of_patterns():
    config = from_older_schema({"n_subsample": 7})
    assert (config.groups_per_position, config.n_subsample) == (7, None)
    with pytest.raises(ConfigurationError, match="same setting; keep one"):
        from_older_schema({"n_subsample": 7, "groups_per_position": 3})


@pytest.mark.parametrize(
    "settings", [{"nll": False}, {"loss_function": "MAE"}, {"nll": False, "loss_function": "MAE"}]
)
def test_without_the_likelihood_the_amplitude_error_is_trained_on(settings):
    config = from_older_schema(settings)
    assert (config.torch_loss_mode, config.nll_weight, config.mae_weight) == ("mae", 0.0, 1.0)
    assert from_older_schema({"nll": True, "loss_function": "Poisson"}).nll_weight == 1.0
    # Labels have no likelihood.
    from_older_schema({"nll": False, "mode": "Supervised"})


def test_the_ports_neighbours_are_the_stores():
    names = {"Nearest": "nearest", "Min_dist": "min_distance", "4_quadrant": "four_quadrant"}
    for older, ours in names.items():
        assert from_older_schema({"neighbor_function": older}).neighbor_function == ours


@pytest.mark.parametrize("name", PORT["PyTorchExecutionConfig"].split())
def test_execution_fields_of_other_networks_say_which_network_is_here(name):
    with pytest.raises(TypeError, match=rf"{name} is PtychoPINN's: .*use|ours is architecture"):
        ps.PyTorchExecutionConfig(**{name: 1})


@pytest.fixture(scope="module")
def parsers():
    return {name: find_command(name).make_parser() for name in ("train", "reconstruct")}


@pytest.mark.parametrize("name", [*PORT["PyTorchExecutionConfig"].split(), "cbam_decoder"])
def test_they_are_refused_by_name_on_the_command_line_and_in_a_file_of_options(
    name, parsers, tmp_path, capsys
):
    file = tmp_path / "options.yaml"
    file.write_text(f"execution:\n  {name}: 1\n")
    dashed = name.replace("_", "-")
    for words in (
        [f"--torch-{dashed}", "1"],
        [f"--{dashed}", "1"],
        [f"--execution.{name}", "1"],
        ["--config", str(file)],
    ):
        with pytest.raises(SystemExit):
            parsers["train"].parse_args(expand_aliases("train", ["scan.zarr", "-o", "run", *words]))
        said = capsys.readouterr().err
        assert f"is PtychoPINN's, and not an option here: {setting(name).advice}" in said


def test_how_a_run_is_executed_is_no_training_setting_and_says_where_it_belongs():
    untouched = {"learning_rate": 1e-3, "middle_trim": 0, "pad_eval": False, "strategy": None}
    assert from_older_schema(untouched) == from_older_schema({})
    message = r"pass it as PyTorchExecutionConfig\(learning_rate=0\.01\)"
    with pytest.raises(ConfigurationError, match=message):
        from_older_schema({"learning_rate": 0.01})


def test_what_else_the_ports_counts_profile_means_is_said(caplog):
    pair = {"scale_contract_version": "ci_intensity_v2", "measurement_domain": "count_intensity"}
    assert from_older_schema(pair | {"cnn_input": "intensity"}).model.cnn_input == "intensity"
    assert not caplog.records
    from_older_schema(pair)
    assert "set cnn_input='intensity'" in caplog.text


def test_settings_of_the_ports_model_may_stand_in_a_mapping_of_their_own():
    quiet = {"eca_encoder": False, "amp_loss": None, "physics_forward_mode": "amplitude"}
    assert from_older_schema({"model": quiet}) == from_older_schema({})
    with pytest.raises(ConfigurationError, match="rectangular_scaled.*s1 and s2.*nowhere stated"):
        from_older_schema({"model": {"physics_forward_mode": "rectangular_scaled"}})


@pytest.mark.parametrize("name", VALUES["architecture"])
def test_a_network_of_ptychopinn_says_which_to_take(name):
    with pytest.raises(ConfigurationError, match=f"no architecture '{name}'.*; use 'fno'"):
        check_fields(ps.ModelConfig(architecture=name))


@pytest.mark.parametrize(
    ("field", "value"), [(f, v) for f in VALUES for v in VALUES[f] if f != "architecture"]
)
def test_a_value_of_ptychopinn_that_is_none_of_ours_says_what_to_use(field, value):
    with pytest.raises(ConfigurationError, match=f"{field}='{value}' is not one of .*use '"):
        ps.PyTorchExecutionConfig(**{field: value})
    with pytest.raises(ConfigurationError, match="not a choice here: .*use '"):
        expand_aliases("train", [f"--{field}", value])
    with pytest.raises(ConfigurationError, match="not a choice here: .*use '"):
        expand_aliases("train", [f"--torch-{field}={value}"])


def test_all_devices_of_a_machine_are_counted():
    assert ps.PyTorchExecutionConfig(devices="auto").devices >= 1
    assert int(expand_aliases("train", ["--devices", "auto"])[1]) >= 1


#: Options of PtychoPINN's commands that were unknown here, with a value where one follows.
OPTIONS = {
    "train": [
        *("--max_epochs 3", "--gridsize 2", "--torch-loss-mode mae", "--profile ci"),
        *("--scale-contract-version legacy_v1", "--measurement-domain normalized_amplitude"),
        *("--probe-mask", "--no-probe-mask", "--probe-mask-sigma 1.0", "--probe-mask-diameter 9.0"),
        *("--log-patch-stats", "--patch-stats-limit 3", "--do_stitching", "--console-level DEBUG"),
        *("--N 16", "--model_type pinn", "--amp_activation relu", "--object_big true"),
        *("--backend pytorch", "--output_dir run", "--train_data_file scan.zarr"),
        "--test_data_file test.zarr",
    ],
    "reconstruct": [
        *("--test_data scan.zarr", "--output_dir out", "--patch-weighting probe"),
        *("--varpro-scaling", "--probe-mask", "--no-probe-mask", "--probe-mask-sigma 1.0"),
        *("--probe-mask-diameter 9.0", "--scale-contract-version x", "--measurement-domain x"),
        *("--log-patch-stats", "--patch-stats-limit 3", "--comparison_plot", "--phase_vmin 0"),
        *("--phase_vmax 1", "--debug_dump x", "--backend pytorch", "--console-level INFO"),
        *("--gridsize 2", "--N 64"),
    ],
}
TORCH = (
    *("accelerator cpu", "deterministic", "no-deterministic", "num-workers 1", "devices 1"),
    *("learning-rate 1e-3", "scheduler Default", "accumulate-grad-batches 2", "logger none"),
    *("enable-checkpointing", "disable-checkpointing", "checkpoint-save-top-k 1"),
    *("checkpoint-monitor-metric val_loss", "checkpoint-mode min", "early-stop-patience 4"),
    *("inference-batch-size 4", "precision 32-true", "strategy ddp", "gradient-clip-val 1.0"),
)
OPTIONS["train"] += [f"--torch-{each}" for each in (*TORCH, "quiet")]
#: Options of the port's commands that were known before.
OPTIONS["train"] += [
    *("--accelerator cpu", "--deterministic", "--no-deterministic", "--num-workers 1"),
    *("--learning-rate 1e-3", "--scheduler Exponential", "--accumulate-grad-batches 2"),
    *("--quiet", "--enable-checkpointing", "--disable-checkpointing"),
    *("--checkpoint-save-top-k 1", "--checkpoint-monitor val_loss", "--checkpoint-mode min"),
    *("--early-stop-patience 4", "--logger csv", "--logger tensorboard", "--logger mlflow"),
    *("--logger none", "--device cpu", "--disable_mlflow", "--n_images 9"),
]
OPTIONS["reconstruct"] += [
    *("--accelerator cpu", "--num-workers 1", "--inference-batch-size 4", "--quiet"),
    *("--device cpu", "--n_images 9", "--disable_mlflow", "--torch-accelerator cpu"),
    *("--torch-num-workers 1", "--torch-inference-batch-size 4", "--torch-quiet"),
]
LINES = [(command, line) for command, lines in OPTIONS.items() for line in lines]


@pytest.mark.parametrize(("command", "line"), LINES, ids=[" ".join(each) for each in LINES])
def test_an_option_of_ptychopinns_commands_is_ours_or_refused_by_name(command, line, parsers):
    words = line.split()
    try:
        expanded = expand_aliases(command, words)
    except ConfigurationError as error:
        assert words[0] in str(error)
        assert "not an option here: " in str(error)
        return
    needed = ["-o", "out"] if command == "train" else ["-o", "out", "--model_path", "run"]
    positional = [] if expanded and not expanded[0].startswith("-") else ["scan.zarr"]
    parsers[command].parse_args([*positional, *expanded, *needed])


def test_the_options_are_counted():
    assert (len(OPTIONS["train"]), len(OPTIONS["reconstruct"])) == (63, 31)


#: Fields of PtychoPINN's dataclasses (July 2026), which keep their names here.
CANONICAL = {
    ps.ModelConfig: "N gridsize n_filters_scale model_type architecture fno_modes fno_width "
    "fno_blocks fno_cnn_blocks learned_input_channels max_hidden_channels resnet_width "
    "fno_input_transform generator_output_mode amp_activation object_big probe_big probe_mask "
    "probe_mask_sigma probe_mask_diameter pad_object probe_scale gaussian_smoothing_sigma",
    ps.TrainingConfig: "model train_data_file test_data_file batch_size nepochs mae_weight "
    "nll_weight realspace_mae_weight realspace_weight nphotons n_groups n_images n_subsample "
    "subsample_seed neighbor_count enable_oversampling neighbor_pool_size positions_provided "
    "probe_trainable intensity_scale_trainable output_dir sequential_sampling backend "
    "torch_loss_mode torch_mae_pred_l2_match_target gradient_clip_val gradient_clip_algorithm "
    "optimizer momentum weight_decay adam_beta1 adam_beta2 scheduler lr_warmup_epochs "
    "lr_min_ratio plateau_factor plateau_patience plateau_min_lr plateau_threshold",
    ps.InferenceConfig: "model model_path test_data_file n_groups n_images n_subsample "
    "subsample_seed neighbor_count enable_oversampling neighbor_pool_size debug output_dir backend",
    ps.PyTorchExecutionConfig: "accelerator devices strategy deterministic precision "
    "gradient_clip_val gradient_clip_algorithm accum_steps num_workers pin_memory "
    "persistent_workers prefetch_factor learning_rate scheduler enable_progress_bar "
    "enable_checkpointing checkpoint_save_top_k checkpoint_monitor_metric checkpoint_mode "
    "early_stop_patience logger_backend recon_log_every_n_epochs recon_log_num_patches "
    "recon_log_fixed_indices recon_log_stitch recon_log_max_stitch_samples inference_batch_size "
    "middle_trim pad_eval",
}


@pytest.mark.parametrize("kind", CANONICAL, ids=lambda kind: kind.__name__)
def test_every_field_of_ptychopinn_is_here_and_the_others_are_our_own(kind):
    ours = {item.name for item in dataclasses.fields(kind)}
    assert ours - OWN_FIELDS == set(CANONICAL[kind].split())


def test_the_fields_are_counted():
    assert [len(names.split()) for names in CANONICAL.values()] == [23, 39, 13, 29]
