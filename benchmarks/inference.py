"""Reconstruction end to end over the network alone; stitching over adding the same bytes; memory.

    python benchmarks/inference.py [parity stitching speed memory follow live] [--N 64]

Everything is a ratio against a reference in the same run. The network is the CNN, untrained:
its speed does not depend on its weights.
"""

import argparse
import logging
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from logging.handlers import BufferingHandler
from pathlib import Path

import numpy as np
import torch
from memory import PEAK
from scipy.ndimage import gaussian_filter
from streaming import poisson_scan

import ptychostream as ps
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.store import finish_group_store
from ptychostream.datasets.store.format import MANIFEST
from ptychostream.geometry import ObjectGrid
from ptychostream.physics import fourier_shift
from ptychostream.ptychopinn.reassembly import reassemble_position
from ptychostream.reconstruction.predict import inference_loader
from ptychostream.reconstruction.result import save_result
from ptychostream.stitching import PatchAccumulator, patch_weight
from ptychostream.stitching.phase_alignment import PhaseAlignment
from ptychostream.training.train import initial_model

RECONSTRUCT = """
import ptychostream as ps, sys
from ptychostream.reconstruction.result import save_result
bundle, store = ps.load_bundle(sys.argv[2]), ps.open_group_store(sys.argv[1])
import lightning, h5py, skimage, scipy.sparse.linalg, ptychostream.reconstruction
before = peak()
execution = ps.PyTorchExecutionConfig(memory_budget=sys.argv[3], inference_batch_size=64)
result = ps.reconstruct(bundle, store, passes=int(sys.argv[4]), execution=execution)
save_result(result, sys.argv[2] + "/result")
pixels = result.object.size
print(f"{peak():.0f} {before:.0f} {pixels}")
"""

#: Bytes a pixel: sums and halves of patches and weights, object, coverage.
CANVAS = 2 * (8 + 4) + 8 + 4


def make_store(folder: Path, number: int, edge: int) -> ps.GroupStore:
    scan = poisson_scan(number, edge)
    probe = ps.simulate_scan(num_positions=1, N=edge).probe
    return ps.build_group_store(replace(scan, probe=probe), folder / f"{number}-{edge}.zarr")


def make_bundle(store: ps.GroupStore, **model: object) -> ps.ModelBundle:
    config = ps.TrainingConfig(model=ps.ModelConfig(N=store.N, **model))
    return ps.ModelBundle(
        model=initial_model(config, store, seed=0).eval(),
        config=config,
        intensity_scale=1.0,
        probe_guess=store.probe,
    )


def speed(folder: Path, number: int, edge: int, gridsize: int) -> None:
    store = make_store(folder, number, edge)
    bundle = make_bundle(store, gridsize=gridsize, n_filters_scale=1)
    bundle = replace(bundle, config=replace(bundle.config, neighbor_count=6))
    groups = store.groups(gridsize, 6)
    execution = ps.PyTorchExecutionConfig(inference_batch_size=64)
    scales = ps.datasets.scaling.scales_of(store)
    # Batches of a part of the groups, over and over: all of them may not fit.
    held = [
        (bundle.model.network_input(batch), batch["coords_relative"])
        for _, batch in zip(
            range(16),
            inference_loader(store, groups, scales, execution, 64, torch.device("cpu")),
            strict=False,
        )
    ]

    def alone() -> float:
        began, done = time.process_time(), 0
        with torch.no_grad():
            while done < len(groups):
                inputs, relative = held[(done // 64) % len(held)]
                bundle.model.reconstruct(inputs, relative)
                done += len(inputs)
        return (time.process_time() - began) * len(groups) / done

    def end_to_end(refine_passes: int) -> tuple[float, dict[str, float]]:
        # Processor time of all threads: nothing that runs beside the network is hidden.
        began = time.process_time()
        opened = ps.open_group_store(store.path)
        result = ps.reconstruct(bundle, opened, passes=refine_passes, execution=execution)
        save_result(result, folder / "result")
        return time.process_time() - began, result.seconds

    before = alone()
    whole, seconds = end_to_end(0)
    reference = (before + alone()) / 2
    refined, with_passes = end_to_end(2)
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    print(
        f"N={edge}, gridsize {gridsize}, {number} patterns: the network alone "
        f"{number / reference:.0f} groups/s; end to end over it {whole / reference:.2f} "
        f"({parts}); with two passes of refinement {refined / reference:.2f} "
        f"(refine {with_passes['refine']:.1f} s)",
        flush=True,
    )


def per_patch(work: object, patches: int, repeats: int = 15) -> float:
    """Median processor time in microseconds: what others do on the machine counts little."""
    times = []
    work()
    for _ in range(repeats):
        began = time.process_time()
        for _ in range(4):
            work()
        times.append((time.process_time() - began) / (4 * patches) * 1e6)
    return float(np.median(times))


def stitching(edge: int) -> None:
    batch = 64 * 64 * 64 // edge**2
    rng = np.random.default_rng(0)
    light = torch.tensor(np.abs(ps.simulate_scan(num_positions=1, N=edge).probe[0]) ** 2)
    patches = torch.randn(batch, edge, edge, dtype=torch.complex64)
    positions = rng.uniform(edge, 600 + edge, (batch, 2))
    rows = np.arange(batch)
    grid = ObjectGrid(700 + 2 * edge, 700 + 2 * edge)
    corners = torch.as_tensor(positions.round().astype(int)) - edge // 2
    span = torch.arange(edge)
    index = (
        (corners[:, 1, None] + span)[:, :, None] * grid.width
        + (corners[:, 0, None] + span)[:, None]
    ).flatten()
    total = torch.zeros(grid.height * grid.width, dtype=torch.complex64)
    cover = torch.zeros(grid.height * grid.width)
    flat, ones = patches.flatten(), torch.ones(patches.numel())

    def add_bytes() -> None:
        total.index_add_(0, index, flat)
        cover.index_add_(0, index, ones)

    transforms = per_patch(lambda: torch.fft.ifft2(torch.fft.fft2(patches)), batch)
    print(
        f"N={edge}: two Fourier transforms of whole patches alone take "
        f"{transforms / per_patch(add_bytes, batch):.2f} times index_add_"
    )
    for placement in ("fourier", "bilinear"):
        for weight in ("probe", "uniform"):
            weights = patch_weight(weight, light, fades=placement == "fourier")
            accumulator = PatchAccumulator(grid, weights, placement=placement)
            ratios = [
                per_patch(lambda a=accumulator: a.add(patches, positions, rows), batch)
                / per_patch(add_bytes, batch)
                for _ in range(5)
            ]
            reference = per_patch(add_bytes, batch)
            print(
                f"N={edge}, {placement}, {weight}: {np.median(ratios):.2f} times index_add_ of the "
                f"same patches and weights ({reference:.0f} µs a patch)",
                flush=True,
            )
    side = int(np.sqrt(2048))
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 4.0
    place += 100 + rng.uniform(-1, 1, place.shape)
    alignment = PhaseAlignment(patch_weight("probe", light), place)
    began = time.process_time()
    for start in range(0, len(place) - batch + 1, batch):
        alignment.add(patches, np.arange(start, start + batch))
    alignment.solve()
    spent = (time.process_time() - began) / len(place) * 1e6
    print(f"N={edge}: finding phases takes {spent:.0f} µs a patch", flush=True)


def memory(folder: Path, numbers: list[int], edge: int) -> None:
    peaks = []
    for number in numbers:
        store = make_store(folder, number, edge)
        bundle = make_bundle(store, architecture="unrolled", unrolled_steps=1, unrolled_width=8)
        ps.save_bundle(bundle, folder / "run")
        run = [sys.executable, "-c", PEAK + RECONSTRUCT, str(store.path), str(folder / "run")]
        done = subprocess.run([*run, "128 MiB", "0"], capture_output=True, text=True, check=True)
        peak, before, pixels = map(int, done.stdout.split())
        canvas = pixels * CANVAS / 2**20
        peaks.append(peak - canvas)
        print(
            f"{number} patterns: peak {peak} MB, of that imports {before} MB and the canvas "
            f"{canvas:.0f} MB",
            flush=True,
        )
    print(f"largest over smallest, canvas aside: {max(peaks) / min(peaks):.3f}", flush=True)


def parity() -> None:
    data = Path(__file__).parents[1] / "tests" / "data" / "contract" / "reassembly.npz"
    fixture = np.load(data)
    for edge in (10, 20):
        made = reassemble_position(fixture["reasm_in"], fixture["reasm_off"], edge)
        error = np.abs(made - fixture[f"reasm_M{edge}"]).max()
        print(f"reassemble_position, M={edge}: largest difference from the fixture {error:.1e}")
    # Periodic and smooth enough for a pixel grid to hold it, so that true patches are known.
    rng = np.random.default_rng(0)
    parts = [gaussian_filter(rng.standard_normal((128, 128)), 2.5, mode="wrap") for _ in "ap"]
    obj = torch.as_tensor((1 + 0.4 * parts[0]) * np.exp(1.5j * parts[1])).to(torch.complex64)
    positions = np.random.default_rng(0).uniform(30, 98, (300, 2))
    whole = np.floor(positions).astype(int)
    patches = torch.stack(
        [
            fourier_shift(obj, torch.as_tensor(w - p))[w[1] - 16 : w[1] + 16, w[0] - 16 : w[0] + 16]
            for w, p in zip(whole, positions, strict=True)
        ]
    )
    along = torch.hann_window(32)
    for placement in ("fourier", "bilinear"):
        for weight in ("probe", "uniform"):
            weights = patch_weight(weight, along[:, None] * along, fades=placement == "fourier")
            accumulator = PatchAccumulator(ObjectGrid(128, 128), weights, placement=placement)
            accumulator.add(patches, positions)
            stitched, coverage = accumulator.result()
            error = np.abs(stitched - obj.numpy())[coverage >= 3]
            print(
                f"exact patches, {placement}, {weight}: mean error {error.mean():.1e}, "
                f"largest {error.max():.1e}"
            )


def follow(folder: Path, number: int, edge: int) -> None:
    """Append a scan in 20 blocks while it is reconstructed."""
    scan = poisson_scan(number, edge)
    scan = replace(scan, probe=ps.simulate_scan(num_positions=1, N=edge).probe)
    block = number // 20
    path = folder / "growing.zarr"
    store = ps.build_group_store(scan.select(np.arange(block)), path, growing=True)
    bundle = make_bundle(store, architecture="unrolled", unrolled_steps=2, unrolled_width=8)
    appended = {block: time.time()}
    shown: dict[int, float] = {}

    def measure() -> None:
        for start in range(block, number, block):
            # The next block comes when the one before was seen, so that each latency is its own.
            while start not in shown:
                time.sleep(0.01)
            ps.append_patterns(path, scan.select(np.arange(start, start + block)))
            # A segment is there with its manifest, which is before the call returns.
            manifests = (path / "segments").glob(f"*/{MANIFEST}")
            appended[start + block] = max(file.stat().st_mtime for file in manifests)
        while number not in shown:
            time.sleep(0.01)
        finish_group_store(path)

    thread = threading.Thread(target=measure)
    thread.start()
    last = None
    for last in ps.reconstruct(bundle, store, follow=True, interval_s=0.05, passes=0):
        if last.is_partial:
            shown[len(last.positions)] = time.time()
    thread.join()
    offline = ps.reconstruct(bundle, ps.open_group_store(path), passes=0)
    latencies = [shown[rows] - appended[rows] for rows in shown]
    print(
        f"{number} patterns in 20 blocks: from a block's appearance to its pixels "
        f"{np.median(latencies):.2f} s (median), largest {max(latencies):.2f} s; the last object "
        f"differs from the offline one by {np.abs(last.object - offline.object).max():.1e}",
        flush=True,
    )


APPEND = """
import sys, time
import numpy as np
import ptychostream as ps
from ptychostream.datasets.store import finish_group_store
path, scan = sys.argv[1], ps.read_scan(sys.argv[2])
rate, block = float(sys.argv[3]), int(sys.argv[4])
parts = [scan.select(np.arange(n, n + block)) for n in range(block, scan.num_patterns, block)]
print("ready", flush=True)
sys.stdin.readline()
began = time.time()
for number, part in enumerate(parts, 1):
    time.sleep(max(0, began + number * block / rate - time.time()))
    ps.append_patterns(path, part)
    print((number + 1) * block, time.time(), flush=True)
finish_group_store(path)
"""


def live(folder: Path, edge: int, rates: tuple[float, ...] = (50, 500, 5000)) -> None:
    """Append blocks at a rate, and measure when each is first seen in a picture."""
    print("| Offered a second | Appended | Latency, median | largest | Pictures | Said | Lost |")
    print("|---|---|---|---|---|---|---|")
    for rate in rates:
        block = int(rate / 5)
        number = 30 * block
        scan = poisson_scan(number, edge)
        scan = replace(scan, probe=ps.simulate_scan(num_positions=1, N=edge).probe)
        write_npz(scan, folder / f"{rate}.npz")
        path = folder / f"live-{rate}.zarr"
        store = ps.build_group_store(scan.select(np.arange(block)), path, growing=True)
        bundle = make_bundle(store, architecture="fast", gridsize=1)
        command = [sys.executable, "-c", APPEND, str(path), str(folder / f"{rate}.npz")]
        writer = subprocess.Popen(
            [*command, str(rate), str(block)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert writer.stdin and writer.stdout
        writer.stdout.readline()
        handler = BufferingHandler(10_000)
        logging.getLogger("ptychostream").addHandler(handler)
        writer.stdin.write("\n")
        writer.stdin.flush()
        shown, last = [], None
        for last in ps.reconstruct(bundle, store, follow=True, interval_s=0.05, passes=0):
            if last.is_partial:
                shown.append((len(last.positions), time.time()))
        logging.getLogger("ptychostream").removeHandler(handler)
        lines = [line.split() for line in writer.stdout]
        writer.wait()
        appended = {int(rows): float(when) for rows, when in lines}
        seen = {
            rows: min((when for have, when in shown if have >= rows), default=np.nan)
            for rows in appended
        }
        delays = [seen[rows] - when for rows, when in appended.items()]
        delays = [delay for delay in delays if np.isfinite(delay)]
        span = max(appended.values()) - min(appended.values())
        told = any("faster than they are" in record.getMessage() for record in handler.buffer)
        pace = (number - 2 * block) / span
        lost = number - len(last.positions)
        print(
            f"| {rate:g} | {pace:.0f} | {np.median(delays):.2f} s | {max(delays):.2f} s | "
            f"{len(shown)} | {'yes' if told else 'no'} | {lost} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = ["parity", "stitching", "speed", "memory", "follow", "live"]
    parser.add_argument("parts", nargs="*", default=every)
    parser.add_argument("--N", type=int, default=64)
    parser.add_argument("--patterns", type=int, default=20000)
    parser.add_argument("--memory_patterns", type=int, nargs="+", default=[20000, 100000])
    parser.add_argument("--gridsize", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "parity" in options.parts:
            parity()
        if "stitching" in options.parts:
            stitching(options.N)
        if "speed" in options.parts:
            speed(folder, options.patterns, options.N, options.gridsize)
        if "memory" in options.parts:
            memory(folder, options.memory_patterns, options.N)
        if "follow" in options.parts:
            follow(folder, min(options.patterns, 2000), options.N)
        if "live" in options.parts:
            live(folder, options.N)


if __name__ == "__main__":
    main()
