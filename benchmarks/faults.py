"""Kill builds, flip bits, read while another writes: nothing may be lost or read wrong.

    python benchmarks/faults.py [--kills 100] [--flips 200] [--readers 8] [--seconds 60]

Builds of one scan are killed (SIGKILL) at random moments and resumed: each must end in the very
bytes of an uninterrupted build. Then single bits of a store's files are flipped: `verify` must
find each, and no reader may return wrong patterns. Then one process appends to a store while others
open it, follow it and compare all that they read with the truth.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ptychostream as ps
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.store.manifest import list_files
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.errors import DataContractError

BUILD = """
import sys
import ptychostream as ps
ps.build_group_store
print("ready", flush=True)
ps.build_group_store(sys.argv[1], sys.argv[2], patterns_per_chunk=16, resume=True)
"""


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def kill_builds(scan: Path, folder: Path, number: int) -> None:
    whole, target = folder / "whole.zarr", folder / "killed.zarr"
    began = time.perf_counter()
    ps.build_group_store(scan, whole, patterns_per_chunk=16)
    duration = time.perf_counter() - began
    expected = content(whole)
    moments = random.Random(0)
    command = [sys.executable, "-c", BUILD, str(scan), str(target)]
    early = 0
    for _ in range(number):
        build = subprocess.Popen(command, stdout=subprocess.PIPE)
        build.stdout.readline()
        time.sleep(moments.uniform(0, duration))
        build.send_signal(signal.SIGKILL)
        build.wait()
        build.stdout.close()
        if target.exists():
            early += 1
        else:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert content(target) == expected, "a resumed build differs"
        shutil.rmtree(target)
        assert not list(folder.glob(".killed*")), "something was left behind"
    print(
        f"{number} kills, {early} of them after publication: all byte-identical to an "
        "uninterrupted build",
        flush=True,
    )


def flip_bits(folder: Path, number: int) -> None:
    path = folder / "whole.zarr"
    store = ps.open_group_store(path)
    truth = store.diffraction(np.arange(store.num_patterns))
    rng = np.random.default_rng(0)
    names, refused = list(list_files(StoreFiles.of_folder(path))), 0
    for _ in range(number):
        name = names[rng.integers(len(names))]
        file = path / name
        data = file.read_bytes()
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            store.verify()
        except DataContractError as error:
            assert name in str(error)
        else:
            raise AssertionError(f"a flipped bit in {name} was not found")
        try:
            read = ps.open_group_store(path).diffraction(np.arange(store.num_patterns))
        except DataContractError:
            refused += 1
        else:
            assert (read == truth).all(), f"wrong patterns after a flip in {name}"
        file.write_bytes(data)
    store.verify()
    print(f"{number} flipped bits: all found; {refused} stores refused by opening or reading")


READER = """
import sys, time
import numpy as np
import ptychostream as ps
truth = np.load(sys.argv[1], mmap_mode="r")
opened = wrong = 0
store = ps.open_group_store(sys.argv[2])
for now in store.follow(interval_s=0.01, timeout_s=120):
    for each in (now, ps.open_group_store(sys.argv[2])):
        rows = np.random.default_rng(opened).integers(each.num_patterns, size=200)
        wrong += int((each.diffraction(rows) != truth[rows]).any())
        wrong += int(len(each.groups(1, 4)) != each.num_patterns)
        opened += 1
print(opened, wrong, now.num_patterns)
"""


def read_while_appending(folder: Path, readers: int, seconds: float) -> None:
    scan = ps.simulate_scan(num_positions=3000, N=32)
    truth, path = folder / "truth.npy", folder / "growing.zarr"
    np.save(truth, scan.patterns.read(np.arange(3000)))
    ps.build_group_store(scan.select(np.arange(100)), path, growing=True)
    command = [sys.executable, "-c", READER, str(truth), str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(readers)]
    began, number = time.perf_counter(), 100
    while time.perf_counter() - began < seconds and number < 3000:
        step = min(20, 3000 - number)
        ps.append_patterns(path, scan.select(np.arange(number, number + step)))
        number += step
        time.sleep(max(0, seconds * number / 3000 - (time.perf_counter() - began)))
    ps.finish_group_store(path)
    seen = [list(map(int, process.communicate()[0].split())) for process in running]
    assert all(process.returncode == 0 for process in running), "a reader failed"
    assert all(wrong == 0 and last == number for _, wrong, last in seen), seen
    print(
        f"{readers} readers, {number // 20 - 4} appendings in {time.perf_counter() - began:.0f} s: "
        f"{sum(opened for opened, _, _ in seen)} stores opened, no torn read"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = folder / "scan.npz"
        write_npz(ps.simulate_scan(num_positions=3000, N=32), scan)
        kill_builds(scan, folder, options.kills)
        flip_bits(folder, options.flips)
        read_while_appending(folder, options.readers, options.seconds)


if __name__ == "__main__":
    main()
