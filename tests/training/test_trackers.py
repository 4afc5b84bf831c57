"""Losses and pictures that are written while a network is trained, and trackers that fail."""

import socket
import sys
import time

import numpy as np
import pytest
from skimage.io import imread

import ptychostream as ps
from ptychostream.errors import ConfigurationError


def _train(store, config, **execution):
    options = {"enable_checkpointing": False} | execution
    return ps.train(config, store, execution=ps.PyTorchExecutionConfig(**options))


def test_csv_holds_losses_rate_and_what_tells_a_collapse(tiny_store, make_config, tmp_path):
    config = make_config(nepochs=2, validation_fraction=0.3)
    bundle = _train(tiny_store, config, logger_backend="csv")
    header, *rows = (tmp_path / "log" / "metrics.csv").read_text().splitlines()
    columns = header.split(",")
    expected = {"train_loss", "val_loss", "learning_rate", "amplitude_spread", "energy_ratio"}
    assert expected <= set(columns)
    losses = [row.split(",")[columns.index("train_loss")] for row in rows]
    logged = [float(value) for value in losses if value]
    np.testing.assert_allclose(logged, bundle.history["train_loss"], rtol=1e-6)
    assert "unrolled_width" in (tmp_path / "log" / "hparams.yaml").read_text()


def test_no_logger_writes_nothing(tiny_store, make_config, tmp_path):
    _train(tiny_store, make_config(), logger_backend=None)
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_tracking_server_does_not_end_the_run(
    tiny_store, make_config, monkeypatch, caplog
):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused.getsockname()[1]}")
        began = time.monotonic()
        bundle = _train(
            tiny_store,
            make_config(nepochs=2),
            logger_backend="mlflow",
            recon_log_every_n_epochs=1,
        )
    assert len(bundle.history["train_loss"]) == 2
    assert time.monotonic() - began < 60
    failures = [r for r in caplog.records if "the tracker failed" in r.getMessage()]
    assert len(failures) == 1


def test_mlflow_keeps_losses_parameters_and_pictures(
    tiny_store, make_config, tmp_path, monkeypatch
):
    from mlflow.tracking import MlflowClient

    where = f"file://{tmp_path}/runs"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    bundle = _train(tiny_store, make_config(), logger_backend="mlflow", recon_log_every_n_epochs=1)
    client = MlflowClient(where)
    (experiment,) = [e for e in client.search_experiments() if e.name == "ptychostream"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["train_loss"] == pytest.approx(bundle.history["train_loss"][-1])
    assert run.data.params["optimizer"] == "adam"
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["patches-0001.png"]
    assert run.info.status == "FINISHED"


def test_tensorboard_gets_losses_and_pictures(tiny_store, make_config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _train(tiny_store, make_config(), logger_backend="tensorboard", recon_log_every_n_epochs=1)
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert "train_loss" in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["patches"]


@pytest.mark.parametrize("kind", ["mlflow", "tensorboard"])
def test_a_missing_package_is_named_with_its_extra(tiny_store, make_config, monkeypatch, kind):
    # Python then imports it as if it were not there.
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(ConfigurationError, match=rf"ptychostream\[{kind}\]"):
        _train(tiny_store, make_config(), logger_backend=kind)


def test_pictures_are_as_many_and_of_what_was_asked_for(tiny_store, make_config, tmp_path):
    log = tmp_path / "log"
    _train(
        tiny_store,
        make_config(nepochs=4),
        recon_log_every_n_epochs=2,
        recon_log_num_patches=3,
        recon_log_stitch=True,
    )
    assert sorted(path.name for path in log.glob("*.png")) == [
        f"{name}-000{epoch}.png"
        for name in ("object_amplitude", "object_phase", "patches")
        for epoch in (2, 4)
    ]
    # Three patches of 16 px: amplitudes above, phases below.
    assert imread(log / "patches-0002.png").shape == (32, 48)
    whole = imread(log / "object_phase-0004.png")
    assert whole.std() > 10
    _train(
        tiny_store,
        make_config(nepochs=4, output_dir=tmp_path / "few"),
        recon_log_every_n_epochs=4,
        recon_log_fixed_indices=[5, 0],
        recon_log_stitch=True,
        recon_log_max_stitch_samples=6,
    )
    few = tmp_path / "few" / "log"
    assert imread(few / "patches-0004.png").shape == (32, 32)
    # Fewer patches leave more of the object dark.
    assert (imread(few / "object_phase-0004.png") == 0).sum() > (whole == 0).sum()
    with pytest.raises(ConfigurationError, match="groups 0 … 63"):
        _train(
            tiny_store,
            make_config(),
            recon_log_every_n_epochs=1,
            recon_log_fixed_indices=[64],
        )
