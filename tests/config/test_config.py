import dataclasses
import inspect

import pytest

import ptychostream as ps
from ptychostream.config import from_mapping, read_yaml, to_mapping, write_yaml
from ptychostream.errors import ConfigurationError, MissingFileError
from ptychostream.training.checks import check_supported

KINDS = [ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig, ps.PyTorchExecutionConfig]


@pytest.mark.parametrize("kind", KINDS)
def test_yaml_returns_the_same_configuration(kind, tmp_path):
    config = kind()
    write_yaml(config, tmp_path / "c.yaml")
    assert read_yaml(kind, tmp_path / "c.yaml") == config
    assert from_mapping(kind, to_mapping(config)) == config


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_documented(kind):
    for item in dataclasses.fields(kind):
        assert f"\n{item.name} : " in inspect.getdoc(kind)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ps.ModelConfig, {"N": 15}, "even number"),
        (ps.ModelConfig, {"gridsize": 0}, "gridsize=0"),
        (ps.ModelConfig, {"amp_activation": "tanh"}, "'sigmoid', 'swish'"),
        (ps.ModelConfig, {"probe_scale": 0}, "probe_scale=0"),
        (ps.TrainingConfig, {"nepochs": 0}, "nepochs=0"),
        (ps.TrainingConfig, {"nphotons": float("nan")}, "nphotons=nan"),
        (ps.TrainingConfig, {"adam_beta1": 1.0}, "adam_beta1"),
        (ps.TrainingConfig, {"nll_weight": 0.0}, "nothing to learn"),
        (ps.TrainingConfig, {"optimizer": "lamb"}, "'adam', 'adamw', 'sgd'"),
        (ps.PyTorchExecutionConfig, {"precision": "8"}, "precision"),
        (ps.PyTorchExecutionConfig, {"checkpoint_save_top_k": -2}, "-1"),
        (ps.PyTorchExecutionConfig, {"learning_rate": float("inf")}, "learning_rate"),
    ],
)
def test_bad_values_are_refused_at_construction(kind, values, message):
    with pytest.raises(ConfigurationError, match=message):
        kind(**values)


def test_neighbours_must_fill_a_group_before_training():
    config = ps.TrainingConfig(model=ps.ModelConfig(gridsize=2), neighbor_count=2)
    with pytest.raises(ValueError, match=r"neighbor_count=2 .* gridsize=2"):
        check_supported(config, ps.PyTorchExecutionConfig())


def test_n_images_is_a_deprecated_alias():
    with pytest.warns(DeprecationWarning, match="n_groups"):
        assert ps.TrainingConfig(n_images=7).n_groups == 7


def test_unknown_yaml_keys_are_named_with_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("model: {N: 64, gridsiz: 2}\n")
    with pytest.raises(ConfigurationError, match=r"c.yaml'.model has unknown keys gridsiz"):
        read_yaml(ps.TrainingConfig, tmp_path / "c.yaml")


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    (tmp_path / "c.yaml").write_text("nphotons: 1e6\n")
    assert read_yaml(ps.TrainingConfig, tmp_path / "c.yaml").nphotons == 1e6


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="none.yaml"):
        read_yaml(ps.ModelConfig, tmp_path / "none.yaml")
