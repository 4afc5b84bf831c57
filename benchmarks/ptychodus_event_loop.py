"""How the window of ptychodus answers, and its memory, while ours reconstructs a large scan.

    python benchmarks/ptychodus_event_loop.py [--positions 100000] [--edge 16] [--store]

The patterns are loaded by ptychodus, or come from a store with a stub of one pattern in ptychodus.
A timer of 5 ms in the window's event loop measures how long the loop was busy at a stretch, once
ptychodus has prepared the run.
"""

import argparse
import logging
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

if "DISPLAY" not in os.environ:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import ptychodus.model.core
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QApplication

import ptychostream as ps
from ptychodus_ext.hook import activate
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment

_TICK_MS = 5


def resident() -> float:
    """Return the memory of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


class Window:
    """The window, and the gaps between two turns of its event loop."""

    def __init__(self, model: Any) -> None:
        from ptychodus.controller import ControllerCore
        from ptychodus.view import ViewCore

        self.app = QApplication(["ptychodus"])
        self.model, self.gaps = model, [0.0]
        view = ViewCore(is_developer_mode_enabled=False)
        self.controller = ControllerCore(model, view, is_developer_mode_enabled=False)
        self.controller.show_main_window("ptychodus")
        self.view, self._last = view, time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(_TICK_MS)
        self._tasks = QTimer()
        self._tasks.timeout.connect(model.run_tasks)
        self._tasks.start(1000)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def wait(self, runs: int) -> None:
        """Let the window work until a reconstruction has ended."""
        monitor = self.model.processing_core.processing_api.task_monitor

        def look() -> None:
            if monitor.get_completed_runs() > runs:
                self.app.quit()

        watch = QTimer()
        watch.timeout.connect(look)
        watch.start(200)
        self.app.exec()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=100_000)
    parser.add_argument("--edge", type=int, default=16)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--store", action="store_true", help="do not load the patterns")
    options = parser.parse_args()
    activate()
    with (
        tempfile.TemporaryDirectory() as scratch,
        ptychodus.model.core.ModelCore(log_level=logging.ERROR) as model,
    ):
        folder = Path(scratch)
        scan = ps.simulate_scan(
            num_positions=options.positions, N=options.edge, step=2.0, nphotons=1e4
        )
        if options.store:
            store = ps.build_group_store(scan, folder / "scan.zarr", progress=False)
            path = model.settings_registry["PtychoStreamData"].parameters()["StorePath"]
            path.set_value(Path(store.path))
            scan = ps.simulate_scan(num_positions=1, N=options.edge, nphotons=1e4)
        write_ptychodus_experiment(scan, folder)
        model.settings_registry["PtychoStreamSolver"].parameters()["Passes"].set_value(
            options.passes
        )
        window = Window(model)
        data = model.workflow_api.load_assembled_diffraction_data(folder / "diffraction.h5")
        product = model.workflow_api.load_product(
            folder / "product.h5", file_type="HDF5", diffraction=data
        )
        model.run_tasks()
        before = resident()
        monitor = model.processing_core.processing_api.task_monitor
        runs = monitor.get_completed_runs()
        began = time.perf_counter()
        product.reconstruct_local(algorithm="PtychoStream_Solver")
        preparing = time.perf_counter() - began
        window.gaps.clear()
        window._last = time.perf_counter()
        window.wait(runs)
        seconds = time.perf_counter() - began
        gaps = 1000 * np.array(window.gaps)
        error = monitor.get_last_error()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.positions} patterns of {options.edge} px, {options.passes} passes, "
        f"{seconds:.0f} s, of which ptychodus prepared {preparing:.1f} s: event loop "
        f"p50 {np.percentile(gaps, 50):.1f} ms, p99 {np.percentile(gaps, 99):.1f} ms, longest "
        f"{', '.join(f'{gap:.0f}' for gap in np.sort(gaps)[:-4:-1])} ms; window's process "
        f"{before:.0f} MB before, {peak:.0f} MB at most; {error or 'no error'}"
    )


if __name__ == "__main__":
    main()
