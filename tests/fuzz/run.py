"""Damage, kill, interrupt and starve; print a table of how it ended.

python tests/fuzz/run.py CASES [SEED]
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from fuzz.mutations import try_reader
from fuzz.readers import READERS, Whole, make_whole
from kills.commands import COMMANDS
from kills.trials import Trial, try_full_disk, try_kills

HEAD = """\
| Fault | Cases | Refused | Harmless | Accepted, no checksum | Wrong | Crashed, hung | Slowest |
|---|---|---|---|---|---|---|---|"""

#: Events of each command at which it is killed, for so many cases of damage.
_EVENTS_PER_CASE = 0.1
#: Most bytes that a file may have, where a disk is full.
_ROOMS = (0, 100, 700, 1_500, 3_000, 6_000, 12_000)


def main(cases: int, seed: int) -> int:
    print(f"{HEAD}", flush=True)
    torch.set_num_threads(1)
    failures = []
    with tempfile.TemporaryDirectory() as name:
        whole = make_whole(Path(name))
        for kind in READERS:
            failures += _damage(kind, whole, cases, seed)
    most = max(2, int(cases * _EVENTS_PER_CASE))
    for name in COMMANDS:
        failures += _row(f"`{name}` killed", lambda f, n=name: try_kills(n, f, most=most))
    for name in COMMANDS:
        failures += _row(
            f"`{name}` ended by Ctrl-C",
            lambda f, n=name: try_kills(n, f, most=max(2, most // 4), by="interrupt"),
        )
    for name in COMMANDS:
        failures += _row(f"`{name}`, disk full", lambda f, n=name: try_full_disk(n, f, _ROOMS))
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


def _damage(kind: str, whole: Whole, cases: int, seed: int) -> list[str]:
    reader = READERS[kind]
    with tempfile.TemporaryDirectory() as folder:
        endings, wrong, slowest = try_reader(kind, whole, Path(folder), cases=cases, seed=seed)
    other = endings["other data"]
    accepted, bad = (0, other) if reader.checked else (other, 0)
    dead = endings["crashed"] + endings["hung"]
    print(
        f"| damaged {kind} | {cases} | {endings['refused']} | {endings['same data']} | "
        f"{accepted} | {bad + endings['foreign']} | {dead} | {slowest:.1f} s |",
        flush=True,
    )
    return wrong


def _row(label: str, tried: Callable[[Path], Iterator[Trial]]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        began, slowest, trials = time.monotonic(), 0.0, []
        for trial in tried(Path(folder)):
            trials.append(trial)
            slowest, began = max(slowest, time.monotonic() - began), time.monotonic()
    if "Ctrl-C" in label:
        slowest = max(trial.seconds for trial in trials)
    wrong = [f"{trial.event}: {trial.wrong}" for trial in trials if trial.wrong]
    refused = sum(not (trial.was_new or trial.wrong) for trial in trials) if "full" in label else 0
    harmless = len(trials) - len(wrong) - refused
    print(
        f"| {label} | {len(trials)} | {refused} | {harmless} | 0 | {len(wrong)} | 0 | "
        f"{slowest:.1f} s |",
        flush=True,
    )
    return wrong


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
