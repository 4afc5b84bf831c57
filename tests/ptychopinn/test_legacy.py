import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.config import from_older_schema
from ptychostream.errors import BackendUnavailableError, ConfigurationError
from ptychostream.legacy import (
    DEFAULTS,
    KEY_MAPPINGS,
    OWN_FIELDS,
    LegacyParams,
    dataclass_to_legacy_dict,
    update_installed_ptycho,
    update_legacy_dict,
)

FIXTURE = json.loads(
    (Path(__file__).parents[1] / "data" / "contract" / "params_cfg.json").read_text()
)
KINDS = {kind.__name__: kind for kind in (ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig)}


def _build(kind, model, args):
    args = {
        key: Path(value.removeprefix("Path:")) if str(value).startswith("Path:") else value
        for key, value in args.items()
    }
    if kind == "ModelConfig":
        return ps.ModelConfig(**model)
    return KINDS[kind](model=ps.ModelConfig(**model), **args)


def _typed(cfg):
    return {key: (type(value).__name__, value) for key, value in cfg.items()}


@pytest.mark.filterwarnings("ignore:n_images")
@pytest.mark.parametrize("number", range(len(FIXTURE["cases"])))
def test_each_configuration_gives_the_existing_dictionary(number):
    case = FIXTURE["cases"][number]
    cfg = dict(FIXTURE["default_cfg"])
    update_legacy_dict(cfg, _build(case["kind"], case["model"], case["args"]))
    assert _typed(cfg) == _typed({**FIXTURE["default_cfg"], **case["changed"]})


def test_there_are_33_configurations():
    assert len(FIXTURE["cases"]) == 33


def test_the_dictionary_begins_with_the_documented_defaults():
    assert _typed(DEFAULTS) == _typed(FIXTURE["default_cfg"])
    assert _typed(LegacyParams().cfg) == _typed(FIXTURE["default_cfg"])


def test_none_overwrites_nothing_when_inference_follows_training():
    training = FIXTURE["cases"][1]["args"]
    params = LegacyParams()
    update_legacy_dict(params.cfg, _build("TrainingConfig", {"gridsize": 2}, training))
    inference = {"model_path": "Path:/m", "test_data_file": "Path:/d/t.npz"}
    update_legacy_dict(params.cfg, _build("InferenceConfig", {"gridsize": 2}, inference))
    assert _typed(params.cfg) == _typed(FIXTURE["carry_over_train_then_infer"])


@pytest.mark.parametrize("case", FIXTURE["derived"], ids=str)
def test_derived_sizes_follow_from_the_stored_ones(case):
    params = LegacyParams()
    for key in ("N", "gridsize", "offset", "max_position_jitter"):
        params.set(key, case[key])
    for key in ("bigN", "padded_size", "padding_size"):
        assert params.get(key) == params.params()[key] == case[key]
        with pytest.raises(ConfigurationError, match="follows from"):
            params.set(key, 1)


@pytest.mark.parametrize(("values", "error"), FIXTURE["validation"], ids=str)
def test_values_are_refused_as_the_existing_backend_refuses_them(values, error):
    model = {f.name for f in dataclasses.fields(ps.ModelConfig)}

    def make():
        chosen = {key: value for key, value in values.items() if key in model}
        rest = {key: value for key, value in values.items() if key not in model}
        return ps.TrainingConfig(model=ps.ModelConfig(**chosen), **rest)

    if error is None:
        assert make().model.N == 96
    else:
        with pytest.raises(ValueError, match=next(iter(values))):
            make()


def test_the_other_backend_has_no_such_limits():
    assert ps.TrainingConfig(batch_size=24, mae_weight=1.5, backend="pytorch").batch_size == 24


def test_validate_sees_what_was_written_into_the_dictionary_by_hand():
    params = LegacyParams()
    params.validate()
    params.cfg["gridsize"] = 0
    with pytest.raises(ValueError, match="gridsize=0"):
        params.validate()
    with pytest.raises(ValueError, match="nphotons=-1"):
        params.set("nphotons", -1)
    params.set("label", "mine")
    assert params.get("label") == "mine"
    with pytest.raises(KeyError):
        params.get("nothing of the kind")


def test_unknown_keys_are_kept_with_a_warning_and_derived_ones_refused(caplog):
    params = LegacyParams()
    params.cfg["nepoch"] = 5
    params.set("grid_size", 2)
    params.cfg.update({"foo": 1}, nepochs=7)
    for said in ("did you mean 'nepochs'", "did you mean 'gridsize'", "'foo' is no key"):
        assert caplog.text.count(said) == 1
    assert params.get("foo") == 1 and params.get("nepochs") == 7
    caplog.clear()
    params.cfg["foo"] = 2
    params.cfg["n_groups"] = 3
    for copied in (copy.deepcopy(params.cfg), pickle.loads(pickle.dumps(params.cfg))):
        assert type(copied) is dict and copied == params.cfg
    assert not caplog.records
    params.validate()
    assert len(caplog.records) == 3
    with pytest.raises(ValueError, match="'bigN' follows from N"):
        params.cfg["bigN"] = 10
    params.restore({"bigN": 10, "mine": 0})
    assert params.get("bigN") == 132


#: A value other than the default, for every field that has no obvious one.
OTHER = {
    "border_channels": "outputs",
    "cnn_input": "intensity",
    "plateau_factor": 0.25,
    "N": 128,
    "model_type": "supervised",
    "architecture": "fno",
    "fno_input_transform": "sqrt",
    "generator_output_mode": "amp_phase",
    "amp_activation": "relu",
    "compat": "upstream",
    "max_hidden_channels": 7,
    "resnet_width": 9,
    "probe_mask_diameter": 11.0,
    "batch_size": 32,
    "mae_weight": 0.5,
    "overlap_weight": 0.5,
    "validation_fraction": 0.25,
    "nll_weight": 0.5,
    "neighbor_count": 9,
    "neighbor_function": "four_quadrant",
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "gradient_clip_val": 2.0,
    "gradient_clip_algorithm": "value",
    "optimizer": "sgd",
    "scheduler": "Exponential",
    "torch_loss_mode": "mae",
    "backend": "pytorch",
    "physics_weight_schedule": "linear",
}
#: Fields that are set together or not at all.
PAIR = {"scale_contract_version": "legacy_v1", "measurement_domain": "normalized_amplitude"}
PAIRED = dict.fromkeys(PAIR, PAIR)


def _other(kind, item):
    if item.name in OTHER:
        return OTHER[item.name]
    default = getattr(kind(), item.name)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1
    if item.name == "targets":
        return "solver"
    return Path("/elsewhere") if "Path" in str(item.type) else 3


EVERY_FIELD = [
    (kind, item)
    for kind in KINDS.values()
    for item in dataclasses.fields(kind)
    if item.name != "model"
]


@pytest.mark.filterwarnings("ignore:n_images")
@pytest.mark.parametrize(
    ("kind", "item"), EVERY_FIELD, ids=[f"{k.__name__}.{i.name}" for k, i in EVERY_FIELD]
)
def test_a_reader_of_the_dictionary_sees_every_field(kind, item):
    value = _other(kind, item)
    assert value != getattr(kind(), item.name)
    params = LegacyParams()
    update_legacy_dict(params.cfg, kind(**(PAIRED.get(item.name) or {item.name: value})))
    if item.name in OWN_FIELDS:
        assert item.name not in params.cfg
        return
    seen = params.get(KEY_MAPPINGS.get(item.name, item.name))
    assert seen == (str(value) if isinstance(value, Path) else value)


def test_how_a_run_executes_never_enters_the_dictionary():
    with pytest.raises(ConfigurationError, match="PyTorchExecutionConfig has no place"):
        dataclass_to_legacy_dict(ps.PyTorchExecutionConfig())
    execution = {f.name for f in dataclasses.fields(ps.PyTorchExecutionConfig)}
    own = execution - {f.name for f in dataclasses.fields(ps.TrainingConfig)}
    assert not own & set(dataclass_to_legacy_dict(ps.TrainingConfig()))


def test_a_missing_tensorflow_package_is_said_with_its_remedy():
    with pytest.raises(BackendUnavailableError, match=r"TensorFlow backend selected.*pip install"):
        update_installed_ptycho(ps.ModelConfig())


def test_settings_of_the_older_schema_become_fields_of_today():
    config = from_older_schema(
        {
            "grid_size": [2, 2],
            "C": 4,
            "mode": "Supervised",
            "epochs": 3,
            "K": 6,
            "nll": False,
            "mae_weight": 1.0,
            "amp_activation": "silu",
            "N": 128,
        }
    )
    model = ps.ModelConfig(N=128, gridsize=2, model_type="supervised", amp_activation="swish")
    assert config == ps.TrainingConfig(
        model=model,
        nepochs=3,
        neighbor_count=6,
        nll_weight=0.0,
        mae_weight=1.0,
        backend="pytorch",
    )
    assert dataclass_to_legacy_dict(config)["gridsize"] == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grid_size": (2, 3)}, "two equal numbers"),
        ({"grid_size": (2, 2), "C": 9}, "C=9 but a grid of 2 x 2 has 4"),
        ({"mode": "Semi"}, "'Unsupervised', 'Supervised'"),
        ({"nll": 0.3}, "nll=0.3"),
        ({"epochs": 3, "nepochs": 4}, "same setting"),
        ({"epoch": 3}, "unknown keys epoch"),
    ],
    ids=str,
)
def test_older_settings_without_a_meaning_are_refused(values, message):
    with pytest.raises(ConfigurationError, match=message):
        from_older_schema(values)
