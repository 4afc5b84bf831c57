"""`ptychostream export STORE OUT.npz`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, path_or_url, say
from ptychostream.errors import ConfigurationError, StoreExistsError
from ptychostream.scan import Scan


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream export`."""
    parser = new_parser(
        "export",
        "Write a store back as a scan file, in acquisition order: .npz, or .h5 for ptychodus "
        "training data. Write a result as amplitude and phase in .tif, or as .cxi.",
    )
    parser.add_argument("store", type=path_or_url, help="the store, or a result's folder")
    parser.add_argument("out", type=Path, help="the file to make")
    parser.add_argument("--experiment", type=int, default=0, help="which experiment")
    parser.add_argument(
        "--flavour",
        choices=["stored", "contract", "ptychodus"],
        default="stored",
        help="of an .npz: patterns as stored, amplitudes as PtychoPINN has them, or counts as "
        "ptychodus has them",
    )
    parser.add_argument(
        "--unwrap", action="store_true", help="of a .tif: continue phases beyond pi"
    )
    parser.add_argument(
        "--covered", action="store_true", help="of a result: only its well-covered part"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Write one experiment of a store back as a scan file, or a result for other programs."""
    from ptychostream.datasets.sources.npz import write_npz
    from ptychostream.datasets.sources.ptychodus.training import write_ptychodus_training
    from ptychostream.datasets.store import open_group_store

    out: Path = options.out
    if out.suffix in (".tif", ".tiff", ".cxi"):
        _export_result(options)
        return
    if options.unwrap or options.covered:
        raise ConfigurationError("--unwrap and --covered are of results: OUT ends in .tif or .cxi")
    writers: dict[str, Callable[[Scan, Path], None]] = {
        ".npz": partial(write_npz, flavour=options.flavour),
        ".h5": write_ptychodus_training,
    }
    if out.suffix not in writers:
        raise ConfigurationError(f"'{out}' must end in .npz or .h5, or of a result in .tif or .cxi")
    if out.suffix == ".h5" and options.flavour != "stored":
        raise ConfigurationError(f"--flavour {options.flavour} is of .npz files; '{out}' is none")
    store = open_group_store(options.store)
    store.rows(options.experiment)
    if out.exists() and not options.overwrite:
        raise StoreExistsError(f"'{out}' exists; choose another name, or add --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    scan = store.scan(options.experiment)
    writers[out.suffix](scan, out)
    say(
        f"wrote {out}: {scan.num_patterns} patterns ({scan.measurement_domain})\n"
        f"next: ptychostream info {quote(str(out))}"
    )


def _export_result(options: Namespace) -> None:
    """Write a result as TIFF or CXI."""
    from ptychostream.reconstruction.export import read_result, write_cxi, write_tiff

    out: Path = options.out
    if options.unwrap and out.suffix == ".cxi":
        raise ConfigurationError("--unwrap is of .tif; a .cxi holds the complex object")
    targets = (
        [out]
        if out.suffix == ".cxi"
        else [out.with_name(f"{out.stem}_{name}{out.suffix}") for name in ("amplitude", "phase")]
    )
    there = [target for target in targets if target.exists()]
    if there and not options.overwrite:
        raise StoreExistsError(f"'{there[0]}' exists; choose another name, or add --overwrite")
    result = read_result(Path(str(options.store)))
    result = result.cropped() if options.covered else result
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".cxi":
        write_cxi(result, out)
    else:
        write_tiff(result, out, unwrap=options.unwrap)
    height, width = result.object.shape
    pixel = "unknown" if result.pixel_size_m is None else f"{result.pixel_size_m * 1e9:.4g} nm"
    say(f"wrote {', '.join(map(str, targets))}: {height} x {width} px, pixel {pixel}")
