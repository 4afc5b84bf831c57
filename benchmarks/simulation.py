"""Speed and memory of the simulation.

Speed: time per pattern over the time of its two Fourier transforms alone (the probe's shift
between pixels, and the way to the detector), in single precision as the simulation has them and
in double precision. Times are those of a core, so that a busy machine changes little; photons are
drawn on all cores. Memory: largest resident size while patterns of 64 x 64 px stream into a store.

    python benchmarks/simulation.py                       # speed
    python benchmarks/simulation.py --store 100000        # memory and end-to-end rate too
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import ptychostream as ps


def duration(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def transform(waves):
    """Two transforms of each wave, in blocks as the simulation has them."""
    for block in waves.split(16):
        torch.fft.fft2(torch.fft.fft2(block))


def speed(number=512, edge=64):
    torch.set_num_threads(1)
    rows = np.arange(number)
    for modes in (1, 3):
        wave = torch.randn(number, modes, edge, edge, dtype=torch.complex64)
        double = wave.to(torch.complex128)
        for noise in (False, True):
            scan = ps.simulate_scan(
                num_positions=number,
                N=edge,
                noise=noise,
                mode_powers=[1 / 3**p for p in range(modes)],
            )
            # Both by turns, so that whatever else the machine does slows both.
            seconds, transforms, doubles = np.inf, np.inf, np.inf
            for _ in range(25):
                seconds = min(seconds, duration(lambda scan=scan: scan.patterns.read(rows)))
                transforms = min(transforms, duration(lambda wave=wave: transform(wave)))
                doubles = min(doubles, duration(lambda wave=double: transform(wave)))
            seconds, transforms = seconds / number, transforms / number
            kind = "photon noise" if noise else "no noise"
            print(
                f"{modes} modes, {kind}: {1 / seconds:.0f} patterns/s a core, "
                f"{seconds * 1e6:.0f} us a pattern, {seconds / transforms:.2f} times the FFTs, "
                f"{seconds * number / doubles:.2f} times those in double precision"
            )


def stream(number):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    scan = ps.simulate_scan(num_positions=number, N=64, step=1.0, object="perlin_noise")
    prepared = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        store = ps.build_group_store(scan, Path(folder) / "s.zarr", progress=False)
        seconds = time.perf_counter() - start
        print(
            f"{store.num_patterns} patterns into a store: {number / seconds:.0f} patterns/s "
            f"({prepared:.0f} of {seconds:.0f} s before the first pattern)"
        )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest resident size {after:.0f} MiB, {before:.0f} MiB before")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=int, help="patterns to stream into a store")
    options = parser.parse_args()
    if options.store:
        stream(options.store)
    else:
        speed()
