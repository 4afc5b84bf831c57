"""Time of grouping over the time of the neighbour search alone.

python benchmarks/grouping.py [--positions 1000000]
"""

import argparse
import time

import numpy as np
from scipy.spatial import cKDTree

from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.datasets.grouping.table import compute_groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=1_000_000)
    options = parser.parse_args()
    side = int(np.sqrt(options.positions))
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    positions = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    positions += np.random.default_rng(0).uniform(-0.3, 0.3, positions.shape)
    experiment = np.zeros(len(positions), np.int64)
    for turns in (1, 7):
        ratios = []
        for _ in range(3):
            began = time.perf_counter()
            cKDTree(positions).query(positions, k=8)
            search = time.perf_counter() - began
            parameters = GroupingParameters(gridsize=2, neighbor_count=7, groups_per_position=turns)
            began = time.perf_counter()
            groups = compute_groups(positions, experiment, parameters)
            ratios.append((time.perf_counter() - began) / search)
        print(
            f"{len(groups):,} groups over {len(positions):,} positions: "
            f"{np.median(ratios):.2f} x the search alone ({search:.1f} s)"
        )


if __name__ == "__main__":
    main()
