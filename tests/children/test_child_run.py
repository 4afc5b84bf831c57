"""Every test starts real processes."""

import contextlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ptychostream.children import (
    ChildError,
    ChildGroup,
    ChildRun,
    Done,
    Heartbeat,
    Job,
    Log,
    Output,
    Progress,
)
from ptychostream.errors import DataContractError

HERE = Path(__file__).parent
#: Generous, as this may share its machine; a hang would be for ever.
SOON_S = 10.0


def listen(task, arguments=None, **options):
    with ChildRun(f"child_tasks:{task}", arguments or {}, **options) as run:
        return [message for message in run if not isinstance(message, Heartbeat)]


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(true, seconds=SOON_S):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def process_ids(monkeypatch):
    """Of the children that are started."""
    found = []
    start = subprocess.Popen

    def popen(*arguments, **options):
        process = start(*arguments, **options)
        found.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    return found


def test_every_message_arrives_in_order_and_done_is_the_last(tmp_path):
    path = str(tmp_path / "a.npy")
    messages = listen("count", {"steps": 300, "path": path})
    steps = [m for m in messages if isinstance(m, Progress)]
    assert [m.done for m in steps] == list(range(1, 301))
    assert steps[3] == Progress(4, 300, {"loss": 0.25})
    assert Output({"mean": 0.5}, {"array": Path(path)}) in messages
    assert messages[-1] == Done({"cwd": str(Path.cwd()), "path": path})


def test_log_records_and_warnings_of_the_child_reach_the_log(caplog):
    log = logging.getLogger("a.run")
    with caplog.at_level(logging.INFO, "a.run"):
        messages = listen("count", {"steps": 1, "path": "a"}, log=log)
    assert Log(logging.INFO, "counted to 1") in messages
    found = [(r.name, r.levelno, r.getMessage()) for r in caplog.records]
    assert ("a.run", logging.INFO, "counted to 1") in found
    assert any("a warning of a library" in text for _, level, text in found if level == 30)


@pytest.mark.parametrize("name", ["größe Ω 图.npy", "byte\udcff.npy"])
def test_paths_that_are_not_ascii_arrive_as_they_are(name, tmp_path):
    path = tmp_path / name
    messages = listen("count", {"steps": 0, "path": path})
    assert messages[-1].values["path"] == str(path)
    assert [m.paths["array"] for m in messages if isinstance(m, Output)] == [path]


def test_an_exception_is_an_error_with_the_traceback():
    with pytest.raises(ChildError, match="ZeroDivisionError: deliberate") as caught:
        listen("fail")
    assert 'raise ZeroDivisionError("deliberate")' in str(caught.value)
    assert "child_tasks.py" in caught.value.traceback
    assert caught.value.exit_code == 1


def test_an_error_of_ours_is_its_message_without_traceback():
    with pytest.raises(ChildError) as caught:
        listen("refuse")
    assert str(caught.value) == "DataContractError: 'scan.npz' lacks 'diff3d'"


def test_a_result_that_is_no_json_is_an_error():
    with pytest.raises(ChildError, match="ndarray can't be sent to another process"):
        listen("return_an_array")


@pytest.mark.parametrize("code", [0, 3])
def test_os_exit_is_an_error_with_the_exit_code_and_the_last_words(code):
    begin = time.monotonic()
    with pytest.raises(ChildError, match=f"exit code {code}") as caught:
        listen("leave", {"code": code})
    assert time.monotonic() - begin < SOON_S
    assert caught.value.exit_code == code
    assert str(caught.value).endswith("last words")


def test_sys_exit_is_an_error():
    with pytest.raises(ChildError, match="SystemExit: no more"):
        listen("exit_politely")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGABRT"])
def test_a_killed_child_is_an_error_that_names_the_signal(name):
    begin = time.monotonic()
    seen = []
    with (
        pytest.raises(ChildError, match=f"ended by {name}") as caught,
        ChildRun("child_tasks:die", {"signal": name}) as run,
    ):
        seen.extend(run)
    assert time.monotonic() - begin < SOON_S
    assert Progress(1, 2, {}) in seen
    assert caught.value.exit_code == -getattr(signal, name)
    assert ("memory" in str(caught.value)) == (name == "SIGKILL")


def test_a_segmentation_fault_is_an_error_that_shows_where():
    with pytest.raises(ChildError, match="SIGSEGV") as caught:
        listen("segfault")
    assert "in segfault" in str(caught.value)


def test_out_of_memory_is_an_error():
    with pytest.raises(ChildError, match="MemoryError"):
        listen("take_all_memory")


def test_a_child_whose_own_child_holds_the_pipes_is_still_seen_to_die():
    begin = time.monotonic()
    with pytest.raises(ChildError, match="SIGKILL"):
        listen("fork_and_die")
    assert time.monotonic() - begin < SOON_S


def test_a_task_that_cannot_be_imported_is_an_error():
    with pytest.raises(ChildError, match="ModuleNotFoundError: No module named 'no_such_module'"):
        list(ChildRun("no_such_module:task", {}).__enter__())
    with pytest.raises(ChildError, match="AttributeError.*no_such_task"):
        listen("no_such_task")


def test_a_task_without_function_and_arguments_that_are_no_json_are_refused_at_once():
    with pytest.raises(ValueError, match="'child_tasks' must be named as 'module:function'"):
        ChildRun("child_tasks", {})
    with pytest.raises(TypeError, match="object can't be sent"):
        ChildRun("child_tasks:count", {"steps": object()})


def test_an_interpreter_that_cannot_be_started_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ChildError, match="could not start a process for child_tasks:count"):
        listen("count")


def test_nonsense_on_the_pipe_is_an_error_and_the_child_is_gone(process_ids):
    with pytest.raises(ChildError, match="no message of a child: b'nonsense'"):
        listen("write_nonsense")
    assert not is_alive(process_ids[0])


def test_arguments_larger_than_a_pipe_arrive():
    long = "x" * 1_000_000
    assert listen("count", {"steps": 0, "path": long})[-1].values["path"] == long


def test_much_output_neither_blocks_nor_gets_lost():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.Logger("printed", logging.INFO)
    log.addHandler(handler)
    messages = listen("print_much", log=log)
    assert messages == [Done({"printed": True})]
    assert "\\xff bytes that are no text" in lines
    found = {letter: sum(line.count(letter) for line in lines) for letter in "WYZ"}
    assert found == {"W": 2_000_000, "Y": 5_000_000, "Z": 100_000}
    assert max(map(len, lines)) < 200_000


def test_heartbeats_come_while_the_child_is_silent(tmp_path):
    times = []
    with ChildRun(
        "child_tasks:sleep", {"pid_file": str(tmp_path / "pid")}, heartbeat_s=0.05
    ) as run:
        for message in run:
            assert message == Heartbeat()
            times.append(time.monotonic())
            if len(times) == 10:
                break
    assert times[-1] - times[0] < 5


@pytest.mark.parametrize("task", ["sleep", "hold_the_interpreter"])
def test_a_silent_child_is_stopped_within_a_second(task, tmp_path):
    pid_file = tmp_path / "pid"
    with ChildRun(f"child_tasks:{task}", {"pid_file": str(pid_file)}) as run:
        wait_until(lambda: pid_file.exists() and pid_file.read_text())
        begin = time.monotonic()
        run.stop()
        assert time.monotonic() - begin < 1
        assert not is_alive(int(pid_file.read_text()))
        assert [m for m in run if not isinstance(m, Heartbeat)] == []


def test_a_child_that_never_looks_is_stopped_within_a_second(process_ids):
    with ChildRun("child_tasks:spin", {}) as run:
        for message in run:
            if isinstance(message, Progress) and message.done == 100:
                begin = time.monotonic()
                run.stop()
                break
    assert time.monotonic() - begin < 1
    assert not is_alive(process_ids[0])


def test_a_task_may_hand_over_its_result_when_asked_to_stop():
    with ChildRun("child_tasks:stop_when_asked", {}) as run:
        messages = []
        for message in run:
            messages.append(message)
            if message == Progress(0, 1):
                threading.Thread(target=run.stop).start()
    assert messages[-2:] == [Output({"stopped": True}), Done()]


def test_closing_the_iteration_early_ends_the_child(process_ids):
    def results():
        with ChildRun("child_tasks:spin", {}) as run:
            yield from run

    iteration = results()
    next(iteration)
    iteration.close()
    assert not is_alive(process_ids[0])


def test_an_exception_of_the_listener_ends_the_child(process_ids):
    with pytest.raises(KeyError), ChildRun("child_tasks:spin", {}) as run:
        next(iter(run))
        raise KeyError
    assert not is_alive(process_ids[0])


def test_a_task_that_has_answered_is_not_waited_for(process_ids):
    begin = time.monotonic()
    assert listen("answer_and_linger") == [Done({"answered": True})]
    assert time.monotonic() - begin < 2 * SOON_S
    assert not is_alive(process_ids[0])


def test_what_a_task_has_started_ends_with_it(tmp_path):
    pid_file = tmp_path / "pid"
    messages = listen("start_a_process", {"pid_file": str(pid_file), "seconds": 0})
    assert messages == [Done()]
    wait_until(lambda: not is_alive(int(pid_file.read_text())))


def test_several_children_run_at_the_same_time_and_end_together(process_ids):
    jobs = [Job("child_tasks:stop_when_asked", {})] * 3
    with ChildGroup(jobs) as group:
        messages = []
        for number, message in group:
            if message == Progress(0, 1):
                messages.append(number)
            if len(messages) == 3:
                group.ask_to_stop()
    assert sorted(messages) == [0, 1, 2]
    assert not any(map(is_alive, process_ids))


def test_of_several_children_the_error_is_the_one_that_explains_itself(process_ids):
    jobs = [
        Job("child_tasks:spin", {}),
        Job("child_tasks:fail", {}),
        Job("child_tasks:refuse_late", {}),
    ]
    with pytest.raises(ChildError) as caught, ChildGroup(jobs) as group:
        list(group)
    assert caught.value.number == 2
    assert isinstance(caught.value.original, DataContractError)
    assert str(caught.value.original) == "'scan.npz' lacks 'diff3d'"
    assert len(process_ids) == 3
    assert not any(map(is_alive, process_ids))


def test_an_interrupted_child_may_finish_what_it_does(tmp_path):
    with ChildGroup([Job("child_tasks:write_when_interrupted", {"path": tmp_path / "a"})]) as group:
        for _, message in group:
            if message == Progress(0, 1):
                group.interrupt(SOON_S)
                break
        assert (tmp_path / "a").read_text() == "saved"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
@pytest.mark.parametrize(
    "task", ["sleep", "sleep_without_death_signal", "hold_the_interpreter", "start_a_process"]
)
def test_the_child_dies_with_its_parent(task, name, tmp_path):
    pid_file = tmp_path / "pid"
    program = (
        "import sys\n"
        "from ptychostream.children import ChildRun\n"
        f"arguments = {{'pid_file': {str(pid_file)!r}, 'seconds': 60}}\n"
        f"with ChildRun('child_tasks:{task}', arguments) as run:\n"
        "    list(run)\n"
    )
    paths = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
    )
    with parent:
        wait_until(lambda: pid_file.exists() and pid_file.read_text(), 30)
        child = int(pid_file.read_text())
        assert is_alive(child)
        parent.send_signal(getattr(signal, name))
        parent.wait(SOON_S)
        wait_until(lambda: not is_alive(child))


def test_a_child_outlives_the_thread_that_started_it():
    """Linux ends a child with the thread that started it, if that child asked for it."""
    run = ChildRun("child_tasks:stop_when_asked", {})
    thread = threading.Thread(target=run.__enter__)
    thread.start()
    thread.join()
    with contextlib.closing(iter(run)) as messages:
        assert Progress(0, 1) in itertools.islice(messages, 50)
        assert [next(messages) for _ in range(4)] == [Heartbeat()] * 4


def test_a_run_that_has_ended_says_so_again():
    with ChildRun("child_tasks:fail", {}) as run:
        for _ in range(2):
            with pytest.raises(ChildError, match="deliberate"):
                list(run)


def test_the_folder_of_the_application_is_no_place_for_modules(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert listen("count", {"steps": 0, "path": ""})[-1].values["cwd"] == str(tmp_path)
