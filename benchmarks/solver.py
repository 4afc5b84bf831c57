"""The solver beside pty-chi's LSQML: quality against the truth, and processor time of one thread.

    pip install ptychi
    python benchmarks/solver.py [--cases dose6 probe ...] [--seeds 0 1 2] [--epochs 5 20 80]
        [--passes 5 20 40] [--measured FOLDER] [--prototype FOLDER] [--curves FILE.png]

400 patterns of 64 x 64 px, 5.5 px apart, from a forward model of its own in double precision. All
start from a flat object, and ours goes through a store. FOLDER of `--measured` holds
`siemens-star-small.npz` and `t235.npz` with their references. `--prototype` takes a folder with a
`solver.py` whose `solve(amplitude, positions, probe, ...)` is measured beside.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import ptychostream as ps
from ptychostream.evaluation import evaluate_object
from ptychostream.geometry import ObjectGrid
from ptychostream.scan import ArrayPatterns, Scan
from ptychostream.simulation.probes import make_probe
from ptychostream.stitching.weights import covering_area


@dataclass
class Case:
    """A scan, its truth, and what is to be found."""

    scan: Scan
    truth: NDArray[np.complexfloating]
    true_probe: NDArray[np.complexfloating]
    true_positions: NDArray[np.float64]
    wanted: dict[str, Any] = field(default_factory=dict)


def predicted(
    obj: NDArray[Any], probe: NDArray[Any], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rates (M, N, N): beams shifted by fractions of a pixel, in double precision."""
    edge, k = probe.shape[-1], np.fft.fftfreq(probe.shape[-1])
    spectrum, rates = np.fft.fft2(probe), np.empty((len(positions), *probe.shape[1:]))
    for row, (x, y) in enumerate(positions):
        column, line = int(np.rint(x)), int(np.rint(y))
        turn = np.exp(-2j * np.pi * (k[:, None] * (y - line) + k * (x - column)))
        beam = np.fft.ifft2(spectrum * turn)
        top, left = line - edge // 2, column - edge // 2
        wave = np.fft.fft2(obj[top : top + edge, left : left + edge] * beam) / edge
        rates[row] = np.fft.fftshift((np.abs(wave) ** 2).sum(0))
    return rates


def raster(side: int, step: float, edge: int, rng: np.random.Generator) -> NDArray[np.float64]:
    along = np.arange(side) * step
    x, y = np.meshgrid(along, along)
    jitter = rng.uniform(-1, 1, (side**2, 2))
    return np.stack([x.ravel(), y.ravel()], 1) + jitter + edge / 2 + 4


def drawn(name: str, size: int, seed: int) -> NDArray[np.complex128]:
    scan = ps.simulate_scan(
        object=name, num_positions=4, N=16, object_shape=(size, size), seed=seed
    )
    return np.asarray(scan.object_guess, np.complex128)


#: What each case changes: photons, object, patch edge, positions a side, step, and others.
CASES: dict[str, dict[str, Any]] = {
    **{f"dose{n}": {"photons": 10.0**n} for n in (1, 2, 3, 4, 5, 6, 8)},
    "leaves": {"object": "dead_leaves"},
    "lines": {"object": "lines"},
    "N128": {"edge": 128, "side": 12, "step": 11.0},
    "N256": {"edge": 256, "side": 10, "step": 22.0},
    "sparse": {"side": 11, "step": 10.0, "photons": 1e4},
    "large": {"side": 50},
    "zone_plate": {"zone_plate": True, "step": 4.0},
    "zone_plate_leaves": {"zone_plate": True, "step": 4.0, "object": "dead_leaves"},
    "zone_plate_large": {"zone_plate": True, "step": 4.0, "side": 50},
    "steep": {"ramp": 5.4e-3},
    "strong": {"strong": True},
    "probe": {"aberration": (900.0, 700.0)},
    "positions": {"error": 2.0},
    "modes": {"modes": 2},
    "onemode": {"modes": 1},
}


def make_case(name: str, seed: int) -> Case:
    change = CASES[name]
    rng, edge = np.random.default_rng(100 + seed), change.get("edge", 64)
    positions = raster(change.get("side", 20), change.get("step", 5.5), edge, rng)
    size = int(np.ceil(positions.max())) + edge // 2 + 6
    obj = drawn(change.get("object", "bars_and_ellipses"), size, seed)
    if "ramp" in change:
        y, x = np.mgrid[:size, :size] - size / 2
        obj = obj * np.exp(0.5j * change["ramp"] * (x**2 + y**2))
    if change.get("strong"):
        dark = np.abs(drawn("bars_and_ellipses", size, seed + 1))
        phase = np.angle(obj)
        dark, phase = ((a - a.min()) / np.ptp(a) for a in (dark, phase))
        obj = np.sqrt(dark) * np.exp(1.8j * np.pi * phase)
    width = 18 * edge / 64
    probe = make_probe("gaussian", edge, {"full_width": width, "edge_phase": 6.0})
    if change.get("zone_plate"):
        probe = make_probe("fresnel_zone_plate", edge)
    given, wanted = probe, {}
    if "modes" in change:
        along = (np.arange(edge) - edge / 2) / (width / 2.35)
        second = probe[0] * along
        second *= np.linalg.norm(probe) / np.linalg.norm(second)
        probe = np.stack([np.sqrt(0.75) * probe[0], np.sqrt(0.25) * second])
        given = probe[: change["modes"]]
        if change["modes"] == 1:
            wanted = {"refine_probe": True, "probe_modes": 2}
    rates = predicted(obj, probe, positions)
    scale = change.get("photons", 1e6) / rates.sum((1, 2)).mean()
    counts = rng.poisson(rates * scale).astype(np.uint32)
    probe, given = probe * np.sqrt(scale), given * np.sqrt(scale)
    if "aberration" in change:
        defocus, astigmatism = change["aberration"]
        k = np.fft.fftfreq(edge)
        ky, kx = k[:, None], k
        phase = defocus * (kx**2 + ky**2) + astigmatism * (kx**2 - ky**2)
        given = np.fft.ifft2(np.fft.fft2(given) * np.exp(1j * phase))
        wanted = {"refine_probe": True}
    measured = positions
    if "error" in change:
        measured = positions + rng.normal(0, change["error"], positions.shape)
        wanted = {"correct_positions": True}
    scan = Scan(
        name=name,
        patterns=ArrayPatterns(counts),
        measurement_domain="counts",
        positions=measured,
        probe=given.astype(np.complex64),
    )
    return Case(scan, obj, probe, positions, {"refine_probe": False, **wanted})


def measured_cases(folder: Path) -> Iterator[tuple[str, Case]]:
    star, reference = (np.load(folder / f"siemens-star-small{e}.npz") for e in ("", "-reference"))
    for name, probe in (("star", star["probeGuess"]), ("published", reference["probe_published"])):
        scan = ps.read_scan(folder / "siemens-star-small.npz")
        edge = probe.shape[-1]
        scan = Scan(
            name=name,
            patterns=scan.patterns,
            measurement_domain=scan.measurement_domain,
            positions=scan.positions,
            probe=probe.reshape(-1, edge, edge).astype(np.complex64),
        )
        yield name, Case(scan, reference["object"], scan.probe, scan.positions)
    scan = ps.read_scan(folder / "t235.npz")
    found = np.load(folder / "t235_ptychi150.npz")
    yield "t235", Case(scan, found["objectGuess"], found["probeGuess"], scan.positions)


Solved = tuple[NDArray[np.complex64], NDArray[np.complex64], NDArray[np.float64], float]


def ours(case: Case, passes: int) -> Solved:
    with tempfile.TemporaryDirectory() as folder:
        store = ps.build_group_store(case.scan, f"{folder}/scan.zarr", progress=False)
        grid = ObjectGrid(*case.truth.shape)
        began = time.process_time()
        result = ps.reconstruct(store, passes=passes, checks_fit=False, grid=grid, **case.wanted)
        seconds = time.process_time() - began
    return result.object, result.probe, result.positions, seconds


def prototype(case: Case, passes: int) -> Solved:
    from solver import solve

    patterns = case.scan.patterns.read(np.arange(case.scan.num_patterns)).astype(np.float32)
    amplitude = patterns if case.scan.measurement_domain == "amplitude" else np.sqrt(patterns)
    began = time.process_time()
    found = solve(
        amplitude,
        case.scan.positions,
        case.scan.probe,
        passes=passes,
        shape=case.truth.shape,
        refine_probe=case.wanted.get("refine_probe", True),
        refine_positions=case.wanted.get("correct_positions", False),
        modes=case.wanted.get("probe_modes"),
    )
    return found.object, found.probe, found.positions, time.process_time() - began


def lsqml(case: Case, epochs: int) -> Solved:
    """Reconstruct with pty-chi's defaults and batches of 100."""
    import ptychi.api as api
    from ptychi.api.task import PtychographyTask

    scan, (height, width) = case.scan, case.truth.shape
    patterns = scan.patterns.read(np.arange(scan.num_patterns)).astype(np.float32)
    options = api.LSQMLOptions()
    counts = patterns if scan.measurement_domain == "counts" else patterns**2
    options.data_options.data = counts
    options.object_options.initial_guess = torch.ones((1, height, width), dtype=torch.complex64)
    options.object_options.pixel_size_m = 1e-8
    options.object_options.optimizable = True
    probe = scan.probe
    missing = case.wanted.get("probe_modes", len(probe)) - len(probe)
    if missing > 0:
        rng = np.random.default_rng(0)
        shape = (missing, *probe.shape[1:])
        noise = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        more = noise * np.abs(probe[:1]) * 0.3
        probe = np.concatenate([probe, more]).astype(np.complex64)
    options.probe_options.initial_guess = torch.from_numpy(probe[None].copy())
    options.probe_options.optimizable = bool(case.wanted.get("refine_probe", True))
    moved = options.probe_position_options
    # Its positions count from the object's middle.
    moved.position_x_px = scan.positions[:, 0] - width / 2
    moved.position_y_px = scan.positions[:, 1] - height / 2
    moved.optimizable = bool(case.wanted.get("correct_positions", False))
    options.reconstructor_options.batch_size = 100
    options.reconstructor_options.num_epochs = epochs
    options.reconstructor_options.default_device = api.Devices.CPU
    task = PtychographyTask(options)
    began = time.process_time()
    task.run()
    seconds = time.process_time() - began
    obj = task.get_data_to_cpu("object", as_numpy=True)[0].astype(np.complex64)
    found = task.get_data_to_cpu("probe", as_numpy=True)[0].astype(np.complex64)
    return obj, found, scan.positions, seconds


def coverage_of(case: Case) -> NDArray[np.float32]:
    """Positions in whose lit area a pixel lies."""
    power = (np.abs(case.true_probe.reshape(-1, *case.true_probe.shape[-2:])) ** 2).sum(0)
    lit = covering_area(torch.from_numpy(power)).numpy()
    cover, edge = np.zeros(case.truth.shape, np.float32), lit.shape[-1]
    for x, y in case.true_positions:
        top, left = int(np.rint(y)) - edge // 2, int(np.rint(x)) - edge // 2
        first, start = max(top, 0), max(left, 0)
        part = cover[first : top + edge, start : left + edge]
        part += lit[first - top :, start - left :][: part.shape[0], : part.shape[1]]
    return cover


def vortices(obj: NDArray[Any], region: NDArray[np.bool_]) -> int:
    """Count the points around which the phase turns once."""
    phase = np.angle(obj)

    def step(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return np.angle(np.exp(1j * (b - a)))

    around = (
        step(phase[:-1, :-1], phase[:-1, 1:])
        + step(phase[:-1, 1:], phase[1:, 1:])
        + step(phase[1:, 1:], phase[1:, :-1])
        + step(phase[1:, :-1], phase[:-1, :-1])
    )
    inside = region[:-1, :-1] & region[1:, 1:]
    return int((np.abs(around) > 3)[inside].sum())


def row(case: Case, solver: str, number: int, solved: Solved) -> dict[str, Any]:
    obj, probe, positions, seconds = solved
    cover = coverage_of(case)
    metrics = evaluate_object(obj, case.truth.astype(np.complex64), cover).metrics
    true = case.true_probe.reshape(-1, *case.true_probe.shape[-2:])[0]
    overlap = np.abs(np.fft.ifft2(np.fft.fft2(probe[0]) * np.fft.fft2(true).conj())).max()
    error = positions - case.true_positions
    return {
        "solver": solver,
        "number": number,
        "seconds": seconds,
        "amplitude SSIM": metrics["amplitude_ssim"],
        "phase SSIM": metrics["phase_ssim"],
        "phase RMSE": metrics["phase_rmse"],
        "phase correlation": metrics["phase_correlation"],
        "probe": float(overlap / np.linalg.norm(probe[0]) / np.linalg.norm(true)),
        "positions": float((error - error.mean(0)).std()),
        "vortices": vortices(obj, cover >= 3) - vortices(case.truth, cover >= 3),
    }


def show(name: str, seed: int, found: dict[str, Any]) -> None:
    numbers = " | ".join(
        f"{value:.3f}" if isinstance(value, float) else str(value)
        for key, value in found.items()
        if key != "solver"
    )
    print(f"| {name} | {seed} | {found['solver']} | {numbers} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--passes", nargs="*", type=int, default=[20])
    parser.add_argument("--epochs", nargs="*", type=int, default=[])
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--prototype", type=Path)
    parser.add_argument("--curves", type=Path, help="picture of quality over time")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # Imports are no part of the times.
    ours(make_case("sparse", 0), 1)
    solvers: list[tuple[str, Callable[[Case, int], Solved], list[int]]] = [
        ("ours", ours, options.passes),
        ("pty-chi LSQML", lsqml, options.epochs),
    ]
    if options.prototype is not None:
        sys.path.insert(0, str(options.prototype))
        solvers.insert(1, ("prototype", prototype, options.passes))
    print(
        "| case | seed | solver | passes or epochs | s | amplitude SSIM | phase SSIM | phase RMSE |"
        " phase correlation | probe | positions off, px | vortices too many |"
    )
    print("|" + "---|" * 12)
    curves: dict[str, list[tuple[float, float]]] = {}
    cases = ((n, s, make_case(n, s)) for n in options.cases for s in options.seeds)
    more = () if options.measured is None else measured_cases(options.measured)
    for name, seed, case in (*cases, *((n, 0, c) for n, c in more)):
        for solver, run, numbers in solvers:
            for number in numbers:
                found = row(case, solver, number, run(case, number))
                show(name, seed, found)
                quality = (found["amplitude SSIM"] + found["phase SSIM"]) / 2
                curves.setdefault(f"{solver}, {name}", []).append((found["seconds"], quality))
    if options.curves is not None:
        draw(curves, options.curves)


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw quality over processor time, one line a solver and case."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    colours = {case: f"C{n}" for n, case in enumerate({k.split(", ")[1]: 0 for k in curves})}
    for name, points in curves.items():
        solver, case = name.split(", ")
        style = "-o" if solver == "ours" else "--s"
        axis.plot(*zip(*points, strict=True), style, color=colours[case], label=name, markersize=4)
    axis.set_xscale("log")
    axis.set_xlabel("processor time of one thread, s")
    axis.set_ylabel("mean of amplitude and phase SSIM")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
