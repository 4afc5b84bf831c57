"""The solver beside pty-chi's LSQML, both run by the real ptychodus on the same loaded data.

    python benchmarks/ptychodus_beside_ptychi.py [--passes 20] [--epochs 60] [CASE ...]

Prints a table: error (NRMSE) and phase correlation against the truth where positions overlap,
processor seconds of the child process, and the warning where there is one. Needs pty-chi.
"""

import argparse
import logging
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import ptychodus.model.core
from numpy.typing import NDArray

import ptychostream as ps
from ptychodus_ext.hook import activate
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment

OURS, THEIRS = "PtychoStream_Solver", "pty-chi_LSQML"


def change_probe(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Make a change of the product's probe, (P, N, N)."""

    def apply(folder: Path) -> None:
        with h5py.File(folder / "product.h5", "r+") as file:
            probe = file["probe"][:]
            changed = change(probe.reshape(-1, *probe.shape[-2:])).astype(np.complex64)
            attributes = dict(file["probe"].attrs)
            del file["probe"]
            file["probe"] = changed[None]
            file["probe"].attrs.update(attributes)

    return apply


def defocus(curvature: float) -> Callable[[Any], Any]:
    """Add a quadratic phase."""

    def change(probe: Any) -> Any:
        half = probe.shape[-1] // 2
        y, x = np.mgrid[-half:half, -half:half]
        return probe * np.exp(1j * curvature * (x**2 + y**2))

    return change


def disk(probe: Any) -> Any:
    """Return a disk of the width of the probe: what ptychodus begins with."""
    half = probe.shape[-1] // 2
    y, x = np.mgrid[-half:half, -half:half]
    return (np.hypot(x, y) < half / 2).astype(complex)[None]


def first_mode(probe: Any) -> Any:
    return probe[:1]


def hide_pixels(folder: Path) -> None:
    """Mark a gap and hot pixels."""
    with h5py.File(folder / "diffraction.h5", "r+") as file:
        bad = file["bad_pixels"][:]
        bad[20:22] = True
        bad[[9, 40, 51], [50, 12, 33]] = True
        file["bad_pixels"][:] = bad
        patterns = file["patterns"][:]
        patterns[:, bad] = 2**20
        file["patterns"][:] = patterns


def nothing(folder: Path) -> None:
    """Leave the files as they are."""


#: Name: options of the simulation, a change of the files.
CASES: dict[str, tuple[dict[str, Any], Callable[[Path], None]]] = {
    "true probe": ({}, nothing),
    "gap, hot pixels, mask": ({}, hide_pixels),
    "1e4 photons": ({"nphotons": 1e4}, nothing),
    "3 modes": ({"mode_powers": (0.7, 0.2, 0.1)}, nothing),
    "3 modes, 1 given": ({"mode_powers": (0.7, 0.2, 0.1)}, change_probe(first_mode)),
    "probe out of focus": ({}, change_probe(defocus(0.004))),
    "disk for a probe": ({}, change_probe(disk)),
}


def scores(found: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float]:
    """Return NRMSE and phase correlation once ramp, scale and constant phase are removed."""
    q = found * truth.conj()
    slope_x = np.angle((q[:, 1:] * q[:, :-1].conj()).sum())
    slope_y = np.angle((q[1:] * q[:-1].conj()).sum())
    y, x = np.mgrid[: q.shape[0], : q.shape[1]]
    found = found * np.exp(-1j * (slope_x * x + slope_y * y))
    found = found * np.vdot(found, truth) / np.vdot(found, found)
    error = np.linalg.norm(found - truth) / np.linalg.norm(truth)
    correlation = np.corrcoef(np.angle(found).ravel(), np.angle(truth).ravel())[0, 1]
    return float(error), float(correlation)


def run(model: Any, folder: Path, algorithm: str) -> tuple[Any, float]:
    """Reconstruct an experiment; returns the product and the child's processor seconds."""
    data = model.workflow_api.load_assembled_diffraction_data(folder / "diffraction.h5")
    product = model.workflow_api.load_product(
        folder / "product.h5", file_type="HDF5", diffraction=data
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = product.reconstruct_local(algorithm=algorithm, block=True)
    model.run_tasks()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.get_product(), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--positions", type=int, default=400)
    options = parser.parse_args()
    activate()
    print("| Case | Solver | s | pty-chi LSQML | s | warned |")
    print("|---|---|---|---|---|---|")
    with ptychodus.model.core.ModelCore(log_level=logging.ERROR) as model:
        groups = model.settings_registry
        groups["PtychoStreamSolver"].parameters()["Passes"].set_value(options.passes)
        groups["PtyChi"].parameters()["NumEpochs"].set_value(options.epochs)
        groups["PtyChi"].parameters()["UseDevices"].set_value(False)
        for name in options.cases:
            simulation, change = CASES[name]
            with tempfile.TemporaryDirectory() as scratch:
                scan = ps.simulate_scan(
                    num_positions=options.positions,
                    **{"nphotons": 1e5, "seed": 3, **simulation},
                )
                folder = Path(scratch)
                write_ptychodus_experiment(scan, folder)
                with h5py.File(folder / "product.h5", "r+") as file:
                    truth = file["object"][0]
                    file["object"][:] = 1
                change(folder)
                low, high = np.ceil(scan.positions.min(0)), np.floor(scan.positions.max(0))
                inside = tuple(
                    slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True)
                )
                cells = [name]
                for algorithm in (OURS, THEIRS):
                    product, seconds = run(model, folder, algorithm)
                    obj = product.object_.get_array()[0]
                    error, correlation = scores(obj[inside], truth[inside])
                    cells += [f"{error:.3f} / {correlation:.3f}", f"{seconds:.0f}"]
                    if algorithm == OURS:
                        warned = "Warning:" in product.metadata.comments
                print("|", " | ".join([*cells, "yes" if warned else ""]), "|", flush=True)


if __name__ == "__main__":
    main()
