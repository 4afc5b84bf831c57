"""`ptychostream build SRC [SRC ...] OUT.zarr`."""

from collections.abc import Sequence
from pathlib import Path

from ptychostream.cli.common import make_parser, parse, say


def run(words: Sequence[str]) -> None:
    """Turn scan files into a group store.

    Parameters
    ----------
    words : sequence of str
        The command's arguments.
    """
    from ptychostream.datasets.sources import read_scan
    from ptychostream.datasets.sources.preprocess import Preprocessing, preprocess
    from ptychostream.datasets.store import build_group_store

    parser = make_parser(
        "build",
        "Turn scan files into a group store, one experiment a file. A build that was "
        "interrupted goes on with --resume. Example: ptychostream build scan.npz scan.zarr",
    )
    parser.add_argument("paths", type=Path, nargs="+", help="scan files, then the store to make")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing store")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished build")
    parser.add_argument(
        "--measurement_domain",
        choices=["counts", "amplitude"],
        help="what the patterns are, where a file does not say it or says it wrongly",
    )
    parser.add_argument("--patterns_per_chunk", type=int, help="patterns compressed together")
    parser.add_argument("--memory_budget", default="1 GiB", help="memory for patterns in flight")
    names = parser.add_class_arguments(Preprocessing, None)
    options = parse(parser, words)
    *sources, target = options.paths
    if not sources:
        parser.error("name at least one scan file and the store to make")
    changes = Preprocessing(**{name: getattr(options, name) for name in names})
    scans = [read_scan(source, measurement_domain=options.measurement_domain) for source in sources]
    if changes != Preprocessing():
        scans = [preprocess(scan, changes) for scan in scans]
    store = build_group_store(
        scans,
        target,
        overwrite=options.overwrite,
        resume=options.resume,
        patterns_per_chunk=options.patterns_per_chunk,
        memory_budget=options.memory_budget,
    )
    say(
        f"wrote {target}: {store.num_patterns} patterns of {store.N} x {store.N} px "
        f"({store.measurement_domain}), {store.num_experiments} experiment(s)\n"
        f"next: ptychostream train {target} -o run --model.architecture unrolled "
        f"--model.gridsize 2 --nepochs 3"
    )
