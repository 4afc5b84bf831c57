"""A build is resumed only where nothing that decides the store has changed."""

from dataclasses import replace

import numpy as np
import pytest

from ptychostream.datasets.store.plan import plan_build
from ptychostream.scan import ArrayPatterns

CHANGES = {
    "domain": lambda scan: {"measurement_domain": "amplitude"},
    "type": lambda scan: {
        "patterns": ArrayPatterns(scan.patterns.read(np.arange(64)).astype(np.float64))
    },
    "positions": lambda scan: {"positions": scan.positions + np.array([0, 1e-9])},
    "probe": lambda scan: {"probe": scan.probe * np.complex64(1j)},
    "object": lambda scan: {"object_guess": scan.object_guess.conj()},
    "no object": lambda scan: {"object_guess": None},
    "bad pixels": lambda scan: {"bad_pixels": np.eye(16, dtype=bool)},
    "numbers": lambda scan: {"scan_index": np.arange(64) + 1},
    "energy": lambda scan: {"metadata": replace(scan.metadata, energy_eV=9000.0)},
    "provenance": lambda scan: {"provenance": {"file": "other.npz"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_a_store_changes_the_fingerprint_of_its_build(tiny_scan, change):
    scan = replace(tiny_scan, provenance={"file": "scan.npz"})
    other = replace(scan, **CHANGES[change](scan))
    same, changed = (plan_build((s,), 8).fingerprint() for s in (replace(scan), other))
    assert same == plan_build((scan,), 8).fingerprint()
    assert changed != same
