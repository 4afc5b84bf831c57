"""Quality of each generator on an object that it was not trained on.

Trains on a simulated scan of 1,521 positions (N = 64, a million photons a pattern, weak bars and
ellipses, independent in amplitude and phase), and reconstructs another object from 900
positions. Prints one row per generator and number of refinement passes: 0 is the bare network.

    python benchmarks/quality.py                      # unrolled, gridsize 1 and 2: minutes
    python benchmarks/quality.py --seeds 0 1 2        # three seeds of each
    python benchmarks/quality.py --rows cnn1 cnn2     # the CNN: ten to twenty minutes a row
    python benchmarks/quality.py --curve dose         # a trained network at other doses,
    python benchmarks/quality.py --curve overlap      # and at other distances of positions
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import ptychostream as ps
from ptychostream.evaluation import evaluate_object
from ptychostream.reconstruction.result import ReconstructionResult

COLUMNS = (
    "amplitude_ssim",
    "phase_ssim",
    "amplitude_psnr",
    "phase_rmse",
    "phase_correlation",
    "amplitude_spread_ratio",
)

#: Row: architecture, gridsize, epochs, groups per epoch, batch size, learning rate.
ROWS = {
    "physics1": ("unrolled", 1, 0, None, 8, 2e-3),
    "physics2": ("unrolled", 2, 0, None, 4, 2e-3),
    "unrolled1": ("unrolled", 1, 5, None, 2, 2e-3),
    "unrolled2": ("unrolled", 2, 5, 380, 4, 2e-3),
    "supervised1": ("unrolled", 1, 5, None, 2, 2e-3),
    "cnn1": ("cnn", 1, 15, None, 4, 5e-4),
    "cnn2": ("cnn", 2, 15, None, 4, 5e-4),
    "fno1": ("fno", 1, 5, None, 16, 1e-3),
    "ffno1": ("ffno", 1, 5, None, 16, 1e-3),
}

#: Photons per pattern, and distances of neighbouring positions in pixels, of the two curves. The
#: beam's full width at half maximum is 18 px.
DOSES = (1e4, 1e5, 1e6, 1e7)
STEPS = (3.0, 4.0, 5.5, 8.0, 11.0)


def scan_store(
    folder: Path, seed: int, number: int, step: float, nphotons: float = 1e6
) -> ps.GroupStore:
    target = folder / f"{seed}-{step}-{nphotons:.0e}.zarr"
    if target.exists():
        return ps.open_group_store(target)
    scan = ps.simulate_scan(
        object="bars_and_ellipses",
        probe="gaussian",
        num_positions=number,
        N=64,
        step=step,
        object_shape=(236, 236),
        nphotons=nphotons,
        seed=seed,
    )
    return ps.build_group_store(scan, target)


def untrained(config: ps.TrainingConfig, store: ps.GroupStore) -> ps.ModelBundle:
    from ptychostream.training.train import initial_model

    return ps.ModelBundle(
        model=initial_model(config, store, seed=0).eval(),
        config=config,
        intensity_scale=1.0,
        probe_guess=store.probe,
    )


def row(name: str, seed: int, train: ps.GroupStore, folder: Path) -> tuple[ps.ModelBundle, float]:
    architecture, gridsize, epochs, groups, batch, rate = ROWS[name]
    config = ps.TrainingConfig(
        model=ps.ModelConfig(
            N=64,
            gridsize=gridsize,
            architecture=architecture,
            model_type="supervised" if name.startswith("supervised") else "pinn",
            **({"n_filters_scale": 1} if architecture == "cnn" else {}),
        ),
        nepochs=max(epochs, 1),
        batch_size=batch,
        n_groups=groups,
        neighbor_count=12 if gridsize == 1 else 6,
        subsample_seed=seed,
        # Steps are many and small: gradients of a second ago say little of their size.
        adam_beta2=0.99 if architecture == "unrolled" else 0.999,
        output_dir=folder,
    )
    execution = ps.PyTorchExecutionConfig(
        learning_rate=rate, logger_backend=None, enable_checkpointing=False
    )
    began = time.perf_counter()
    bundle = ps.train(config, train, execution=execution) if epochs else untrained(config, train)
    return bundle, time.perf_counter() - began


def measured(
    bundle: ps.ModelBundle, test: ps.GroupStore, passes: int
) -> tuple[dict[str, float], ReconstructionResult]:
    """Reconstruct and compare: metrics, and the result."""
    result = ps.reconstruct(bundle, test, passes=passes)
    metrics = evaluate_object(result.object, test.object_guess, result.coverage).metrics
    return {column: metrics[column] for column in COLUMNS}, result


def show(record: dict[str, object]) -> None:
    shown = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in record.values()]
    print("|", " | ".join(shown), "|", flush=True)


def table(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """One line per row, seed and number of passes."""
    train, test = scan_store(folder, 1, 1521, 4.0), scan_store(folder, 2, 900, 5.5)
    records = []
    print("| row | seed | passes | train s | reconstruct s |", " | ".join(COLUMNS), "|")
    for key in options.rows:
        for seed in options.seeds:
            bundle, training = row(key, seed, train, folder)
            for passes in options.passes:
                metrics, result = measured(bundle, test, passes)
                head = {"row": key, "seed": seed, "passes": passes}
                times = {"train": training, "reconstruct": sum(result.seconds.values())}
                records.append(head | times | metrics)
                show(records[-1])
    flat = np.ones_like(test.object_guess)
    metrics = evaluate_object(flat, test.object_guess, result.coverage, register=False).metrics
    show({"row": "flat object"} | {column: metrics[column] for column in COLUMNS})
    return records


def curve(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """One line per dose or step: networks trained once, as in the table, see other scans."""
    train = scan_store(folder, 1, 1521, 4.0)
    records = []
    print("| row |", options.curve, "| passes |", " | ".join(COLUMNS), "|")
    for key in options.rows:
        bundle, _ = row(key, options.seeds[0], train, folder)
        for value in DOSES if options.curve == "dose" else STEPS:
            if options.curve == "dose":
                test = scan_store(folder, 2, 900, 5.5, value)
            else:
                test = scan_store(folder, 2, int(165 / value) ** 2, value)
            for passes in options.passes:
                metrics, _ = measured(bundle, test, passes)
                records.append({"row": key, options.curve: value, "passes": passes} | metrics)
                show(records[-1])
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS)[:4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--passes", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--curve", choices=("dose", "overlap"))
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        records = (curve if options.curve else table)(options, Path(name))
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
