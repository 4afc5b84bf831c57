"""Two processes on the CPU, started from inside a program and by torchrun."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.datasets.batches.sampler import plan_epoch
from ptychostream.errors import ConfigurationError, TrainingProcessError
from ptychostream.training.train import initial_model


@pytest.fixture(scope="module")
def store_37(tmp_path_factory):
    # 37 groups do not divide by two: ranks differ by one and must not wait for each other.
    scan = ps.simulate_scan(num_positions=37, N=16, step=2.5)
    return ps.build_group_store(scan, tmp_path_factory.mktemp("store") / "s.zarr")


def _two(**changes):
    options = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "logger_backend": None}
    return ps.PyTorchExecutionConfig(**(options | changes))


def _weights(bundle):
    return torch.cat([p.detach().flatten() for p in bundle.model.parameters()])


def test_two_processes_train_as_one_with_the_doubled_batch(store_37, make_config, tmp_path, caplog):
    reports = []
    caplog.set_level(logging.INFO, "ptychostream")
    # Without Adam, which makes steps of rounding errors where a gradient vanishes.
    options = {"nepochs": 3, "validation_fraction": 0.4, "optimizer": "sgd"}
    # With these neighbours no group is left that would join the batch before on two devices only.
    options["neighbor_count"] = 4
    config = make_config(**options, batch_size=4)
    # Steps large enough that what training changes is far above the rounding of the sums.
    rate = 1.0
    two = ps.train(config, store_37, execution=_two(learning_rate=rate), on_epoch=reports.append)
    files = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert "last.ckpt" in files
    one = ps.train(
        make_config(**options, batch_size=8),
        store_37,
        execution=ps.PyTorchExecutionConfig(
            logger_backend=None, enable_checkpointing=False, learning_rate=rate
        ),
    )
    for name in ("train_loss", "val_loss"):
        assert np.ptp(one.history[name]) > 3e-4
        np.testing.assert_allclose(two.history[name], one.history[name], rtol=1e-6)
    untrained = _weights(SimpleNamespace(model=initial_model(config, store_37, seed=0)))
    changes = [_weights(bundle) - untrained for bundle in (two, one)]
    assert changes[1].norm() > 0.05
    assert (changes[0] - changes[1]).norm() < 1e-5 * changes[1].norm()
    assert two.config == replace(one.config, batch_size=4)
    assert [report.train_loss for report in reports] == two.history["train_loss"]
    # The other process's words come through the starter's log, once.
    assert sum("epoch 2 of 3" in record.getMessage() for record in caplog.records) == 2
    assert "2 devices" in caplog.text


def test_batches_of_all_ranks_together_are_those_of_one_process():
    groups = np.random.default_rng(0).integers(0, 4, (37, 1))
    plan = plan_epoch(groups, 4, batch_size=4, order="shuffled", window_chunks=4)
    whole = plan_epoch(groups, 4, batch_size=8, order="shuffled", window_chunks=4)
    (window,) = whole.windows
    shares = [plan.share(rank, 2)[0].groups for rank in (0, 1)]
    at = [0, 0]
    for number, sizes in enumerate(
        zip(plan.batch_sizes(0, 2), plan.batch_sizes(1, 2), strict=True)
    ):
        batch = []
        for rank, size in enumerate(sizes):
            batch += shares[rank][at[rank] : at[rank] + size].tolist()
            at[rank] += size
        assert batch == window.groups[8 * number : 8 * number + len(batch)].tolist()
        assert len(batch) == plan.batch_totals(2)[number]
    assert at == [len(share) for share in shares]


def test_a_host_program_stops_processes_that_it_does_not_see(store_37, make_config):
    reports = []
    began = time.monotonic()
    # In a thread, as programs with windows do it.
    with ThreadPoolExecutor(1) as pool:
        bundle = pool.submit(
            ps.train,
            make_config(nepochs=100_000),
            store_37,
            execution=_two(enable_checkpointing=False),
            on_epoch=reports.append,
            should_stop=lambda: len(reports) > 1,
        ).result()
    assert bundle.history["stopped_after"][0] < 100_000
    assert time.monotonic() - began < 100


def _workers(parent):
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in found.stdout.splitlines() if "training.worker:run" in line]
    return [int(line.split()[0]) for line in lines]


@pytest.mark.parametrize("rank", [0])
def test_the_host_program_lives_on_when_a_process_dies(store_37, make_config, rank):
    killed = []

    def kill(_):
        # Reports that were on their way still come afterwards.
        if not killed:
            # In order of their start.
            killed.append(_workers(os.getpid())[rank])
            os.kill(killed[0], signal.SIGKILL)

    began = time.monotonic()
    with pytest.raises(TrainingProcessError, match="of 2 failed: .* was ended by SIGKILL"):
        ps.train(
            make_config(nepochs=100_000),
            store_37,
            execution=_two(enable_checkpointing=False),
            on_epoch=kill,
        )
    assert time.monotonic() - began < 100
    assert _workers(os.getpid()) == []


def test_an_error_in_a_process_is_the_callers(store_37, make_config):
    with pytest.raises(ConfigurationError, match="not a finite number"):
        ps.train(
            make_config(nepochs=3), store_37, execution=_two(learning_rate=1e12), on_epoch=print
        )
    with pytest.raises(ConfigurationError, match="1 groups cannot be shared by devices=2"):
        ps.train(make_config(n_groups=1), store_37, execution=_two())


SCRIPT = """
import json, os, sys
import torch
import ptychostream as ps
torch.set_num_threads(1)
config = ps.TrainingConfig(
    model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_steps=2, unrolled_width=8),
    nepochs=2, batch_size=4, output_dir=sys.argv[1],
)
execution = ps.PyTorchExecutionConfig(num_nodes=2)
bundle = ps.train(config, ps.open_group_store(sys.argv[2]), execution=execution)
weights = torch.cat([p.detach().flatten() for p in bundle.model.parameters()])
with open(f"{sys.argv[1]}/rank{os.environ['RANK']}.json", "w") as file:
    json.dump({"sum": weights.double().sum().item(), "losses": bundle.history["train_loss"]}, file)
"""


def test_torchrun_starts_the_processes_too_on_two_nodes(store_37, tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    launch += ["--rdzv_backend=c10d", f"--rdzv_endpoint={address}", "--local_addr=127.0.0.1"]
    launch += [str(tmp_path / "run.py"), str(tmp_path), str(store_37.path)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    nodes = [subprocess.Popen(launch, **pipes) for _ in range(2)]
    said = [node.communicate(timeout=200)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said[0][-2000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert len(first["losses"]) == 2
    # One process wrote the files.
    assert len((tmp_path / "log" / "metrics.csv").read_text().splitlines()) >= 3


def test_processes_end_with_their_starter(store_37, tmp_path):
    code = f"""
import sys
import ptychostream as ps
config = ps.TrainingConfig(
    model=ps.ModelConfig(N=16, architecture="unrolled", unrolled_steps=2, unrolled_width=8),
    nepochs=100000, batch_size=4, output_dir={str(tmp_path)!r},
)
execution = ps.PyTorchExecutionConfig(devices=2, accelerator="cpu", logger_backend=None)
ps.train(config, ps.open_group_store({str(store_37.path)!r}), execution=execution,
         on_epoch=lambda report: print(report.epoch, flush=True))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "1"
    workers = _workers(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(map(_lives, workers)):
        time.sleep(0.1)
    assert not any(map(_lives, workers))


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
