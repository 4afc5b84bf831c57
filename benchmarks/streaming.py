"""Streaming from a compressed store, over gathering the same groups from one array in RAM.

    python benchmarks/streaming.py [--patterns 40000]

Prints groups per second of both, their ratio, the bytes decoded per epoch over the store's bytes,
and how well the groups are mixed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numcodecs import blosc
from scipy.stats import poisson

import ptychostream as ps
from ptychostream.datasets.batches.loader import GroupLoader
from ptychostream.scan import ArrayPatterns, Scan


def poisson_scan(number: int, edge: int = 64, *, photons: float = 1e5) -> Scan:
    """Make a scan whose patterns are Poisson noise of a few smooth shapes: quick to make."""
    base = next(
        ps.simulate_scan(num_positions=64, N=edge, nphotons=photons, noise=False).patterns.blocks(
            64
        )
    )
    rng = np.random.default_rng(0)
    patterns = np.empty((number, edge, edge), np.uint16)
    for start in range(0, number, 2048):
        rows = np.arange(start, min(start + 2048, number))
        patterns[rows] = rng.poisson(base[rows % 64])
    side = int(np.ceil(np.sqrt(number)))
    index = np.arange(number)
    positions = 4.0 * np.stack([index % side, index // side], axis=1) + edge
    positions += rng.uniform(-1, 1, positions.shape)
    return Scan(
        name="poisson scan",
        patterns=ArrayPatterns(patterns),
        measurement_domain="counts",
        positions=positions,
        probe=np.ones((1, edge, edge), np.complex64),
    )


def smallest_size(photons: float) -> float:
    """Entropy of the counts where each pixel's mean is known, over 16 bits: Shannon's limit."""
    means = next(
        ps.simulate_scan(num_positions=64, N=64, nphotons=photons, noise=False).patterns.blocks(64)
    )
    # Means at equal shares of all pixels stand for them all.
    share = np.quantile(means.astype(np.float64), (np.arange(2000) + 0.5) / 2000)
    bits = []
    for mean in share:
        counts = np.arange(int(mean + 20 * np.sqrt(mean) + 40))
        chance = poisson.pmf(counts, mean)
        bits.append(-np.sum(chance * np.log2(np.maximum(chance, 1e-300))))
    return float(np.mean(bits)) / 16


def stream(loader: GroupLoader) -> tuple[float, int]:
    began, groups = time.perf_counter(), 0
    for batch in loader:
        groups += len(batch)
    return time.perf_counter() - began, groups


def from_ram(patterns: np.ndarray, table: np.ndarray, batch: int) -> float:
    order = np.random.default_rng(0).permutation(len(table))
    began = time.perf_counter()
    for start in range(0, len(order), batch):
        np.sqrt(patterns[table[order[start : start + batch]]], dtype=np.float32)
    return time.perf_counter() - began


def mixing(loader: GroupLoader, positions: np.ndarray) -> float:
    """Correlation of x of successive groups: 1 in scan order, 0 when perfectly mixed."""
    seeds = np.concatenate([batch["nn_indices"][:, 0].numpy() for batch in loader])
    x = positions[seeds, 0]
    return float(np.corrcoef(x[:-1], x[1:])[0, 1])


def random_access(store: ps.GroupStore, raw: np.ndarray) -> None:
    """Gather 256 random rows, from chunks that have to be decoded and from kept ones."""
    rng = np.random.default_rng(0)
    for name, budget in (("decoding each chunk", 1), ("chunks kept", 2 * raw.nbytes)):
        opened = ps.open_group_store(store.path, cache_budget=budget)
        opened.diffraction(np.arange(len(raw)))
        seconds = [0.0, 0.0]
        for _ in range(5):
            rows = rng.integers(len(raw), size=256)
            for place, gather in enumerate((opened.diffraction, lambda rows: raw[rows])):
                began = time.perf_counter()
                gather(rows)
                seconds[place] += time.perf_counter() - began
        print(f"256 random rows, {name}: {seconds[0] / seconds[1]:.1f} x RAM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=int, default=40000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--photons", type=float, default=1e5, help="mean photons a pattern")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scan = poisson_scan(options.patterns, photons=options.photons)
        store = ps.build_group_store(scan, Path(folder) / "s.zarr")
        raw = scan.patterns.read(np.arange(options.patterns))
        size = sum(f.stat().st_size for f in store.path.rglob("*") if f.is_file())
        first = blosc.compress(raw[:256].copy(), b"zstd", 3, blosc.BITSHUFFLE)
        print(
            f"size on disk over raw uint16: {size / raw.nbytes:.3f}; bitshuffle and zstd alone "
            f"give {len(first) / raw[:256].nbytes:.3f}, and no code less than "
            f"{smallest_size(options.photons):.3f}"
        )
        random_access(store, raw)
        for turns, budget in ((1, "1 GiB"), (7, "1 GiB"), (1, "256 MiB"), (7, "256 MiB")):
            groups = store.groups(2, 6, groups_per_position=turns)
            loader = ps.make_loader(store, groups, batch_size=options.batch, memory_budget=budget)
            stream(loader)
            ratios = []
            for _ in range(3):
                ram = from_ram(raw, groups.nn_indices, options.batch)
                seconds, served = stream(loader)
                ratios.append(ram / seconds)
            windows = loader.order.windows
            decoded = sum(len(window.chunks) for window in windows) / store.num_chunks
            print(
                f"{turns} group(s) a position, {budget}: {served / seconds:,.0f} groups/s, "
                f"{served / ram:,.0f} from RAM, ratio {np.median(ratios):.2f} "
                f"(of {min(ratios):.2f} to {max(ratios):.2f}); decoded {decoded:.2f} x the store "
                f"in {len(windows)} windows; correlation of neighbours "
                f"{mixing(loader, store.positions):.3f}"
            )


if __name__ == "__main__":
    main()
