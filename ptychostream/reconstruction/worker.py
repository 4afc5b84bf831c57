"""What each of the processes runs that `processes.predict_in_processes` starts."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychostream.children import Channel
from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import open_group_store
from ptychostream.persistence.archive import load_bundle
from ptychostream.reconstruction.predict import inference_loader, predict
from ptychostream.reconstruction.processes import AHEAD


def run(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Predict one process's part of the groups, a file for each batch."""
    folder, rank = Path(arguments["folder"]), arguments["rank"]
    execution = PyTorchExecutionConfig(**arguments["execution"])
    bundle, store = load_bundle(folder, restore=None), open_group_store(arguments["store"])
    kind = arguments["device"]
    device = torch.device(f"{kind}:{rank}" if kind == "cuda" else kind)
    model = bundle.model.with_probe(store.probe, store.bad_pixels).to(device)
    table = np.load(folder / "groups.npy")
    # A consecutive part: its groups are neighbours, so that few chunks are decoded twice.
    first, last = (part * len(table) // execution.devices for part in (rank, rank + 1))
    groups = Groups(
        nn_indices=table[first:last], parameters=GroupingParameters(**arguments["parameters"])
    )
    scales = scales_of(store, bundle.config.nphotons)
    loader = inference_loader(store, groups, scales, execution, arguments["batch_size"], device)
    predicted = predict(model, loader, execution, first=first, rescales=arguments["rescales"])
    for number, batch in enumerate(predicted):
        while (folder / f"{rank}-{number - AHEAD}.npy").exists():
            time.sleep(0.005)
        file = folder / f"{rank}-{number}.npy"
        np.save(file, batch.patches.cpu().numpy())
        values = {
            "first": batch.nodes[0],
            "read_s": batch.read_s,
            "predict_s": batch.predict_s,
        }
        channel.output(values, {"patches": file})
    return {}
