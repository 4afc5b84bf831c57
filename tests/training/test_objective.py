"""Losses, clipping, precision and labels: against plain computations in double precision."""

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.datasets.batches.selection import split_by_position
from ptychostream.errors import DataContractError
from ptychostream.models.precision import mixed_convolutions
from ptychostream.ptychopinn.labels import cut_labels
from ptychostream.training.label_scaling import objects_in_model_unit
from ptychostream.training.labels import TruePatches
from ptychostream.training.losses import amplitude_variation, complex_mae, phase_variation
from ptychostream.training.objective import objective
from ptychostream.training.optimizer import clip_by_weights
from ptychostream.training.train import initial_model


def _patches():
    rng = np.random.default_rng(1)
    return rng.normal(size=(3, 2, 5, 4)) + 1j * rng.normal(size=(3, 2, 5, 4))


def test_variations_are_sums_over_neighbours():
    values = _patches()
    size, phase = np.abs(values), np.angle(values)
    expected = np.abs(np.diff(size, axis=-1)).sum() + np.abs(np.diff(size, axis=-2)).sum()
    assert float(amplitude_variation(torch.tensor(values))) == pytest.approx(expected / values.size)
    expected = (1 - np.cos(np.diff(phase, axis=-1))).sum()
    expected += (1 - np.cos(np.diff(phase, axis=-2))).sum()
    assert float(phase_variation(torch.tensor(values))) == pytest.approx(expected / values.size)


def test_variations_have_a_slope_where_there_is_nothing():
    dark = torch.zeros(1, 1, 4, 4, dtype=torch.complex64, requires_grad=True)
    (amplitude_variation(dark) + phase_variation(dark)).backward()
    assert torch.isfinite(torch.view_as_real(dark.grad)).all()


def test_complex_mae_sees_phases():
    one = torch.ones(1, 1, 2, 2, dtype=torch.complex64)
    assert float(complex_mae(1j * one, one)) == pytest.approx(np.sqrt(2))


def test_stages_go_over_from_the_amplitude_error_to_the_configured_sum(tiny_store, make_config):
    config = make_config(mae_weight=0.3, overlap_weight=0.0)
    model = initial_model(config, tiny_store, seed=0)
    batch = next(iter(ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=16)))
    prediction = model(batch)

    def loss(chosen, weight=1.0):
        return objective(chosen, prediction, batch, model.good_pixels, physics_weight=weight).item()

    data = loss(make_config(torch_loss_mode="mae", overlap_weight=0.0))
    physics = loss(config)
    assert loss(config, 0.0) == pytest.approx(data)
    assert loss(config, 0.25) == pytest.approx(0.25 * physics + 0.75 * data)


def test_the_poisson_term_is_in_mean_counts_per_pixel(two_experiments, make_config):
    store = two_experiments
    config = make_config(torch_loss_mode="poisson", nll_weight=1, mae_weight=0, overlap_weight=0)
    model = initial_model(config, store, seed=0)
    (batch,) = ps.make_loader(store, store.groups(1), batch_size=64)
    prediction = model(batch)
    found = objective(config, prediction, batch, model.good_pixels).item()
    rows = batch["nn_indices"][:, 0].numpy()
    counts = store.diffraction(rows).astype(np.float64)
    experiment = store.experiment_id[rows]
    mean = np.array([counts[experiment == e].mean() for e in (0, 1)])[experiment, None, None]
    # In the model's unit a pattern has (N/2)² photons.
    rates = prediction.intensity[:, 0].double().detach().numpy() * mean * 16**2 / 8**2
    expected = ((rates - counts * np.log(rates)) / mean).mean()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_labels_are_the_true_patches_at_the_batchs_own_positions(two_experiments, gridsize):
    store = two_experiments
    objects = [store.object_guess_of(e) for e in (0, 1)]
    groups = store.groups(gridsize, 6)
    labels = TruePatches(objects, store.N)
    for batch in ps.make_loader(store, groups, batch_size=13):
        cut = labels(batch, gridsize**2).numpy()
        for row, experiment in enumerate(batch["experiment_id"].tolist()):
            positions = store.positions[batch["nn_indices"][row].numpy()]
            (expected,) = cut_labels(objects[experiment], positions[None], store.N)
            np.testing.assert_allclose(cut[row], np.moveaxis(expected, -1, 0), atol=1e-4)


def test_labels_have_the_models_unit(tiny_store, make_config):
    model = initial_model(make_config(), tiny_store, seed=0)
    scales = scales_of(tiny_store)
    (obj,) = objects_in_model_unit(tiny_store, model, scales)
    labels = TruePatches([obj], tiny_store.N)
    batch = next(iter(ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=64)))
    waves = labels(batch, 1) * model.scaled_probe(batch["experiment_id"])[:, :1]
    energy = waves.abs().square().sum().item() / len(batch)
    assert energy == pytest.approx((tiny_store.N / 2) ** 2, rel=1e-3)


def test_gradients_are_limited_by_the_weights_they_change():
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0, 4], [0, 0, 0]]))
    layer.weight.grad = torch.tensor([[0.0, 50, 0], [0.0, 1, 0]])
    layer.bias.grad = None
    clip_by_weights(layer.parameters(), 0.1)
    # Norm 5 allows 0.5; weights of zero count as 0.001.
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.0, 0.5, 0], [0, 1e-4, 0]]))
    small = torch.tensor([[0.0, 0.4, 0], [0, 0, 0]])
    layer.weight.grad = small.clone()
    clip_by_weights(layer.parameters(), 0.1)
    torch.testing.assert_close(layer.weight.grad, small)


def test_mixed_precision_rounds_convolutions_and_nothing_else():
    layer = torch.nn.Conv2d(2, 3, 3)
    x = torch.rand(1, 2, 8, 8)
    exact = layer(x)
    with mixed_convolutions(torch.nn.Sequential(layer), "bf16-mixed", "cpu"):
        rounded = layer(x)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)
    assert torch.equal(layer(x), exact)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_held_out_groups_share_no_pattern_with_those_trained_on(two_experiments, gridsize):
    store = two_experiments
    training, held_out = split_by_position(store.groups(gridsize, 4), store, 0.4)
    assert not set(training.nn_indices.ravel()) & set(held_out.nn_indices.ravel())
    for experiment in (0, 1):
        here = store.positions[store.experiment_id == experiment]
        axis = np.ptp(here, axis=0).argmax()
        seeds = [part.nn_indices[:, 0] for part in (training, held_out)]
        inner, outer = (rows[store.experiment_id[rows] == experiment] for rows in seeds)
        assert store.positions[inner, axis].max() < store.positions[outer, axis].min()
    with pytest.raises(DataContractError, match="leaves no whole group to validate on"):
        split_by_position(store.groups(2, 7), store, 0.01)
