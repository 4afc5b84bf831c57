"""Train once through the calls of existing callers and once through ours: the same weights.

Run it with `python examples/same_training_twice.py`; it simulates a small scan, takes a few
seconds, and ends with an error if a single bit differs.
"""

import tempfile
from pathlib import Path

import torch

import ptychostream as ps
from ptychostream.workflows import train_cdi_model


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = ps.simulate_scan(num_positions=100, N=16, step=2.5, nphotons=1e5, seed=1)
        ps.RawDataTorch.from_scan(scan).to_file(folder / "scan.npz")
        config = ps.TrainingConfig(
            model=ps.ModelConfig(N=16, gridsize=2, architecture="unrolled", unrolled_width=8),
            nepochs=2,
            neighbor_count=6,
            subsample_seed=7,
            output_dir=folder / "run",
            backend="pytorch",
        )
        execution = ps.PyTorchExecutionConfig(logger_backend=None, enable_checkpointing=False)

        # As existing callers have it: raw data from a file, results in a dictionary.
        raw = ps.RawDataTorch.from_file(folder / "scan.npz")
        results = train_cdi_model(raw, None, config, execution_config=execution)

        # As we have it: a store, a bundle.
        store = ps.build_group_store(folder / "scan.npz", folder / "scan.zarr", progress=False)
        bundle = ps.train(config, store, execution=execution)

    theirs, ours = results["bundle"].model.state_dict(), bundle.model.state_dict()
    assert theirs.keys() == ours.keys()
    different = [name for name in ours if not torch.equal(theirs[name], ours[name])]
    if different:
        raise SystemExit(f"these weights differ: {', '.join(different)}")
    count = sum(value.numel() for value in ours.values())
    print(f"{count} numbers, all equal; losses {results['history']['train_loss']}")


if __name__ == "__main__":
    main()
