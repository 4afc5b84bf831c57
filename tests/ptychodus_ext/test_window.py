"""What a user of the window does, done by the script that makes the pictures of the manual."""

import json

import pytest
from ptychodus_runs import CENTRE, REPOSITORY, make_experiment, run

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")
pytest.importorskip("PyQt5", reason="pip install 'ptychostream[ptychodus]'")


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    experiment = make_experiment(tmp_path_factory.mktemp("window") / "in")
    experiment.write_settings(
        PtychoStreamModel={"UnrolledSteps": 3, "UnrolledWidth": 8},
        PtychoStreamTraining={"NumEpochs": 2, "BatchSize": 8},
    )
    script = REPOSITORY / "examples" / "ptychodus_session.py"
    done = run(script, experiment.folder, "--pictures", experiment.folder, timeout=400)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    pictures = sorted(path.name for path in experiment.folder.glob("*.png"))
    assert pictures == ["ptychodus-object.png", "ptychodus-processing.png"]
    return json.loads(done.stdout.splitlines()[-1])


def test_one_of_ours_is_chosen_where_no_algorithm_is(facts):
    assert facts["chosen_at_first"].startswith("ptychostream_")
    assert {"ptychostream_pinn", "ptychostream_supervised"} <= set(facts["algorithms"])


def test_an_error_is_in_the_log_of_the_window(facts):
    assert "model of the pytorch backend but" in facts["tensorflow"]
    assert f"[ERROR] ptychostream.ptychodus: {facts['tensorflow']}" in facts["log_of_tensorflow"]


def test_training_needs_no_files_and_leaves_none(facts):
    assert facts["trained"] == ""
    assert facts["new_files"] == []
    assert facts["seconds_to_first_log"] < 5
    assert "epoch 2 of 2" in facts["log_after_training"]
    assert len(facts["curves"]["training"]) == 2


def test_the_model_that_is_set_or_trained_last_is_used_and_shown(facts):
    assert facts["model_in_use"].endswith("in/model.zip")
    assert facts["pytorch"] == ""
    assert "ModelPath" in facts["tooltip"]


def test_a_product_appears_with_object_and_losses(facts):
    assert facts["new_products"] == 1
    assert facts["object"] == [1, 90, 110]
    assert facts["center"] == pytest.approx(CENTRE)
    assert facts["losses"] == 2


def test_stop_hands_over_what_is_done_and_is_no_error(facts):
    assert 0 < facts["progress_before_stop"] < 100
    assert facts["stopped"] == ""
    assert "the result is partial" in facts["log_of_stop"]
    assert "before there was a result" not in facts["log_of_stop"]
