"""The solver beside pty-chi's LSQML: the real ptychodus runs both on files that its readers read.

    python benchmarks/ptychodus_beside_ptychi.py [--passes 20] [--epochs 60] [CASE ...]

Prints a table: error (NRMSE) and phase correlation against the truth where positions overlap,
processor seconds of the child processes, and whether the solver's result has a warning. Both begin
with ptychodus's own random object. Needs pty-chi.
"""

import argparse
import logging
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import ptychodus.model.core
from numpy.typing import NDArray
from ptychodus.api.affine import AffineTransform
from ptychodus.api.object import compute_object_geometry
from ptychodus.api.probe import ProbeGeometry
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence

import ptychostream as ps
from ptychodus_ext.convert import positions_in_pixels
from ptychodus_ext.hook import activate
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
from ptychostream.evaluation.align import align_object, reference_on_grid
from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import Scan, ScanMetadata

OURS, THEIRS = "PtychoStream_Solver", "pty-chi_LSQML"
ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M, N = 8800.0, 1.9, 75e-6, 64
PIXEL_M = far_field_pixel_m(ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M, N)

#: Makes a product of ptychodus out of a scan, through files in a folder.
Load = Callable[[Any, Scan, Path], Any]


def middle(probe: NDArray[Any]) -> NDArray[Any]:
    """Cut the middle out of the probe of a pattern that is to be binned."""
    first = (probe.shape[-1] - N) // 2
    return probe[..., first : first + N, first : first + N]


def from_tables(
    model: Any,
    scan: Scan,
    folder: Path,
    *,
    change: Callable[[NDArray[Any]], NDArray[Any]] = lambda probe: probe,
    bad: NDArray[np.bool_] | None = None,
) -> Any:
    """Load HDF5 patterns, a mask, positions in a CSV table and a probe in a NumPy file."""
    counts = scan.patterns.read(np.arange(scan.num_patterns)).astype(np.uint32)
    mask: dict[str, Any] = {}
    if bad is not None:
        counts[:, bad] = 2**20
        np.save(folder / "bad.npy", bad)
        mask = {
            "bad_pixels_file_path": folder / "bad.npy",
            "bad_pixels_file_type": "NPY_Bad_Pixels",
        }
    with h5py.File(folder / "patterns.h5", "w") as file:
        file["entry/data/data"] = counts
    data = model.workflow_api.load_diffraction_data(
        folder / "patterns.h5", file_type="CNM_APS_HXN", block=True, **mask
    )
    model.run_tasks()
    product = model.workflow_api.create_product(
        "scan",
        detector_distance_m=DISTANCE_M,
        photon_energy_eV=ENERGY_EV,
        probe_photon_count=float(counts.sum(axis=(1, 2), dtype=float).max()),
        diffraction=data,
    )
    # Rows of y and x, in metres.
    np.savetxt(folder / "positions.csv", scan.positions[:, ::-1] * PIXEL_M, delimiter=",")
    product.load_probe_positions(folder / "positions.csv", file_type="CSV")
    np.save(folder / "probe.npy", change(middle(scan.probe)).astype(np.complex64))
    product.load_probe(folder / "probe.npy", file_type="NPY")
    product.generate_object("random")
    return product


def with_probe_of(name: str, **parameters: float) -> Load:
    """Let ptychodus make the probe, as in its dialog."""

    def load(model: Any, scan: Scan, folder: Path) -> Any:
        product = from_tables(model, scan, folder)
        product.generate_probe(name, parameters)
        return product

    return load


def changed(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Load:
    return lambda model, scan, folder: from_tables(model, scan, folder, change=change)


def with_mask(model: Any, scan: Scan, folder: Path) -> Any:
    bad = np.zeros((N, N), bool)
    bad[20:22] = True
    bad[[9, 40, 51], [50, 12, 33]] = True
    return from_tables(model, scan, folder, bad=bad)


def from_cxi(model: Any, scan: Scan, folder: Path) -> Any:
    """Let ptychodus write patterns and product as CXI, and read both again."""
    written = from_tables(model, scan, folder)
    written.save_product(folder / "product.cxi", file_type="CXI")
    counts = scan.patterns.read(np.arange(scan.num_patterns)).astype(np.uint32)
    bad = np.zeros((N, N), np.uint32)
    bad[20:22] = 1
    with h5py.File(folder / "diffraction.cxi", "w") as file:
        file["entry_1/instrument_1/detector_1/data"] = counts
        file["entry_1/instrument_1/detector_1/mask"] = bad
    data = model.workflow_api.load_diffraction_data(
        folder / "diffraction.cxi", file_type="CXI", block=True
    )
    model.run_tasks()
    return model.workflow_api.load_product(
        folder / "product.cxi", file_type="CXI", diffraction=data
    )


def from_ptychodus_files(model: Any, scan: Scan, folder: Path) -> Any:
    """Load what `ptychodus -b` begins with: here with a probe that is slightly out of focus."""
    write_ptychodus_experiment(replace(scan, probe=defocus(0.001)(scan.probe)), folder)
    with h5py.File(folder / "product.h5", "r+") as file:
        file["object"][:] = 1
    data = model.workflow_api.load_assembled_diffraction_data(folder / "diffraction.h5")
    return model.workflow_api.load_product(
        folder / "product.h5", file_type="HDF5", diffraction=data
    )


def turned(model: Any, scan: Scan, folder: Path) -> Any:
    """Write positions that are turned by 7° and 3 % too long, and let ptychodus turn them back."""
    angle = np.deg2rad(7)
    wrong = 1.03 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    right = np.linalg.inv(wrong)
    product = from_tables(model, replace(scan, positions=scan.positions @ wrong.T), folder)
    product.set_probe_positions_transform(AffineTransform(*right[0], 0.0, *right[1], 0.0))
    product.generate_object("random")
    return product


def binned(model: Any, scan: Scan, folder: Path) -> Any:
    """Load patterns of twice the edge, in pixels of half the edge, which ptychodus bins."""
    values = (
        ("Diffraction", "BinningEnabled", True),
        ("Diffraction", "BinSizeX", 2),
        ("Diffraction", "BinSizeY", 2),
        ("Detector", "PixelWidthInMeters", DETECTOR_PIXEL_M / 2),
        ("Detector", "PixelHeightInMeters", DETECTOR_PIXEL_M / 2),
    )
    settings = model.settings_registry
    before = [
        (group, key, settings[group].parameters()[key].get_value()) for group, key, _ in values
    ]
    try:
        for group, key, value in values:
            settings[group].parameters()[key].set_value(value)
        return from_tables(model, scan, folder)
    finally:
        for group, key, value in before:
            settings[group].parameters()[key].set_value(value)


def defocus(curvature: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Add a quadratic phase."""

    def change(probe: NDArray[Any]) -> NDArray[Any]:
        half = probe.shape[-1] // 2
        y, x = np.mgrid[-half:half, -half:half]
        return probe * np.exp(1j * curvature * (x**2 + y**2))

    return change


@dataclass(frozen=True)
class Case:
    """A kind of data: how it is loaded, and options of its simulation."""

    load: Load = from_tables
    simulation: dict[str, Any] = field(default_factory=dict)


THREE_MODES = {"mode_powers": (0.7, 0.2, 0.1)}
CASES = {
    "files of ptychodus": Case(from_ptychodus_files),
    "HDF5, CSV, true probe": Case(),
    "HDF5, gap, hot pixels, mask": Case(with_mask),
    "CXI with mask": Case(from_cxi),
    "positions turned and scaled": Case(turned),
    "uint32 binned 2 × 2": Case(binned, {"N": 2 * N}),
    "1e4 photons": Case(simulation={"nphotons": 1e4}),
    "3 modes": Case(simulation=THREE_MODES),
    "3 modes, 1 given": Case(changed(lambda probe: probe[:1]), THREE_MODES),
    "probe out of focus": Case(changed(defocus(0.004))),
    "probe far out of focus": Case(changed(defocus(0.02))),
    "Gaussian": Case(with_probe_of("super_gaussian", full_width_at_half_maximum_m=12 * PIXEL_M)),
    "disk": Case(with_probe_of("disk", diameter_m=32 * PIXEL_M)),
    "average pattern": Case(with_probe_of("average_pattern")),
}


def simulate(number: int, options: dict[str, Any]) -> Scan:
    """Simulate a scan whose pixels are those of the object that ptychodus will make."""
    values: dict[str, Any] = {"num_positions": number, "nphotons": 1e5, "seed": 3, **options}
    values["metadata"] = ScanMetadata(
        energy_eV=ENERGY_EV, detector_distance_m=DISTANCE_M, detector_pixel_size_m=DETECTOR_PIXEL_M
    )
    edge = values.setdefault("N", N)
    values.setdefault("step", N / 16)
    if edge > N:
        # The same probe, on a grid that is wide enough for patterns that will be binned.
        probe = ps.simulate_scan(**{**values, "N": N}).probe
        margin = (edge - N) // 2
        values["probe"] = np.pad(probe, ((0, 0), (margin, margin), (margin, margin)))
    positions = ps.simulate_scan(**values).positions
    points = [ProbePosition(i, x, y) for i, (x, y) in enumerate(positions * PIXEL_M)]
    grid = compute_object_geometry(
        ProbePositionSequence(points), ProbeGeometry(N, N, PIXEL_M, PIXEL_M)
    )
    # ptychodus puts the middle of the positions into the middle of its object.
    centre = (positions.min(axis=0) + positions.max(axis=0)) / 2
    rest = (centre - np.array([grid.width_px, grid.height_px]) / 2) % 1
    moved = positions - rest + 1
    extent = np.ceil(moved.max(axis=0)).astype(int) + edge
    return ps.simulate_scan(
        **{
            **values,
            "scan_pattern": moved,
            "object_shape": (int(extent[1]), int(extent[0])),
        }
    )


def scores(product: Any, scan: Scan) -> tuple[float, float]:
    """Return NRMSE and phase correlation once shift, ramp, scale and phase are removed."""
    found = product.object_.get_array()[0]
    positions = positions_in_pixels(product)
    origin = (scan.positions - positions).mean(axis=0)
    assert scan.object_guess is not None
    truth, part = reference_on_grid(scan.object_guess, (0, 0), tuple(origin), found.shape)
    low, high = np.ceil(positions.min(axis=0)), np.floor(positions.max(axis=0))
    region = np.zeros(found.shape, bool)
    region[int(low[1]) : int(high[1]), int(low[0]) : int(high[0])] = True
    region = region[part]
    aligned = align_object(found[part], truth, region).object[region]
    right = truth[region]
    error = np.linalg.norm(aligned - right) / np.linalg.norm(right)
    correlation = np.corrcoef(
        np.angle(aligned * right.mean().conj()), np.angle(right * right.mean().conj())
    )
    return float(error), float(correlation[0, 1])


def run(model: Any, product: Any, algorithm: str) -> tuple[Any, float]:
    """Reconstruct; returns the product and the processor seconds of the child processes."""
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
    print("|---|---|---|---|---|---|", flush=True)
    with ptychodus.model.core.ModelCore(log_level=logging.ERROR) as model:
        groups = model.settings_registry
        for group, key, value in (
            ("PtychoStreamSolver", "Passes", options.passes),
            ("PtyChi", "NumEpochs", options.epochs),
            ("PtyChi", "UseDevices", False),
            ("Diffraction", "CropEnabled", False),
        ):
            groups[group].parameters()[key].set_value(value)
        for name in options.cases:
            case = CASES[name]
            scan = simulate(options.positions, case.simulation)
            with tempfile.TemporaryDirectory() as scratch:
                product = case.load(model, scan, Path(scratch))
                cells = [name]
                for algorithm in (OURS, THEIRS):
                    result, seconds = run(model, product, algorithm)
                    error, correlation = scores(result, scan)
                    cells += [f"{error:.3f} / {correlation:.3f}", f"{seconds:.0f}"]
                    if algorithm == OURS:
                        warned = "Warning:" in result.metadata.comments
                print("|", " | ".join([*cells, "yes" if warned else ""]), "|", flush=True)


if __name__ == "__main__":
    main()
