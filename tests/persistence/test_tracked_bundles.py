import sys

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.training.train import initial_model


@pytest.fixture
def bundle(tiny_store, make_config):
    config = make_config()
    return ps.ModelBundle(
        model=initial_model(config, tiny_store, seed=1).eval(),
        config=config,
        intensity_scale=2.0,
        probe_guess=tiny_store.probe,
    )


@pytest.fixture
def tracker(tmp_path, monkeypatch):
    """The real MLflow, with a folder for a server."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


pytestmark = pytest.mark.filterwarnings("ignore:.*:FutureWarning")


def _logged(mlflow, run_id, folder):
    path = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="model/wts.h5.zip", dst_path=str(folder)
    )
    return ps.load_bundle(path)


def test_the_archive_is_an_artifact_of_the_active_run(bundle, tmp_path, tracker):
    with tracker.start_run() as run:
        path = ps.save_bundle(bundle, tmp_path / "run", mlflow=True)
        assert tracker.active_run().info.run_id == run.info.run_id
    assert path.is_file()
    loaded = _logged(tracker, run.info.run_id, tmp_path / "fetched")
    torch.testing.assert_close(loaded.model.state_dict(), bundle.model.state_dict())


def test_without_an_active_run_the_archive_gets_one_of_its_own(bundle, tmp_path, tracker):
    ps.save_bundle(bundle, tmp_path / "run", mlflow=True)
    assert tracker.active_run() is None
    (run,) = tracker.search_runs(output_format="list")
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert _logged(tracker, run.info.run_id, tmp_path / "fetched").config == bundle.config


def test_a_server_that_cannot_be_reached_loses_nothing(bundle, tmp_path, tracker, caplog):
    (tmp_path / "file").write_text("where the server's folder should be")
    tracker.set_tracking_uri((tmp_path / "file" / "mlruns").as_uri())
    path = ps.save_bundle(bundle, tmp_path / "run", mlflow=True)
    assert "MLflow did not take" in caplog.text
    np.testing.assert_array_equal(ps.load_bundle(path).probe_guess, bundle.probe_guess)


def test_without_mlflow_nothing_is_lost(bundle, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    path = ps.save_bundle(bundle, tmp_path, mlflow=True)
    assert "pip install 'ptychostream[mlflow]'" in caplog.text
    assert ps.load_bundle(path).config == bundle.config


def test_mlflow_is_not_touched_unasked(bundle, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    ps.save_bundle(bundle, tmp_path)
    assert "MLflow" not in caplog.text
