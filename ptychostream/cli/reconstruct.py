"""`ptychostream reconstruct SCAN|STORE -o OUT [--model_path RUN]`."""

import logging
import sys
from argparse import SUPPRESS
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.common import (
    add_cache_options,
    log_to,
    logger,
    new_parser,
    path_or_url,
    say,
    sole_writer,
)
from ptychostream.cli.experiments import (
    chosen_experiments,
    folder_of,
    read_summary,
    summary_row,
    write_summary,
)
from ptychostream.cli.input_options import add_input_options, find_probe, input_options
from ptychostream.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import ConfigurationError, StoreExistsError

if TYPE_CHECKING:
    from ptychostream.datasets.store import GroupStore
    from ptychostream.persistence.bundle import ModelBundle
    from ptychostream.reconstruction.result import ReconstructionResult
    from ptychostream.reconstruction.run import OnPass
    from ptychostream.solver.ranks import Ranks

#: Execution options that only training has a use for. A file of options may serve both
#: commands, but who names one here expects it to do something.
TRAINING_OPTIONS = {
    "accum_steps",
    "checkpoint_mode",
    "checkpoint_monitor_metric",
    "checkpoint_save_top_k",
    "early_stop_patience",
    "enable_checkpointing",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "learning_rate",
    "logger_backend",
    "recon_log_every_n_epochs",
    "recon_log_fixed_indices",
    "recon_log_max_stitch_samples",
    "recon_log_num_patches",
    "recon_log_stitch",
    "scheduler",
}


#: Options that choose among all positions, which are not known while a scan grows.
CHOICES = (
    "n_groups",
    "n_subsample",
    "subsample_seed",
    "neighbor_count",
    "enable_oversampling",
    "neighbor_pool_size",
    "groups_per_position",
    "seeds",
)

#: Options that only a network uses.
NETWORK_OPTIONS = (*CHOICES, "align_phases", "placement", "weight", "rescale_patches")

#: Options that are handed to the solver as they are.
SOLVER_OPTIONS = (
    "minutes",
    "start",
    "refine_probe",
    "probe_modes",
    "correct_positions",
    "fit_scan_geometry",
    "smoothness",
    "seed",
    "checks_fit",
)


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
    execution: PyTorchExecutionConfig
    bundle: "ModelBundle | None"
    store: "GroupStore"
    ranks: "Ranks"


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Reconstruct a store or a scan file, with or without a trained network."""
    from ptychostream.persistence import load_bundle
    from ptychostream.reconstruction.options import check_execution

    _check_options(parser, options)
    execution = parser.instantiate(options).execution
    if sys.stderr.isatty() and not options.quiet:
        execution = replace(execution, enable_progress_bar=True)
    bundle = None if options.model_path is None else load_bundle(options.model_path)
    with ExitStack() as stack:
        ranks = _joined(options, execution, stack)
        store = stack.enter_context(_opened(options))
        job = _Job(options, execution, bundle, store, ranks)
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
                _reconstruct(job, experiments, options.out)
            else:
                _reconstruct_each(job, experiments or [])


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


def _reconstruct_each(job: _Job, experiments: Sequence[int]) -> None:
    """Reconstruct experiments one after the other, each in a folder of its own, with a table."""
    options, names = job.options, job.store.experiment_names
    rows, done = (read_summary(options.out) if options.resume else []), 0
    for experiment in experiments:
        folder = folder_of(options.out, experiment)
        is_done = options.resume and (folder / "report.json").exists()
        if job.ranks.of_first(is_done):
            done += 1
            continue
        _make_room(folder, overwrite=options.overwrite or options.resume)
        result = _reconstruct(job, [experiment], folder)
        rows = [row for row in rows if str(row["experiment"]) != str(experiment)]
        rows.append(summary_row(experiment, names[experiment], result))
        write_summary(options.out, rows)
    kept = f", {done} were there already" if done else ""
    made = len(experiments) - done
    say(f"{made} of {len(experiments)} experiments reconstructed in {options.out}{kept}")


def _check_options(parser: Any, options: Any) -> None:
    """Refuse options that have no effect beside the others."""
    defaults = parser.get_defaults()

    def changed(names: Iterable[str]) -> list[str]:
        return [name for name in names if options[name] != defaults[name]]

    if options.model_path is None:
        unused = changed(NETWORK_OPTIONS)
        if unused:
            parser.error(f"--{unused[0]} has no effect without --model_path")
        if options.start == "network":
            parser.error("--start network needs --model_path")
    for name in ("resume", "join"):
        if options[name] and options.experiment is None:
            parser.error(f"--{name} has no effect without --experiment all or a list")
    if options.join and options.model_path is not None:
        parser.error("--join is for the solver alone; leave --model_path out")
    if options.join and options.resume:
        parser.error("--resume has no effect with --join, which gives one result")
    if options.follow:
        chosen = changed(CHOICES)
        if chosen:
            parser.error(f"--{chosen[0]} is not available with --follow: every pattern is used")
    elif changed(["interval_s"]):
        parser.error("--interval_s has no effect without --follow")


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
    from ptychostream.datasets.store import build_group_store, open_group_store
    from ptychostream.datasets.store.storage import is_store

    source = options.store
    if is_store(source) or not Path(source).is_file():
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
    with ExitStack() as stack:
        if options.keep_store:
            options.out.mkdir(parents=True, exist_ok=True)
            folder = options.out
        else:
            scratch = TemporaryDirectory(prefix="ptychostream-", dir=options.scratch_folder)
            folder = Path(stack.enter_context(scratch))
        logger.info("making a store of '%s'", source)
        yield build_group_store(
            source,
            folder / "scan.zarr",
            options=input_options(options),
            find_probe=find_probe,
            overwrite=options.overwrite,
            memory_budget=options.execution.memory_budget,
            progress=False,
        )


def _reconstruct(job: _Job, experiments: Sequence[int] | None, out: Path) -> "ReconstructionResult":
    """Reconstruct one object, and write all files of the result."""
    from ptychostream.config import write_yaml
    from ptychostream.persistence.open_archive import ARCHIVE_NAME
    from ptychostream.reconstruction.live_page import LivePage
    from ptychostream.reconstruction.report_files import write_result_files

    options, bundle, store = job.options, job.bundle, job.store
    asked = "\n".join(f"{name}: {value}" for name, value in vars(options.as_flat()).items())
    result = None
    title = PurePosixPath(options.store).name + _named(experiments, store)
    page = None if options.follow else LivePage(out, title=title)
    for result in _results(job, experiments, on_pass=page):
        logger.info(
            "%d positions: %s",
            len(result.positions),
            ", ".join(f"{name} {time:.1f} s" for name, time in result.seconds.items()),
        )
        if job.ranks.number:
            return result
        if bundle is not None and not (out / ARCHIVE_NAME).is_file():
            # A run's own folder has its configuration already.
            write_yaml(bundle.config, out / "config.yaml")
        written = write_result_files(
            result,
            bundle,
            out,
            title=title,
            options={"Options of this reconstruction": asked},
            refresh_s=options.interval_s if options.follow else None,
        )
    if result is None:
        raise KeyboardInterrupt("there were not enough patterns for an object yet")
    fit = "" if result.fit is None else f", misfit R {result.fit.final:.4f}"
    used = "patterns" if bundle is None else "patches"
    say(
        f"{result.num_patches} {used} in {result.seconds['total']:.1f} s{fit}\n"
        f"wrote {', '.join(path.name for path in written)} to {out}\n"
        f"next: ptychostream evaluate {quote(str(out / 'object.npz'))} --reference FILE"
    )
    if result.is_partial:
        raise KeyboardInterrupt(f"the result in {out} is partial")
    return result


def _named(experiments: Sequence[int] | None, store: "GroupStore") -> str:
    """Return the part of a title that names the experiment, where there are several."""
    if experiments is None or store.num_experiments == 1:
        return ""
    listed = ", ".join(map(str, experiments))
    return f", experiment{'s' if len(experiments) > 1 else ''} {listed}"


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream reconstruct`."""
    parser = new_parser(
        "reconstruct",
        "Reconstruct a store, or a scan file, by the iterative solver; a network can start it.",
    )
    parser.add_argument("store", type=path_or_url, help="the store, or a scan file")
    add_cache_options(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the result that the folder holds"
    )
    parser.add_argument(
        "--keep_store", action="store_true", help="keep the store of a scan file beside the result"
    )
    _add_solver_options(parser)
    add_input_options(parser)
    parser.add_argument("--model_path", type=Path, help="folder of wts.h5.zip")
    parser.add_argument(
        "--experiment",
        type=str,
        help="which of several: a number, 0,4 or 2:5, a name such as tue*, or all",
    )
    parser.add_argument(
        "--join", action="store_true", help="one object from them: parts of one stage, one probe"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave experiments out that have a result already"
    )
    parser.add_argument("--refine_passes", type=int, help=SUPPRESS)
    parser.add_argument(
        "--align_phases", type=bool, default=True, help="find the patches' phases by overlap"
    )
    parser.add_argument(
        "--groups_per_position", type=int, default=1, help="groups around each, to average over"
    )
    parser.add_argument(
        "--seeds",
        type=Literal["every", "covering"],
        default="every",
        help="positions to draw groups around; covering is just enough for every pattern: faster",
    )
    parser.add_argument(
        "--placement",
        type=Literal["fourier", "bilinear"],
        default="fourier",
        help="how patches are placed between pixels; bilinear is quicker and blurs a little",
    )
    parser.add_argument(
        "--weight",
        type=Literal["probe", "uniform"],
        default="probe",
        help="trust in the pixels of a patch: by the light on them, or all alike",
    )
    parser.add_argument(
        "--rescale_patches",
        type=bool,
        default=False,
        help="scale each patch of the network to fit its own pattern",
    )
    parser.add_argument(
        "--canvas_budget", type=str, default="4 GiB", help="memory for the object and its sums"
    )
    parser.add_argument(
        "--scratch_folder", type=Path, help="for files that go away again; None is the result's"
    )
    parser.add_argument("--n_groups", type=int, help="positions to use; None is all")
    parser.add_argument("--n_subsample", type=int, help="patterns drawn before grouping")
    parser.add_argument("--subsample_seed", type=int, help="seed of the draws; None is training's")
    parser.add_argument("--neighbor_count", type=int, help="neighbours; None is as trained")
    parser.add_argument(
        "--enable_oversampling", type=bool, default=False, help="more groups than positions"
    )
    parser.add_argument("--neighbor_pool_size", type=int, help="neighbours that it combines")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="write the object so far while the store grows, and that of all patterns at its end",
    )
    parser.add_argument(
        "--interval_s", type=float, default=5.0, help="seconds between two objects so far"
    )
    parser.add_class_arguments(PyTorchExecutionConfig, "execution")
    return parser


def _add_solver_options(parser: Any) -> None:
    parser.add_argument("--passes", type=int, help="passes over all patterns; None is 20")
    parser.add_argument("--minutes", type=float, help="time for the passes, instead of a number")
    parser.add_argument(
        "--start", type=str, help="flat, network, or the folder of an earlier result, to go on"
    )
    parser.add_argument(
        "--refine_probe", type=bool, help="solve for the probe; None is yes for measured scans"
    )
    parser.add_argument("--probe_modes", type=int, help="incoherent modes of the probe")
    parser.add_argument(
        "--correct_positions", type=bool, default=False, help="solve for the positions"
    )
    parser.add_argument(
        "--fit_scan_geometry",
        type=bool,
        default=False,
        help="find one scale, rotation and shear of all positions first",
    )
    parser.add_argument(
        "--smoothness", type=float, help="strength of the prior; None lets the data decide"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of patterns")
    parser.add_argument(
        "--checks_fit",
        type=bool,
        default=True,
        help="judge the result by patterns left out of a short extra run",
    )


def _results(
    job: _Job, experiments: Sequence[int] | None, *, on_pass: "OnPass | None"
) -> "Iterable[ReconstructionResult]":
    """Reconstruct, once or while the store grows."""
    from ptychostream.reconstruction.reconstruct import follow, reconstruct

    options, bundle, store = job.options, job.bundle, job.store
    passes = options.passes
    if options.refine_passes is not None:
        logger.warning("--refine_passes is called --passes now")
        passes = options.refine_passes
    how: dict[str, Any] = {
        "execution": job.execution,
        "ranks": job.ranks,
        "experiment": (
            experiments if experiments is None or len(experiments) > 1 else experiments[0]
        ),
        "passes": passes,
        "on_pass": on_pass,
        "canvas_budget": options.canvas_budget,
        "scratch_folder": options.scratch_folder or options.out,
        **{name: options[name] for name in SOLVER_OPTIONS},
    }
    if bundle is None:
        if options.follow:
            yield from follow(store, **how, interval_s=options.interval_s)
        else:
            yield reconstruct(store, **how)
        return
    how |= {name: options[name] for name in NETWORK_OPTIONS if name not in CHOICES}
    if options.follow:
        yield from follow(bundle, store, **how, interval_s=options.interval_s)
        return
    config = _which_groups(options, bundle.config)
    yield reconstruct(
        bundle,
        store,
        **how,
        config=config,
        groups_per_position=options.groups_per_position,
        seeds=options.seeds,
    )


def _which_groups(options: Any, trained: TrainingConfig) -> InferenceConfig:
    """Choose groups by the options given, the rest as in the model's training."""
    return InferenceConfig(
        n_groups=options.n_groups,
        n_subsample=options.n_subsample,
        subsample_seed=(
            trained.subsample_seed if options.subsample_seed is None else options.subsample_seed
        ),
        neighbor_count=(
            trained.neighbor_count if options.neighbor_count is None else options.neighbor_count
        ),
        enable_oversampling=options.enable_oversampling,
        neighbor_pool_size=options.neighbor_pool_size,
    )
