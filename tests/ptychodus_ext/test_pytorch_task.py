"""What the task of our own backend hands over, run in this process."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from tiny import untrained

import ptychostream as ps
from ptychodus_ext.tasks.pytorch_task import reconstruct
from ptychostream.children import Channel, Output
from ptychostream.persistence import save_bundle


@pytest.mark.parametrize("strength", [1, 5])
def test_the_probe_carries_the_measured_counts_and_the_object_the_rest(
    tiny_scan, make_config, tmp_path, strength
):
    scan = replace(tiny_scan, probe=strength * tiny_scan.probe)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    config = make_config()
    bundle = untrained(config, store)
    height, width = scan.object_guess.shape
    arguments = {
        "model": save_bundle(bundle, tmp_path / "model"),
        "store": str(store.path),
        "experiment": 0,
        "grid": (height, width, (0, 0)),
        "execution": {},
        "options": {"passes": 0, "align_phases": True, "live_interval": 0.0},
        "debug": False,
        "folder": str(tmp_path),
    }
    messages = []
    reconstruct(arguments, Channel(messages.append, threading.Event()))
    (output,) = (message for message in messages if isinstance(message, Output))
    with np.load(output.paths["result"]) as arrays:
        obj, probe = arrays["object"], arrays["probe"]
    assert np.sum(np.abs(probe) ** 2) == pytest.approx(store.total_counts.mean(), rel=1e-5)
    # Their product, the wave behind the object, is that of the reconstruction.
    result = ps.reconstruct(bundle, store, passes=0)
    assert np.sum(np.abs(result.probe) ** 2) > 0.9 * strength**2 * store.total_counts.mean()
    np.testing.assert_allclose(
        obj * probe[0, 8, 8], result.object * result.probe[0, 8, 8], rtol=1e-3, atol=1e-3
    )
