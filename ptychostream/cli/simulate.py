"""`ptychostream simulate OUT`."""

import os
from inspect import signature
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.common import new_parser, say
from ptychostream.cli.whole_build import build_whole
from ptychostream.errors import ConfigurationError, StoreExistsError

if TYPE_CHECKING:
    pass

#: Options that name several values of an option of `simulate_scan`.
_SEVERAL = ("objects", "probes", "scan_patterns")

#: What to do after a disk was full.
_AGAIN = "simulate again"


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream simulate`."""
    from ptychostream.simulation import simulate_scan

    parser = new_parser(
        "simulate",
        "Make a synthetic scan of a known object. OUT ends in .npz, .zarr (group store) or .h5 "
        "(ptychodus training data), or has no ending: a folder with ptychodus's diffraction.h5 "
        "and product.h5.",
    )
    parser.add_argument("out", type=Path, help="file, store or folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument(
        "--flavour",
        choices=["stored", "contract", "ptychodus"],
        default="stored",
        help="of an .npz: counts, amplitudes as PtychoPINN has them, or counts as ptychodus has "
        "them",
    )
    for name in _SEVERAL:
        parser.add_argument(
            f"--{name}", type=list[str], help=f"several in place of --{name[:-1]}; OUT is a store"
        )
    parser.add_argument(
        "--repeats", type=int, help="times each combination is drawn anew; OUT is a store"
    )
    parser.add_function_arguments(simulate_scan, None)
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Make a synthetic scan, or a store of several."""
    from ptychostream.datasets.sources.npz import write_npz
    from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
    from ptychostream.datasets.sources.ptychodus.training import write_ptychodus_training
    from ptychostream.simulation import simulate_scan

    out: Path = options.out
    if out.suffix not in (".npz", ".zarr", ".h5", ""):
        raise ConfigurationError(f"'{out}' must end in .npz, .zarr or .h5, or have no ending")
    if out.exists() and not options.overwrite:
        raise StoreExistsError(f"'{out}' exists; choose another name, or add --overwrite")
    if options.flavour != "stored" and out.suffix != ".npz":
        raise ConfigurationError(f"--flavour {options.flavour} is of .npz files; '{out}' is none")
    ready = parser.instantiate(options)
    chosen = {name: getattr(ready, name) for name in signature(simulate_scan).parameters}
    if options.repeats is not None or any(options[name] for name in _SEVERAL):
        _simulate_several(options, chosen)
        return
    scan = simulate_scan(**chosen)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        write_npz(scan, out, flavour=options.flavour)
    elif out.suffix == "":
        write_ptychodus_experiment(scan, out)
    elif out.suffix == ".h5":
        write_ptychodus_training(scan, out)
    else:
        build_whole([scan], out, then=_AGAIN, overwrite=options.overwrite)
    say(f"wrote {out}: {scan.num_patterns} patterns of {scan.N} x {scan.N} px\n{_next_step(out)}")


def _simulate_several(options: Any, chosen: dict[str, Any]) -> None:
    from ptychostream.simulation import simulate_experiments

    out: Path = options.out
    if out.suffix != ".zarr":
        raise ConfigurationError(f"'{out}' holds one experiment; several need a store, .zarr")
    several: dict[str, Any] = {name: options[name] or [chosen[name[:-1]]] for name in _SEVERAL}
    rest = {name: value for name, value in chosen.items() if f"{name}s" not in _SEVERAL}
    repeats = 1 if options.repeats is None else options.repeats
    experiments = simulate_experiments(**(several | rest), repeats=repeats)
    scans = list(experiments.in_parallel(os.cpu_count() or 1))
    store = build_whole(scans, out, then=_AGAIN, overwrite=options.overwrite)
    say(
        f"wrote {out}: {store.num_experiments} experiments, {store.num_patterns} patterns of "
        f"{store.N} x {store.N} px\n{_next_step(out)}"
    )


def _next_step(out: Path) -> str:
    if out.suffix == ".zarr":
        return f"next: ptychostream train {quote(str(out))} -o run --model.architecture unrolled"
    return f"next: ptychostream build {quote(str(out))} {quote(str(out.with_suffix('.zarr')))}"
