"""What a user of the window does, done by the script that makes the pictures of the manual."""

import json

import numpy as np
import pytest
from ptychodus_runs import CENTRE, REPOSITORY, hide_ptychi, make_experiment, run_on_screen

import ptychostream as ps

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")
pytest.importorskip("PyQt5", reason="pip install 'ptychostream[ptychodus]'")


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    experiment = make_experiment(tmp_path_factory.mktemp("window") / "in")
    scan = ps.read_scan(experiment.folder)
    np.savez(
        experiment.folder / "scan.npz",
        xcoords=scan.positions[:, 0],
        ycoords=scan.positions[:, 1],
        diff3d=scan.patterns.read(np.arange(scan.num_patterns)),
        probeGuess=scan.probe,
    )
    experiment.write_settings(
        PtychoStreamSolver={"Passes": 150},
        PtychoStreamModel={"UnrolledSteps": 2, "UnrolledWidth": 8},
        PtychoStreamTraining={"NumEpochs": 2, "BatchSize": 25},
    )
    script = REPOSITORY / "examples" / "ptychodus_session.py"
    environment = hide_ptychi(tmp_path_factory.mktemp("site"))
    words = (script, experiment.folder, "--pictures", experiment.folder)
    done = run_on_screen(*words, timeout=600, **environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    pictures = sorted(path.name for path in experiment.folder.glob("ptychodus-*.png"))
    assert pictures == [
        "ptychodus-network.png",
        "ptychodus-object.png",
        "ptychodus-processing.png",
    ]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_solver_is_chosen_where_no_algorithm_is_and_the_first_of_ours(facts):
    assert facts["chosen_at_first"] == "ptychostream_solver"
    ours = [name for name in facts["algorithms"] if name.startswith("ptychostream_")]
    assert ours == ["ptychostream_solver", "ptychostream_pinn", "ptychostream_supervised"]


def test_one_button_makes_an_object_that_is_seen_while_it_grows(facts):
    assert facts["seconds_to_first_log"] < 5
    assert 0 < facts["live_progress"] < 100
    assert 1 <= len(facts["live_losses"]) < 150
    assert facts["live_curve"]["Loss"] == pytest.approx(facts["live_losses"])
    assert facts["solved"] == ""
    assert facts["new_products"] == 1
    assert facts["object"] == [1, 90, 110]
    assert facts["center"] == pytest.approx(CENTRE)


def test_how_well_it_fits_is_in_the_plot_the_comments_and_the_log(facts):
    losses = facts["losses"]
    assert len(losses) == 150
    assert 0 < losses[-1] < losses[0]
    sentence = next(line for line in facts["comments"].splitlines() if "R = " in line)
    assert sentence.startswith("PtychoStream Solver: R = ")
    assert "after 150 passes" in sentence
    assert sentence in facts["log_of_solver"]


def test_stop_hands_over_what_is_done_and_is_no_error(facts):
    assert facts["stopped"] == ""
    assert 2 <= facts["losses_after_stop"] < 5000
    assert "the result is partial" in facts["comments_after_stop"]


def test_training_needs_no_files_and_leaves_none(facts):
    assert not facts["infer_without_model"]
    assert facts["trained"] == ""
    assert facts["new_files"] == []
    assert "epoch 2 of 2" in facts["log_after_training"]
    (curve,) = facts["training_curves"].values()
    assert len(curve) == 2
    assert all(0 < R < 1 for R in curve)


def test_a_network_is_trained_on_several_products(facts):
    assert facts["trained_on_several"] == ""
    preparations = facts["log_of_several"].count("preparing 200 patterns")
    # Those of three reconstructions and two trainings, the last of them on all products.
    assert preparations >= 2 + 1 + 3


def test_the_picture_and_the_product_are_saved(facts):
    assert {"object.png", "result.h5"} <= set(facts["saved"])


def test_the_model_that_is_set_or_trained_last_is_used_and_shown(facts):
    assert facts["model_after_training"] == "trained in this window, not saved"
    assert facts["model_after_saving"].endswith("in/model.zip")
    assert facts["model_in_use"].endswith("in/model.zip")
    assert not facts["infer_with_wrong_path"]
    assert "ModelPath" in facts["tooltip"]
    assert facts["inferred"] == ""
    assert all(loss > 0 for loss in facts["losses_of_network"])


def test_an_error_is_in_the_log_of_the_window(facts):
    assert "model of the pytorch backend but" in facts["tensorflow"]
    assert f"[ERROR] ptychostream.ptychodus: {facts['tensorflow']}" in facts["log_of_tensorflow"]
