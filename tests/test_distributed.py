"""Two processes on the CPU, as Lightning starts them."""

import json
import os
import subprocess
import sys

import ptychostream as ps

SCRIPT = """
import json, os, sys
import torch
import ptychostream as ps
torch.set_num_threads(1)
folder = sys.argv[1]
config = ps.TrainingConfig(
    model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_steps=2, unrolled_width=8),
    nepochs=2, batch_size=8, output_dir=folder,
)
execution = ps.PyTorchExecutionConfig(
    accelerator="cpu", devices=2, strategy="ddp", logger_backend=None, enable_checkpointing=False
)
bundle = ps.train(config, ps.open_group_store(sys.argv[2]), execution=execution)
weights = torch.cat([p.detach().flatten() for p in bundle.model.parameters()])
rank = os.environ["LOCAL_RANK"]
with open(f"{folder}/rank{rank}.json", "w") as file:
    json.dump({"sum": weights.double().sum().item(), "losses": bundle.history["train_loss"]}, file)
"""


def test_two_processes_share_the_groups_and_end_with_the_same_weights(tmp_path):
    # 37 groups do not divide by two: ranks differ by one and must not wait for each other.
    scan = ps.simulate_scan(num_positions=37, N=16, step=2.5)
    ps.build_group_store(scan, tmp_path / "s.zarr")
    (tmp_path / "run.py").write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k != "LOCAL_RANK"}
    run = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path), str(tmp_path / "s.zarr")],
        env=environment | {"LOCAL_RANK": "0"} if "LOCAL_RANK" in os.environ else environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["sum"] == second["sum"]
    assert len(first["losses"]) == 2
