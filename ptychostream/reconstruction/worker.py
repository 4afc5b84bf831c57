"""One of several processes that predict patches; started by `processes`, not by users."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import open_group_store
from ptychostream.persistence.archive import load_bundle
from ptychostream.reconstruction.predict import inference_loader, predict
from ptychostream.reconstruction.processes import AHEAD


def work(folder: Path, rank: int) -> None:
    """Predict one process's part of the groups; a line to standard output for every file."""
    request = json.loads((folder / "request.json").read_text())
    execution = PyTorchExecutionConfig(**request["execution"])
    world = execution.devices
    bundle, store = load_bundle(folder), open_group_store(request["store"])
    kind = request["device"]
    device = torch.device(f"{kind}:{rank}" if kind == "cuda" else kind)
    model = bundle.model.with_probe(store.probe, store.bad_pixels).to(device)
    table = np.load(folder / "groups.npy")
    # A consecutive part: its patches are neighbours, and few chunks are decoded twice.
    first, last = rank * len(table) // world, (rank + 1) * len(table) // world
    groups = Groups(
        nn_indices=table[first:last], parameters=GroupingParameters(**request["parameters"])
    )
    loader = inference_loader(
        store,
        groups,
        scales_of(store, bundle.config.nphotons),
        execution,
        request["batch_size"],
        device,
    )
    seconds = {"read": 0.0, "predict": 0.0}
    predicted = predict(model, loader, execution, seconds, first=first)
    for number, (patches, _, nodes) in enumerate(predicted):
        while (folder / f"{rank}-{number - AHEAD}.npy").exists():
            time.sleep(0.005)
        name = f"{rank}-{number}.npy"
        np.save(folder / name, patches.cpu().numpy())
        _say({"file": name, "first": int(nodes[0])})
    _say(seconds)


def _say(message: dict[str, Any]) -> None:
    # On a line of its own: a library may have printed half a line.
    print(f"\n{json.dumps(message)}", flush=True)  # noqa: T201


def _end_with_starter() -> None:
    # Nothing is ever written there. Not through `sys.stdin`, whose lock Python wants at its end.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_starter, daemon=True).start()
    work(Path(sys.argv[1]), int(sys.argv[2]))
