"""What a bad or dark pixel holds changes nothing: each store has a mask of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import untrained

import ptychostream as ps
from ptychostream.datasets.batches.scaling import scales_of, with_scaling_profile
from ptychostream.ptychopinn.backends.pytorch import _predict
from ptychostream.scan import ArrayPatterns
from ptychostream.training.objective import objective
from ptychostream.training.run import training_groups
from ptychostream.training.solver_runs import refine_probes
from ptychostream.training.train import initial_model

QUIET = ps.PyTorchExecutionConfig(logger_backend=None, enable_checkpointing=False)
MASK = np.zeros((16, 16), bool)
MASK[7:9, 6:9] = True


@pytest.fixture
def masked(tiny_scan, tmp_path):
    """Make a store whose pixels near the centre are bad, and hold a value."""

    def make(value):
        patterns = tiny_scan.patterns.read(np.arange(64))
        patterns[:, MASK] = value
        scan = replace(tiny_scan, patterns=ArrayPatterns(patterns), bad_pixels=MASK)
        return ps.build_group_store(scan, tmp_path / f"{value}.zarr")

    return make


def test_validation_leaves_out_its_own_bad_pixels(tiny_store, masked, make_config):
    losses = [
        ps.train(make_config(nepochs=2), tiny_store, validation=store, execution=QUIET).history
        for store in (masked(0), masked(1000), tiny_store)
    ]
    assert losses[0] == losses[1]
    assert losses[0]["train_loss"] == losses[2]["train_loss"]
    # As the validation store's own mask has it, for the weights after the last epoch.
    store, config = masked(5), make_config(nepochs=2)
    model = ps.train(config, tiny_store, execution=QUIET).model
    config = with_scaling_profile(config, tiny_store)
    loader = ps.make_loader(
        store,
        training_groups(config, store),
        batch_size=64,
        shuffle=False,
        scales=scales_of(store, config.nphotons, config.scale_contract_version),
    )
    model.flag(store.bad_pixels)
    with torch.no_grad():
        batch = next(iter(loader))
        wanted = objective(config, model(batch), batch, model.good_pixels)
    assert losses[0]["val_loss"][-1] == pytest.approx(float(wanted), rel=1e-4)


def test_the_workflows_prediction_knows_the_datas_bad_pixels(tiny_store, masked, make_config):
    config, store = make_config(), masked(0)
    bundle = untrained(config, tiny_store)
    batches = list(ps.make_loader(store, store.groups(1), batch_size=16, shuffle=False))
    with torch.no_grad():
        patches, _ = _predict(bundle, batches, store.probe, store.bad_pixels)
        model = bundle.model.with_probe(store.probe, store.bad_pixels)
        wanted = [
            model.reconstruct(model.network_input(b), b["coords_relative"]).numpy() for b in batches
        ]
    np.testing.assert_allclose(
        np.abs(patches[..., 0]), np.abs(np.concatenate(wanted)[:, 0]), rtol=1e-3, atol=1e-4
    )


def test_a_dark_pattern_does_not_stop_training_by_matched_amplitudes(tiny_scan, tmp_path):
    patterns = tiny_scan.patterns.read(np.arange(64))
    patterns[5] = 0
    store = ps.build_group_store(
        replace(tiny_scan, patterns=ArrayPatterns(patterns)), tmp_path / "s.zarr"
    )
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_steps=2, unrolled_width=8),
        nepochs=2,
        overlap_weight=0,
        torch_loss_mode="mae",
        torch_mae_pred_l2_match_target=True,
        output_dir=tmp_path,
    )
    assert np.isfinite(ps.train(config, store, execution=QUIET).history["train_loss"]).all()


def test_a_masked_probe_keeps_its_energy_when_it_is_refined(tiny_store, make_config):
    config = make_config(probe_trainable=True, model={"probe_mask": True})
    model = initial_model(config, tiny_store, seed=0)
    with torch.no_grad():
        before = model.scaled_probe(torch.tensor([0])).abs().square().sum()
    refine_probes(model, tiny_store, config, QUIET, None)
    with torch.no_grad():
        after = model.scaled_probe(torch.tensor([0])).abs().square().sum()
    torch.testing.assert_close(after, before, rtol=1e-4, atol=0)
