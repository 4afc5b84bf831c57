"""Draw the layers of the package from its imports, and print what is measured of the code.

python examples/house.py docs/images/house.png
python examples/house.py --root ANOTHER_CHECKOUT
"""

import argparse
import ast
import statistics
import tomllib
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

PACKAGES = ("ptychostream", "ptychodus_ext")


def modules(root):
    """Return the file of each module, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name, path, names):
    """Return the modules of ours that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in names else node.module for one in whole}
    return (found & names.keys()) - {name}


def circles(graph):
    """Return the groups of modules that import one another (Tarjan's algorithm)."""
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in number:
            visit(node)
    return found


def docstring_lines(path):
    """Count the lines of a file's docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [n.body for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, documented)]
    texts = [b[0] for b in bodies if b and isinstance(b[0], ast.Expr)]
    return sum(
        text.end_lineno - text.lineno + 1
        for text in texts
        if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    )


def measure(root):
    """Print the sizes of files, and how they import one another."""
    files = modules(root)
    graph = {name: imports(name, path, files) for name, path in files.items()}
    lines = {name: len(path.read_text().splitlines()) for name, path in files.items()}
    users = Counter(other for others in graph.values() for other in others)
    largest, middle = max(lines, key=lines.get), statistics.median(lines.values())
    words = sum(docstring_lines(path) for path in files.values())
    print(f"{sum(lines.values())} lines in {len(files)} files, the median has {middle:g}")
    print(f"{words} of them are docstrings")
    print(f"largest file: {files[largest].relative_to(root)}, {lines[largest]} lines")
    print(f"{sum(users[name] == 1 for name in files)} files are imported by exactly one other")
    print(f"{len(circles(graph))} circles of imports")


#: What each part does, in a few words.
IDEAS = {
    "ptychodus_ext": "inside ptychodus",
    "cli": "one command a file",
    "workflows": "PtychoPINN's calls",
    "ptychopinn": "for PtychoPINN's callers",
    "training": "losses, loop, checkpoints",
    "reconstruction": "store to object",
    "solver": "iterative passes",
    "persistence": "archives",
    "simulation": "known objects",
    "datasets": "the data pipeline",
    "datasets.sources": "scan files",
    "datasets.grouping": "neighbours",
    "datasets.store": "on disk",
    "datasets.batches": "streaming",
    "models": "networks",
    "stitching": "patches to object",
    "evaluation": "figures, report",
    "children": "processes",
    "scan": "one scan",
    "pattern_sources": "where from",
    "geometry": "x, y and rows",
    "physics": "probe to detector",
    "patches": "cut and place",
    "legacy": "params.cfg",
    "progress": "progress, stop",
    "files": "whole files",
    "hdf5_files": "HDF5, safely",
    "locks": "one writer",
    "exchange": "swap folders",
    "cluster": "dask workers",
    "plain_pickle": "data only",
    "pickle_calls": "what pickles call",
    "memory": "amounts of memory",
    "scratch": "arrays in files",
    "config": "what users choose",
    "errors": "our exceptions",
}


def layers(root):
    """Return the rows of parts that import-linter keeps in order, the highest first."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    whole, pipeline = (c["layers"] for c in settings["contracts"] if c["type"] == "layers")
    rows = [[part.strip() for part in row.split("|")] for row in whole]
    rooms = [f"datasets.{room.strip()}" for row in pipeline for room in row.split("|")]
    return [["ptychodus_ext"], *rows], rooms


def draw(rows, rooms, out):
    """Draw a box for each part in the row of its layer, and one for each room of the datasets."""
    figure, axes = plt.subplots(figsize=(12, 0.62 * len(rows) + 0.8))
    y = 0.0
    for row in reversed(rows):
        names = [part.removeprefix("ptychostream.") for part in row]
        height = 1.9 if "datasets" in names else 1.0
        shares = [3.0 if name == "datasets" else 1.0 for name in names]
        unit = 10 / max(sum(shares), 5)
        x = (10 - unit * sum(shares)) / 2
        for name, share in zip(names, shares, strict=True):
            box(axes, (x, y), (unit * share, height), name, "#dbe7f5")
            if name == "datasets":
                inner = (unit * share - 0.1) / len(rooms)
                for at, room in enumerate(rooms):
                    box(axes, (x + 0.05 + at * inner, y + 0.05), (inner, 0.95), room, "#f7fafd")
            x += unit * share
        y += height
    axes.annotate("", (10.3, 0.1), (10.3, y - 0.1), arrowprops={"arrowstyle": "->", "color": "0.5"})
    axes.text(10.38, y / 2, "may import", rotation=270, va="center", color="0.4")
    axes.set(xlim=(-0.1, 10.7), ylim=(-0.1, y + 0.1))
    axes.axis("off")
    figure.savefig(out, bbox_inches="tight", dpi=90)


def box(axes, corner, size, name, colour):
    """Draw one part, with its name and its idea at the top."""
    (x, y), (width, height) = corner, size
    axes.add_patch(
        FancyBboxPatch(
            (x + 0.04, y + 0.06),
            width - 0.08,
            height - 0.12,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=colour,
            edgecolor="#5f7fa8",
        )
    )
    at = {"ha": "center", "va": "center"}
    middle, top = x + width / 2, y + height
    axes.text(middle, top - 0.34, name.split(".")[-1], fontsize=9, weight="bold", **at)
    axes.text(middle, top - 0.68, IDEAS.get(name, ""), fontsize=7.5, color="0.35", **at)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="picture to make")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    measure(options.root)
    if options.out:
        draw(*layers(options.root), options.out)


if __name__ == "__main__":
    main()
