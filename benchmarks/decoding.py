"""Decoding a store's patterns: our reader against zarr's own and the `zarrs` pipeline.

    python benchmarks/decoding.py [--patterns 20000]

Chunks as the loader takes them, each from one thread and with the page cache warm; every reader
decodes all of them in turn, and the figures are medians of the ratios of five such rounds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from streaming import poisson_scan

import ptychostream as ps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=int, default=20000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.zarr"
        store = ps.build_group_store(poisson_scan(options.patterns), path)
        readers = {"ours": store.read_chunk, "zarr-python": through_zarr(store)}
        try:
            import zarrs  # noqa: F401
        except ImportError:
            print("zarrs is not installed")
        else:
            pipeline = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
            with zarr.config.set(pipeline | {"threading.max_workers": 1}):
                readers["zarrs"] = through_zarr(store)
        rounds = [{name: seconds(store, read) for name, read in readers.items()} for _ in range(5)]
        for name in readers:
            ratio = np.median([times[name] / times["ours"] for times in rounds])
            rate = options.patterns / np.median([times[name] for times in rounds])
            print(f"{name}: {rate:.0f} patterns/s, {ratio:.2f} times our time")


def through_zarr(store: ps.GroupStore) -> Callable[[int, np.ndarray], None]:
    """Read chunks through zarr, with the pipeline that is configured now."""
    array = zarr.open_array(str(store.path), path="diffraction", mode="r")
    size = store.patterns_per_chunk

    def read(chunk: int, out: np.ndarray) -> None:
        part = array[chunk * size : (chunk + 1) * size]
        out[: len(part)] = part

    return read


def seconds(store: ps.GroupStore, read: Callable[[int, np.ndarray], None]) -> float:
    out = np.empty((store.patterns_per_chunk, store.N, store.N), store.dtype)
    began = time.process_time()
    for chunk in range(store.num_chunks):
        read(chunk, out)
    return time.process_time() - began


if __name__ == "__main__":
    main()
