"""`ptychostream evaluate OUT/object.npz --reference FILE`."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.cli.common import make_folder, make_parser, parse, path_or_url, say
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError

#: Keys under which an NPZ file may hold an object, in order of preference.
_OBJECT_KEYS = ("object", "objectGuess")

#: Attributes that place a product's object.
_PLACE = ("center_x_m", "pixel_width_m", "center_y_m", "pixel_height_m")

#: Kinds of data types that are real numbers, and numbers.
_REAL, _NUMBERS = "biuf", "biufc"

_NOT_FINITE = "holds NaN or infinite values, expected finite numbers"


def run(words: Sequence[str]) -> None:
    """Compare an object with a reference."""
    from ptychostream.evaluation import evaluate_object
    from ptychostream.evaluation.align import reference_on_grid
    from ptychostream.evaluation.figures import draw_evaluation
    from ptychostream.evaluation.report import RECORD, write_report

    parser = make_parser(
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
    options = parse(parser, words)
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
    make_folder(out)
    text = json.dumps(evaluation.metrics, indent=1, allow_nan=False)
    (out / "evaluation.json").write_text(text)
    draw_evaluation(evaluation, out / "evaluation.png")
    for name, value in evaluation.metrics.items():
        if isinstance(value, float):
            say(f"{name:24} {value:.4f}")
    if evaluation.frc is None:
        say("no FRC: too small a square is covered in the middle")
    say(f"frame: {evaluation.metrics['frame']}; box {evaluation.metrics['region_box']}")
    written = "evaluation.png"
    if (out / RECORD).exists():
        written = f"evaluation.png and {write_report(out).name}"
    say(f"wrote {out / 'evaluation.json'}, {written}")


def read_reference(
    path: Path | str, experiment: int | None = None
) -> tuple[NDArray[np.complex64], tuple[float, float]]:
    """Read an object from any file that may hold one.

    Parameters
    ----------
    path : Path or str
        NPZ with `object` (and its `origin`) or `objectGuess`, HDF5 with `object`, or a store; a
        store by its URL too.

    Returns
    -------
    object : (H, W) complex64
        The object.
    origin : (float, float)
        Scan position (x, y) of its first pixel.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ConfigurationError
        If an experiment is chosen of a file that is no store.
    DataContractError
        If it holds no object, or several and none was chosen, or the object or its place is not
        as expected.
    """
    from ptychostream.datasets.store.addresses import is_store

    if isinstance(path, Path) and not path.exists():
        raise MissingFileError(f"no reference '{path}'")
    obj: Any = None
    key: str | None = "object"
    origin = (0.0, 0.0)
    if isinstance(path, str) or path.is_dir() or is_store(path):
        from ptychostream.datasets.store import open_group_store

        store = open_group_store(path)
        if experiment is None and store.num_experiments > 1:
            raise DataContractError(
                f"'{path}' holds {store.num_experiments} experiments; choose one: --experiment 0"
            )
        if not 0 <= (experiment or 0) < store.num_experiments:
            raise DataContractError(
                f"'{path}' has no experiment {experiment}; it holds {store.num_experiments}"
            )
        obj, key = store.object_guess_of(experiment or 0), f"object of experiment {experiment or 0}"
    elif experiment is not None:
        raise ConfigurationError(
            f"experiment={experiment} chooses one of a store, and '{path}' is a file; leave it out"
        )
    elif path.suffix in (".h5", ".hdf5"):
        import h5py

        try:
            with h5py.File(path, "r") as file:
                if "object" in file:
                    obj, origin = _read_product(path, file["object"])
        except (OSError, KeyError) as error:
            raise DataContractError(f"'{path}' can't be read: {error}") from error
    else:
        arrays = _open_npz(path)
        key = next((key for key in _OBJECT_KEYS if key in arrays), None)
        obj = None if key is None else arrays.read(key)
        if key == "object" and "origin" in arrays:
            origin = _checked_origin(path, arrays.read("origin"))
    if obj is None or key is None:
        raise DataContractError(f"'{path}' holds no object to compare with")
    return _checked_object(path, key, np.squeeze(obj)), origin


def _read_result(
    path: Path,
) -> tuple[NDArray[np.complex64], NDArray[np.float32], tuple[float, float]]:
    """Object, coverage and origin of a reconstruction."""
    arrays = _open_npz(path)
    missing = [key for key in ("object", "coverage") if key not in arrays]
    if missing:
        raise DataContractError(
            f"'{path}' lacks {missing}; name the object.npz of a reconstruction"
        )
    obj = _checked_object(path, "object", arrays.read("object"))
    coverage = arrays.read("coverage")
    if coverage.shape != obj.shape or coverage.dtype.kind not in _REAL:
        raise DataContractError(
            f"'{path}': 'coverage' is {coverage.shape} {coverage.dtype}, expected numbers of the "
            f"object's shape {obj.shape}"
        )
    if not np.isfinite(coverage).all():
        raise DataContractError(f"'{path}': 'coverage' {_NOT_FINITE}")
    if "origin" not in arrays:
        return obj, coverage, (0.0, 0.0)
    return obj, coverage, _checked_origin(path, arrays.read("origin"))


def _checked_object(path: Path | str, key: str, obj: NDArray[Any]) -> NDArray[np.complex64]:
    if obj.ndim != 2 or obj.size == 0 or obj.dtype.kind not in _NUMBERS:
        raise DataContractError(
            f"'{path}': '{key}' is {obj.shape} {obj.dtype}, expected (H, W) complex"
        )
    with np.errstate(over="ignore"):
        single = np.asarray(obj, dtype=np.complex64)
    if not np.isfinite(single).all():
        raise DataContractError(f"'{path}': '{key}' {_NOT_FINITE}")
    return single


def _checked_origin(path: Path, origin: NDArray[Any]) -> tuple[float, float]:
    if origin.shape != (2,) or origin.dtype.kind not in _REAL or not np.isfinite(origin).all():
        raise DataContractError(
            f"'{path}': 'origin' is {np.array2string(origin, threshold=4)}, expected (x, y), two "
            "finite numbers"
        )
    return float(origin[0]), float(origin[1])


def _read_product(path: Path, dataset: Any) -> tuple[NDArray[Any], tuple[float, float]]:
    """Object of a product, and the position (x, y) of its first pixel."""
    shape = getattr(dataset, "shape", None)
    if not shape or dataset.dtype.kind not in _NUMBERS:
        found = f"{shape} {dataset.dtype}" if hasattr(dataset, "dtype") else "no array but a group"
        raise DataContractError(f"'{path}': 'object' is {found}, expected (H, W) complex")
    try:
        origin = _origin_of(dataset)
    except (TypeError, ValueError, OverflowError) as error:
        attributes = {name: dataset.attrs.get(name) for name in _PLACE}
        raise DataContractError(
            f"'{path}': the attributes of 'object' are {attributes}, expected a finite number each"
        ) from error
    return np.asarray(dataset[:]), origin


def _origin_of(dataset: Any) -> tuple[float, float]:
    """Position (x, y) of the first pixel of a product's object, in its pixels."""
    height, width = dataset.shape[-2:]
    origin = []
    for axis, edge, size in (("x", "width", width), ("y", "height", height)):
        centre = dataset.attrs.get(f"center_{axis}_m")
        pixel = dataset.attrs.get(f"pixel_{edge}_m")
        if centre is None or not pixel:
            return 0.0, 0.0
        first = float(centre / pixel) - (size - 1) / 2
        if not math.isfinite(first):
            raise ValueError(f"{centre} / {pixel}")
        origin.append(round(first, 6))
    return origin[0], origin[1]


def _open_npz(path: Path) -> NpzMembers:
    if not path.is_file():
        raise MissingFileError(f"no file '{path}'")
    return NpzMembers(path)
