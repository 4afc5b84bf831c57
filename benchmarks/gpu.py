"""What a GPU does: loader, solver, prediction and training, in patterns a second; one JSON.

    python benchmarks/gpu.py OUT.json [--patterns 4000] [--N 128] [--device cuda] [--passes 20]

On a machine without a registry carry these wheels beside torch: those that
`pip download --no-deps ptychostream lightning tensordict zarr numcodecs h5py hdf5plugin` and their
requirements name. On the processor it runs at a small size, as CI does.
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ptychostream as ps


def timed(work: Callable[[], int], device: str) -> dict[str, float]:
    """Patterns a second of some work, and the device's peak memory."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    began = time.perf_counter()
    patterns = work()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    found = {"patterns_per_second": patterns / seconds, "seconds": seconds}
    if device == "cuda":
        found["peak_memory_bytes"] = float(torch.cuda.max_memory_allocated())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patterns", type=int, default=4000)
    parser.add_argument("--N", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--passes", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    device, found = options.device, {}
    accelerator = "gpu" if device == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        scan = ps.simulate_scan(num_positions=options.patterns, N=options.N, nphotons=1e6, seed=0)
        store = ps.build_group_store(scan, f"{folder}/scan.zarr", progress=False)

        def load() -> int:
            loader = ps.make_loader(store, store.groups(1), batch_size=64, device=device)
            return sum(len(batch) for batch in loader)

        def solve() -> int:
            states = list(ps.solve(store, passes=options.passes, device=device, refine_probe=True))
            found["misfit"] = states[-1].misfit
            return options.passes * store.num_patterns

        def config(precision: str) -> tuple[ps.TrainingConfig, ps.PyTorchExecutionConfig]:
            model = ps.ModelConfig(N=options.N, architecture="unrolled", gridsize=1)
            return (
                ps.TrainingConfig(model=model, nepochs=1, batch_size=16, output_dir=folder),
                ps.PyTorchExecutionConfig(
                    accelerator=accelerator,
                    precision=precision,
                    enable_progress_bar=False,
                    enable_checkpointing=False,
                ),
            )

        load()
        found["loader"] = timed(load, device)
        found["solver, float32"] = timed(solve, device)
        for precision in ("32-true", "bf16-mixed"):
            setting, execution = config(precision)
            made: list[Any] = []

            def train(setting: Any = setting, execution: Any = execution, made: Any = made) -> int:
                made.append(ps.train(setting, store, execution=execution))
                return store.num_patterns

            def predict(execution: Any = execution, made: Any = made) -> int:
                ps.reconstruct(made[-1], store, passes=0, execution=execution)
                return store.num_patterns

            found[f"training, {precision}"] = timed(train, device)
            found[f"prediction and stitching, {precision}"] = timed(predict, device)
    trained = found["training, 32-true"]["patterns_per_second"]
    found["loader's share of training"] = trained / found["loader"]["patterns_per_second"]
    record = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "torch": torch.__version__,
        "patterns": options.patterns,
        "N": options.N,
        "threads": torch.get_num_threads(),
        **found,
    }
    options.out.write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
