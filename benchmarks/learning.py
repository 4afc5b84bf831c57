"""When does training pay? The solver, and networks bare and as its start, over step and dose.

    python benchmarks/learning.py [--steps 0.6 1.2 2.0] [--doses 1e2 1e3 1e5] [--seeds 0 1 2]
        [--kinds pinn solver truth] [--epochs 6] [--json FILE.json]
    python benchmarks/learning.py --records FILE.json ... [--picture FILE.png]

The second form makes a table, and a picture, of what the first one has measured.

Patterns of 32 x 32 px; steps are in widths of the beam, which is 9 px wide at half maximum.
For each dose a network of each kind is trained on six scans of dead leaves, at all steps: by the
diffraction loss alone (`pinn`), by what the solver makes of these scans (`solver`), and by their
true objects (`truth`). Other scans of dead leaves, and of bars and ellipses, are then
reconstructed.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import untrained

import ptychostream as ps
from ptychostream.evaluation import evaluate_object

EDGE, WIDTH, POSITIONS = 32, 9.0, 144
FAMILIES = ("dead_leaves", "bars_and_ellipses")


def simulated(family: str, step: float, dose: float, seed: int) -> Any:
    return ps.simulate_scan(
        object=family,
        probe="gaussian",
        probe_options={"full_width": WIDTH, "edge_phase": 3.0},
        num_positions=POSITIONS,
        N=EDGE,
        step=step * WIDTH,
        nphotons=dose,
        seed=seed,
    )


def trained(kind: str, store: ps.GroupStore, epochs: int, folder: Path) -> ps.ModelBundle:
    model = ps.ModelConfig(
        N=EDGE,
        architecture="unrolled",
        gridsize=1,
        model_type="supervised" if kind == "truth" else "pinn",
    )
    config = ps.TrainingConfig(
        model=model,
        nepochs=max(epochs, 1),
        batch_size=4,
        neighbor_count=6,
        adam_beta2=0.99,
        output_dir=folder,
        **({"targets": "solver", "realspace_weight": 1.0} if kind == "solver" else {}),
    )
    if kind == "untrained":
        return untrained(config, store)
    execution = ps.PyTorchExecutionConfig(
        learning_rate=2e-3, logger_backend=None, enable_checkpointing=False
    )
    return ps.train(config, store, execution=execution)


def score(obj: Any, scan: Any, coverage: Any) -> tuple[float, float]:
    metrics = evaluate_object(obj, scan.object_guess, coverage, min_coverage=1).metrics
    return metrics["amplitude_ssim"], metrics["phase_ssim"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, nargs="+", default=[0.6, 1.2, 2.0])
    parser.add_argument("--doses", type=float, nargs="+", default=[1e2, 1e3, 1e5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=["untrained", "pinn", "solver", "truth"])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--records", type=Path, nargs="+", help="files that --json wrote")
    options = parser.parse_args()
    if options.records is not None:
        records = [line for path in options.records for line in json.loads(path.read_text())]
        summarise(records)
        if options.picture is not None:
            draw(records, options.picture)
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("| dose | step | object | what | amplitude SSIM | phase SSIM | spread | s |")
    print("|---|---|---|---|---|---|---|---|")
    records = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dose in options.doses:
            records += of_dose(dose, options, folder / f"{dose:.0e}")
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=1))


def of_dose(dose: float, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train a network of each kind, and reconstruct scans of every step and family."""
    folder.mkdir()
    scans = [
        simulated(FAMILIES[0], step, dose, 100 + 10 * seed + n)
        for n, step in enumerate(options.steps)
        for seed in range(2)
    ]
    store = ps.build_group_store(scans, folder / "train.zarr", progress=False)
    bundles = {}
    for kind in options.kinds:
        began = time.process_time()
        bundles[kind] = trained(kind, store, options.epochs, folder / kind)
        print(f"<!-- {dose:.0e} {kind}: {time.process_time() - began:.0f} s of training -->")
    records = []
    for step in options.steps:
        for family in FAMILIES:
            found: dict[str, list[tuple[float, float, float]]] = {}
            for seed in options.seeds:
                scan = simulated(family, step, dose, seed)
                test = ps.build_group_store(scan, folder / f"{family}-{step}-{seed}.zarr")
                runs: dict[str, tuple[Any, ...]] = {"solver alone": (test,)}
                for kind, bundle in bundles.items():
                    runs[kind] = (bundle, test, 0)
                    runs[f"{kind}, then solver"] = (bundle, test, 20)
                for what, (first, *more) in runs.items():
                    began = time.process_time()
                    result = (
                        ps.reconstruct(first, more[0], passes=more[1], checks_fit=False)
                        if more
                        else ps.reconstruct(first, checks_fit=False)
                    )
                    seconds = time.process_time() - began
                    scores = score(result.object, scan, result.coverage)
                    found.setdefault(what, []).append((*scores, seconds))
            for what, values in found.items():
                amplitude, phase, seconds = np.mean(values, 0)
                spread = float(np.std(values, 0)[:2].max())
                record = {"dose": dose, "step": step, "object": family, "what": what}
                record |= {"amplitude": amplitude, "phase": phase, "spread": spread, "s": seconds}
                records.append(record)
                print(
                    f"| {dose:.0e} | {step:g} | {family} | {what} | {amplitude:.3f} | "
                    f"{phase:.3f} | {spread:.3f} | {seconds:.2f} |",
                    flush=True,
                )
    return records


def _means(records: list[dict[str, Any]], *keys: Any) -> dict[str, tuple[float, float, float]]:
    """Return mean SSIM, amplitude and phase of each way to an object, of one cell of the grid."""
    return {
        r["what"]: ((r["amplitude"] + r["phase"]) / 2, r["amplitude"], r["phase"])
        for r in records
        if (r["dose"], r["step"], r["object"]) == keys
    }


def summarise(records: list[dict[str, Any]]) -> None:
    """Print, for each cell, the solver alone, the best network bare and as a start, the spread."""
    print(
        "| Photons | Step | Object | solver alone | best network, bare | best as a start | spread |"
    )
    print("|---|---|---|---|---|---|---|")
    for dose in sorted({r["dose"] for r in records}):
        for family in FAMILIES:
            for step in sorted({r["step"] for r in records}):
                cell = _means(records, dose, step, family)
                spread = max(
                    r["spread"]
                    for r in records
                    if (r["dose"], r["step"], r["object"], r["what"])
                    == (dose, step, family, "solver alone")
                )
                bare = {name: ssim for name, ssim in cell.items() if name != "solver alone"}
                start = {name: ssim for name, ssim in bare.items() if ", then" in name}
                bare = {name: ssim for name, ssim in bare.items() if name not in start}
                shown = [_shown(cell["solver alone"])]
                for ways in (bare, start):
                    best = max(ways, key=ways.__getitem__)
                    shown.append(f"{_shown(ways[best])} ({best.partition(',')[0]})")
                print(
                    f"| {dose:.0e} | {step:g} | {family.replace('_', ' ')} | {' | '.join(shown)} | "
                    f"{spread:.3f} |"
                )


def _shown(means: tuple[float, float, float]) -> str:
    return f"{means[1]:.3f} / {means[2]:.3f}"


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Draw, for each dose and step, the gain of the best network over the solver alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    doses = sorted({r["dose"] for r in records})
    steps = sorted({r["step"] for r in records})
    figure = Figure(figsize=(4.6 * len(FAMILIES), 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    for row, kind in enumerate(("bare", "as a start of the solver")):
        for column, family in enumerate(FAMILIES):
            axis = figure.add_subplot(2, len(FAMILIES), len(FAMILIES) * row + column + 1)
            gain = np.zeros((len(steps), len(doses)))
            for place in np.ndindex(gain.shape):
                cell = _means(records, doses[place[1]], steps[place[0]], family)
                ways = {n: c[0] for n, c in cell.items() if (", then" in n) == (row == 1)}
                ways.pop("solver alone", None)
                best = max(ways, key=ways.__getitem__)
                gain[place] = ways[best] - cell["solver alone"][0]
                text = f"{gain[place]:+.2f}\n{best.partition(',')[0]}"
                axis.text(place[1], place[0], text, ha="center", va="center", fontsize=8)
            axis.imshow(gain, cmap="RdBu", vmin=-0.3, vmax=0.3, origin="lower", aspect="auto")
            axis.set_xticks(range(len(doses)), [f"{dose:.0e}" for dose in doses])
            axis.set_yticks(range(len(steps)), [f"{step:g}" for step in steps])
            axis.set_xlabel("photons a pattern")
            axis.set_ylabel("step, in beam widths")
            axis.set_title(f"{family.replace('_', ' ')}: network {kind}", fontsize=10)
    figure.suptitle("Mean SSIM of the best network, less that of the solver alone")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
