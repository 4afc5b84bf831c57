"""The options of `ptychostream reconstruct`, and what they ask of a reconstruction."""

from argparse import SUPPRESS
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from ptychostream.cli.common import add_cache_options, logger, new_parser, path_or_url
from ptychostream.cli.input_options import add_input_options
from ptychostream.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle
    from ptychostream.reconstruction.write import Asked

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


#: Options of the solver: name, kind, default and help.
_SOLVING: tuple[tuple[str, Any, Any, str], ...] = (
    ("passes", int, None, "passes over all patterns; None is 20"),
    ("minutes", float, None, "time for the passes, instead of a number"),
    ("start", str, None, "flat, network, or the folder of an earlier result, to go on"),
    ("refine_probe", bool, None, "solve for the probe; None is yes for measured scans"),
    ("probe_modes", int, None, "incoherent modes of the probe"),
    ("correct_positions", bool, False, "solve for the positions"),
    ("fit_scan_geometry", bool, False, "find one scale, rotation and shear of all positions first"),
    ("smoothness", float, None, "strength of the prior; None lets the data decide"),
    ("seed", int, 0, "seed of the order of patterns"),
    ("checks_fit", bool, True, "judge the result by patterns left out of a short extra run"),
)

#: What becomes of a network's patches.
_STITCHING: tuple[tuple[str, Any, Any, str], ...] = (
    ("align_phases", bool, True, "find the patches' phases by overlap"),
    ("groups_per_position", int, 1, "groups around each, to average over"),
    (
        "seeds",
        Literal["every", "covering"],
        "every",
        "positions to draw groups around; covering is just enough for every pattern: faster",
    ),
    (
        "placement",
        Literal["fourier", "bilinear"],
        "fourier",
        "how patches are placed between pixels; bilinear is quicker and blurs a little",
    ),
    (
        "weight",
        Literal["probe", "uniform"],
        "probe",
        "trust in the pixels of a patch: by the light on them, or all alike",
    ),
    ("rescale_patches", bool, False, "scale each patch of the network to fit its own pattern"),
    ("canvas_budget", str, "4 GiB", "memory for the object and its sums"),
    ("scratch_folder", Path, None, "for files that go away again; None is the result's"),
)

#: Which groups of patterns a network sees.
_GROUPS: tuple[tuple[str, Any, Any, str], ...] = (
    ("n_groups", int, None, "positions to use; None is all"),
    ("n_subsample", int, None, "patterns drawn before grouping"),
    ("subsample_seed", int, None, "seed of the draws; None is training's"),
    ("neighbor_count", int, None, "neighbours; None is as trained"),
    ("enable_oversampling", bool, False, "more groups than positions"),
    ("neighbor_pool_size", int, None, "neighbours that it combines"),
)


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
    _add(parser, _SOLVING)
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
    parser.add_argument(
        "--workers", type=PositiveInt, help="processes that share the experiments on this machine"
    )
    parser.add_argument("--dask", help="address of a dask scheduler whose workers share them")
    parser.add_argument("--refine_passes", type=int, help=SUPPRESS)
    _add(parser, _STITCHING)
    _add(parser, _GROUPS)
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


def _add(parser: ArgumentParser, options: Iterable[tuple[str, Any, Any, str]]) -> None:
    for name, kind, default, text in options:
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)


def check_options(parser: Any, options: Any) -> None:
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
    for name in ("resume", "join", "workers", "dask"):
        if options[name] and options.experiment is None:
            parser.error(f"--{name} has no effect without --experiment all or a list")
    if options.join and options.model_path is not None:
        parser.error("--join is for the solver alone; leave --model_path out")
    if options.join and options.resume:
        parser.error("--resume has no effect with --join, which gives one result")
    by_workers = "workers" if options.workers else "dask" if options.dask else ""
    if options.workers and options.dask:
        parser.error("--workers starts workers, --dask takes those that run already: name one")
    if by_workers and (options.join or options.follow):
        other = "join" if options.join else "follow"
        parser.error(f"--{by_workers} shares experiments among workers, --{other} has one alone")
    if options.follow:
        chosen = changed(CHOICES)
        if chosen:
            parser.error(f"--{chosen[0]} is not available with --follow: every pattern is used")
    elif changed(["interval_s"]):
        parser.error("--interval_s has no effect without --follow")


def asked_of(
    options: Any, execution: PyTorchExecutionConfig, bundle: "ModelBundle | None"
) -> "Asked":
    """Return what the options ask of each reconstruction."""
    from ptychostream.reconstruction.basis import digest_of_model
    from ptychostream.reconstruction.write import Asked

    arguments: dict[str, Any] = {
        "execution": execution,
        "passes": _passes(options),
        "canvas_budget": options.canvas_budget,
        "scratch_folder": options.scratch_folder,
        **{name: options[name] for name in SOLVER_OPTIONS},
    }
    if bundle is not None:
        arguments |= {name: options[name] for name in NETWORK_OPTIONS if name not in CHOICES}
        if not options.follow:
            arguments |= {
                "config": _which_groups(options, bundle.config),
                "groups_per_position": options.groups_per_position,
                "seeds": options.seeds,
            }
    return Asked(
        title=PurePosixPath(options.store).name,
        text="\n".join(
            f"{name}: {value}"
            for name, value in vars(options.as_flat()).items()
            if value is not None
        ),
        arguments=arguments,
        interval_s=options.interval_s if options.follow else None,
        model=None if bundle is None else digest_of_model(bundle),
    )


def _passes(options: Any) -> int | None:
    if options.refine_passes is None:
        passes: int | None = options.passes
        return passes
    logger.warning("--refine_passes is called --passes now")
    refine_passes: int = options.refine_passes
    return refine_passes


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
