"""Cost of a store's tables: open, group, plan an epoch and follow, in 4 GB of private memory.

    python benchmarks/tables.py [--sizes 100000 1000000 10000000] [--alone 100000000]

Patterns are of 4 x 4 px. A store of `--alone` has tables, and no patterns; of its groups of four,
a tenth is searched for. Private memory is what the system can't take back: pages of scratch files
are not among it. Each store has a process of its own, which may take 4 GB of it.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

import ptychostream as ps
from ptychostream.datasets.large_tables import blocks_of, new_table, row_numbers, sorted_rows
from ptychostream.datasets.store.manifest import manifest_bytes
from ptychostream.datasets.store.storage import StoreFiles, copy_files
from ptychostream.datasets.store.tables import encoded_pattern_metadata, encoded_tables
from ptychostream.scan import ArrayPatterns, Scan

EDGE, STEP = 4, 4.0

#: Patterns a chunk of a store that has tables alone, 64 x 64 of them.
_PER_CHUNK = 4096

MEASURE = """
import resource, sys, threading, time
from dataclasses import replace
resource.setrlimit(resource.RLIMIT_DATA, (4 * 10**9, 4 * 10**9))
import numpy, scipy.spatial, tensordict, torch, zarr
import ptychostream as ps

def private():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

def step(name, work, among=1.0):
    most, done = [private()], threading.Event()
    def watch():
        while not done.wait(0.01):
            most.append(private())
    watching = threading.Thread(target=watch)
    watching.start()
    began = time.process_time()
    result = work()
    seconds = time.process_time() - began
    done.set()
    watching.join()
    most.append(private())
    said.append(f"{name} {1e6 * seconds / number / among:.3f} us, {max(most) - before:.0f} MB")
    costs.append(seconds / number)
    return result

def plan(size):
    loader = ps.make_loader(store, size, batch_size=64, memory_budget="64 MiB", num_threads=1)
    return loader.order.batch_sizes(0, 2), loader.order.share(0, 2)

number, before, said, costs = int(sys.argv[2]), private(), [], []
store = step("open", lambda: ps.open_group_store(sys.argv[1]))
single = step("groups of one", lambda: store.groups(1))
step("plan", lambda: plan(single))
if sys.argv[3] == "alone":
    part = dict(num_groups=number // 10, sequential=True)
    step("groups of four, each of a tenth", lambda: store.groups(2, 7, **part), 0.1)
else:
    four = step("groups of four", lambda: store.groups(2, 7))
    step("plan of these", lambda: plan(four))
    first = store.part(0, numpy.arange(100))
    ps.append_patterns(sys.argv[1], replace(first, positions=first.positions + 0.5))
    step("follow", lambda: store.refreshed())
print("; ".join(said))
print(" ".join(map(str, costs)))
"""


def positions_of(number: int) -> np.ndarray:
    """Make positions (M, 2) row by row, each near a point of a square grid."""
    rng, side = np.random.default_rng(0), int(np.ceil(np.sqrt(number)))
    positions = new_table((number, 2), np.float64)
    for rows in blocks_of(number):
        y, x = np.divmod(np.arange(rows.start, rows.stop), side)
        positions[rows] = STEP * np.stack([x, y], axis=1) + EDGE
        positions[rows] += rng.uniform(-1, 1, positions[rows].shape)
    return positions


def build(path: Path, number: int) -> None:
    """Build a store with patterns."""
    patterns = np.random.default_rng(0).integers(0, 200, (number, EDGE, EDGE), dtype=np.uint16)
    scan = Scan(
        name="tables",
        patterns=ArrayPatterns(patterns),
        measurement_domain="counts",
        positions=positions_of(number),
        probe=np.ones((1, EDGE, EDGE), np.complex64),
    )
    ps.build_group_store(scan, path, growing=True)


def write_tables_alone(path: Path, number: int) -> None:
    """Write the tables of a store; the files of its patterns hold nothing."""
    build(path.with_name("small.zarr"), 1000)
    small = ps.open_group_store(path.with_name("small.zarr"))
    side = int(np.ceil(np.sqrt(number)))
    tiles = -(-side // 64)

    def tile(rows: slice) -> np.ndarray:
        y, x = np.divmod(np.arange(rows.start, rows.stop), side)
        return y // 64 * tiles + x // 64

    order, _ = sorted_rows(tile, number, tiles**2)
    tables = {
        "storage_order": order.astype(np.int64),
        "positions": positions_of(number),
        "scan_index": row_numbers(number),
        "energy": np.broadcast_to(1e3, (number,)),
        "experiment_id": np.broadcast_to(0, (number,)),
        "probe": small.probe,
        "bad_pixels": small.bad_pixels,
    }
    attributes = {**small.attributes, "patterns_per_chunk": _PER_CHUNK}
    layout = {"patterns_per_chunk": _PER_CHUNK, "patterns_per_shard": 16 * _PER_CHUNK}
    metadata = encoded_pattern_metadata((number, EDGE, EDGE), np.dtype(np.uint16), **layout)
    storage = StoreFiles.of_folder(path)
    files = {}
    shards = empty_shards(-(-number // layout["patterns_per_shard"]))
    for name, data in chain(encoded_tables(tables, attributes), metadata.items(), shards):
        # Not by `copy_files`: so many files need not be safe on the disk.
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
        files[name] = (len(data), hashlib.sha256(data).hexdigest())
    for _ in copy_files([("manifest.json", manifest_bytes(files))], storage):
        pass


def empty_shards(number: int) -> Iterator[tuple[str, bytes]]:
    return ((f"diffraction/c/{shard}/0/0", bytes(16 * 16 + 4)) for shard in range(number))


def tables(folder: Path, sizes: list[int], alone: list[int]) -> None:
    """Print the processor time of a pattern, and the peak of private memory, of each step."""
    costs = []
    for number in [*sizes, *alone]:
        path = folder / f"tables-{number}.zarr"
        kind = "alone" if number in alone else "whole"
        if kind == "alone":
            write_tables_alone(path, number)
        else:
            build(path, number)
        run = [sys.executable, "-c", MEASURE, str(path), str(number), kind]
        said, numbers = subprocess.run(
            run, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.splitlines()
        print(f"{number:,} patterns: {said}", flush=True)
        if kind == "whole":
            costs.append([float(each) for each in numbers.split()])
        shutil.rmtree(path)
    if len(costs) > 1:
        ratios = " ".join(
            f"{last / first:.2f}" for first, last in zip(costs[0], costs[-1], strict=True)
        )
        print(f"last to first: {ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--alone", type=int, nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tables(Path(name), options.sizes, options.alone)


if __name__ == "__main__":
    main()
