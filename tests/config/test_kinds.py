"""Values of a configuration are of the kinds that its fields are annotated with."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.config import (
    from_mapping,
    from_older_schema,
    read_yaml,
    to_mapping,
    write_yaml,
)
from ptychostream.datasets.store.format import parse_bytes
from ptychostream.errors import ConfigurationError

PLAIN = [
    (ps.ModelConfig, {"N": 128, "probe_scale": 2.5, "pad_object": False, "architecture": "fno"}),
    (ps.TrainingConfig, {"subsample_seed": 3, "nphotons": 1e5, "batch_size": 8}),
    (ps.TrainingConfig, {"n_groups": 7, "probe_trainable": True, "optimizer": "sgd"}),
    (ps.InferenceConfig, {"n_groups": 7, "debug": True, "backend": "pytorch"}),
    (
        ps.PyTorchExecutionConfig,
        {"devices": 2, "learning_rate": 0.25, "deterministic": False, "middle_trim": 4},
    ),
    (ps.PyTorchExecutionConfig, {"recon_log_fixed_indices": [1, 2], "pin_memory": True}),
]


@pytest.mark.parametrize(("kind", "values"), PLAIN)
def test_scalars_of_numpy_become_plain_values_that_files_can_hold(kind, values, tmp_path):
    arrays = {name: np.array(value) for name, value in values.items()}
    scalars = {name: array[()] for name, array in arrays.items()}
    assert not any(type(scalars[name]) is type(value) for name, value in values.items())
    for given in (scalars, arrays):
        config = kind(**given)
        assert config == kind(**values)
        for name, value in values.items():
            assert type(getattr(config, name)) is type(value)
        json.dumps(to_mapping(config))
        write_yaml(config, tmp_path / "c.yaml")
        assert read_yaml(kind, tmp_path / "c.yaml") == config


def test_single_precision_of_numpy_becomes_a_python_number():
    nphotons = ps.TrainingConfig(nphotons=np.float32(1e5)).nphotons
    assert type(nphotons) is float
    assert nphotons == 1e5


def test_a_batch_size_of_numpy_is_refused_by_its_value():
    with pytest.raises(ConfigurationError, match="batch_size=12 must be a power of two"):
        ps.TrainingConfig(batch_size=np.int64(12))


def test_a_tuple_of_indices_becomes_a_list():
    config = ps.PyTorchExecutionConfig(recon_log_fixed_indices=(np.int64(4), 5))
    assert config.recon_log_fixed_indices == [4, 5]
    assert [type(index) for index in config.recon_log_fixed_indices] == [int, int]


WRONG = [
    (ps.ModelConfig, {"N": 64.0}, "N=64.0 must be a whole number"),
    (ps.ModelConfig, {"architecture": 3}, "architecture=3 must be text"),
    (ps.ModelConfig, {"pad_object": 1}, "pad_object=1 must be true or false"),
    (ps.ModelConfig, {"probe_scale": True}, "probe_scale=True must be a number"),
    (ps.TrainingConfig, {"probe_trainable": "false"}, "probe_trainable='false' must be true or"),
    (ps.TrainingConfig, {"nepochs": 1.5}, "nepochs=1.5 must be a whole number"),
    (ps.TrainingConfig, {"n_groups": 2.5}, "n_groups=2.5 must be a whole number or None"),
    (ps.TrainingConfig, {"n_images": "7"}, "n_images='7' must be a whole number or None"),
    (ps.TrainingConfig, {"batch_size": True}, "batch_size=True must be a whole number"),
    (ps.TrainingConfig, {"batch_size": None}, "batch_size=None must be a whole number"),
    (ps.TrainingConfig, {"nphotons": "abc"}, "nphotons='abc' must be a number"),
    (ps.TrainingConfig, {"output_dir": 5}, "output_dir=5 must be a path"),
    (ps.TrainingConfig, {"train_data_file": 5}, "train_data_file=5 must be a path or None"),
    (ps.InferenceConfig, {"neighbor_count": "4"}, "neighbor_count='4' must be a whole number"),
    (ps.PyTorchExecutionConfig, {"deterministic": 1}, "deterministic=1 is not one of True, False"),
    (ps.PyTorchExecutionConfig, {"memory_budget": True}, "memory_budget=True must be text"),
    (
        ps.PyTorchExecutionConfig,
        {"recon_log_fixed_indices": [1, 2.5]},
        r"recon_log_fixed_indices=\[1, 2.5\] must be a list of whole numbers or None",
    ),
]


@pytest.mark.parametrize(("kind", "values", "message"), WRONG)
def test_values_of_another_kind_are_refused_with_their_name(kind, values, message):
    with pytest.raises(ConfigurationError, match=message):
        kind(**values)
    with pytest.raises(ConfigurationError, match=f"^here: {message}"):
        from_mapping(kind, values, origin="here")


def test_text_is_no_number_at_construction():
    with pytest.raises(ValueError, match="learning_rate='1' must be a number"):
        ps.PyTorchExecutionConfig(learning_rate="1")


def test_a_model_must_be_a_model():
    with pytest.raises(ConfigurationError, match="model=5 must be a ModelConfig"):
        ps.TrainingConfig(model=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probe_trainable: 'false'", "probe_trainable='false' must be true or false"),
        ("nepochs: 1.5", "nepochs=1.5 must be a whole number"),
        ("nphotons: abc", "nphotons='abc' must be a number"),
        ("nphotons: -1.0", "nphotons=-1.0 must be a number above 0"),
        ("output_dir: 5", "output_dir=5 must be a path"),
        ("output_dir:", "output_dir=None must be a path"),
        ("model: 5", r"\.model must be a mapping of fields, not 5"),
        ("model: {N: 64.5}", r"\.model: N=64.5 must be a whole number"),
        ("1: 2", "unknown keys 1;"),
        ("{1: 2, a: 3}", "unknown keys 1, a;"),
        ("- nepochs", r"must be a mapping of fields, not \['nepochs'\]"),
        ("false", "must be a mapping of fields, not False"),
        ("nepochs: 2024-13-45", "is not YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(text, message, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=rf"c\.yaml'.*{message}"):
        read_yaml(ps.TrainingConfig, tmp_path / "c.yaml")


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00\x81N")
    with pytest.raises(ConfigurationError, match=r"c\.yaml' is not YAML"):
        read_yaml(ps.ModelConfig, tmp_path / "c.yaml")


@pytest.mark.parametrize("text", ["", "model:", "# nothing"])
def test_a_file_without_values_is_the_default(text, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    assert read_yaml(ps.TrainingConfig, tmp_path / "c.yaml") == ps.TrainingConfig()


def test_paths_may_be_text_and_numbers_may_be_whole():
    config = ps.TrainingConfig(output_dir="out", train_data_file="a.zarr", nphotons=10)
    assert config.nphotons == 10
    assert Path(config.output_dir) == Path("out")
    values = {"output_dir": "out", "nphotons": 10}
    assert from_mapping(ps.TrainingConfig, values).output_dir == Path("out")


def test_a_mapping_may_hold_a_model_that_is_made_already():
    model = ps.ModelConfig(N=128)
    assert from_mapping(ps.TrainingConfig, {"model": model}).model is model


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ps.TrainingConfig, {"plateau_factor": 1.5}, r"plateau_factor=1.5 must lie in \(0, 1\)"),
        (ps.TrainingConfig, {"plateau_factor": 1}, r"plateau_factor=1 must lie in \(0, 1\)"),
        (ps.TrainingConfig, {"neighbor_pool_size": -3}, "neighbor_pool_size=-3 .* at least 1"),
        (ps.PyTorchExecutionConfig, {"memory_budget": "foo"}, "memory_budget='foo' is no amount"),
    ],
)
def test_values_that_no_run_can_use_are_refused_at_construction(kind, values, message):
    with pytest.raises(ConfigurationError, match=message):
        kind(**values)


AMOUNTS = ["1 GiB", "512MiB", " 2gb ", "400 KiB", "7", "0.5k", "1.5 T", "3 tib", "12b"]
NO_AMOUNTS = ["", "lots", "0", "0.5", "-1 GiB", "1 XiB", "1.2.3 GiB", "1 i", "GiB", "."]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_a_memory_budget_that_the_loader_reads_is_accepted(amount):
    assert parse_bytes(amount) > 0
    assert ps.PyTorchExecutionConfig(memory_budget=amount).memory_budget == amount


@pytest.mark.parametrize("amount", NO_AMOUNTS)
def test_a_memory_budget_that_the_loader_does_not_read_is_refused(amount):
    for read in (parse_bytes, lambda text: ps.PyTorchExecutionConfig(memory_budget=text)):
        with pytest.raises(ConfigurationError, match="no amount of memory"):
            read(amount)


def test_a_memory_budget_may_be_a_number_of_bytes():
    for amount in (40_000, np.int64(40_000)):
        config = ps.PyTorchExecutionConfig(memory_budget=amount)
        assert parse_bytes(config.memory_budget) == 40_000


@pytest.mark.parametrize(
    "values",
    [
        {"model": {"N": 128, "gridsize": 2}},
        {"model": {"N": 128, "grid_size": (2, 2), "C": 4}},
        {"model": {"N": 128}, "grid_size": [2, 2], "C": np.int64(4)},
        {"model": None, "N": np.int64(128), "gridsize": 2},
    ],
    ids=str,
)
def test_a_nested_model_of_the_older_schema_is_read(values):
    config = from_older_schema({**values, "epochs": 3})
    assert config.model == ps.ModelConfig(N=128, gridsize=2)
    assert dataclasses.replace(config, model=ps.ModelConfig()) == ps.TrainingConfig(
        nepochs=3, backend="pytorch"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": 5}, "model=5 must be a mapping"),
        ({"model": {"gridsiz": 2}}, "model has the unknown key 'gridsiz'"),
        ({"model": {"nepochs": 2}}, "model has the unknown key 'nepochs'"),
        ({"model": {"N": 128}, "N": 64}, "'N' stands inside and outside of 'model'"),
        ({"model": {"gridsize": 2}, "grid_size": (2, 2)}, "are the same setting"),
        ({"model": {"gridsize": 2, "C": 9}}, "C=9 but a grid of 2 x 2"),
        ({"epochs": 1.5}, "nepochs=1.5 must be a whole number"),
    ],
    ids=str,
)
def test_a_nested_model_of_the_older_schema_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        from_older_schema(values)
