"""`ptychostream info PATH`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, path_or_url
from ptychostream.cli.input_options import add_input_options, input_options
from ptychostream.errors import MissingFileError
from ptychostream.files import whole_file
from ptychostream.persistence.describe import describe_model
from ptychostream.persistence.open_archive import ARCHIVE_NAME

if TYPE_CHECKING:
    from ptychostream.datasets.store import GroupStore

#: Files that a line names.
_SOURCES_SHOWN = 4


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream info`."""
    parser = new_parser("info", "Describe a scan file, a store, a model or a reconstructed object.")
    parser.add_argument("path", type=path_or_url, help="what to look at")
    parser.add_argument(
        "--picture", type=Path, help="file for a picture of a scan: patterns, positions, probe"
    )
    parser.add_argument("--json", type=Path, help="file for the same as JSON")
    add_input_options(parser)
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Print what a scan file, a store, a model or a reconstructed object is."""
    from ptychostream.datasets.store.storage import is_store

    path: Path | str = options.path
    facts: dict[str, Any] = {}
    if isinstance(path, str):
        lines = describe_store(path)
    elif not path.exists():
        raise MissingFileError(f"no file or folder '{path}'")
    elif is_store(path):
        lines = describe_store(path)
    elif path.suffix in (".zip", ".ckpt") or (path / ARCHIVE_NAME).is_file():
        lines = describe_model(path)
    elif _is_result(path):
        lines = describe_result(path)
    else:
        from ptychostream.cli.scan_info import describe_scan

        lines, facts = describe_scan(path, input_options(options), options.picture)
    if options.json is not None:
        with whole_file(options.json) as partial:
            partial.write_text(json.dumps(facts or dict(lines), indent=1))
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:{width}}  {value}" for name, value in lines))


def _is_result(path: Path) -> bool:
    """Return whether a file holds an object, as `reconstruct` writes it, and no patterns."""
    from ptychostream.datasets.sources import find_format
    from ptychostream.datasets.sources.hdf5_patterns import is_hdf5
    from ptychostream.datasets.sources.npz_members import NpzMembers

    name = find_format(path)
    if name == "npz":
        arrays = NpzMembers(path)
        return "object" in arrays and not {"diff3d", "diffraction"} & set(arrays.keys())
    if name is not None or not is_hdf5(path):
        return False
    from ptychostream.hdf5_files import open_hdf5

    with open_hdf5(path) as file:
        return "object" in file


def describe_result(path: Path) -> list[tuple[str, str]]:
    """Describe a reconstructed object."""
    from ptychostream.datasets.sources.objects import read_object_and_origin

    obj, (x, y) = read_object_and_origin(path)
    seen = obj[obj != 0]
    lines = [
        ("object", str(path)),
        ("grid", f"{obj.shape[0]} x {obj.shape[1]} px, first pixel at x {x:g}, y {y:g}"),
        ("reconstructed", f"{seen.size / obj.size:.0%} of the grid"),
    ]
    if seen.size:
        amplitude, phase = np.abs(seen), np.angle(seen * np.conj(seen.mean()))
        lines += [
            ("amplitude", f"mean {amplitude.mean():.3g}, standard deviation {amplitude.std():.2g}"),
            ("phase", f"standard deviation {phase.std():.2g} rad about the mean"),
        ]
    return lines


def describe_store(path: Path | str) -> list[tuple[str, str]]:
    """Describe a store."""
    from ptychostream.datasets.store import open_group_store

    store = open_group_store(path)
    files = [file for segment in store.segments for file in segment.files.values()]
    size = sum(size for size, _ in files)
    raw = store.num_patterns * store.N**2 * store.dtype.itemsize
    version = ".".join(map(str, store.attributes["version"]))
    growth = "" if store.is_complete else ", growing"
    return [
        ("group store", f"{path}, format {version}"),
        ("patterns", f"{store.num_patterns} of {store.N} x {store.N} px, {store.dtype}"),
        ("segments", f"{len(store.segments)}{growth}"),
        ("experiments", _experiments(store)),
        ("domain", store.measurement_domain),
        ("counts", f"{store.total_counts.mean():.4g} a pattern (mean of all)"),
        ("chunks", f"{store.num_chunks} of {store.patterns_per_chunk} patterns"),
        ("size", f"{size / 2**20:.1f} MiB, {size / raw:.2f} of the patterns alone"),
        ("groupings", str(store.num_groupings)),
        ("sources", _sources(store)),
        *(("warning", str(sentence)) for sentence in store.attributes.get("warnings", ())),
    ]


def _experiments(store: "GroupStore") -> str:
    """Return how many experiments there are, and the names of the first few of several."""
    number = store.num_experiments
    named = [f"{n} {name}" for n, name in enumerate(store.experiment_names) if name]
    if number == 1 or not named:
        return str(number)
    # A line break in a name would look like another line of this list.
    shown = [name if name.isprintable() else repr(name) for name in named[:_SOURCES_SHOWN]]
    return f"{number}: {', '.join(shown)}{', …' if number > len(shown) else ''}"


def _sources(store: "GroupStore") -> str:
    """Name what a store was built from and what was appended, the first few of many."""
    provenance = list(store.attributes["provenance"])
    provenance += [source for segment in store.segments[1:] for source in segment.sources]
    names = list(dict.fromkeys(str(p.get("file", p)) for p in provenance))
    # A line break in a name would look like another line of this list.
    names = [name if name.isprintable() else repr(name) for name in names]
    more = len(names) - _SOURCES_SHOWN
    shown = ", ".join(names[:_SOURCES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
