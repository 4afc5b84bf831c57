"""Peak memory of building and of streaming, for stores of two sizes.

    python benchmarks/memory.py [--patterns 10000 80000]

Each measurement runs in a process of its own; what importing costs is taken off.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from streaming import poisson_scan

PEAK = """
import sys
def peak():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
"""

STREAM = """
import numpy, scipy.spatial, tensordict, torch, zarr
import ptychostream as ps
from ptychostream.datasets.batches.loader import make_loader
before = peak()
store = ps.open_group_store(sys.argv[1])
groups = store.groups(2, 6)
for batch in make_loader(store, groups, batch_size=64, memory_budget=sys.argv[2]):
    pass
print(f"{peak() - before:.0f}")
"""

BUILD = """
import numpy, scipy.spatial, zarr
import ptychostream as ps
ps.build_group_store
before = peak()
ps.build_group_store(sys.argv[1], sys.argv[1] + ".zarr", memory_budget=sys.argv[2])
print(f"{peak() - before:.0f}")
"""


def measure(code: str, *arguments: str) -> str:
    run = [sys.executable, "-c", PEAK + code, *arguments]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patterns", type=int, nargs="+", default=[10000, 80000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in options.patterns:
            scan = poisson_scan(number)
            file = Path(folder) / f"{number}.npz"
            np.savez(
                file,
                diff3d=scan.patterns.read(np.arange(number)),
                xcoords=scan.positions[:, 0],
                ycoords=scan.positions[:, 1],
                probeGuess=scan.probe,
            )
            size = file.stat().st_size / 2**20
            for budget in ("64 MiB", "256 MiB"):
                build = measure(BUILD, str(file), budget)
                stream = measure(STREAM, f"{file}.zarr", budget)
                subprocess.run(["rm", "-r", f"{file}.zarr"], check=True)
                print(
                    f"{number} patterns ({size:.0f} MB), budget {budget}: building {build} MB, "
                    f"streaming {stream} MB above the imports",
                    flush=True,
                )


if __name__ == "__main__":
    main()
