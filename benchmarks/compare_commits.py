"""Building and streaming by two versions of this package, turn by turn: the ratio of their times.

    git worktree add /tmp/before COMMIT
    python benchmarks/compare_commits.py /tmp/before . [--patterns 20000] [--rounds 12]

Each version has a process of its own. Both times are those of all threads together, so that other
work on the machine counts little, and of the clock.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WORKER = """
import shutil, sys, time
import ptychostream as ps
source, target = sys.argv[1:]
def build():
    shutil.rmtree(target, ignore_errors=True)
    return ps.build_group_store(source, target)
store = build()
groups = store.groups(2, 6)
def stream():
    loader = ps.make_loader(ps.open_group_store(target), groups, batch_size=64,
                            memory_budget="32 MiB", num_threads=1)
    for _ in loader: pass
def open_store():
    for _ in range(20): ps.open_group_store(target)
print("ready", flush=True)
for line in sys.stdin:
    work = {"build": build, "stream": stream, "open": open_store}[line.strip()]
    clock, processor = time.perf_counter(), time.process_time()
    work()
    print(time.perf_counter() - clock, time.process_time() - processor, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs=2, type=Path, help="folders: before and after")
    parser.add_argument("--patterns", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    from streaming import poisson_scan

    with tempfile.TemporaryDirectory() as name:
        scan = poisson_scan(options.patterns)
        source = Path(name) / "scan.npz"
        np.savez(
            source,
            diff3d=scan.patterns.read(np.arange(options.patterns)),
            xcoords=scan.positions[:, 0],
            ycoords=scan.positions[:, 1],
            probeGuess=scan.probe,
        )
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(source), f"{name}/{number}.zarr"],
                env={**os.environ, "PYTHONPATH": str(version.resolve())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number, version in enumerate(options.versions)
        ]

        def timed(worker: subprocess.Popen[str], task: str) -> np.ndarray:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(f"{task}\n")
            worker.stdin.flush()
            return np.array(worker.stdout.readline().split(), float)

        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for task in ("build", "stream", "open"):
            ratios = []
            for turn in range(options.rounds):
                order = (0, 1) if turn % 2 else (1, 0)
                times = {number: timed(workers[number], task) for number in order}
                ratios.append(times[1] / times[0])
            low, middle, high = np.percentile(ratios, [25, 50, 75], axis=0)
            print(
                f"{task}: {middle[1]:.3f} of the processor time ({low[1]:.3f} to {high[1]:.3f}), "
                f"{middle[0]:.3f} of the clock, {options.rounds} rounds of {options.patterns} "
                "patterns",
                flush=True,
            )
        for worker in workers:
            worker.communicate()


if __name__ == "__main__":
    main()
