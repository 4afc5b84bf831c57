import json
import pickle
import shutil
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream import legacy
from ptychostream.errors import BackendUnavailableError, ConfigurationError, DataContractError
from ptychostream.ptychopinn.backends.base import load_backend
from ptychostream.ptychopinn.backends.training_data import as_store
from ptychostream.ptychopinn.container import PtychoDataContainerTorch, load
from ptychostream.ptychopinn.raw_data import RawDataTorch
from ptychostream.training.run import training_groups
from ptychostream.workflows import (
    load_inference_bundle,
    load_inference_bundle_with_backend,
    run_cdi_example,
    run_cdi_example_with_backend,
    save_outputs,
    train_cdi_model,
    train_cdi_model_with_backend,
)

QUIET = ps.PyTorchExecutionConfig(logger_backend=None, enable_checkpointing=False)

#: A small package that is installed as `ptycho`: it trains a mean, and records what it was told
#: and what its dictionary held when its modules were imported.
PTYCHO = {
    "__init__.py": "",
    "params.py": f"cfg = {legacy.DEFAULTS!r}\n",
    "raw_data.py": """
        class RawData:
            def __init__(self, xcoords, ycoords, xcoords_start, ycoords_start, diff3d, probeGuess,
                         scan_index, objectGuess=None, Y=None):
                self.diff3d, self.objectGuess = diff3d, objectGuess
        """,
    "config/__init__.py": "",
    "config/config.py": """
        from dataclasses import dataclass, field

        @dataclass(frozen=True)
        class ModelConfig:
            N: int = 64
            gridsize: int = 1

        @dataclass
        class TrainingConfig:
            model: ModelConfig
            nepochs: int = 50
            n_groups: int = 512
        """,
    "workflows/__init__.py": "",
    "model.py": """
        # PtychoPINN keeps the intensity scale of the process's first model here.
        _lazy_cache = {}
        """,
    "workflows/components.py": """
        import os
        import numpy as np
        from ptycho import model, params
        from ptycho.config.config import TrainingConfig
        from ptycho.raw_data import RawData

        AT_IMPORT = dict(params.cfg)

        def train_cdi_model(train_data, test_data, config):
            assert isinstance(train_data, RawData) and isinstance(config, TrainingConfig)
            at_import = dict(AT_IMPORT)
            scale = params.cfg.get('nphotons', 1e9) ** 0.5 / (params.cfg['N'] / 2)
            params.cfg.setdefault('intensity_scale', scale)
            used = model._lazy_cache.setdefault('log_scale', params.cfg['intensity_scale'])
            return {'mean': train_data.diff3d.mean(), 'config': config, 'at_import': at_import,
                    'used_scale': used, 'groups': np.random.choice(1000, 8),
                    'tested': None if test_data is None else len(test_data.diff3d)}

        def run_cdi_example(train_data, test_data, config, flip_x=False, flip_y=False,
                            transpose=False, M=20, do_stitching=False):
            results = train_cdi_model(train_data, test_data, config)
            results['asked'] = (flip_x, flip_y, transpose, M, do_stitching)
            return abs(test_data.objectGuess), None, results

        def load_inference_bundle(directory):
            if not os.path.isfile(os.path.join(directory, 'wts.h5.zip')):
                raise ValueError(f'{directory} is not a directory of an archive')
            model._lazy_cache.setdefault('log_scale', 31.25)
            return f'model of {directory}', {'N': 77, 'from': 'ptycho'} | model._lazy_cache
        """,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Install the small package with pip, into an environment of its own."""
    source, site = tmp_path_factory.mktemp("ptycho"), tmp_path_factory.mktemp("site")
    for name, text in PTYCHO.items():
        path = source / "ptycho" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'ptycho-for-tests'\nversion = '1.0'\n"
        "[tool.setuptools.packages.find]\ninclude = ['ptycho*']\n"
    )
    pip = "-m pip --quiet install --no-index --no-deps --no-build-isolation --target".split()
    done = subprocess.run(
        [sys.executable, *pip, str(site), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (site / "ptycho_for_tests-1.0.dist-info").is_dir()
    return site


@pytest.fixture
def ptycho(site, monkeypatch):
    """Make the installed package importable for one test."""
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.split(".")[0] == "ptycho"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def own_dictionary(monkeypatch):
    monkeypatch.setattr(legacy.params, "cfg", dict(legacy.DEFAULTS))


def _weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_through_the_workflow_is_training(tiny_store, tiny_scan, make_config, tmp_path):
    config = make_config(backend="pytorch", model={"gridsize": 2})
    ours = ps.train(config, tiny_store, execution=QUIET)
    for data in (tiny_store, tiny_store.path, RawDataTorch.from_store(tiny_store)):
        results = train_cdi_model(data, None, config, QUIET)
        assert results["backend"] == "pytorch"
        assert torch.equal(_weights(results["bundle"].model), _weights(ours.model))
        assert results["history"] == ours.history
    assert legacy.params.get("gridsize") == 2
    assert legacy.params.get("intensity_scale") == ours.intensity_scale


def test_a_scan_in_memory_trains_to_the_same_weights_as_its_store(tiny_scan, tmp_path, make_config):
    config = make_config(backend="pytorch")
    store = ps.build_group_store(tiny_scan, tmp_path / "s.zarr")
    ours = ps.train(config, store, execution=QUIET)
    raw = RawDataTorch.from_scan(tiny_scan)
    results = train_cdi_model(raw, raw, config, QUIET)
    assert torch.equal(_weights(results["bundle"].model), _weights(ours.model))
    assert len(results["history"]["val_loss"]) == 1


def test_a_container_trains_and_is_stitched_in_its_own_groups(tiny_scan, make_config):
    raw = RawDataTorch.from_scan(tiny_scan)
    grouped = raw.generate_grouped_data(16, K=6, nsamples=64, gridsize=2, seed=0)
    dose = float(np.square(grouped["diffraction"]).sum(axis=(1, 2)).mean())
    container = load(lambda: grouped, raw.probeGuess, nphotons=dose)
    config = make_config(backend="pytorch", model={"gridsize": 2}, nepochs=2)
    amplitude, _, results = run_cdi_example(
        container, container, config, M=8, do_stitching=True, execution_config=QUIET
    )
    losses = results["history"]["train_loss"]
    assert losses[1] < losses[0]
    assert len(results["history"]["val_loss"]) == 2
    assert results["bundle"].intensity_scale == pytest.approx(np.sqrt(dose) / 8)
    assert np.isfinite(amplitude).all()
    centres = results["global_offsets"].reshape(-1, 2)
    np.testing.assert_allclose(centres, grouped["coords_offsets"].reshape(-1, 2), atol=1e-4)
    again = train_cdi_model(container, None, config, QUIET)["bundle"].model
    assert torch.equal(_weights(again), _weights(results["bundle"].model))
    # The test data may be of another kind: all become stores.
    mixed = train_cdi_model(container, raw, config, QUIET)
    assert len(mixed["history"]["val_loss"]) == 2
    with pytest.raises(DataContractError, match=r"\(16, 16, 4\) but the model takes"):
        train_cdi_model(container, None, make_config(backend="pytorch"), QUIET)


def test_a_container_becomes_a_store_of_its_patterns_in_its_own_groups(tiny_scan, make_config):
    raw = RawDataTorch.from_scan(tiny_scan)
    grouped = raw.generate_grouped_data(16, K=6, nsamples=40, gridsize=2, seed=5)
    container = PtychoDataContainerTorch(grouped, raw.probeGuess)
    for options in ({}, {"overlap_weight": 0.0}):
        config = make_config(backend="pytorch", model={"gridsize": 2}, **options)
        with as_store(container, config) as store:
            rows = np.unique(grouped["nn_indices"])
            np.testing.assert_allclose(store.positions, tiny_scan.positions[rows], atol=1e-4)
            groups = training_groups(config, store)
            np.testing.assert_array_equal(rows[groups.nn_indices[:, :4]], grouped["nn_indices"])
            # A neighbour that tests a group is none of its members.
            assert groups.group_size == 4 + config.num_held_out
            assert all(len(set(group)) == groups.group_size for group in groups.nn_indices.tolist())
            np.testing.assert_array_equal(store.object_guess, tiny_scan.object_guess)


@pytest.mark.parametrize(
    ("changes", "execution"),
    [
        ({"validation_fraction": 0.3}, {}),
        ({"realspace_mae_weight": 1.0}, {}),
        ({"model": {"gridsize": 1, "model_type": "supervised"}}, {}),
        ({"overlap_weight": 1.0}, {}),
        ({}, {"recon_log_every_n_epochs": 1, "logger_backend": "csv"}),
    ],
    ids=str,
)
def test_a_container_trains_with_every_option_of_a_store(
    tiny_scan, make_config, changes, execution
):
    raw = RawDataTorch.from_scan(tiny_scan)
    container = load(lambda: raw.generate_grouped_data(16, nsamples=64, gridsize=1), raw.probeGuess)
    results = train_cdi_model(
        container, None, make_config(backend="pytorch", **changes), replace(QUIET, **execution)
    )
    assert np.isfinite(results["history"]["train_loss"]).all()


def test_a_container_of_two_scans_is_refused(tiny_scan, make_config):
    raw = RawDataTorch.from_scan(tiny_scan)
    grouped = raw.generate_grouped_data(16, nsamples=20, gridsize=1, seed=0)
    both = {
        name: np.concatenate([part, part])
        for name, part in grouped.items()
        if name in ("X_full", "coords_offsets", "coords_relative", "nn_indices")
    }
    both["coords_offsets"][20:] += 3
    container = PtychoDataContainerTorch(both, raw.probeGuess)
    with pytest.raises(DataContractError, match="groups of several scans"):
        train_cdi_model(container, None, make_config(backend="pytorch"), QUIET)


def test_patterns_are_drawn_before_training(tiny_scan, tiny_store, make_config):
    options = {"backend": "pytorch", "subsample_seed": 3}
    config = make_config(n_subsample=40, **options)
    ours = _weights(ps.train(config, tiny_store, execution=QUIET).model)
    everything = ps.train(make_config(**options), tiny_store, execution=QUIET).model
    assert not torch.equal(ours, _weights(everything))
    for data in (tiny_store, RawDataTorch.from_store(tiny_store)):
        drawn = train_cdi_model(data, None, config, QUIET)["bundle"].model
        assert torch.equal(_weights(drawn), ours)
    # Patterns that were drawn by hand are not drawn once more.
    by_hand = RawDataTorch.from_scan(tiny_scan).subsample(40, 3)
    both = [
        _weights(train_cdi_model(by_hand, None, asked, QUIET)["bundle"].model)
        for asked in (config, make_config(**options))
    ]
    assert torch.equal(*both)


def test_stitching_returns_the_object_around_the_mean_position(tiny_store, make_config):
    config = make_config(backend="pytorch", nepochs=3)
    amplitude, phase, _ = run_cdi_example(
        tiny_store, tiny_store, config, M=8, do_stitching=True, execution_config=QUIET
    )
    size = len(amplitude)
    assert amplitude.shape == phase.shape == (size, size)
    # The true object, cut out where the canvas lies.
    left, top = np.round(tiny_store.positions.mean(axis=0)).astype(int) - size // 2
    truth = np.pad(tiny_store.object_guess, size)[
        top + size : top + 2 * size, left + size : left + 2 * size
    ]
    inner = slice(size // 4, 3 * size // 4)
    obj = (amplitude * np.exp(1j * phase))[inner, inner]

    def likeness(other):
        # Without their means: a flat object is like any other.
        left, right = obj - obj.mean(), other - other.mean()
        return abs(np.vdot(left, right)) / np.linalg.norm(left) / np.linalg.norm(right)

    true = truth[inner, inner]
    assert likeness(true) > 0.6
    assert max(likeness(true.T), likeness(true[::-1]), likeness(true[:, ::-1])) < 0.4
    turned, _, _ = run_cdi_example(
        tiny_store,
        tiny_store,
        config,
        flip_x=True,
        transpose=True,
        M=8,
        do_stitching=True,
        execution_config=QUIET,
    )
    assert turned.shape != amplitude.shape or np.abs(turned - amplitude).max() > 0.1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"flip_x": True}, [-1, 2]),
        ({"flip_y": True}, [1, -2]),
        ({"transpose": True}, [2, 1]),
        ({"flip_x": True, "transpose": True}, [2, -1]),
    ],
    ids=str,
)
def test_positions_are_turned_as_asked(flags, expected):
    from ptychostream.ptychopinn.backends.base import StitchingOptions
    from ptychostream.ptychopinn.backends.pytorch import in_callers_axes

    options = {"flip_x": False, "flip_y": False, "transpose": False} | flags
    stitching = StitchingOptions(do_stitching=True, M=20, **options)
    turned = in_callers_axes(np.array([1.0, 2.0]).reshape(1, 1, 2, 1), stitching)
    assert turned.ravel().tolist() == expected


def test_without_stitching_there_is_no_object_and_with_it_there_must_be_data(
    tiny_store, make_config
):
    config = make_config(backend="pytorch")
    amplitude, phase, _ = run_cdi_example(tiny_store, None, config, execution_config=QUIET)
    assert amplitude is None
    assert phase is None
    with pytest.raises(DataContractError, match="do_stitching needs test_data"):
        run_cdi_example(tiny_store, None, config, do_stitching=True, execution_config=QUIET)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"architecture": "twocon"}, "no architecture 'twocon'"),
        ({"N": 32}, "defined for N = 64, 128 and 256, not 32"),
    ],
)
def test_a_network_that_can_not_be_is_refused_before_data_are_read(tmp_path, model, message):
    config = ps.TrainingConfig(model=ps.ModelConfig(**model), backend="pytorch")
    with pytest.raises(ConfigurationError, match=message):
        train_cdi_model(tmp_path / "missing.npz", None, config)


def test_outputs_are_pictures_and_arrays(tmp_path):
    amplitude, phase = np.ones((6, 6)), np.linspace(-1, 1, 36).reshape(6, 6)
    results = {"backend": "pytorch", "history": {"train_loss": [3.0, 2.0]}}
    written = save_outputs(amplitude, phase, results, tmp_path / "out")
    assert [path.name for path in written] == [
        "reconstructed_amplitude.png",
        "reconstructed_phase.png",
        "reconstruction.npz",
    ]
    with np.load(written[-1]) as arrays:
        np.testing.assert_array_equal(arrays["phase"], phase)
        assert arrays["history_train_loss"].tolist() == [3.0, 2.0]
    assert [path.name for path in save_outputs(None, None, {}, tmp_path)] == ["reconstruction.npz"]


def test_a_loaded_model_predicts_and_restores_the_dictionary(tiny_store, make_config, tmp_path):
    config = make_config(backend="pytorch", model={"gridsize": 2}, nphotons=123.0)
    results = train_cdi_model(tiny_store, None, config, QUIET)
    legacy.params.cfg = dict(legacy.DEFAULTS) | {"intensity_scale": -1.0}
    model, values = load_inference_bundle(tmp_path)
    assert values["nphotons"] == legacy.params.get("nphotons") == 123.0
    assert values["intensity_scale"] == results["bundle"].intensity_scale
    assert values["bigN"] == 16 + 4
    inputs = [np.ones((3, 16, 16, 4), np.float32), np.zeros((3, 1, 2, 4), np.float32)]
    np.testing.assert_array_equal(model.predict(inputs), results["bundle"].predict(inputs))
    with pytest.raises(DataContractError, match=r"pytorch backend but the tensorflow backend"):
        load_inference_bundle(tmp_path, backend="tensorflow")


def test_what_is_no_archive_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"wts\.h5\.zip"):
        load_inference_bundle(tmp_path)
    (tmp_path / "wts.h5.zip").write_text("no zip")
    with pytest.raises(ValueError, match="not a readable archive"):
        load_inference_bundle(tmp_path)
    with zipfile.ZipFile(tmp_path / "wts.h5.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(ValueError, match=r"manifest\.dill"):
        load_inference_bundle(tmp_path)


def test_tensorflow_delegates_to_the_installed_package(ptycho, tiny_scan, caplog):
    config = ps.TrainingConfig(model=ps.ModelConfig(N=16, gridsize=2), nepochs=7)
    raw = RawDataTorch.from_scan(tiny_scan)
    with caplog.at_level("INFO", logger="ptychostream"):
        amplitude, phase, results = run_cdi_example(
            raw, raw, config, flip_y=True, M=12, do_stitching=True
        )
    assert "TensorFlow backend selected" in caplog.text
    assert "PyTorch backend selected" not in caplog.text
    np.testing.assert_array_equal(amplitude, np.abs(tiny_scan.object_guess))
    assert phase is None
    assert results["backend"] == "tensorflow"
    assert results["asked"] == (False, True, False, 12, True)
    assert results["mean"] == raw.diff3d.mean()
    assert (results["config"].model.gridsize, results["config"].nepochs) == (2, 7)
    assert results["config"].n_groups == 512
    # Written before the package's own modules were imported.
    from ptycho.params import cfg

    expected = {
        key: value
        for key, value in legacy.dataclass_to_legacy_dict(config).items()
        if value is not None
    }
    assert results["at_import"] == legacy.DEFAULTS | expected
    assert cfg == legacy.params.cfg == results["at_import"] | {"intensity_scale": 1e9**0.5 / 8}
    assert train_cdi_model(raw, None, config)["backend"] == "tensorflow"
    with pytest.raises(ConfigurationError, match="execution_config belongs to the PyTorch"):
        train_cdi_model(raw, None, config, QUIET)


CASES = json.loads((Path(__file__).parents[1] / "data/contract/params_cfg.json").read_text())


@pytest.mark.filterwarnings("ignore:n_images")
@pytest.mark.parametrize("number", range(len(CASES["cases"])))
def test_the_installed_packages_dictionary_is_written_as_it_writes_it_itself(ptycho, number):
    from ptycho.params import cfg
    from test_legacy import _build, _typed

    case = CASES["cases"][number]
    legacy.update_installed_ptycho(_build(case["kind"], case["model"], case["args"]))
    assert _typed(cfg) == _typed(CASES["default_cfg"] | case["changed"])


def test_the_other_backend_trains_on_the_patterns_that_are_drawn(ptycho, tiny_scan):
    config = ps.TrainingConfig(model=ps.ModelConfig(N=16), n_subsample=20, subsample_seed=4)
    raw = RawDataTorch.from_scan(tiny_scan)
    results = train_cdi_model(raw, raw, config)
    assert results["mean"] == raw.subsample(20, 4).diff3d.mean()
    # PtychoPINN loads test data whole.
    assert results["tested"] == 64


@pytest.mark.parametrize("number", [None, 20])
def test_the_seed_decides_the_groups_of_the_other_backend(ptycho, tiny_scan, number):
    raw = RawDataTorch.from_scan(tiny_scan)
    config = ps.TrainingConfig(model=ps.ModelConfig(N=16), n_subsample=number, subsample_seed=4)
    generator = np.random.RandomState(4)
    if number:
        generator.choice(64, number, replace=False)
    expected = generator.choice(1000, 8)
    for _ in range(2):
        np.testing.assert_array_equal(train_cdi_model(raw, None, config)["groups"], expected)


def test_an_earlier_runs_intensity_scale_is_never_used(ptycho, tiny_scan, tmp_path):
    raw = RawDataTorch.from_scan(tiny_scan)
    for nphotons in (1e9, 1e5):
        config = ps.TrainingConfig(model=ps.ModelConfig(N=16), nphotons=nphotons)
        results = train_cdi_model(raw, None, config)
        scale = nphotons**0.5 / 8
        assert results["used_scale"] == legacy.params.get("intensity_scale") == scale
    with zipfile.ZipFile(tmp_path / "wts.h5.zip", "w") as archive:
        archive.writestr("manifest.dill", pickle.dumps({"models": ["x"], "version": "1.0"}))
    assert load_inference_bundle(tmp_path)[1]["log_scale"] == 31.25


def test_fields_that_the_other_backend_never_reads_are_named(ptycho, tiny_scan, caplog):
    model = ps.ModelConfig(N=16, model_type="supervised")
    config = ps.TrainingConfig(model=model, optimizer="sgd", probe_trainable=True)
    train_cdi_model(RawDataTorch.from_scan(tiny_scan), None, config)
    said = [record.message for record in caplog.records if "does nothing" in record.message]
    for named in ("optimizer='sgd'", "model_type='supervised'", "probe_trainable=True"):
        assert sum(message.startswith(named) for message in said) == 1
    assert len(said) == 3


def test_every_kind_of_data_reaches_the_other_backend(ptycho, tiny_scan, tiny_store, tmp_path):
    config = ps.TrainingConfig(model=ps.ModelConfig(N=16))
    raw = RawDataTorch.from_scan(tiny_scan)
    raw.to_file(tmp_path / "scan.npz")
    for data in (tiny_scan, tiny_store, tiny_store.path, tmp_path / "scan.npz"):
        mean = train_cdi_model(data, data, config)["mean"]
        assert mean == pytest.approx(raw.diff3d.mean(), rel=1e-6)
    container = load(lambda: raw.generate_grouped_data(16, gridsize=1), raw.probeGuess)
    with pytest.raises(DataContractError, match="takes no PtychoDataContainerTorch; pass"):
        train_cdi_model(container, None, config)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ({}, {"overlap_weight": 0.5}),
        ({}, {"stage_1_epochs": 2}),
        ({"unrolled_steps": 3}, {}),
        ({"architecture": "unrolled"}, {}),
        (
            {},
            {
                "scale_contract_version": "ci_intensity_v2",
                "measurement_domain": "count_intensity",
            },
        ),
    ],
    ids=str,
)
def test_what_the_other_backend_would_never_see_is_refused(ptycho, tiny_scan, model, options):
    config = ps.TrainingConfig(model=ps.ModelConfig(N=16, **model), **options)
    name = next(iter(model | options))
    with pytest.raises(ConfigurationError, match=f"{name}|measurement_domain"):
        train_cdi_model(RawDataTorch.from_scan(tiny_scan), None, config)


def test_the_other_backends_own_scaling_may_be_named(ptycho, tiny_scan):
    pair = {"scale_contract_version": "legacy_v1", "measurement_domain": "normalized_amplitude"}
    config = ps.TrainingConfig(model=ps.ModelConfig(N=16), **pair)
    assert train_cdi_model(RawDataTorch.from_scan(tiny_scan), None, config)["backend"] == (
        "tensorflow"
    )


def test_an_archive_of_the_other_backend_is_loaded_by_it(ptycho, tmp_path):
    with zipfile.ZipFile(tmp_path / "wts.h5.zip", "w") as archive:
        archive.writestr("manifest.dill", pickle.dumps({"models": ["x"], "version": "1.0"}))
    for place in (tmp_path, tmp_path / "wts.h5.zip"):
        model, values = load_inference_bundle(place)
        assert model == f"model of {tmp_path}"
        assert values["N"] == legacy.params.get("N") == 77
    # Under another name, or in a zipped folder, it is laid out as the package looks for it.
    other, zipped = tmp_path / "old.zip", tmp_path / "model.zip"
    shutil.copy(tmp_path / "wts.h5.zip", other)
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(other, "run/wts.h5.zip")
    for place in (other, zipped):
        assert load_inference_bundle(place)[0].startswith("model of ")


def test_the_names_of_ptychopinns_selector_are_there(tiny_store, make_config, tmp_path):
    config = make_config(backend="pytorch")
    results = train_cdi_model_with_backend(tiny_store, None, config, torch_execution_config=QUIET)
    assert run_cdi_example_with_backend is run_cdi_example
    model, values = load_inference_bundle_with_backend(tmp_path, config)
    assert values["intensity_scale"] == results["bundle"].intensity_scale
    assert model.config == results["bundle"].config
    with pytest.raises(DataContractError, match="pytorch backend but the tensorflow backend"):
        load_inference_bundle_with_backend(tmp_path, ps.TrainingConfig())
    with pytest.raises(ConfigurationError, match="model_name='autoencoder'"):
        load_inference_bundle_with_backend(tmp_path, config, "autoencoder")
    with pytest.raises(ConfigurationError, match="are the same setting; pass one"):
        train_cdi_model(tiny_store, None, config, QUIET, torch_execution_config=QUIET)
    with pytest.raises(ConfigurationError, match=r"pass PyTorchExecutionConfig\(devices=2\)"):
        train_cdi_model(tiny_store, None, config, {"devices": 2})


def test_without_the_other_backend_the_message_says_how_to_do_without_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "wts.h5.zip", "w") as archive:
        archive.writestr("manifest.dill", pickle.dumps({"models": ["x"], "version": "1.0"}))
    with pytest.raises(RuntimeError, match=r"TensorFlow backend selected.*ptychostream convert"):
        load_inference_bundle(tmp_path)


def test_pytorch_leaves_an_installed_package_alone(ptycho, tiny_store, make_config):
    train_cdi_model(tiny_store, None, make_config(backend="pytorch"), QUIET)
    assert "ptycho" not in sys.modules


def test_a_backend_that_is_not_installed_is_an_error_not_another_backend(tiny_store, make_config):
    config = make_config(backend="tensorflow")
    with pytest.raises(RuntimeError, match=r"TensorFlow backend selected.*pip install"):
        train_cdi_model(tiny_store, None, config)
    # The dictionary is updated first all the same.
    assert legacy.params.get("N") == 16


def test_a_backend_without_a_name_is_an_error():
    with pytest.raises(ValueError, match=r"'jax' is unknown.*'pytorch', 'tensorflow'"):
        load_backend("jax")
    with pytest.raises(ValueError, match="backend='jax'"):
        ps.TrainingConfig(backend="jax")


def test_the_log_says_which_backend_runs(caplog):
    with caplog.at_level("INFO", logger="ptychostream"):
        load_backend("pytorch")
    assert "PyTorch backend selected" in caplog.text


def _run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PYTHONPATH": ":".join(map(str, [folder, *sys.path]))},
    )


def test_the_tensorflow_path_imports_nothing_of_torch(ptycho):
    run = _run(
        """
        import sys
        import ptychostream as ps
        from ptycho.raw_data import RawData
        from ptychostream.workflows import train_cdi_model
        import numpy as np
        data = RawData(*[None] * 4, np.ones((2, 4, 4)), None, None)
        print(train_cdi_model(data, None, ps.TrainingConfig())["backend"])
        print("torch" in sys.modules)
        """,
        ptycho,
    )
    assert run.stdout.split() == ["tensorflow", "False"], run.stderr


def test_without_torch_the_pytorch_backend_says_what_to_install(tmp_path):
    run = _run(
        """
        import sys
        sys.modules["torch"] = None
        import ptychostream as ps
        from ptychostream.workflows import train_cdi_model
        try:
            train_cdi_model(None, None, ps.TrainingConfig(backend="pytorch"))
        except RuntimeError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "PyTorch backend selected" in run.stdout, run.stderr
    assert "pip install torch" in run.stdout


def test_data_of_an_unknown_kind_are_refused(make_config):
    with pytest.raises(DataContractError, match="the data are a dict; pass a RawDataTorch"):
        train_cdi_model({}, None, make_config(backend="pytorch"), QUIET)


def test_errors_are_those_that_callers_expect():
    assert issubclass(BackendUnavailableError, RuntimeError)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(DataContractError, ValueError)
