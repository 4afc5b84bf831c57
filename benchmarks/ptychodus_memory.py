"""Peak memory of ptychodus and of our child process, while it reconstructs a large scan.

    python benchmarks/ptychodus_memory.py [--loaded 20000] [--stored 100000]

Runs `ptychodus -b reconstruct` on patterns of 64 x 64 float32: once loaded by ptychodus, once
named by `[PtychoStreamData] StorePath`, with a stub of one pattern in ptychodus's own files. The
model is untrained, which takes as much memory as a trained one.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import ptychostream as ps
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
from ptychostream.scan import PatternSource, Scan, ScanMetadata
from ptychostream.training.train import initial_model

EDGE = 64
#: Different patterns; a prime, so that no two chunks are alike.
POOL = 1021

SETTINGS = """
[Processing]
Algorithm = PtychoStream_PINN

[Products]
FileType = HDF5

[PtychoStreamInference]
RefinePasses = {passes}

[PtychoStreamData]
MemoryBudget = {budget}
"""


class PooledPatterns(PatternSource):
    """Any number of patterns, float32 counts, that take the memory of a few."""

    def __init__(self, number: int, scan: Scan) -> None:
        rng = np.random.default_rng(0)
        base = next(scan.patterns.blocks(64))
        pool = rng.poisson(np.resize(base, (POOL, EDGE, EDGE)).astype(float))
        self._number, self._pool = number, pool.astype(np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        return self._number, EDGE, EDGE

    @property
    def dtype(self) -> np.dtype:
        """float32."""
        return self._pool.dtype

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the patterns of these rows."""
        return self._pool[rows % POOL]


def large_scan(number: int) -> Scan:
    """Make a raster with a step of 4 px."""
    small = ps.simulate_scan(num_positions=64, N=EDGE, nphotons=1e5, noise=False)
    side = int(np.ceil(np.sqrt(number)))
    index = np.arange(number)
    positions = 4.0 * np.stack([index % side, index // side], axis=1) + EDGE
    positions += np.random.default_rng(0).uniform(-1, 1, positions.shape)
    extent = 4 * side + 2 * EDGE
    return Scan(
        name=f"{number} patterns",
        patterns=PooledPatterns(number, small),
        measurement_domain="counts",
        positions=positions,
        probe=small.probe,
        object_guess=np.ones((extent, extent), np.complex64),
        metadata=ScanMetadata(
            energy_eV=8800.0, detector_distance_m=1.9, detector_pixel_size_m=75e-6
        ),
    )


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from descendants(child)


class Peak:
    """The most memory that a process has had, in MB."""

    def __init__(self) -> None:
        self.resident = self.own = 0.0

    def look(self, pid: int) -> None:
        """Read the peak so far, and what is not mapped from files now."""
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return  # it has gone
        values = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
        self.resident = max(self.resident, int(values.get("VmHWM", 0)) / 1024)
        self.own = max(self.own, int(values.get("RssAnon", 0)) / 1024)

    def __str__(self) -> str:
        return f"{self.resident:.0f} MB (without mapped files {self.own:.0f} MB)"


def is_ours(pid: int) -> bool:
    try:
        return b"ptychostream.children" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def watch(command: list[str], log: Path) -> tuple[Peak, Peak, float]:
    """Run a command; return its memory, its worker's, and the seconds it took."""
    parent, child = Peak(), Peak()
    began = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    while process.poll() is None:
        parent.look(process.pid)
        for pid in descendants(process.pid):
            if is_ours(pid):
                child.look(pid)
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{log.read_text()[-3000:]}")
    return parent, child, time.perf_counter() - began


def prepare(folder: Path, scan: Scan, model: Path, settings: str) -> Path:
    """Lay out what `ptychodus -b reconstruct` starts with."""
    write_ptychodus_experiment(scan, folder)
    (folder / "model.zip").symlink_to(model)
    (folder / "settings.ini").write_text(settings)
    return folder


def save_model(folder: Path) -> Path:
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=EDGE, gridsize=1, architecture="unrolled", unrolled_steps=1),
        output_dir=folder,
    )
    store = ps.build_group_store(large_scan(200), folder / "small.zarr", progress=False)
    bundle = ps.ModelBundle(
        model=initial_model(config, store, seed=0).eval(),
        config=config,
        intensity_scale=1.0,
        probe_guess=store.probe,
    )
    return ps.save_bundle(bundle, folder / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loaded", type=int, nargs="*", default=[20000])
    parser.add_argument("--stored", type=int, nargs="*", default=[20000, 100000])
    parser.add_argument("--memory_budget", default="1 GiB", help="the setting of this name")
    parser.add_argument("--refine_passes", type=int, default=0)
    options = parser.parse_args()
    runs = [(n, False) for n in options.loaded] + [(n, True) for n in options.stored]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_model(folder)
        for number, is_stored in runs:
            kind = "from a store" if is_stored else "loaded"
            run = folder / f"{number}-{kind}".replace(" ", "-")
            run.mkdir()
            scan = large_scan(number)
            settings = SETTINGS.format(passes=options.refine_passes, budget=options.memory_budget)
            if is_stored:
                store = ps.build_group_store(scan, run / "scan.zarr", progress=False)
                settings += f"StorePath = {store.path}\n"
                scan = large_scan(1)
            inputs = prepare(run / "in", scan, model, settings)
            words = ["-b", "reconstruct", "-i", str(inputs), "-o", str(run / "out")]
            command = [sys.executable, "-m", "ptychodus_ext.cli", *words]
            parent, child, seconds = watch(command, run / "log")
            if not list((run / "out").glob("product*.h5")):
                raise SystemExit(f"no product was written:\n{(run / 'log').read_text()[-3000:]}")
            size = number * EDGE**2 * 4 / 2**20
            print(
                f"{number} patterns ({size:.0f} MB) {kind}: ptychodus {parent}, our child {child}, "
                f"{seconds:.0f} s",
                flush=True,
            )
            shutil.rmtree(run)


if __name__ == "__main__":
    main()
