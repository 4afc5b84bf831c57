import logging

import pytest
import torch

import ptychostream as ps
import ptychostream.training.train as training
from ptychostream.errors import ConfigurationError
from ptychostream.training.collapse_monitor import diagnose
from ptychostream.training.train import initial_model


class Flat(torch.nn.Module):
    """What a collapsed network says, whatever it sees."""

    merges_groups = True

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, diffraction, probe, coords_relative, good_pixels=None):
        return self.level * torch.ones_like(diffraction).to(torch.complex64)


def _batch(store):
    return next(iter(ps.make_loader(store, store.groups(1), batch_size=32)))


def test_a_network_that_knows_the_object_is_told_from_a_flat_one(tiny_store, make_config):
    model = initial_model(make_config(model={"unrolled_steps": 5}), tiny_store, seed=0)
    alive = diagnose(model, _batch(tiny_store))
    assert alive["amplitude_spread"] > 0.02
    assert alive["energy_ratio"] == pytest.approx(1, abs=0.1)
    assert alive["deviance_ratio"] < 0.5

    model.generator = Flat()
    dead = diagnose(model, _batch(tiny_store))
    assert dead["amplitude_spread"] == pytest.approx(0, abs=1e-6)
    assert dead["deviance_ratio"] > 0.99


def _run(store, config, **execution):
    options = {"logger_backend": None, "enable_checkpointing": False} | execution
    return ps.train(config, store, execution=ps.PyTorchExecutionConfig(**options))


def test_a_healthy_run_is_not_warned_of(tiny_store, make_config, caplog):
    caplog.set_level(logging.WARNING)
    _run(tiny_store, make_config(nepochs=3))
    assert caplog.records == []


def _with_model(monkeypatch, change):
    make = training.initial_model

    def changed(*args, **options):
        model = make(*args, **options)
        change(model)
        return model

    monkeypatch.setattr(training, "initial_model", changed)


def test_a_flat_object_is_said_once_with_what_to_change(
    tiny_store, make_config, caplog, monkeypatch
):
    _with_model(monkeypatch, lambda model: setattr(model, "generator", Flat()))
    _run(tiny_store, make_config(nepochs=3))
    said = [r.getMessage() for r in caplog.records if "amplitude is flat" in r.getMessage()]
    assert len(said) == 1
    assert "--execution.learning_rate" in said[0]


def test_a_prediction_no_better_than_an_empty_object_is_said(
    tiny_store, make_config, caplog, monkeypatch
):
    class Blurred(Flat):
        def forward(self, diffraction, probe, coords_relative, good_pixels=None):
            noise = torch.randn(diffraction.shape, generator=torch.Generator().manual_seed(0))
            return self.level * torch.exp(0.5j * noise) * (1 + 0.5 * noise)

    _with_model(monkeypatch, lambda model: setattr(model, "generator", Blurred()))
    _run(tiny_store, make_config(nepochs=3))
    said = [r.getMessage() for r in caplog.records if "no better than an empty" in r.getMessage()]
    assert len(said) == 1


def test_a_scale_that_runs_away_is_said(tiny_store, make_config, caplog, monkeypatch):
    def brighten(model):
        forward = model.forward

        def brighter(batch, *arguments):
            prediction = forward(batch, *arguments)
            return prediction._replace(intensity=9 * prediction.intensity)

        model.forward = brighter

    _with_model(monkeypatch, brighten)
    _run(tiny_store, make_config(nepochs=3), learning_rate=1e-8)
    said = [r.getMessage() for r in caplog.records if "scale runs away" in r.getMessage()]
    assert len(said) == 1
    assert "intensity_scale_trainable" in said[0]


def test_a_loss_that_is_no_number_ends_the_run_early(tiny_store, make_config):
    reports = []
    with pytest.raises(ConfigurationError, match="not a finite number"):
        ps.train(
            make_config(nepochs=50),
            tiny_store,
            execution=ps.PyTorchExecutionConfig(
                logger_backend=None, enable_checkpointing=False, learning_rate=1e12
            ),
            on_epoch=reports.append,
        )
    assert len(reports) < 2
