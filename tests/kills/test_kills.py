"""A command that is killed at any event on files leaves the old thing or the whole new one.

A few events of each command here; `make fuzz` tries all.
"""

import pytest
from kills.commands import COMMANDS
from kills.trials import try_full_disk, try_kills

#: One for each way of writing; the others, and all events of each, are left to `make fuzz`.
CHOSEN = (
    "append",
    "build --overwrite",
    "reconstruct --overwrite",
    "simulate FOLDER",
    "train --resume",
)


@pytest.mark.parametrize("name", CHOSEN)
def test_a_killed_command_leaves_the_old_or_the_whole_new_and_the_next_run_succeeds(name, tmp_path):
    trials = list(try_kills(name, tmp_path, most=1 if COMMANDS[name].is_slow else 2))
    wrong = [f"{trial.event}: {trial.wrong}" for trial in trials if trial.wrong]
    assert not wrong, "\n".join(wrong)
    assert trials


@pytest.mark.parametrize("name", ["simulate FOLDER", "simulate .zarr", "compact"])
def test_a_command_that_finds_no_room_says_so_and_leaves_what_was_there(name, tmp_path):
    (trial,) = try_full_disk(name, tmp_path, [1_500])
    assert trial.wrong is None
    assert not trial.was_new


@pytest.mark.parametrize("name", ["build", "append", "convert"])
def test_an_interrupted_command_says_so_and_leaves_nothing(name, tmp_path):
    trials = list(try_kills(name, tmp_path, most=1, by="interrupt"))
    wrong = [f"{trial.event}: {trial.wrong}" for trial in trials if trial.wrong]
    assert not wrong, "\n".join(wrong)
