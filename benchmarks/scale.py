"""How cost grows: with appended blocks, distance, memory, size, processes and experiments.

    python benchmarks/scale.py [start] [growing] [remote] [loader] [tables] [solver] [tiles]
        [many] [--blocks 200] [--patterns 20000] [--sizes 10000 100000 1000000]
        [--processes 1 2 4] [--experiments 10 100 1000]

Processor time of all threads, except where it says that the clock is read. The server of `remote`
is one on this machine that waits 30 ms before each answer.
"""

import argparse
import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from memory import PEAK
from streaming import poisson_scan
from tables import tables

import ptychostream as ps
from ptychostream.reconstruction.many import Source, Task, reconstruct_here
from ptychostream.reconstruction.summary import Row, Summary
from ptychostream.reconstruction.write import Asked
from ptychostream.simulation.probes import make_probe

#: Runs `ptychostream reconstruct`, and prints processor seconds: until torch is imported,
#: until the first pass begins, until files are written, and until the end.
START = """
import os, sys, time
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # As the command does.
sys.argv[1:] = ["reconstruct", *sys.argv[1:], "--overwrite", "--quiet"]
import torch
times = [time.process_time()]
import ptychostream.reconstruction.write as write
import ptychostream.solver.solver as solver
from ptychostream.cli.main import main
def timed(function):
    def called(*args, **options):
        times.append(time.process_time())
        return function(*args, **options)
    return called
solver.Solver.run = timed(solver.Solver.run)
write.write_result_files = timed(write.write_result_files)
main()
print(times[0], times[1], times[-1], time.process_time())
"""


def processor(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def epoch(store: ps.GroupStore, **options: object) -> None:
    for _ in ps.make_loader(store, store.groups(1), batch_size=64, **options):
        pass


def start(folder: Path, turns: int = 3) -> None:
    """Reconstruct 64 patterns of 64 pixels, twenty passes, by the command, in new processes."""
    path = folder / "start.zarr"
    ps.build_group_store(ps.simulate_scan(num_positions=64, N=64), path)
    command = [sys.executable, "-c", START, str(path), "-o", str(folder / "start")]
    done = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(turns)
    ]
    torch_s, first, written, whole = np.median(np.array(done, float), axis=0)
    print(
        f"reconstruct 64 patterns: {first:.2f} s until the first pass, of which torch's import "
        f"{torch_s:.2f}; {written - first:.2f} s passes and check, {whole - written:.2f} s files; "
        f"{whole:.2f} s in all (median of {turns})",
        flush=True,
    )


def growing(folder: Path, blocks: int, size: int = 100) -> None:
    """Append blocks of a hundred patterns, N = 16, and stream them."""
    scan = poisson_scan((blocks + 1) * size, 16)
    path = folder / "growing.zarr"
    ps.build_group_store(scan.select(np.arange(size)), path, growing=True)
    seconds = []
    for block in range(1, blocks + 1):
        rows = np.arange(block * size, (block + 1) * size)
        part = scan.select(rows)
        seconds.append(processor(lambda part=part: ps.append_patterns(path, part)))
    tenth = max(1, blocks // 10)
    first, last = np.mean(seconds[:tenth]), np.mean(seconds[-tenth:])
    print(
        f"append of {size}: {1e3 * first:.1f} ms for the first tenth of {blocks} blocks, "
        f"{1e3 * last:.1f} ms for the last, ratio {last / first:.2f}; most {1e3 * max(seconds):.1f}"
    )
    store = ps.open_group_store(path)
    opening = np.median([processor(lambda: ps.open_group_store(path)) for _ in range(5)])
    grown = streaming_rate(store)
    print(f"open: {1e3 * opening:.1f} ms, {len(store.segments)} segments")
    began = time.process_time()
    compacted = ps.compact_group_store(path)
    took = time.process_time() - began
    print(
        f"stream: {grown:,.0f} patterns a second as grown, {streaming_rate(compacted):,.0f} "
        f"compacted (in {took:.2f} s)"
    )


def streaming_rate(store: ps.GroupStore) -> float:
    store.groups(1)
    return store.num_patterns / min(processor(lambda: epoch(store)) for _ in range(3))


def remote(folder: Path, number: int) -> None:
    """Open and stream a store of N = 64 behind 30 ms."""
    local = ps.build_group_store(poisson_scan(number), folder / "remote.zarr")
    with served(folder, 0.03) as (server, address):
        began = time.perf_counter()
        store = ps.open_group_store(f"{address}/remote.zarr")
        print(
            f"open over 30 ms: {time.perf_counter() - began:.2f} s by the clock, "
            f"{server.requests} requests, {server.most_running} at the same time"
        )
        groups = local.groups(1)
        for name, each in (("local", local), ("30 ms away", store)):
            server.requests = 0
            loader = ps.make_loader(each, groups, batch_size=64, memory_budget="1 GiB")
            began = time.perf_counter()
            batches = iter(loader)
            next(batches)
            first = time.perf_counter() - began
            for _ in batches:
                pass
            whole = time.perf_counter() - began
            print(
                f"{name}: first batch {first:.2f} s, epoch {number / whole:,.0f} patterns a second "
                f"by the clock, {server.requests} requests for {each.num_chunks} chunks"
            )


class served:
    """A web server of a folder that waits before each answer."""

    def __init__(self, folder: Path, delay_s: float) -> None:
        lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            requests = running = most_running = 0

            def answer(self) -> None:
                with lock:
                    Handler.requests += 1
                    Handler.running += 1
                    Handler.most_running = max(Handler.most_running, Handler.running)
                time.sleep(delay_s)
                with lock:
                    Handler.running -= 1
                path = folder / self.path.lstrip("/")
                if not path.is_file():
                    self.send_error(404)
                    return
                data = path.read_bytes()
                if asked := self.headers.get("Range"):
                    first, last = asked.removeprefix("bytes=").split("-")
                    data = data[int(first) : int(last) + 1 if last else None]
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            do_GET = do_HEAD = answer

            def log_message(self, *words: object) -> None:
                pass

        self.handler = Handler
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> tuple[type, str]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.handler, f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class InMemory(torch.utils.data.Dataset):
    """Amplitudes of an array in memory, one at a time."""

    def __init__(self, patterns: np.ndarray) -> None:
        self.patterns = patterns

    def __len__(self) -> int:
        return len(self.patterns)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.sqrt(self.patterns[row], dtype=np.float32))


def loader(folder: Path, number: int) -> None:
    """Patterns of N = 64 a processor second, of epochs with less and more memory than the store."""
    scan = poisson_scan(number)
    store = ps.build_group_store(scan, folder / "loader.zarr")
    groups = store.groups(1)
    raw = store.num_chunks * store.patterns_per_chunk * 64 * 64 * 2
    firsts = []
    for name, budget in (
        ("a third of the store", raw // 3),
        ("the store", raw + 1),
        ("the store and its amplitudes", 4 * raw),
    ):
        rates = []
        for _ in range(2):
            options = {"memory_budget": budget, "num_threads": 1}
            stream = ps.make_loader(store, groups, batch_size=64, **options)
            seconds = []
            for number_of_epoch in range(4):
                stream.set_epoch(number_of_epoch)
                seconds.append(processor(lambda stream=stream: [len(batch) for batch in stream]))
            del stream
            rates.append(number / np.array(seconds))
        best = np.max(rates, axis=0)
        firsts.append(best[0])
        print(f"memory for {name}: " + ", ".join(f"{r:,.0f}" for r in best) + " in four epochs")
    print(
        f"first epoch, over that with least memory: {firsts[1] / firsts[0]:.2f}, "
        f"{firsts[2] / firsts[0]:.2f}"
    )
    data = torch.utils.data.DataLoader(
        InMemory(scan.patterns.read(np.arange(number))), batch_size=64, shuffle=True
    )
    rate = max(number / processor(lambda: [len(batch) for batch in data]) for _ in range(2))
    print(f"torch's DataLoader over the array in memory: {rate:,.0f}")


SOLVE = """
import sys, time
import numpy, scipy.signal, torch
import ptychostream as ps
from ptychostream.reconstruction.solve import solve
torch.set_num_threads(1)
store = ps.open_group_store(sys.argv[1])
before, times = peak(), [time.process_time()]
for state in solve(store, passes=3, memory_budget=sys.argv[2], canvas_budget=sys.argv[3],
                   num_threads=1):
    times.append(time.process_time())
each = (times[-1] - times[1]) / (len(times) - 2) / store.num_patterns
print(f"{1e6 * each:.1f} us a pattern and pass, {peak() - before:.0f} MB more than the open store; "
      f"canvas of {state.object.shape[0]} x {state.object.shape[1]} px")
"""


def solver(folder: Path, sizes: list[int]) -> None:
    """Solve for object and probe, N = 16, with 128 MiB for patterns; the canvas in memory or files.

    Each run has a process of its own. The first pass, which reads, is left out.
    """
    for number in sizes:
        path = folder / f"solver-{number}.zarr"
        scan = poisson_scan(number, 16)
        probe = make_probe("gaussian", 16, {"full_width": 6.0, "edge_phase": 3.0})
        ps.build_group_store(replace(scan, probe=probe.astype(np.complex64)), path)
        del scan
        for canvas in ("4 GiB", "1 MiB"):
            run = [sys.executable, "-c", PEAK + SOLVE, str(path), "128 MiB", canvas]
            found = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
            kept = "in memory" if canvas == "4 GiB" else "in files"
            print(f"{number:,} patterns, canvas {kept}: {found}", flush=True)
        shutil.rmtree(path)


TILES = """
import sys, time
import numpy, scipy.signal, torch
import ptychostream as ps
from ptychostream.reconstruction.grid import grid_of
from ptychostream.solver.ranks import joined_ranks
from ptychostream.solver.start import SolverStart, make_solver, solver_options
torch.set_num_threads(1)
store, reference = ps.open_group_store(sys.argv[1]), sys.argv[2]
options = solver_options(store, (0,), passes=3, refine_probe=True, num_threads=1, batches=(4, 4))
with joined_ranks(torch.device("cpu")) as ranks:
    grid, before, times = grid_of(store, (0,)), peak(), []
    solver = make_solver(store, (0,), options, SolverStart(), ranks=ranks)
    for state in solver.run(grid=grid):
        times.append(time.process_time())
    used = ranks.most(peak() - before)
    seconds = ranks.total(times[-1] - times[0]) / 2
    largest = ranks.most(float(solver.canvas.object.numel()))
    found, _ = solver.result_on(grid)
    if ranks.number == 0:
        if ranks.size == 1:
            numpy.save(reference, found)
        one, found = (each.astype(complex) for each in (numpy.load(reference), found))
        like = abs(numpy.vdot(one, found)) / numpy.linalg.norm(one) / numpy.linalg.norm(found)
        print(f"{1e6 * seconds / store.num_patterns:.0f} us of processor time a pattern and pass, "
              f"largest box {44e-6 * largest:.0f} MB of {44e-6 * solver.layout.whole.size:.0f} MB, "
              f"peak {used:.0f} MB more than the open store; correlation with one {like:.6f}")
"""


def tiles(folder: Path, processes: list[int]) -> None:
    """Share a dense scan of 4,096 patterns of 64 pixels, and a wide one of 400 that don't overlap.

    Processor time rises where processes run beside each other, whatever they do: below the numbers
    of the dense scan are those of as many processes that each solve all of it alone.
    """
    dense = ps.simulate_scan(num_positions=4096, N=64, step=8.0, nphotons=1e6)
    wide = poisson_scan(400)
    probe = make_probe("gaussian", 64, {"full_width": 24.0, "edge_phase": 3.0})
    wide = replace(wide, positions=25 * wide.positions, probe=probe.astype(np.complex64))
    script = folder / "tiles.py"
    script.write_text(PEAK + TILES)
    for name, scan in (("dense", dense), ("wide", wide)):
        path = folder / f"{name}.zarr"
        ps.build_group_store(scan, path)
        alone = [sys.executable, str(script), str(path)]
        for size in processes:
            run = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={size}"]
            run += ["--standalone", *alone[1:], str(folder / f"{name}.npy")]
            done = subprocess.run(run, capture_output=True, text=True, check=True)
            print(f"{name} scan, {size} processes: {done.stdout.strip()}", flush=True)
            if size == 1 or name == "wide":
                continue
            beside = [
                subprocess.Popen(
                    [*alone, str(folder / f"{each}.npy")], stdout=subprocess.PIPE, text=True
                )
                for each in range(size)
            ]
            said = [each.communicate()[0].split()[0] for each in beside]
            print(f"  {size} beside each other, each alone: {' '.join(said)} us", flush=True)


def many(folder: Path, sizes: list[int], most: int = 30) -> None:
    """Reconstruct experiments of 16 patterns, N = 16, of stores with few and many of them."""
    scan = ps.simulate_scan(num_positions=16, N=16, step=2.5)
    for number in sizes:
        store = ps.build_group_store([scan] * number, folder / f"many-{number}.zarr")
        source = Source(
            store=store.address,
            identity=store.identity,
            cache=None,
            cache_limit="1 GiB",
            model_path=None,
        )
        asked = Asked(title="many", text="", arguments={"passes": 2})
        task = Task(source=source, asked=asked, out=folder / f"results-{number}")
        rows, times = [], [time.process_time()]
        for row in reconstruct_here(task, range(min(number, most)), store, None):
            rows.append(row)
            times.append(time.process_time())
        # A line for each experiment of the store, as if all had been reconstructed.
        table = processor(partial(in_table, task.out, rows, number))
        each = np.diff(times[3:])
        print(
            f"store of {number:,}: {1e3 * each.mean():.0f} ms an experiment (median "
            f"{1e3 * np.median(each):.0f}, {len(each)} of them), table and page "
            f"{1e3 * table / number:.2f} ms an experiment",
            flush=True,
        )


def in_table(folder: Path, rows: list[Row], number: int) -> None:
    summary = Summary(folder)
    for experiment in range(number):
        summary.add({**rows[experiment % len(rows)], "experiment": experiment})
    summary.finish("many")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["start", "growing", "remote", "loader", "tables", "solver", "tiles", "many"]
    parser.add_argument("parts", nargs="*", default=parts)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--patterns", type=int, default=20000)
    parser.add_argument("--experiments", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if "start" in options.parts:
            start(Path(name))
        if "growing" in options.parts:
            growing(Path(name), options.blocks)
        if "remote" in options.parts:
            remote(Path(name), options.patterns)
        if "loader" in options.parts:
            loader(Path(name), options.patterns)
        if "tables" in options.parts:
            tables(Path(name), options.sizes, [])
        if "many" in options.parts:
            many(Path(name), options.experiments)
        if "solver" in options.parts:
            solver(Path(name), options.sizes)
        if "tiles" in options.parts:
            tiles(Path(name), options.processes)


if __name__ == "__main__":
    main()
