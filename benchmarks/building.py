"""Building a store from an uncompressed NPZ file, over compressing the same shards in memory.

    python benchmarks/building.py [--patterns 40000]

The same codec and as many threads; both times are those of all threads together, so that other
work on the machine counts little, and of the clock. The page cache is warm.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from streaming import poisson_scan

import ptychostream as ps
from ptychostream.datasets.store.shards import encode_shard


def timed(work: Callable[[], object]) -> np.ndarray:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - clock, time.process_time() - processor])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=int, default=40000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = poisson_scan(options.patterns)
        raw = scan.patterns.read(np.arange(options.patterns))
        source, target = folder / "scan.npz", folder / "scan.zarr"
        np.savez(
            source,
            diff3d=raw,
            xcoords=scan.positions[:, 0],
            ycoords=scan.positions[:, 1],
            probeGuess=scan.probe,
        )

        def build() -> ps.GroupStore:
            shutil.rmtree(target, ignore_errors=True)
            return ps.build_group_store(source, target)

        store = build()
        size, per_shard = store.patterns_per_chunk, int(store.segments[0].array.shards[0])

        def encode() -> None:
            def one(start: int) -> int:
                part = raw[start : start + per_shard]
                return len(
                    encode_shard(part, patterns_per_chunk=size, chunks_per_shard=per_shard // size)
                )

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                sum(pool.map(one, range(0, len(raw), per_shard)))

        ratios = np.median([timed(build) / timed(encode) for _ in range(5)], axis=0)
        clock, processor = timed(build)
        print(
            f"{options.patterns} patterns: building takes {ratios[1]:.2f} times the processor "
            f"time of compressing alone, {ratios[0]:.2f} by the clock "
            f"({options.patterns / clock:,.0f} patterns/s, {options.patterns / processor:,.0f} "
            "for each core)"
        )


if __name__ == "__main__":
    main()
