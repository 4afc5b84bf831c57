"""`ptychostream evaluate OUT/object.npz --reference FILE`."""

import json
from pathlib import Path

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from numpy.typing import NDArray

from ptychostream.cli.common import new_parser, path_or_url, say, sole_writer
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.datasets.sources.objects import (
    checked_object,
    checked_origin,
    read_object_and_origin,
)
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError
from ptychostream.files import whole_file


def make_parser() -> ArgumentParser:
    """Describe the command line of `ptychostream evaluate`."""
    parser = new_parser(
        "evaluate",
        "Compare an object with a reference: global phase, scale, ramp and a shift are removed, "
        "then PSNR, SSIM, phase error and FRC are measured where enough patches cover the "
        "object. Writes evaluation.json and evaluation.png beside the object.",
    )
    parser.add_argument("object", type=Path, help="object.npz of a reconstruction")
    parser.add_argument(
        "--reference",
        type=path_or_url,
        required=True,
        help="NPZ, product (HDF5) or store with the truth",
    )
    parser.add_argument(
        "--experiment", type=int, help="which experiment of a reference that is a store"
    )
    parser.add_argument("-o", "--out", type=Path, help="folder for the results")
    parser.add_argument("--register", type=bool, default=True, help="remove a shift")
    parser.add_argument(
        "--min_coverage", type=float, default=3, help="patches that must cover a pixel"
    )
    return parser


def run(options: Namespace, parser: ArgumentParser) -> None:
    """Compare an object with a reference."""
    from ptychostream.evaluation import evaluate_object
    from ptychostream.evaluation.align import reference_on_grid
    from ptychostream.evaluation.figures import draw_evaluation
    from ptychostream.evaluation.report import RECORD, write_report

    if options.min_coverage < 0:
        parser.error(f"--min_coverage {options.min_coverage} must not be negative")
    obj, coverage, place = _read_result(options.object)
    reference, origin = read_reference(options.reference, options.experiment)
    for path, image in ((options.object, obj), (options.reference, reference)):
        if not image.any():
            raise DataContractError(
                f"'{path}': the object is zero everywhere, expected something to compare"
            )
    reference, part = reference_on_grid(reference, origin, place, obj.shape)
    if reference.shape != obj.shape:
        say(f"compared where both are: {reference.shape} of the object's {obj.shape} px")
    evaluation = evaluate_object(
        obj[part],
        reference,
        coverage[part],
        register=options.register,
        min_coverage=options.min_coverage,
    )
    out: Path = options.out or options.object.parent
    text = json.dumps(evaluation.metrics, indent=1, allow_nan=False)
    with sole_writer(out):
        with whole_file(out / "evaluation.json") as partial:
            partial.write_text(text)
        draw_evaluation(evaluation, out / "evaluation.png")
        report = write_report(out).name if (out / RECORD).exists() else None
    for name, value in evaluation.metrics.items():
        if isinstance(value, float):
            say(f"{name:24} {value:.4f}")
    if evaluation.frc is None:
        say("no FRC: too small a square is covered in the middle")
    say(f"frame: {evaluation.metrics['frame']}; box {evaluation.metrics['region_box']}")
    written = "evaluation.png" if report is None else f"evaluation.png and {report}"
    say(f"wrote {out / 'evaluation.json'}, {written}")


def read_reference(
    path: Path | str, experiment: int | None = None
) -> tuple[NDArray[np.complex64], tuple[float, float]]:
    """Read an object and its origin (x, y) from a file, or from a store by path or URL."""
    from ptychostream.datasets.store import open_group_store
    from ptychostream.datasets.store.storage import is_store

    if isinstance(path, Path) and not path.exists():
        raise MissingFileError(f"no reference '{path}'")
    if not (isinstance(path, str) or path.is_dir() or is_store(path)):
        if experiment is not None:
            raise ConfigurationError(
                f"experiment={experiment} chooses one of a store, and '{path}' is a file; "
                "leave it out"
            )
        return read_object_and_origin(path)
    store = open_group_store(path)
    if experiment is None and store.num_experiments > 1:
        raise DataContractError(
            f"'{path}' holds {store.num_experiments} experiments; choose one: --experiment 0"
        )
    number = experiment or 0
    store.rows(number)
    obj = store.object_guess_of(number)
    if obj is None:
        raise DataContractError(f"'{path}' holds no object to compare with")
    return checked_object(path, f"object of experiment {number}", np.squeeze(obj)), (0.0, 0.0)


def _read_result(
    path: Path,
) -> tuple[NDArray[np.complex64], NDArray[np.float32], tuple[float, float]]:
    """Object, coverage and origin of a reconstruction."""
    if not path.is_file():
        raise MissingFileError(f"no file '{path}'")
    arrays = NpzMembers(path)
    missing = [key for key in ("object", "coverage") if key not in arrays]
    if missing:
        raise DataContractError(
            f"'{path}' lacks {missing}; name the object.npz of a reconstruction"
        )
    obj = checked_object(path, "object", arrays.read("object"))
    coverage = arrays.read("coverage")
    if coverage.shape != obj.shape or coverage.dtype.kind not in "biuf":
        raise DataContractError(
            f"'{path}': 'coverage' is {coverage.shape} {coverage.dtype}, expected numbers of the "
            f"object's shape {obj.shape}"
        )
    if not np.isfinite(coverage).all():
        raise DataContractError(
            f"'{path}': 'coverage' holds NaN or infinite values, expected finite numbers"
        )
    if "origin" not in arrays:
        return obj, coverage, (0.0, 0.0)
    return obj, coverage, checked_origin(path, arrays.read("origin"))
