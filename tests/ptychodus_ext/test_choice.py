"""Which algorithm runs, asked of the real application."""

import json

import pytest
from ptychodus_runs import hide_ptychi, make_experiment, run, run_batch

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

FACTS = """
import json, logging, sys
from ptychodus_ext.hook import activate
activate()
from ptychodus.model.core import ModelCore
from ptychostream.errors import ConfigurationError
with ModelCore(log_level=logging.ERROR) as model:
    parameter = model.processing_core.algorithm_parameter
    api = model.processing_core.processing_api
    facts = {"first": parameter.get_value()}
    facts["readers"] = [p.simple_name for p in model.plugin_registry.diffraction_file_readers]
    setting = model.settings_registry["Processing"].parameters()["Algorithm"]
    setting.set_value("NoSuch_Thing")
    facts["shown"] = list(api.task_monitor.get_log_handler().messages())
    for name, words in {"settings": {}, "argument": {"algorithm": "No_Other"}}.items():
        try:
            api.reconstruct(product_index=0, **words)
        except ConfigurationError as error:
            facts[name] = str(error)
    parameter.set_value("PtychoStream_Supervised")
    try:
        api.reconstruct(product_index=0)
    except IndexError:
        # There is no product, but the algorithm is right.
        facts["chosen"] = parameter.get_value()
print("FACTS", json.dumps(facts))
"""


@pytest.fixture(scope="module")
def without_ptychi(tmp_path_factory):
    return hide_ptychi(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def done(without_ptychi):
    return run("-c", FACTS, **without_ptychi)


@pytest.fixture(scope="module")
def facts(done):
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (line for line in done.stdout.splitlines() if line.startswith("FACTS "))
    return json.loads(next(lines).removeprefix("FACTS "))


def test_ours_is_chosen_where_the_default_of_ptychodus_is_not_installed(facts):
    assert facts["first"].startswith("ptychostream_")


def test_our_readers_are_there_without_the_file_in_the_folder_of_plugins(facts):
    assert facts["readers"].count("PtychoStream_Store") == 1
    assert facts["readers"].count("PtychoStream_NPZ") == 1


def test_an_unknown_algorithm_is_an_error_that_is_logged_and_runs_nothing(facts, done):
    assert "'NoSuch_Thing' of [Processing] Algorithm is not available" in facts["settings"]
    assert "ptychostream_pinn" in facts["settings"]
    assert "'No_Other'" in facts["argument"]
    assert "[ERROR] ptychostream.ptychodus: the algorithm 'NoSuch_Thing'" in done.stdout
    # What the window's box will show.
    assert [line for line in facts["shown"] if "the algorithm 'NoSuch_Thing'" in line]


def test_choosing_another_one_lets_it_run(facts):
    assert facts["chosen"] == "ptychostream_supervised"


def test_batch_ends_with_an_error_where_the_algorithm_is_unknown(tmp_path):
    experiment = make_experiment(tmp_path / "in")
    experiment.write_settings(Processing={"Algorithm": "NoSuch_Thing"})
    done = run_batch("reconstruct", experiment.folder, tmp_path / "out")
    assert done.returncode == 1
    assert "the algorithm 'NoSuch_Thing'" in done.stdout
    assert not list((tmp_path / "out").glob("product*"))
