import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.errors import ConfigurationError
from ptychostream.simulation import Detector, simulate_experiments

OPTIONS = {"N": 16, "num_positions": 20, "nphotons": 1e4}


def several(**options):
    return simulate_experiments(
        objects=["dead_leaves", "lines"],
        probes=["gaussian", "disk"],
        scan_patterns=["snake", "spiral", "random"],
        **(OPTIONS | options),
    )


def content(scan):
    read = scan.patterns.read(np.arange(scan.num_patterns))
    return [a.tobytes() for a in (read, scan.positions, scan.probe, scan.object_guess)]


def test_every_object_meets_every_probe_and_pattern():
    experiments = several(repeats=2)
    assert len(experiments) == 24
    met = [experiments[i].provenance["simulated"] for i in range(12)]
    assert len({(m["object"], m["probe"], m["scan_pattern"]) for m in met}) == 12
    assert met[1]["scan_pattern"] == "spiral"
    assert len({m["seed"] for m in met}) == 12


def test_an_index_decides_an_experiment_whatever_else_is_asked():
    assert content(several()[7]) == content(several(repeats=3)[7])
    assert content(several()[-1]) == content(several()[11])
    assert content(several(seed=1)[7]) != content(several()[7])
    assert content(several(repeats=2)[7]) != content(several(repeats=2)[19])


@pytest.mark.parametrize("workers", [1, 4])
def test_threads_change_nothing(workers):
    parallel = list(several().in_parallel(workers))
    assert [scan.name for scan in parallel] == [scan.name for scan in several()]
    assert [content(scan) for scan in parallel] == [content(scan) for scan in several()]


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize(
    "detector",
    [Detector(), Detector(point_spread=0.8, background=1, hot_fraction=0.01, bit_depth=16)],
)
def test_the_same_seed_gives_the_same_bytes_for_any_block_and_thread(noise, detector):
    scan = ps.simulate_scan(
        num_positions=100, N=32, noise=noise, detector=detector, mode_powers=[2, 1]
    )
    every = np.concatenate(list(scan.patterns.blocks(100)))
    for length in (1, 7, 64):
        blocks = np.concatenate(list(scan.patterns.blocks(length)))
        assert blocks.tobytes() == every.tobytes()
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(scan.patterns.read, np.array_split(np.arange(100), 9))
        assert np.concatenate(list(parts)).tobytes() == every.tobytes()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4 if threads == 1 else 1)
        assert scan.patterns.read(np.arange(100)).tobytes() == every.tobytes()
    finally:
        torch.set_num_threads(threads)


def test_many_experiments_fill_one_store(tmp_path):
    experiments = several()
    store = ps.build_group_store(experiments, tmp_path / "s.zarr")
    assert store.num_experiments == 12
    assert store.num_patterns == 240
    seeds = [p["simulated"]["seed"] for p in store.attributes["provenance"]]
    assert seeds == [scan.provenance["simulated"]["seed"] for scan in experiments]


def test_no_experiments_are_refused():
    with pytest.raises(ConfigurationError, match="0 objects"):
        simulate_experiments(objects=[])
    with pytest.raises(ConfigurationError, match="one by one"):
        several()[:3]
    with pytest.raises(IndexError, match="experiment 12 of 12"):
        several()[12]
    with pytest.raises(ConfigurationError, match="workers=0"):
        next(several().in_parallel(0))


def test_the_same_seed_builds_the_same_store(tmp_path):
    digests = []
    for name in ("a", "b"):
        scan = ps.simulate_scan(num_positions=600, N=16, seed=2)
        ps.build_group_store(scan, tmp_path / f"{name}.zarr", patterns_per_chunk=50)
        digests.append(json.loads((tmp_path / f"{name}.zarr" / "manifest.json").read_text()))
    assert digests[0] == digests[1]


def test_files_are_named_by_paths_too(tmp_path):
    np.save(tmp_path / "object.npy", np.full((80, 80), 0.9, np.complex64))
    by_path = simulate_experiments(objects=[tmp_path / "object.npy"], N=16, num_positions=4)
    by_name = simulate_experiments(objects=[str(tmp_path / "object.npy")], N=16, num_positions=4)
    np.testing.assert_array_equal(by_path[0].object_guess, by_name[0].object_guess)
    assert by_path[0].provenance == by_name[0].provenance
