"""Does the certificate tell right from wrong? Twenty sound scans, and faults of each kind.

    python benchmarks/certificate.py [--measured FOLDER] [--passes 20]

Sound scans: five objects, two probes and doses from 10^2 to 10^8 photons, from a forward model of
its own in double precision. The faults are those that end in a picture without an error:
orientation, conjugate probe, a Gaussian for the probe, positions, and patterns that are one trigger
late. FOLDER holds `siemens-star-small.npz` and `t235.npz`.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from solver import drawn, predicted, raster

import ptychostream as ps
from ptychostream.scan import ArrayPatterns, Scan
from ptychostream.simulation.probes import make_probe

OBJECTS = ("bars_and_ellipses", "dead_leaves", "lines", "siemens_star", "polyhedra")


def beam(name: str) -> NDArray[np.complex128]:
    """Make a beam (1, 64, 64) without any symmetry."""
    if name == "zone plate":
        probe = make_probe("fresnel_zone_plate", 64, {})
    else:
        probe = make_probe("gaussian", 64, {"full_width": 18.0, "edge_phase": 6.0})
    along = (np.arange(64) - 32) / 16
    tilt = 1 + 0.4 * np.tanh(along) + 0.3j * np.tanh(along[:, None] * 1.3)
    return np.asarray(probe[:1] * tilt, np.complex128)


def simulated(name: str, probe_name: str, photons: float, seed: int) -> Scan:
    rng = np.random.default_rng(seed)
    positions = raster(13, 5.5, 64, rng)
    size = int(np.ceil(positions.max())) + 40
    probe = beam(probe_name)
    rates = predicted(drawn(name, size, seed), probe, positions)
    scale = photons / rates.sum((1, 2)).mean()
    order = rng.permutation(len(positions))
    return Scan(
        name=f"{name}, {probe_name}, {photons:.0e} photons",
        patterns=ArrayPatterns(rng.poisson(rates * scale).astype(np.uint32)[order]),
        measurement_domain="counts",
        positions=positions[order],
        probe=(probe * np.sqrt(scale)).astype(np.complex64),
    )


def patterns_of(scan: Scan) -> NDArray[Any]:
    return scan.patterns.read(np.arange(scan.num_patterns))


def with_patterns(scan: Scan, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Scan:
    bad = None if scan.bad_pixels is None else change(scan.bad_pixels[None])[0]
    patterns = ArrayPatterns(np.ascontiguousarray(change(patterns_of(scan))))
    return replace(scan, patterns=patterns, bad_pixels=bad)


def gaussian(scan: Scan) -> Scan:
    power = (np.abs(scan.probe[0]) ** 2).sum()
    probe = make_probe("gaussian", scan.probe.shape[-1], {"full_width": scan.probe.shape[-1] / 4})
    probe = probe[:1] * np.sqrt(power / (np.abs(probe[:1]) ** 2).sum())
    return replace(scan, probe=probe.astype(np.complex64))


def wandering(scan: Scan) -> Scan:
    """Positions whose errors are as large as a third of the step."""
    distance = np.abs(scan.positions[:, None] - scan.positions[None]).max(-1)
    step = np.median(np.partition(distance, 1, axis=1)[:, 1])
    error = np.random.default_rng(3).normal(0, max(step, 3.0), scan.positions.shape)
    return replace(scan, positions=scan.positions + error)


FAULTS: dict[str, Callable[[Scan], Scan]] = {
    "mirrored detector": lambda scan: with_patterns(scan, lambda a: a[..., ::-1]),
    "transposed detector": lambda scan: with_patterns(scan, lambda a: np.swapaxes(a, -1, -2)),
    "conjugate probe": lambda scan: replace(scan, probe=scan.probe.conj()),
    "Gaussian probe": gaussian,
    "positions off": wandering,
    "axes exchanged": lambda scan: replace(scan, positions=scan.positions[:, ::-1].copy()),
    "one trigger late": lambda scan: replace(
        scan, patterns=ArrayPatterns(np.roll(patterns_of(scan), 1, axis=0))
    ),
}


def sound_scans() -> Iterator[Scan]:
    doses = (1e2, 1e3, 1e4, 1e6, 1e8)
    for number in range(20):
        yield simulated(
            OBJECTS[number % 5],
            ("gaussian", "zone plate")[number % 2],
            doses[(number // 5 + number) % 5],
            number,
        )


def show(kind: str, scan: Scan, passes: int) -> bool:
    """Reconstruct, print a row, and return whether the certificate warned."""
    with tempfile.TemporaryDirectory() as folder:
        store = ps.build_group_store(scan, f"{folder}/s.zarr", progress=False)
        result = ps.reconstruct(store, passes=passes, refine_probe=True)
    fit = result.fit
    assert fit is not None
    numbers = "no patterns left out"
    if fit.held_out is not None and fit.twin is not None:
        noises = fit.held_out.misfit / fit.held_out.misfit_ideal
        explained, possible = fit.held_out.explained, fit.twin.explained
        numbers = f"{fit.final:.3f} | {noises:.2f} | {explained:.2f} | {possible:.2f}"
    said = "warned" if fit.warnings() else ("diverged" if result.remarks else "no warning")
    print(f"| {kind} | {scan.name} | {numbers} | {said} |", flush=True)
    return said != "no warning"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--passes", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("| what | scan | R | left out, R over noise | explained | by a true model | said |")
    print("|" + "---|" * 7)
    accused = [show("sound", scan, options.passes) for scan in sound_scans()]
    bases = [
        simulated("bars_and_ellipses", "gaussian", 1e6, 30),
        simulated("dead_leaves", "zone plate", 1e5, 31),
    ]
    if options.measured is not None:
        for name in ("siemens-star-small", "t235"):
            scan = ps.read_scan(options.measured / f"{name}.npz")
            accused.append(show("sound", replace(scan, name=name), options.passes))
            bases.append(replace(scan, name=name))
    missed = [
        f"{kind} of {scan.name}"
        for scan in bases
        for kind, spoil in FAULTS.items()
        if not show(kind, spoil(scan), options.passes)
    ]
    print(
        f"\n{sum(accused)} of {len(accused)} sound scans accused; "
        f"{len(missed)} of {len(bases) * len(FAULTS)} faults not said: {', '.join(missed) or '-'}"
    )


if __name__ == "__main__":
    main()
