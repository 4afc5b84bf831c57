"""End each command at each of its events, and look at what is left."""

import gc
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from kills.commands import COMMANDS, Command, left_over, run
from kills.events import KILLED, Ended, run_until

#: What an interrupted command leaves for the next one to go on with.
_GOES_ON = (".s.zarr.partial", ".s.zarr.replaced", ".out.zarr.replaced")


class Trial(NamedTuple):
    """An event at which a command was ended; `wrong` says what was not as it should be.

    `seconds` passed from Ctrl-C to its end.
    """

    event: str
    was_new: bool
    wrong: str | None
    seconds: float = 0.0


def _look(command: Command, root: Path) -> str:
    found = command.look(root)
    # Who still has a store open keeps its files.
    gc.collect()
    return found


def try_kills(
    name: str, folder: Path, *, most: int | None = None, by: str = "kill"
) -> Iterator[Trial]:
    """End a command at each of its events, or at so many of them.

    It is ended by a kill, or by Ctrl-C, after which nothing is left over and what was done is said.
    """
    command = COMMANDS[name]
    # Always at the same place: checkpoints know where they lie.
    before, root, log = folder / "before", folder / "now", folder / "log.txt"
    root.mkdir()
    command.prepare(root)
    shutil.copytree(root, before)

    def ended_at(last: int | None) -> Ended:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(before, root)
        return run_until(partial(run, command.words, root), root, log, last=last, by=by)

    looks = [_look(command, root)]
    whole = ended_at(None)
    assert whole.code == 0, whole.text
    looks.append(_look(command, root))
    assert looks[0] != looks[1], f"{name} changes nothing"
    number = len(whole.events)
    chosen = np.arange(number)
    if most is not None and most < number:
        # In the middle of each part, and where names change.
        chosen = ((np.arange(most) + 0.7) * number / most).astype(int)
    for last in chosen.tolist():
        ended = ended_at(last)
        event = f"{name}, {by} at event {last} of {number}: {whole.events[last]}"
        if by == "interrupt" and ended.code == 130 and (text := _wrong_interrupt(ended, root)):
            yield Trial(event, was_new=False, wrong=text, seconds=ended.seconds)
            continue
        if ended.code != (KILLED if by == "kill" else 130):
            # Threads do things in another order, and once in a while fewer of them.
            yield Trial(event, was_new=True, wrong=None if ended.code == 0 else ended.text)
            continue
        try:
            found = _look(command, root)
        except Exception as error:
            yield Trial(event, was_new=False, wrong=f"{type(error).__name__}: {error}")
            continue
        parts = zip(*(look.split() for look in (found, *looks)), strict=True)
        is_whole = all(part in allowed for part, *allowed in parts)
        again = command.words if command.again is None else command.again(root)
        next_run = run_until(partial(run, again, root), root, log, last=None)
        wrong = None
        if not is_whole:
            wrong = "what is there is neither the old nor the new"
        elif next_run.code != 0:
            wrong = f"the next run fails: {next_run.text}"
        elif left := left_over(root):
            wrong = f"left over: {left}"
        yield Trial(event, was_new=found == looks[1], wrong=wrong, seconds=ended.seconds)


def try_full_disk(name: str, folder: Path, rooms: Sequence[int]) -> Iterator[Trial]:
    """Let a command find no room: it ends in one line, with everything as it was."""
    command = COMMANDS[name]
    before, root, log = folder / "before", folder / "now", folder / "log.txt"
    root.mkdir()
    command.prepare(root)
    shutil.copytree(root, before)
    look = _look(command, root)
    for room in rooms:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(before, root)
        ended = run_until(partial(run, command.words, root), root, log, room=room)
        told = [line for line in ended.text.splitlines() if line.startswith("error: ")]
        wrong = None
        if ended.code == 0:
            pass
        elif ended.code != 1 or len(told) != 1 or "could not write" not in told[0]:
            wrong = f"exit code {ended.code}: {ended.text}"
        elif any(word in ended.text for word in ("defect", "Traceback", "Logging error")):
            wrong = ended.text
        elif _look(command, root) != look:
            wrong = "what was there has changed"
        elif left := [n for n in left_over(root) if not n.startswith(_GOES_ON)]:
            wrong = f"left over: {left}"
        yield Trial(f"{name}, no file beyond {room} bytes", was_new=ended.code == 0, wrong=wrong)


def _wrong_interrupt(ended: Ended, root: Path) -> str | None:
    left = [name for name in left_over(root) if not name.startswith(_GOES_ON)]
    if left:
        return f"left over after an interrupt: {left}"
    lines = ended.text.splitlines()
    if "Traceback" in ended.text or not lines or not lines[-1].startswith("interrupted"):
        return f"the last line does not say so: {ended.text}"
    return None
