"""Quality of each generator on an object that it was not trained on.

Trains on a simulated scan of 1,521 positions (N = 64, a million photons a pattern, weak bars and
ellipses, independent in amplitude and phase), and reconstructs another object from 900
positions. Prints one row per generator and number of refinement passes.

    python benchmarks/quality.py                      # unrolled, gridsize 1 and 2: minutes
    python benchmarks/quality.py --rows cnn1          # the CNN: about half an hour on one core
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
    "unrolled1": ("unrolled", 1, 5, None, 8, 2e-3),
    "unrolled2": ("unrolled", 2, 5, 380, 4, 2e-3),
    "cnn1": ("cnn", 1, 15, None, 16, 1e-3),
    "cnn2": ("cnn", 2, 15, None, 16, 1e-3),
}


def scan_store(folder: Path, seed: int, number: int, step: float) -> ps.GroupStore:
    scan = ps.simulate_scan(
        object="bars_and_ellipses",
        probe="gaussian",
        num_positions=number,
        N=64,
        step=step,
        object_shape=(236, 236),
        nphotons=1e6,
        seed=seed,
    )
    return ps.build_group_store(scan, folder / f"{seed}.zarr")


def untrained(config: ps.TrainingConfig, store: ps.GroupStore) -> ps.ModelBundle:
    from ptychostream.training import initial_model

    return ps.ModelBundle(
        model=initial_model(config, store, seed=0).eval(),
        config=config,
        intensity_scale=1.0,
        probe_guess=store.probe,
    )


def row(name: str, seed: int, train: ps.GroupStore, folder: Path) -> tuple[ps.ModelBundle, float]:
    architecture, gridsize, epochs, groups, batch, rate = ROWS[name]
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=64, gridsize=gridsize, architecture=architecture, n_filters_scale=1),
        nepochs=max(epochs, 1),
        batch_size=batch,
        n_groups=groups,
        neighbor_count=6,
        subsample_seed=seed,
        output_dir=folder,
    )
    execution = ps.PyTorchExecutionConfig(
        learning_rate=rate, logger_backend=None, enable_checkpointing=False
    )
    began = time.perf_counter()
    bundle = ps.train(config, train, execution=execution) if epochs else untrained(config, train)
    return bundle, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS)[:4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--passes", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    records = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = scan_store(folder, 1, 1521, 4.0), scan_store(folder, 2, 900, 5.5)
        print("| row | seed | passes | train s | reconstruct s |", *COLUMNS, "|", sep=" | ")
        for key in options.rows:
            for seed in options.seeds:
                bundle, training = row(key, seed, train, folder)
                for passes in options.passes:
                    result = ps.reconstruct(bundle, test, refine_passes=passes)
                    metrics = evaluate_object(
                        result.object, test.object_guess, result.coverage
                    ).metrics
                    record = {
                        "row": key,
                        "seed": seed,
                        "passes": passes,
                        "train": training,
                        "reconstruct": sum(result.seconds.values()),
                    } | {column: metrics[column] for column in COLUMNS}
                    records.append(record)
                    shown = [f"{v:.3f}" if isinstance(v, float) else v for v in record.values()]
                    print("|", " | ".join(map(str, shown)), "|", flush=True)
        flat = np.ones_like(test.object_guess)
        metrics = evaluate_object(flat, test.object_guess, result.coverage, register=False).metrics
        print("| flat object |", " | ".join(f"{metrics[c]:.3f}" for c in COLUMNS), "|")
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
