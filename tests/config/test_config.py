"""Configurations: kinds and bounds, messages, plain mappings and YAML."""

import dataclasses
import inspect
import json
import pickle
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
from ptychostream.config.describe import describe_fields
from ptychostream.errors import ConfigurationError, MissingFileError
from ptychostream.memory import parse_bytes
from ptychostream.training.checks import check_supported

KINDS = [ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig, ps.PyTorchExecutionConfig]
FIELDS = [(kind, each) for kind in KINDS for each in describe_fields(kind).values()]
every_field = pytest.mark.parametrize(
    ("kind", "field"), FIELDS, ids=[f"{k.__name__}.{f.name}" for k, f in FIELDS]
)

#: A value of another kind, for each kind.
OTHER_KIND = {bool: "false", int: 1.5, float: "1", str: 2.5, Path: 5, list: [1, 2.5]}


def _beside(kind):
    """Values that let each field be tried out on its own."""
    return {"backend": "pytorch", "mae_weight": 1.0} if kind is ps.TrainingConfig else {}


@every_field
def test_a_value_of_another_kind_is_refused_by_name_and_with_what_is_allowed(kind, field):
    wrong = OTHER_KIND.get(field.kind, 5)
    for value in (wrong, True if field.kind in (int, float) else wrong):
        with pytest.raises(ConfigurationError) as caught:
            kind(**{field.name: value})
        assert f"{field.name}={value!r}" in str(caught.value)
        assert field.allowed in str(caught.value)


@every_field
def test_none_is_accepted_where_a_field_is_optional_and_nowhere_else(kind, field):
    if field.is_optional:
        assert getattr(kind(**{field.name: None}), field.name) is None
        return
    with pytest.raises(ConfigurationError, match=f"{field.name}=None"):
        kind(**{field.name: None})


@every_field
@pytest.mark.filterwarnings("ignore:n_images")
def test_numbers_are_accepted_up_to_their_bounds_and_not_beyond(kind, field):
    step = 1 if field.kind is int else 1e-9
    outside = {"ge": -step, "gt": 0, "le": step, "lt": 0}
    for bound, limit in field.bounds.items():
        if bound == "multiple_of":
            continue
        for value in (field.kind(limit + outside[bound]), float("inf"), float("nan")):
            with pytest.raises(ConfigurationError, match=f"{field.name}={value!r}"):
                kind(**_beside(kind) | {field.name: value})
        within = limit + {"ge": 0, "le": 0, "gt": step, "lt": -step}[bound]
        values = _beside(kind) | {field.name: field.kind(within)}
        assert getattr(kind(**values), field.name) == field.kind(within)


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_is_allowed_and_every_field_says_what_it_does(kind):
    kind(**{each.name: each.default for each in describe_fields(kind).values()})
    for each in describe_fields(kind).values():
        assert each.meaning.endswith(".")
        assert f"\n{each.name} : {each.allowed}\n    {each.meaning}" in inspect.getdoc(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_survives_files_mappings_copies_and_pickles(kind, tmp_path):
    config = kind()
    write_yaml(config, tmp_path / "c.yaml")
    assert read_yaml(kind, tmp_path / "c.yaml") == config
    assert from_mapping(kind, json.loads(json.dumps(to_mapping(config)))) == config
    assert dataclasses.replace(config) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(kind()) or kind is ps.PyTorchExecutionConfig


def test_a_configuration_can_not_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ps.ModelConfig().N = 128


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ps.ModelConfig, {"N": 15}, "N=15 must be an even number at least 16"),
        (ps.ModelConfig, {"amp_activation": "tanh"}, "'sigmoid', 'swish'"),
        (ps.TrainingConfig, {"nll_weight": 0.0}, "nothing to learn"),
        (ps.TrainingConfig, {"plateau_factor": 1}, "plateau_factor=1 .* above 0 and below 1"),
        (ps.TrainingConfig, {"stage_1_epochs": 51}, "set nepochs to 51 or more"),
        (ps.TrainingConfig, {"batch_size": np.int64(12)}, "batch_size=12 must be a power of two"),
        (ps.TrainingConfig, {"nepochs": 0, "optimizer": "lamb"}, "nepochs=0 .*; optimizer='lamb'"),
        (
            ps.PyTorchExecutionConfig,
            {"recon_log_fixed_indices": [1, 2.5]},
            r"recon_log_fixed_indices=\[1, 2.5\] must be a list of whole numbers or None",
        ),
    ],
)
def test_bad_values_are_refused_at_construction_and_with_their_origin(kind, values, message):
    with pytest.raises(ConfigurationError, match=f"^.*{message}"):
        kind(**values)
    with pytest.raises(ConfigurationError, match=f"^here: .*{message}"):
        from_mapping(kind, values, origin="here")


def test_an_unknown_name_is_refused_with_the_one_that_may_be_meant():
    with pytest.raises(TypeError, match="nepoch; did you mean 'nepochs'"):
        ps.TrainingConfig(nepoch=3)
    with pytest.raises(ConfigurationError, match="epochen; TrainingConfig knows model, "):
        from_mapping(ps.TrainingConfig, {"qqq epochen": 3})


def test_a_field_of_another_configuration_is_refused_with_its_owner():
    with pytest.raises(TypeError, match=r"pass it as PyTorchExecutionConfig\(learning_rate=0.001"):
        ps.TrainingConfig(learning_rate=1e-3)
    with pytest.raises(ConfigurationError, match=r"pass it as ModelConfig\(N=64\)$"):
        from_mapping(ps.TrainingConfig, {"N": 64})


def test_a_mapping_is_no_execution_configuration(tiny_store):
    with pytest.raises(ConfigurationError, match=r"pass PyTorchExecutionConfig\(devices=1\)"):
        ps.train(ps.TrainingConfig(), tiny_store, execution={"devices": 1})


def test_neighbours_must_fill_a_group_before_training():
    config = ps.TrainingConfig(model=ps.ModelConfig(gridsize=2), neighbor_count=2)
    with pytest.raises(ValueError, match=r"neighbor_count=2 .* gridsize=2"):
        check_supported(config, ps.PyTorchExecutionConfig())


def test_n_images_is_a_deprecated_alias():
    with pytest.warns(DeprecationWarning, match="n_groups") as caught:
        assert ps.TrainingConfig(n_images=7).n_groups == 7
    assert caught[0].filename == __file__


PLAIN = [
    (ps.ModelConfig, {"N": 128, "probe_scale": 2.5, "pad_object": False, "architecture": "fno"}),
    (ps.TrainingConfig, {"subsample_seed": 3, "nphotons": 1e5, "batch_size": 8}),
    (ps.TrainingConfig, {"n_groups": 7, "probe_trainable": True, "optimizer": "sgd"}),
    (ps.PyTorchExecutionConfig, {"devices": 2, "deterministic": False, "middle_trim": 4}),
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


def test_tuples_become_lists_and_single_precision_becomes_pythons_own():
    config = ps.PyTorchExecutionConfig(
        recon_log_fixed_indices=(np.int64(4), 5), learning_rate=np.float32(0.25)
    )
    assert config.recon_log_fixed_indices == [4, 5]
    assert [type(index) for index in config.recon_log_fixed_indices] == [int, int]
    assert type(config.learning_rate) is float


def test_paths_may_be_text_and_numbers_may_be_whole():
    values = {"output_dir": "out", "train_data_file": "a.zarr", "nphotons": 10}
    for config in (ps.TrainingConfig(**values), from_mapping(ps.TrainingConfig, values)):
        assert config.nphotons == 10
        assert (config.output_dir, config.train_data_file) == (Path("out"), Path("a.zarr"))


def test_a_mapping_may_hold_a_model_that_is_made_already():
    model = ps.ModelConfig(N=128)
    assert from_mapping(ps.TrainingConfig, {"model": model}).model is model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probe_trainable: 'false'", "probe_trainable='false' must be true or false"),
        ("nepochs: 1.5", "nepochs=1.5 must be a whole number"),
        ("nphotons: abc", "nphotons='abc' must be a number"),
        ("nphotons: -1.0", "nphotons=-1.0 must be a number above 0"),
        ("output_dir:", "output_dir=None must be a path"),
        ("model: 5", r"\.model must be a mapping of fields, not 5"),
        ("model: {N: 64.5}", r"\.model: N=64.5 must be an even number"),
        (
            "model: {N: 64, gridsiz: 2}",
            r"\.model has unknown keys gridsiz; did you mean 'gridsize'",
        ),
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


def test_a_file_that_is_not_text_or_not_there_is_named(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00\x81N")
    with pytest.raises(ConfigurationError, match=r"c\.yaml' is not YAML"):
        read_yaml(ps.ModelConfig, tmp_path / "c.yaml")
    with pytest.raises(MissingFileError, match="none.yaml"):
        read_yaml(ps.ModelConfig, tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "model:", "# nothing"])
def test_a_file_without_values_is_the_default(text, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    assert read_yaml(ps.TrainingConfig, tmp_path / "c.yaml") == ps.TrainingConfig()


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    (tmp_path / "c.yaml").write_text("nphotons: 1e6\ngradient_clip_val: 1e-3\n")
    config = read_yaml(ps.TrainingConfig, tmp_path / "c.yaml")
    assert (config.nphotons, config.gradient_clip_val) == (1e6, 1e-3)


AMOUNTS = ["1 GiB", "512MiB", " 2gb ", "400 KiB", "7", "0.5k", "1.5 T", "3 tib", "12b"]
NO_AMOUNTS = ["", "lots", "0", "0.5", "-1 GiB", "1 XiB", "1.2.3 GiB", "1 i", "GiB", "."]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_a_memory_budget_that_the_loader_reads_is_accepted(amount):
    assert parse_bytes(amount) > 0
    assert ps.PyTorchExecutionConfig(memory_budget=amount).memory_budget == amount


@pytest.mark.parametrize("amount", NO_AMOUNTS)
def test_a_memory_budget_that_the_loader_does_not_read_is_refused(amount):
    for read in (parse_bytes, lambda text: ps.PyTorchExecutionConfig(memory_budget=text)):
        with pytest.raises(ConfigurationError, match="not an amount of memory"):
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
