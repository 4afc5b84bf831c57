"""Draw what can be simulated: every object, probe and scan pattern, and what a detector does.

python examples/gallery.py docs/images/simulation.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import ptychostream as ps
from ptychostream.simulation import Detector
from ptychostream.simulation.objects import OBJECTS, make_object
from ptychostream.simulation.probes import PROBES, make_probe
from ptychostream.simulation.probes.shaping import incoherent_modes
from ptychostream.simulation.scan_patterns import SCAN_PATTERNS, make_positions

DETECTORS = {
    "no noise": {"noise": False},
    "1e6 photons": {"nphotons": 1e6},
    "1e3 photons": {"nphotons": 1e3},
    "point spread 1 px": {"detector": Detector(point_spread=1.0)},
    "background 3": {"detector": Detector(background=3.0)},
    "beamstop": {"detector": Detector(beamstop=3.0)},
    "dead and hot": {"detector": Detector(dead_fraction=0.02, hot_fraction=0.005)},
    "8 bits": {"detector": Detector(bit_depth=8)},
}


def picture(axes, image, title, **options):
    axes.imshow(image, interpolation="nearest", **options)
    axes.set_title(title, fontsize=7)


def coloured(wave):
    """Brightness is amplitude, hue is phase."""
    hue = np.angle(wave) / (2 * np.pi) % 1
    value = np.abs(wave) / np.abs(wave).max()
    return matplotlib.colors.hsv_to_rgb(np.stack([hue, np.ones_like(hue), value], axis=-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="picture to make")
    out = parser.parse_args().out
    columns = max(len(OBJECTS), len(DETECTORS))
    figure, grid = plt.subplots(6, columns, figsize=(1.5 * columns, 9.6))
    for axes in grid.flat:
        axes.axis("off")
    for at, name in enumerate(OBJECTS):
        obj = make_object(name, (192, 192), np.random.default_rng(1))
        picture(grid[0, at], np.abs(obj), f"{name}\namplitude", cmap="gray")
        picture(grid[1, at], np.angle(obj), "phase", cmap="magma")
    for at, name in enumerate(PROBES):
        probe = make_probe(name, 64)
        picture(grid[2, at], coloured(probe[0]), f"probe\n{name}")
    modes = incoherent_modes(make_probe("gaussian", 64), [0.6, 0.15, 0.15, 0.1])
    for at, mode in enumerate(modes, len(PROBES)):
        picture(grid[2, at], coloured(mode), f"mode {at - len(PROBES) + 1}\nof a gaussian")
    for at, name in enumerate(SCAN_PATTERNS):
        x, y = make_positions(name, 150, 1.0, np.random.default_rng(1)).T
        grid[3, at].plot(x, y, linewidth=0.3, color="0.7")
        grid[3, at].scatter(x, y, s=2, c=np.arange(len(x)), cmap="viridis")
        grid[3, at].set(aspect="equal", ylim=(y.max() + 1, y.min() - 1))
        grid[3, at].set_title(f"scan\n{name}", fontsize=7)
    moved = ps.simulate_scan(
        num_positions=150, N=16, scan_pattern="raster", step=1, drift=(2, -1), position_noise=0.1
    )
    last = grid[3, len(SCAN_PATTERNS)]
    last.scatter(*moved.positions_start.T, s=2, color="0.7")
    last.scatter(*moved.positions.T, s=2, color="tab:red")
    last.set(aspect="equal")
    last.invert_yaxis()
    last.set_title("nominal (grey)\nand true (red)", fontsize=7)
    for at, (name, options) in enumerate(DETECTORS.items()):
        scan = ps.simulate_scan(num_positions=4, probe="zernike", **({"nphotons": 1e6} | options))
        counts = scan.patterns.read(np.array([2]))[0]
        picture(grid[4, at], np.log1p(counts), f"log counts\n{name}", cmap="viridis")
    for at, probe in enumerate(PROBES):
        scan = ps.simulate_scan(num_positions=4, object="white_noise", probe=probe)
        counts = scan.patterns.read(np.array([2]))[0]
        picture(grid[5, at], np.log1p(counts), f"white noise\n{probe}", cmap="viridis")
    figure.tight_layout(pad=0.4)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
