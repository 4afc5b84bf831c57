"""What a user of the window does, done by the script that makes the pictures of the manual."""

import json

import pytest
from ptychodus_runs import CENTRE, REPOSITORY, make_experiment, run

import ptychostream as ps

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")
pytest.importorskip("PyQt5", reason="pip install 'ptychostream[ptychodus]'")


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    experiment = make_experiment(tmp_path_factory.mktemp("window") / "in")
    ps.build_group_store(experiment.folder, experiment.folder / "scan.zarr")
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


def test_the_list_of_algorithms_has_both_reconstructors(facts):
    assert {"ptychostream_pinn", "ptychostream_supervised"} <= set(facts["algorithms"])


def test_a_model_that_was_trained_is_usable_at_once(facts):
    assert facts["trained"] == ""
    assert not facts["infer_without_model"]
    assert facts["infer_after_training"]


def test_the_backend_is_changed_between_runs_and_back(facts):
    assert "model of the pytorch backend but" in facts["tensorflow"]
    assert facts["pytorch"] == facts["pytorch_again"] == ""
    assert "tensorflow an installed ptycho" in facts["tooltip"]


def test_a_product_appears_with_object_and_losses(facts):
    assert facts["new_products"] == 1
    assert facts["object"] == [1, 90, 110]
    assert facts["center"] == pytest.approx(CENTRE)
    assert facts["losses"] == 2


def test_stop_works_within_a_second_and_is_no_error(facts):
    assert 0 < facts["progress_before_stop"] < 100
    assert facts["seconds_to_stop"] < 1
    assert facts["stopped"] == ""
