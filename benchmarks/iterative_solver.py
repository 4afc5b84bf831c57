"""An iterative solver (pty-chi's LSQML) and ours on the same scan: pictures and processor time.

    pip install ptychi
    python benchmarks/iterative_solver.py [--epochs 5 10 20 50] [--passes 0 2 10]

The scan is the test scan of `quality.py`, whose object no network has seen; all are given the
true probe and positions, and take one thread. `physics` is `unrolled` before any training;
`unrolled` was trained as in `quality.py`, on another object; the number is the gridsize, and
`covering` takes only as many groups as hold every pattern.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from quality import COLUMNS, row, scan_store, show

import ptychostream as ps
from ptychostream.evaluation import evaluate_object

#: Row of `quality.py`, and the seeds of its groups.
OURS = (("physics1", "every"), ("unrolled2", "every"), ("unrolled2", "covering"))


def solve(store: ps.GroupStore, epochs: int, batch: int) -> tuple[NDArray[np.complex64], float]:
    """Reconstruct with pty-chi; returns the object and processor seconds."""
    import ptychi.api as api
    from ptychi.api.task import PtychographyTask

    shape = store.object_guess.shape
    options = api.LSQMLOptions()
    options.data_options.data = store.diffraction(np.arange(store.num_patterns)).astype(np.float32)
    options.object_options.initial_guess = torch.ones((1, *shape), dtype=torch.complex64)
    options.object_options.pixel_size_m = 1e-8
    options.object_options.optimizable = True
    options.probe_options.initial_guess = torch.from_numpy(store.probe.copy())
    options.probe_options.optimizable = False
    # Its positions count from the object's middle.
    options.probe_position_options.position_x_px = store.positions[:, 0] - shape[1] / 2
    options.probe_position_options.position_y_px = store.positions[:, 1] - shape[0] / 2
    options.probe_position_options.optimizable = False
    options.reconstructor_options.batch_size = batch
    options.reconstructor_options.num_epochs = epochs
    options.reconstructor_options.default_device = api.Devices.CPU
    task = PtychographyTask(options)
    began = time.process_time()
    task.run()
    seconds = time.process_time() - began
    return task.get_data_to_cpu("object", as_numpy=True)[0].astype(np.complex64), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--passes", nargs="+", type=int, default=[0, 2, 10])
    parser.add_argument("--batch", type=int, default=100, help="patterns of pty-chi's batches")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = scan_store(folder, 1, 1521, 4.0), scan_store(folder, 2, 900, 5.5)
        print("| solver | epochs or passes | processor s | patterns/s |", " | ".join(COLUMNS), "|")
        coverage = None
        for key, seeds in OURS:
            bundle, _ = row(key, 0, train, folder)
            for passes in options.passes:
                began = time.process_time()
                result = ps.reconstruct(bundle, test, passes=passes, seeds=seeds)
                seconds = time.process_time() - began
                # Where a lone pattern or a group lights the object is the same, but for its rim.
                coverage = result.coverage if coverage is None else coverage
                name = key if seeds == "every" else f"{key}, {seeds}"
                report(name, passes, seconds, result.object, test, coverage)
        for epochs in options.epochs:
            found, seconds = solve(test, epochs, options.batch)
            report("pty-chi LSQML", epochs, seconds, found, test, coverage)


def report(
    solver: str,
    number: int,
    seconds: float,
    found: NDArray[np.complex64],
    test: ps.GroupStore,
    coverage: NDArray[np.float32],
) -> None:
    metrics = evaluate_object(found, test.object_guess, coverage).metrics
    record = {"solver": solver, "number": number, "s": seconds, "rate": test.num_patterns / seconds}
    show(record | {column: metrics[column] for column in COLUMNS})


if __name__ == "__main__":
    main()
