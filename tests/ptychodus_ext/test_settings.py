import dataclasses

import pytest

from ptychostream.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import ConfigurationError

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus.api.settings import SettingsRegistry

from ptychodus_ext.settings import StreamSettings
from ptychodus_ext.settings.sections import ARCHITECTURES

#: Fields that no setting stands for, and what gives them.
KNOWN_OTHERWISE = {
    "N": "the patterns",
    "model_type": "the reconstructor",
    "model": "a group of its own",
    "train_data_file": "the input folder",
    "test_data_file": "the input folder",
    "output_dir": "the output folder",
    "n_images": "an alias of n_groups",
    "enable_progress_bar": "the application's",
    "persistent_workers": "it changes nothing",
}


@pytest.fixture
def registry():
    return SettingsRegistry()


@pytest.fixture
def settings(registry):
    return StreamSettings(registry)


@pytest.mark.parametrize("kind", [ModelConfig, TrainingConfig, PyTorchExecutionConfig])
def test_every_field_of_the_configurations_has_a_setting(settings, kind):
    covered = {setting.field for group in settings for setting, _ in group}
    fields = {item.name for item in dataclasses.fields(kind)}
    assert fields - covered <= set(KNOWN_OTHERWISE)


def test_untouched_settings_are_the_configurations_defaults(settings, tmp_path):
    config = settings.training_config("pinn", 64, tmp_path)
    expected = TrainingConfig(
        backend="pytorch",
        probe_trainable=True,
        nepochs=2,
        output_dir=tmp_path,
        model=ModelConfig(architecture="unrolled"),
    )
    assert config == expected
    assert settings.execution(settings.training) == PyTorchExecutionConfig()
    assert settings.execution(settings.inference) == PyTorchExecutionConfig()


def test_settings_survive_the_applications_own_file(settings, registry, tmp_path):
    changed = {}
    for group in settings:
        for setting, parameter in group:
            if setting.choices:
                value = setting.choices[-1]
            elif setting.kind is bool:
                value = not parameter.get_value()
            elif setting.kind in (int, float):
                value = setting.kind(setting.maximum or setting.minimum + 7)
            else:
                value = type(parameter.get_value())("3")
            parameter.set_value(value)
            changed[group.name, setting.key] = value
    registry.save_settings(tmp_path / "settings.ini")
    again = SettingsRegistry()
    loaded = StreamSettings(again)
    again.open_settings(tmp_path / "settings.ini")
    found = {
        (group.name, setting.key): parameter.get_value()
        for group in loaded
        for setting, parameter in group
    }
    assert found == changed


def test_bounds_are_those_that_the_configurations_check(settings):
    bounds = {
        setting.key: (setting.minimum, setting.maximum)
        for group in settings
        for setting, _ in group
    }
    assert bounds["NumEpochs"] == (1, None)
    assert bounds["MAEWeight"] == (0, None)
    assert bounds["AdamBeta1"] == (0, 1)
    # One below the least stands for a value that is not set.
    assert bounds["OverlapWeight"] == (-1, 1)
    assert bounds["NumGroups"] == (0, None)
    assert bounds["SubsampleSeed"] == (-1, None)
    assert bounds["CheckpointSaveTopK"] == (-1, None)


def test_unset_settings_are_none_and_set_ones_are_values(settings, tmp_path):
    settings.data["n_groups"].set_value(12)
    settings.data["subsample_seed"].set_value(0)
    settings.training["recon_log_fixed_indices"].set_value("0, 5 9")
    settings.training["deterministic"].set_value("warn")
    config = settings.training_config("supervised", 32, tmp_path)
    assert (config.n_groups, config.subsample_seed, config.n_subsample) == (12, 0, None)
    assert (config.model.N, config.model.model_type) == (32, "supervised")
    execution = settings.execution(settings.training)
    assert execution.recon_log_fixed_indices == [0, 5, 9]
    assert execution.deterministic == "warn"
    settings.training["recon_log_fixed_indices"].set_value("first")
    with pytest.raises(ConfigurationError, match="ReconLogFixedIndices = 'first'"):
        settings.execution(settings.training)


def test_auto_is_the_architecture_of_the_backend_that_is_set(settings, tmp_path):
    assert settings.training_config("pinn", 64, tmp_path).model.architecture == "unrolled"
    settings.model["backend"].set_value("tensorflow")
    config = settings.training_config("pinn", 64, tmp_path)
    assert (config.backend, config.model.architecture) == ("tensorflow", "cnn")


def test_every_architecture_can_be_chosen():
    from ptychostream.models.generators import GENERATORS

    assert set(ARCHITECTURES) == {"auto", *GENERATORS}


def test_each_setting_says_what_it_does(settings):
    silent = [setting.key for group in settings for setting, _ in group if not setting.meaning]
    assert not silent


def test_keys_of_the_applications_own_library_mean_the_same_here(settings, registry):
    from ptychodus.model.ptychopinn import settings as theirs

    groups = {group.name: {setting.key for setting, _ in group} for group in settings}
    for kind in ("Model", "Training"):
        getattr(theirs, f"PtychoPINN{kind}Settings")(registry)
        keys = set(registry[f"PtychoPINN{kind}"].parameters())
        # It must be True in either.
        assert keys - {"PositionsProvided"} <= groups[f"PtychoStream{kind}"]
