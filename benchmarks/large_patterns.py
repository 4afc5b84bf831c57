"""Train every generator on patterns of 128 x 128, for several seeds: does any collapse.

    python benchmarks/large_patterns.py [--data gaussian zone_plate star] [--star FILE REFERENCE]

Each generator is trained on a scan and reconstructs it: simulated ones of 400 positions, with the
Gaussian beam of `quality.py` in twice the pixels or with the small annular beam of a zone plate,
or with `--star` a measured one, an NPZ file and another with the `object` to compare with. A
collapsed network gives a flat object: its amplitude or phase then has no spread, and does not
correlate with the truth. The CNN takes small batches and small steps, as in `quality.py`.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import ptychostream as ps
from ptychostream.evaluation import evaluate_object

#: Generator: its model's options, those of training, and the learning rate.
RECIPES = {
    "unrolled": (
        {"gridsize": 2},
        {"nepochs": 1, "batch_size": 4, "n_groups": 129, "neighbor_count": 6},
        2e-3,
    ),
    "cnn": (
        {"n_filters_scale": 1},
        {"nepochs": 15, "batch_size": 4},
        5e-4,
    ),
    "fno": ({}, {"nepochs": 2, "batch_size": 4}, 1e-3),
    "ffno": ({}, {"nepochs": 2, "batch_size": 4}, 1e-3),
}

#: Beam of the simulated scans, and how far apart their positions are: by default N/16.
SIMULATED = {
    "gaussian": {"probe": "gaussian"},
    "zone_plate": {"probe": "fresnel_zone_plate", "overlap": 0.8},
}

COLUMNS = (
    "amplitude_spread_ratio",
    "amplitude_ssim",
    "phase_spread_ratio",
    "phase_ssim",
    "phase_correlation",
)


def train_and_compare(store: ps.GroupStore, truth: np.ndarray, name: str, seed: int) -> None:
    model, training, rate = RECIPES[name]
    with tempfile.TemporaryDirectory() as folder:
        config = ps.TrainingConfig(
            model=ps.ModelConfig(N=store.N, architecture=name, **model),
            subsample_seed=seed,
            output_dir=folder,
            **training,
        )
        execution = ps.PyTorchExecutionConfig(
            learning_rate=rate, logger_backend=None, enable_checkpointing=False
        )
        began = time.perf_counter()
        bundle = ps.train(config, store, execution=execution)
        seconds = time.perf_counter() - began
    for passes in (0, 2):
        result = ps.reconstruct(bundle, store, passes=passes)
        metrics = evaluate_object(result.object, truth, result.coverage).metrics
        shown = " | ".join(f"{metrics[column]:.3f}" for column in COLUMNS)
        print(f"| {name} | {seed} | {passes} | {seconds:.0f} | {shown} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generators", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", nargs="+", choices=(*SIMULATED, "star"))
    parser.add_argument("--N", type=int, default=128, help="edge of the simulated patterns")
    parser.add_argument("--star", type=Path, nargs=2, metavar=("FILE", "REFERENCE"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = options.data or (["star"] if options.star else ["gaussian"])
    if "star" in wanted and options.star is None:
        parser.error("--data star needs --star FILE REFERENCE")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for data in wanted:
            if data in SIMULATED:
                scan = ps.simulate_scan(
                    object="bars_and_ellipses",
                    num_positions=400,
                    N=options.N,
                    seed=1,
                    **SIMULATED[data],
                )
                truth = scan.object_guess
            else:
                scan = ps.read_scan(options.star[0])
                truth = np.load(options.star[1])["object"]
                scan = replace(scan, object_guess=None)
            store = ps.build_group_store(scan, folder / f"{data}.zarr")
            print(f"{data}: | generator | seed | passes | train s |", " | ".join(COLUMNS), "|")
            for seed in options.seeds:
                for generator in options.generators:
                    train_and_compare(store, truth, generator, seed)


if __name__ == "__main__":
    main()
