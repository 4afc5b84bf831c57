import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.datasets.batches.loader import GroupLoader
from ptychostream.datasets.batches.windows import DecodedWindow
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.training.checks import warn_of_idle_options
from ptychostream.training.train import initial_model

QUIET = {"logger_backend": None, "enable_checkpointing": False}


def _execution(**changes):
    return ps.PyTorchExecutionConfig(**(QUIET | changes))


def _weights(bundle):
    return torch.cat([p.detach().flatten() for p in bundle.model.parameters()])


def test_training_lowers_the_loss_and_is_reproducible(tiny_store, make_config):
    config = make_config(model={"gridsize": 2}, nepochs=3)
    bundle = ps.train(config, tiny_store, execution=_execution())
    losses = bundle.history["train_loss"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    again = ps.train(config, tiny_store, execution=_execution())
    assert torch.equal(_weights(bundle), _weights(again))
    assert bundle.intensity_scale == pytest.approx(np.sqrt(tiny_store.total_counts.mean()) / 8)


def test_the_callers_random_state_is_left_alone(tiny_store, make_config):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initial_model(make_config(), tiny_store, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_the_cnn_trains_too(tmp_path):
    scan = ps.simulate_scan(num_positions=16, N=64, nphotons=1e5)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    config = ps.TrainingConfig(
        model=ps.ModelConfig(n_filters_scale=1, gridsize=2), nepochs=10, output_dir=tmp_path
    )
    bundle = ps.train(config, store, execution=_execution())
    assert bundle.history["train_loss"][-1] < bundle.history["train_loss"][0]
    assert np.isfinite(ps.reconstruct(bundle, store).object).all()


def test_a_trainable_probe_is_corrected_and_used_for_the_same_data(tmp_path, make_config):
    scan = ps.simulate_scan(num_positions=100, N=16, step=1.5, probe="gaussian", nphotons=1e6)
    true = scan.probe[0]
    y, x = np.mgrid[:16, :16] - 8
    object.__setattr__(scan, "probe", (scan.probe * np.exp(0.15j * (x**2 + y**2))).astype("c8"))
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    config = make_config(model={"gridsize": 2}, nepochs=4, probe_trainable=True)
    bundle = ps.train(config, store, execution=_execution())

    def likeness(probe):
        return abs(np.vdot(probe, true)) / np.linalg.norm(probe) / np.linalg.norm(true)

    learned = bundle.model.scaled_probe(torch.tensor([0]))[0, 0].detach().numpy()
    assert likeness(store.probe[0, 0]) < 0.9
    assert likeness(learned) > 0.97
    result = ps.reconstruct(bundle, store)
    assert likeness(result.probe[0]) == pytest.approx(likeness(learned), rel=1e-5)


def test_validation_checkpoints_and_logs(tiny_store, make_config, tmp_path):
    config = make_config(nepochs=2)
    bundle = ps.train(
        config, tiny_store, validation=tiny_store, execution=ps.PyTorchExecutionConfig()
    )
    assert len(bundle.history["val_loss"]) == 2
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert len(list((tmp_path / "checkpoints").glob("best-*.ckpt"))) == 1
    logged = (tmp_path / "log" / "metrics.csv").read_text()
    assert "train_loss" in logged
    assert "val_loss" in logged


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"adam_beta1": 0.5},
        {"scheduler": "Exponential", "nepochs": 2},
        {"scheduler": "WarmupCosine", "lr_warmup_epochs": 1, "nepochs": 2},
        {"mae_weight": 1.0},
        {"realspace_weight": 10.0},
        {"overlap_weight": 0.0},
        {"overlap_weight": 0.5},
        {"torch_loss_mode": "mae"},
        {"torch_loss_mode": "mae", "torch_mae_pred_l2_match_target": True},
        {"gradient_clip_val": 1e-4},
        {"intensity_scale_trainable": False},
        {"n_groups": 20},
        {"n_groups": 20, "sequential_sampling": True},
        {"batch_size": 4},
        {"subsample_seed": 3},
    ],
    ids=str,
)
def test_every_knob_changes_the_result(tiny_store, make_config, changes):
    reference = {key: changes[key] for key in ("nepochs",) if key in changes}
    if "torch_mae_pred_l2_match_target" in changes:
        reference["torch_loss_mode"] = "mae"
    plain = ps.train(make_config(**reference), tiny_store, execution=_execution())
    changed = ps.train(make_config(**changes), tiny_store, execution=_execution())
    assert not torch.equal(_weights(plain), _weights(changed))


def test_plateaus_lower_the_learning_rate(tiny_store, make_config, tmp_path):
    options = {"nepochs": 4, "scheduler": "ReduceLROnPlateau", "plateau_patience": 0}
    never = ps.train(make_config(**options), tiny_store, execution=_execution())
    # No epoch can make as much progress as is asked for here: every one is a plateau.
    always = ps.train(
        make_config(**options, plateau_threshold=1e9), tiny_store, execution=_execution()
    )
    assert not torch.equal(_weights(never), _weights(always))


@pytest.mark.parametrize("changes", [{"accum_steps": 2}, {"learning_rate": 1e-2}], ids=str)
def test_execution_knobs_change_the_result(tiny_store, make_config, changes):
    plain = ps.train(make_config(), tiny_store, execution=_execution())
    changed = ps.train(make_config(), tiny_store, execution=_execution(**changes))
    assert not torch.equal(_weights(plain), _weights(changed))


@pytest.mark.parametrize(
    ("changes", "execution", "message"),
    [
        ({"model": {"model_type": "supervised"}, "mae_weight": 1}, {}, "mae_weight=1.0 acts on"),
        ({"model": {"fno_modes": 3}}, {}, "fno_modes=3 has no meaning for"),
        ({"stage_1_epochs": 2}, {}, "set nepochs to 2"),
        ({"stage_1_epochs": 1, "torch_loss_mode": "mae"}, {}, "go over from"),
        ({"neighbor_pool_size": 9}, {}, "neighbor_pool_size=9 does nothing without"),
        ({"gradient_clip_algorithm": "agc"}, {}, "agc' acts only with gradient_clip_val"),
        ({}, {"recon_log_every_n_epochs": 1}, "needs a logger"),
        ({}, {"recon_log_stitch": True}, "acts only with recon_log_every_n_epochs"),
        ({"subsample_seed": -1}, {}, "subsample_seed=-1"),
        ({}, {"accelerator": "gpu"}, "accelerator='gpu'"),
        ({}, {"accelerator": "gpu", "devices": 2}, "machine has 0 GPUs"),
        ({}, {"strategy": "dp"}, "strategy='dp' divides the batches of a reconstruction"),
        ({}, {"strategy": "dp", "devices": 2}, "strategy='dp' divides the batches"),
        ({}, {"strategy": "telepathy"}, "strategy='telepathy' is not one of 'auto', 'ddp'"),
        ({}, {"num_nodes": 2}, "torchrun --nnodes 2"),
        ({}, {"precision": "16-mixed"}, "use 'bf16-mixed'"),
        ({}, {"pin_memory": True}, "this run is on 'cpu'"),
        ({}, {"checkpoint_monitor_metric": "beauty"}, "'val_loss', 'train_loss'"),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused_in_one_message(
    tiny_store, make_config, changes, execution, message
):
    if torch.cuda.is_available() and ({"accelerator", "pin_memory"} & set(execution)):
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigurationError, match=message):
        ps.train(make_config(**changes), tiny_store, execution=_execution(**execution))


@pytest.mark.parametrize(
    ("idle", "used"),
    [
        ({"momentum": 0.5}, {"optimizer": "sgd"}),
        ({"adam_beta2": 0.9, "optimizer": "sgd"}, {"optimizer": "adam"}),
        ({"lr_warmup_epochs": 1}, {"scheduler": "WarmupCosine"}),
        ({"lr_min_ratio": 0.5}, {"scheduler": "Exponential"}),
        ({"plateau_factor": 0.1}, {"scheduler": "ReduceLROnPlateau"}),
        ({"physics_weight_schedule": "linear"}, {"stage_2_epochs": 1}),
        ({"stage_3_lr_factor": 0.5}, {"stage_3_epochs": 1}),
        ({"model": {"probe_mask_sigma": 2.0}}, {"model": {"probe_mask": True}}),
    ],
)
def test_an_option_that_does_nothing_is_said(make_config, caplog, idle, used):
    execution = ps.PyTorchExecutionConfig()
    both = idle | used | {"model": idle.get("model", {}) | used.get("model", {})}
    warn_of_idle_options(make_config(**both), execution)
    assert not caplog.records
    warn_of_idle_options(make_config(**idle), execution)
    (record,) = caplog.records
    assert "does nothing without" in record.getMessage()
    assert record.getMessage().startswith(next(iter(idle.get("model", idle))))


def test_data_that_do_not_fit_the_model_are_refused(tiny_store, two_experiments, make_config):
    with pytest.raises(DataContractError, match=r"16 px but model\.N=32"):
        ps.train(make_config(model={"N": 32}), tiny_store)
    with pytest.raises(DataContractError, match="another probe"):
        ps.train(make_config(), tiny_store, validation=two_experiments, execution=_execution())


def test_a_loss_that_is_no_number_is_an_error(tiny_store, make_config):
    with pytest.raises(ConfigurationError, match="not a finite number"):
        ps.train(make_config(nepochs=3), tiny_store, execution=_execution(learning_rate=1e12))


def test_several_experiments_train_with_their_own_probes(two_experiments, make_config):
    bundle = ps.train(make_config(), two_experiments, execution=_execution())
    with pytest.raises(DataContractError, match="2 experiments; choose one"):
        ps.reconstruct(bundle, two_experiments)
    for experiment in (0, 1):
        result = ps.reconstruct(bundle, two_experiments, experiment=experiment)
        assert result.object.shape == two_experiments.object_guess_of(experiment).shape


def test_a_host_program_hears_of_each_epoch(tiny_store, make_config):
    reports = []
    bundle = ps.train(
        make_config(nepochs=2),
        tiny_store,
        validation=tiny_store,
        execution=_execution(),
        on_epoch=reports.append,
    )
    assert [report.epoch for report in reports] == [1, 2]
    assert [report.train_loss for report in reports] == bundle.history["train_loss"]
    assert [report.val_loss for report in reports] == bundle.history["val_loss"]
    for report in reports:
        # 64 groups of one pattern.
        assert report.patterns_per_second * report.seconds == pytest.approx(64)
        assert report.nepochs == 2
        assert 0 < report.misfit < 1


@pytest.mark.parametrize("batches", [1, 5, 8, 11])
def test_a_host_program_ends_training_in_the_middle_of_an_epoch(tiny_store, make_config, batches):
    asked = []

    def should_stop():
        asked.append(len(asked))
        return len(asked) == batches

    bundle = ps.train(
        make_config(nepochs=1000), tiny_store, execution=_execution(), should_stop=should_stop
    )
    # 8 batches are an epoch.
    assert len(asked) == batches
    assert bundle.history["stopped_after"] == [batches / 8]
    assert len(bundle.history["train_loss"]) == batches // 8
    assert np.isfinite(ps.reconstruct(bundle, tiny_store).object).all()


def test_the_search_for_a_probe_can_be_ended_too(tiny_store, make_config):
    config = make_config(nepochs=1000, probe_trainable=True)
    bundle = ps.train(config, tiny_store, execution=_execution(), should_stop=lambda: True)
    assert bundle.history["stopped_after"] == [1 / 8]


def test_training_runs_in_a_thread_of_a_host_program(tiny_store, make_config):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        bundle = pool.submit(ps.train, make_config(), tiny_store, execution=_execution()).result()
    assert len(bundle.history["train_loss"]) == 1


@pytest.mark.parametrize("number", [2, 3])
def test_scans_of_few_positions_train_with_the_neighbours_there_are(number, tmp_path, make_config):
    scan = ps.simulate_scan(num_positions=number, N=16, step=2.5)
    store = ps.build_group_store(scan, tmp_path / "few.zarr")
    bundle = ps.train(make_config(), store, execution=ps.PyTorchExecutionConfig(**QUIET))
    assert np.isfinite(bundle.history["train_loss"]).all()


def test_windows_and_not_batches_move_to_the_device(tiny_store, make_config, monkeypatch):
    """A device that is not the processor, as far as the loader knows, gathers by itself."""
    gathered = []
    gather = DecodedWindow.gather_on
    monkeypatch.setattr(
        DecodedWindow, "gather_on", lambda *a, **k: gathered.append(k) or gather(*a, **k)
    )
    usual = ps.train(make_config(), tiny_store)
    assert not gathered
    choose = GroupLoader.to

    def as_a_gpu(self, device, *, pins=True, device_for_windows=None):
        return choose(self, device, pins=pins, device_for_windows=device)

    monkeypatch.setattr(GroupLoader, "to", as_a_gpu)
    moved = ps.train(make_config(), tiny_store)
    assert gathered
    np.testing.assert_allclose(moved.history["train_loss"], usual.history["train_loss"], rtol=1e-5)
