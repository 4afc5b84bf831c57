"""Draw the object's grid, a patch, its position, and two members of a group.

python examples/geometry_drawing.py docs/images/geometry.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from ptychostream.geometry import patch_corners, split_coordinates

EDGE, HEIGHT, WIDTH = 8, 18, 24


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="picture to make")
    out = parser.parse_args().out
    positions = np.array([[8.0, 7.0], [15.4, 10.7]])
    mean, relative = split_coordinates(positions, np.array([[0, 1]]))
    corners, fractions = patch_corners(positions, EDGE)
    figure, axes = plt.subplots(figsize=(9, 6.6))
    # Pixel (column x, row y) is drawn as a square about the point (x, y).
    for line in np.arange(-0.5, WIDTH):
        axes.plot([line, line], [-0.5, HEIGHT - 0.5], color="0.9", linewidth=0.8, zorder=0)
    for line in np.arange(-0.5, HEIGHT):
        axes.plot([-0.5, WIDTH - 0.5], [line, line], color="0.9", linewidth=0.8, zorder=0)
    axes.add_patch(Rectangle((-0.5, -0.5), WIDTH, HEIGHT, fill=False, linewidth=1.5))
    for at, colour in enumerate(("tab:blue", "tab:orange")):
        row, column = corners[at]
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), EDGE, EDGE, color=colour, alpha=0.15, zorder=0)
        )
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), EDGE, EDGE, fill=False, color=colour, linewidth=2)
        )
        axes.plot(*positions[at], "o", color=colour)
        x, y = positions[at]
        axes.annotate(
            f"position ({x:g}, {y:g})\nunder patch pixel (N/2, N/2)",
            positions[at],
            xytext=(-70, 28) if at == 0 else (2, 22),
            textcoords="offset points",
            color=colour,
        )
        axes.text(
            column - 0.3,
            row - 0.75 if at == 0 else row + EDGE + 0.1,
            f"corner: row {row}, column {column}; the probe moves by "
            f"({fractions[at, 0]:.1f}, {fractions[at, 1]:.1f})",
            color=colour,
            fontsize=8,
        )
        axes.annotate(
            "", mean[0], xytext=positions[at], arrowprops={"arrowstyle": "->", "color": colour}
        )
    axes.plot(*mean[0], "k+", markersize=14, markeredgewidth=2)
    axes.annotate(
        "mean position of the group\narrows: mean - member,\n"
        f"{np.round(relative[0, 0], 2)} and {np.round(relative[0, 1], 2)}",
        mean[0],
        xytext=(1, 14.5),
        arrowprops={"arrowstyle": "-", "color": "0.6"},
    )
    axes.text(-0.3, 0.2, "pixel (0, 0)", fontsize=8)
    axes.set(
        xlim=(-1.5, WIDTH + 0.5),
        ylim=(HEIGHT + 0.5, -1.5),
        aspect="equal",
        xticks=range(0, WIDTH, 2),
        yticks=range(0, HEIGHT, 2),
        xlabel="x, column",
        ylabel="y, row",
        title=f"An object of {HEIGHT} x {WIDTH} px and two patches, N = {EDGE}",
    )
    figure.savefig(out, bbox_inches="tight", dpi=90)


if __name__ == "__main__":
    main()
