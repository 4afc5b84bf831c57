"""`ptychostream reconstruct SCAN|STORE -o OUT [--model_path RUN]`."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.common import log_to, logger, say, sole_writer
from ptychostream.cli.experiments import chosen_experiments
from ptychostream.cli.input_options import find_probe, input_options
from ptychostream.cli.reconstruct_options import (
    TRAINING_OPTIONS,
    asked_of,
    check_options,
    make_parser,
)
from ptychostream.cli.whole_build import build_whole
from ptychostream.config import PyTorchExecutionConfig
from ptychostream.errors import (
    ConfigurationError,
    DataContractError,
    MissingFileError,
    StoreExistsError,
)

if TYPE_CHECKING:
    from ptychostream.datasets.store import GroupStore
    from ptychostream.persistence.bundle import ModelBundle
    from ptychostream.reconstruction.write import Asked
    from ptychostream.solver.ranks import Ranks

__all__ = ["make_parser", "prepare", "run"]

#: Failed experiments that a message names, at most.
_NAMED = 5


def prepare(words: Sequence[str], parser: ArgumentParser) -> list[str]:
    """Replace older names of options, and refuse options that only training uses."""
    words = expand_aliases("reconstruct", words)
    for word in words:
        name = word.partition("=")[0].removeprefix("--execution.")
        if name != word and name in TRAINING_OPTIONS:
            parser.error(f"--execution.{name} belongs to `ptychostream train`")
    return words


@dataclass(frozen=True, eq=False)
class _Job:
    """What all results of a command have in common."""

    options: Any
    asked: "Asked"
    bundle: "ModelBundle | None"
    store: "GroupStore"
    ranks: "Ranks"


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Reconstruct a store or a scan file, with or without a trained network."""
    from ptychostream.reconstruction.options import check_execution

    check_options(parser, options)
    execution = parser.instantiate(options).execution
    if sys.stderr.isatty() and not options.quiet:
        execution = replace(execution, enable_progress_bar=True)
    bundle = _model(options)
    with ExitStack() as stack:
        ranks = _joined(options, execution, stack)
        store = stack.enter_context(_opened(options))
        job = _Job(options, asked_of(options, execution, bundle), bundle, store, ranks)
        experiments = chosen_experiments(options.experiment, store.experiment_names)
        is_one = experiments is None or options.join or options.experiment.isdecimal()
        _check_experiments(experiments, bundle, store)
        # Before a log of an earlier reconstruction is replaced.
        check_execution(execution)
        with sole_writer(options.out):
            if is_one:
                _make_room(options.out, overwrite=options.overwrite)
            log_to(options.out, "reconstruct.log")
            if is_one:
                _reconstruct(job, experiments)
            else:
                _reconstruct_each(job, experiments or [])


def _model(options: Any) -> "ModelBundle | None":
    """Load the network, if there is one."""
    if options.model_path is None:
        return None
    # Imported only then: the solver alone starts without the libraries of networks.
    from ptychostream.persistence import load_bundle

    return load_bundle(options.model_path)


def _joined(options: Any, execution: PyTorchExecutionConfig, stack: ExitStack) -> "Ranks":
    """Join the processes of a launcher; only the first one writes and speaks."""
    from ptychostream.datasets.store.storage import is_store
    from ptychostream.launcher import is_launched
    from ptychostream.reconstruction.options import choose_device
    from ptychostream.solver.ranks import Ranks, joined_ranks

    if not is_launched():
        return Ranks()
    if not is_store(options.store):
        raise ConfigurationError(
            f"'{options.store}' is no store; several processes share one: build it first, then "
            "reconstruct the store"
        )
    if options.workers or options.dask:
        raise ConfigurationError(
            "processes of torchrun or srun share each experiment, and --workers and --dask share "
            "the experiments among others: start the command once, or leave the option out"
        )
    ranks = stack.enter_context(joined_ranks(choose_device(execution.accelerator)))
    if ranks.number:
        options.out = Path(stack.enter_context(TemporaryDirectory(prefix="ptychostream-")))
        options.quiet = True
        logger.setLevel(logging.ERROR)
    return ranks


def _make_room(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace a result without `--overwrite`."""
    if (out / "object.npz").exists() and not overwrite:
        raise StoreExistsError(
            f"'{out}' holds a result already; add --overwrite, or choose another folder"
        )


def _check_experiments(
    experiments: Sequence[int] | None, bundle: "ModelBundle | None", store: "GroupStore"
) -> None:
    """Refuse experiments that were not chosen among several, or that the model does not fit."""
    from ptychostream.reconstruction.options import choose_experiment
    from ptychostream.solver.start import chosen_experiments

    if bundle is None:
        chosen_experiments(store, experiments)
    else:
        for experiment in [None] if experiments is None else experiments:
            choose_experiment(bundle, store, experiment)


@contextmanager
def _opened(options: Any) -> "Iterator[GroupStore]":
    """Open a store; a scan file is built into one, temporary unless it is to be kept."""
    from ptychostream.datasets.store import open_group_store
    from ptychostream.datasets.store.storage import is_store

    source = options.store
    if is_store(source):
        given = input_options(options).given()
        if given:
            raise ConfigurationError(
                f"--{next(iter(given))} says how a scan file is read, and '{source}' is a store; "
                "build it again with that option"
            )
        if options.keep_store:
            logger.warning("--keep_store has no effect: '%s' is no scan file", source)
        yield open_group_store(source, cache_folder=options.cache, cache_limit=options.cache_limit)
        return
    if not Path(source).exists():
        raise MissingFileError(f"no scan file and no store '{source}'")
    with ExitStack() as stack:
        if options.keep_store:
            options.out.mkdir(parents=True, exist_ok=True)
            folder = options.out
        else:
            scratch = TemporaryDirectory(prefix="ptychostream-", dir=options.scratch_folder)
            folder = Path(stack.enter_context(scratch))
        logger.info("making a store of '%s'", source)
        yield build_whole(
            source,
            folder / "scan.zarr",
            then="reconstruct again",
            options=input_options(options),
            find_probe=find_probe,
            overwrite=options.overwrite,
            memory_budget=options.execution.memory_budget,
            progress=False,
        )


def _reconstruct(job: _Job, experiments: Sequence[int] | None) -> None:
    """Reconstruct one object, and say how it went."""
    from ptychostream.reconstruction.write import write_reconstruction

    out: Path = job.options.out
    result, written = write_reconstruction(
        job.asked, job.store, job.bundle, experiments, out, ranks=job.ranks
    )
    if job.bundle is not None and result.fit is not None:
        say(
            "where patterns overlap well, and below 10,000 photons a pattern, the solver alone, "
            "without --model_path, does as well"
        )
    fit = "" if result.fit is None else f", misfit R {result.fit.final:.4f}"
    used = "patterns" if job.bundle is None else "patches"
    say(
        f"{result.num_patches} {used} in {result.seconds['total']:.1f} s{fit}\n"
        f"wrote {', '.join(path.name for path in written)} to {out}\n"
        f"next: ptychostream evaluate {quote(str(out / 'object.npz'))} --reference FILE"
    )
    if result.is_partial:
        raise KeyboardInterrupt(f"the result in {out} is partial")


def _reconstruct_each(job: _Job, experiments: Sequence[int]) -> None:
    """Reconstruct experiments, each in a folder of its own, with a table and a page of all."""
    from ptychostream.reconstruction.many import (
        Source,
        Task,
        pending_experiments,
        reconstruct_by_workers,
        reconstruct_here,
        with_name,
    )
    from ptychostream.reconstruction.summary import Summary

    options, names, store = job.options, job.store.experiment_names, job.store
    found = pending_experiments(
        experiments,
        store,
        job.asked,
        options.out,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    pending, rows = job.ranks.of_first(found)
    summary = Summary(options.out, rows)
    source = Source(
        store=store.address,
        identity=store.identity,
        cache=options.cache,
        cache_limit=options.cache_limit,
        model_path=options.model_path and options.model_path.resolve(),
    )
    task = Task(source=source, asked=job.asked, out=options.out.resolve())
    if pending and (options.workers or options.dask):
        made = reconstruct_by_workers(task, pending, options.workers or options.dask)
    else:
        made = reconstruct_here(task, pending, store, job.bundle, ranks=job.ranks)
    try:
        for number, row in enumerate(made, 1):
            named = with_name(row, names)
            summary.add(named)
            say(f"{number} of {len(pending)}: {_in_words(named)}")
    finally:
        summary.finish(job.asked.title)
    kept = f", {len(rows)} were there already" if rows else ""
    failed = [str(row["experiment"]) for row in summary.failures()]
    say(
        f"{len(pending) - len(failed)} of {len(experiments)} experiments reconstructed in "
        f"{options.out}{kept}: see report.html and summary.csv there"
    )
    if failed:
        more = ", …" if len(failed) > _NAMED else ""
        raise DataContractError(
            f"{len(failed)} experiments failed: {', '.join(failed[:_NAMED])}{more}; summary.csv "
            "says why, and --resume tries them again"
        )


def _in_words(row: dict[str, Any]) -> str:
    """Describe how an experiment went."""
    name = f" ({row['name']})" if row["name"] else ""
    misfit = "" if row.get("misfit") is None else f" misfit R {row['misfit']:.4f}"
    warnings = f" {row['warnings']}" if row["warnings"] else ""
    return f"experiment {row['experiment']}{name}:{misfit}{warnings}"
