"""`ptychostream reconstruct STORE --model_path RUN -o OUT`."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from ptychostream.cli.aliases import expand_aliases
from ptychostream.cli.common import log_to, logger, new_parser, path_or_url, say
from ptychostream.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig

if TYPE_CHECKING:
    from ptychostream.datasets.store import GroupStore
    from ptychostream.persistence.bundle import ModelBundle
    from ptychostream.reconstruction.result import ReconstructionResult

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


#: Options that choose among the positions, which a scan that is still growing has not yet.
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


def prepare(words: Sequence[str], parser: ArgumentParser) -> list[str]:
    """Put our names for older ones, and refuse options that only training has a use for."""
    words = expand_aliases("reconstruct", words)
    for word in words:
        name = word.partition("=")[0].removeprefix("--execution.")
        if name != word and name in TRAINING_OPTIONS:
            parser.error(f"--execution.{name} belongs to `ptychostream train`")
    return words


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Reconstruct a store with a trained network."""
    from ptychostream.config import write_yaml
    from ptychostream.datasets.store import open_group_store
    from ptychostream.persistence import load_bundle
    from ptychostream.persistence.open_archive import ARCHIVE_NAME
    from ptychostream.reconstruction.options import check_execution, choose_experiment
    from ptychostream.reconstruction.report_files import write_result_files

    if options.follow:
        chosen = [name for name in CHOICES if options[name] != parser.get_defaults()[name]]
        if chosen:
            parser.error(f"--{chosen[0]} is not available with --follow: every pattern is used")
    elif options.interval_s != parser.get_defaults()["interval_s"]:
        parser.error("--interval_s does nothing without --follow")
    execution = parser.instantiate(options).execution
    if sys.stderr.isatty() and not options.quiet:
        execution = replace(execution, enable_progress_bar=True)
    bundle, store = load_bundle(options.model_path), open_group_store(options.store)
    choose_experiment(bundle, store, options.experiment)
    # Before a log of an earlier reconstruction is replaced.
    check_execution(execution)
    out: Path = options.out
    log_to(out, "reconstruct.log")
    asked = "\n".join(f"{name}: {value}" for name, value in vars(options.as_flat()).items())
    result = None
    for result in _results(options, execution, bundle, store):
        logger.info(
            "%d positions: %s",
            len(result.positions),
            ", ".join(f"{name} {time:.1f} s" for name, time in result.seconds.items()),
        )
        if not (out / ARCHIVE_NAME).is_file():
            # A run's own folder has its configuration already.
            write_yaml(bundle.config, out / "config.yaml")
        written = write_result_files(
            result,
            bundle,
            out,
            title=PurePosixPath(options.store).name,
            options={"Options of this reconstruction": asked},
        )
    if result is None:
        raise KeyboardInterrupt("there were not enough patterns for an object yet")
    total = result.seconds["total"]
    say(
        f"{result.num_patches} patches in {total:.1f} s "
        f"({result.num_patches / total:.0f} a second), {result.num_clipped} reach beyond the grid\n"
        f"wrote {', '.join(path.name for path in written)} and config.yaml to {out}\n"
        f"next: ptychostream evaluate {quote(str(out / 'object.npz'))} --reference FILE"
    )
    if result.is_partial:
        raise KeyboardInterrupt(f"the result in {out} is partial")


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream reconstruct`."""
    parser = new_parser(
        "reconstruct",
        "Reconstruct a store with a trained network.",
    )
    parser.add_argument("store", type=path_or_url, help="the store")
    parser.add_argument("--model_path", type=Path, required=True, help="folder of wts.h5.zip")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--experiment", type=int, help="which experiment, if there are several")
    parser.add_argument(
        "--refine_passes", type=int, default=2, help="passes over the patterns after stitching"
    )
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


def _results(
    options: Any, execution: PyTorchExecutionConfig, bundle: "ModelBundle", store: "GroupStore"
) -> "Iterable[ReconstructionResult]":
    """Reconstruct, once or while the store grows."""
    from ptychostream.reconstruction.reconstruct import reconstruct

    how: dict[str, Any] = {
        "execution": execution,
        "experiment": options.experiment,
        "align_phases": options.align_phases,
        "refine_passes": options.refine_passes,
        "placement": options.placement,
        "weight": options.weight,
        "canvas_budget": options.canvas_budget,
        "scratch_folder": options.scratch_folder or options.out,
    }
    if options.follow:
        yield from reconstruct(bundle, store, **how, follow=True, interval_s=options.interval_s)
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
    """Choose groups as asked for, and otherwise as the model was trained."""
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
