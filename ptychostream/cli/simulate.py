"""`ptychostream simulate OUT`."""

from collections.abc import Sequence
from pathlib import Path

from ptychostream.cli.common import make_parser, parse, say
from ptychostream.errors import ConfigurationError, StoreExistsError


def run(words: Sequence[str]) -> None:
    """Make a synthetic scan.

    Parameters
    ----------
    words : sequence of str
        The command's arguments.

    Raises
    ------
    ConfigurationError
        If the output's ending is unknown, or an option is out of range.
    StoreExistsError
        If the output exists and may not be replaced.
    """
    from ptychostream.datasets.sources.npz import write_npz
    from ptychostream.datasets.sources.ptychodus_training import write_ptychodus_training
    from ptychostream.datasets.store import build_group_store
    from ptychostream.persistence.ptychodus_experiment import write_ptychodus_experiment
    from ptychostream.simulation import simulate_scan

    parser = make_parser(
        "simulate",
        "Make a synthetic scan of a known object. OUT ends in .npz, .zarr (group store) or .h5 "
        "(ptychodus training data), or has no ending: a folder with ptychodus's diffraction.h5 "
        "and product.h5.",
    )
    parser.add_argument("out", type=Path, help="file, store or folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    names = parser.add_function_arguments(simulate_scan, None)
    options = parse(parser, words)
    out: Path = options.out
    if out.suffix not in (".npz", ".zarr", ".h5", ""):
        raise ConfigurationError(f"'{out}' must end in .npz, .zarr or .h5, or have no ending")
    if out.exists() and not options.overwrite:
        raise StoreExistsError(f"'{out}' exists; choose another name, or add --overwrite")
    ready = parser.instantiate(options)
    scan = simulate_scan(**{name: getattr(ready, name) for name in names})
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        write_npz(scan, out)
    elif out.suffix == "":
        write_ptychodus_experiment(scan, out)
    elif out.suffix == ".h5":
        write_ptychodus_training(scan, out)
    else:
        build_group_store(scan, out, overwrite=options.overwrite)
    say(f"wrote {out}: {scan.num_patterns} patterns of {scan.N} x {scan.N} px")
