"""Scan patterns, found by name.

A pattern function takes the number of positions M, a step in pixels and a random generator, and
returns positions (M, 2), (x, y) in pixels, the least of each coordinate near 0.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.checks import call_by_name

Pattern = Callable[[int, float, np.random.Generator], NDArray[np.float64]]


def raster(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan row after row, as nearly square as `number` allows."""
    columns = int(np.ceil(np.sqrt(number)))
    index = np.arange(number)
    return step * np.stack([index % columns, index // columns], axis=1).astype(float)


def jittered_raster(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan a raster whose positions are displaced by up to a quarter of a step.

    The displacement breaks the regularity that otherwise shows as a grid in reconstructions.
    """
    return raster(number, step, rng) + rng.uniform(0, step / 2, (number, 2))


def snake(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan a raster whose every second row goes back, so that the stage never jumps."""
    positions = raster(number, step, rng)
    columns = int(np.ceil(np.sqrt(number)))
    back = np.arange(number) // columns % 2 == 1
    positions[back, 0] = step * (columns - 1) - positions[back, 0]
    return positions


def spiral(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan a Fermat spiral of even density: each position has an area of step²."""
    index = np.arange(number)
    radius = step * np.sqrt(index / np.pi)
    angle = index * np.pi * (3 - np.sqrt(5))
    positions = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return np.asarray(positions - positions.min(axis=0))


def concentric(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan rings that lie a step apart, from the middle outwards.

    Each ring is turned by a random angle, so that no spokes appear.
    """
    rings = [np.zeros((1, 2))]
    remaining = number - 1
    while remaining > 0:
        ring = len(rings)
        on_ring = min(round(2 * np.pi * ring), remaining)
        angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(on_ring) / on_ring
        rings.append(ring * step * np.stack([np.cos(angle), np.sin(angle)], axis=1))
        remaining -= on_ring
    positions = np.concatenate(rings)
    return np.asarray(positions - positions.min(axis=0))


def scattered(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw positions at random in a square."""
    return rng.uniform(0, step * np.sqrt(number), (number, 2))


SCAN_PATTERNS: dict[str, Pattern] = {
    "concentric": concentric,
    "jittered_raster": jittered_raster,
    "random": scattered,
    "raster": raster,
    "snake": snake,
    "spiral": spiral,
}


def make_positions(
    name: str, number: int, step: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return positions (M, 2) of a named pattern; an unknown name is a `ConfigurationError`."""
    return call_by_name("scan pattern", SCAN_PATTERNS, name, (number, step, rng), None)
