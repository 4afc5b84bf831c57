"""`ptychostream build SRC [SRC ...] OUT.zarr`."""

import shutil
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, path_or_url, say
from ptychostream.cli.input_options import add_input_options, find_probe, input_options

if TYPE_CHECKING:
    from ptychostream.datasets.store.plan import StoreLayout


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream build`."""
    parser = new_parser(
        "build",
        "Turn scan files into a group store, one experiment a file; a folder counts as its "
        "files, and a store as its experiments. A build that was interrupted goes on with "
        "--resume.",
    )
    parser.add_argument(
        "paths", type=path_or_url, nargs="+", help="scan files, then the store to make: path or URL"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing store, and an unfinished one"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished build")
    parser.add_argument(
        "--dry_run", action="store_true", help="list what would be written, and write nothing"
    )
    parser.add_argument("--patterns_per_chunk", type=int, help="patterns compressed together")
    parser.add_argument("--memory_budget", default="1 GiB", help="memory for patterns in flight")
    parser.add_argument("--growing", action="store_true", help="more will be appended")
    parser.add_argument(
        "--dask", "--cluster", help="address of a dask scheduler whose workers write it"
    )
    add_input_options(parser)
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Turn scan files into a group store."""
    from ptychostream.datasets.store import build_group_store
    from ptychostream.datasets.store.plan import plan_build
    from ptychostream.datasets.store.scans import scans_from
    from ptychostream.datasets.store.staging import has_unfinished_build

    *sources, target = options.paths
    if not sources:
        parser.error("name at least one scan file and the store to make")
    inputs = input_options(options)
    if options.dry_run:
        scans = tuple(scans_from(sources, inputs, find_probe=find_probe))
        print(describe_plan(plan_build(scans, options.patterns_per_chunk), target))
        return
    try:
        store = build_group_store(
            sources,
            target,
            options=inputs,
            find_probe=find_probe,
            overwrite=options.overwrite,
            resume=options.resume,
            patterns_per_chunk=options.patterns_per_chunk,
            memory_budget=options.memory_budget,
            growing=options.growing,
            cluster=options.dask,
        )
    except KeyboardInterrupt:
        if has_unfinished_build(target):
            raise KeyboardInterrupt("the same command with --resume goes on") from None
        raise
    say(
        f"wrote {target}: {store.num_patterns} patterns of {store.N} x {store.N} px "
        f"({store.measurement_domain}), {store.num_experiments} experiment(s)\n"
        f"next: ptychostream reconstruct {quote(str(target))} -o result"
        f"{' --experiment all' if store.num_experiments > 1 else ''}"
    )


def describe_plan(plan: "StoreLayout", target: Path | str) -> str:
    """Describe what a build would write."""
    patterns, edge, _ = plan.shape
    size = patterns * edge**2 * plan.dtype.itemsize
    lines = [
        f"would write {target}: {patterns} patterns of {edge} x {edge} px, {plan.dtype}",
        f"  experiments  {len(plan.scans)}: {', '.join(scan.name for scan in plan.scans)}",
        f"  files        {plan.num_shards} of up to {plan.patterns_per_shard} patterns, in chunks "
        f"of {plan.patterns_per_chunk}",
        f"  size         at most {size / 2**20:.1f} MiB before compression",
    ]
    if isinstance(target, str):
        return "\n".join(lines)
    parent = next(folder for folder in target.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(parent).free
    lines[-1] += f"; {free / 2**20:.0f} MiB are free"
    if size > free:
        lines.append("  this may not fit: compression saves more or less, by what was counted")
    if target.exists():
        lines.append(f"  {target} exists; add --overwrite, or choose another name")
    return "\n".join(lines)
