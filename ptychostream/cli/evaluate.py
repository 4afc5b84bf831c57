"""`ptychostream evaluate OUT/object.npz --reference FILE`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.cli.common import make_parser, parse, say
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.errors import DataContractError, MissingFileError

#: Keys under which an NPZ file may hold an object, in order of preference.
_OBJECT_KEYS = ("object", "objectGuess")


def run(words: Sequence[str]) -> None:
    """Compare an object with a reference.

    Parameters
    ----------
    words : sequence of str
        The command's arguments.
    """
    from ptychostream.evaluation import evaluate_object
    from ptychostream.evaluation.figures import draw_evaluation

    parser = make_parser(
        "evaluate",
        "Compare an object with a reference: global phase, scale, ramp and a shift are removed, "
        "then PSNR, SSIM, phase error and FRC are measured where enough patches cover the "
        "object. Writes evaluation.json and evaluation.png beside the object.",
    )
    parser.add_argument("object", type=Path, help="object.npz of a reconstruction")
    parser.add_argument(
        "--reference", type=Path, required=True, help="NPZ, product (HDF5) or store with the truth"
    )
    parser.add_argument("-o", "--out", type=Path, help="folder for the results")
    parser.add_argument("--register", type=bool, default=True, help="remove a shift")
    parser.add_argument(
        "--min_coverage", type=float, default=3, help="patches that must cover a pixel"
    )
    options = parse(parser, words)
    arrays = _open_npz(options.object)
    missing = [key for key in ("object", "coverage") if key not in arrays]
    if missing:
        raise DataContractError(
            f"'{options.object}' lacks {missing}; name the object.npz of a reconstruction"
        )
    obj, coverage = arrays.read("object"), arrays.read("coverage")
    origin = arrays.read("origin").tolist() if "origin" in arrays else [0, 0]
    if origin != [0, 0]:
        # The reference begins at position (0, 0): leave out what lies before it.
        obj, coverage = obj[-origin[1] :, -origin[0] :], coverage[-origin[1] :, -origin[0] :]
    evaluation = evaluate_object(
        obj,
        read_reference(options.reference),
        coverage,
        register=options.register,
        min_coverage=options.min_coverage,
    )
    out: Path = options.out or options.object.parent
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation.metrics, indent=1)
    (out / "evaluation.json").write_text(text)
    draw_evaluation(evaluation, out / "evaluation.png")
    for name, value in evaluation.metrics.items():
        if isinstance(value, float):
            say(f"{name:24} {value:.4f}")
    say(f"frame: {evaluation.metrics['frame']}; box {evaluation.metrics['region_box']}")
    say(f"wrote {out / 'evaluation.json'} and evaluation.png")


def read_reference(path: Path) -> NDArray[np.complex64]:
    """Read an object from any file that may hold one.

    Parameters
    ----------
    path : Path
        NPZ with `object` or `objectGuess`, HDF5 with `object`, or a store.

    Returns
    -------
    (H, W) complex64
        The object.

    Raises
    ------
    MissingFileError
        If there is no such file.
    DataContractError
        If it holds no object.
    """
    if not path.exists():
        raise MissingFileError(f"no reference '{path}'")
    obj: Any = None
    if path.is_dir():
        from ptychostream.datasets.store import open_group_store

        obj = open_group_store(path).object_guess
    elif path.suffix in (".h5", ".hdf5"):
        import h5py

        try:
            with h5py.File(path, "r") as file:
                obj = np.asarray(file["object"][:]) if "object" in file else None
        except OSError as error:
            raise DataContractError(f"'{path}' can't be read: {error}") from error
    else:
        arrays = _open_npz(path)
        key = next((key for key in _OBJECT_KEYS if key in arrays), None)
        obj = None if key is None else arrays.read(key)
    if obj is None:
        raise DataContractError(f"'{path}' holds no object to compare with")
    obj = np.squeeze(obj)
    if obj.ndim != 2:
        raise DataContractError(f"the object in '{path}' is {obj.shape}, expected (H, W)")
    return np.asarray(obj, dtype=np.complex64)


def _open_npz(path: Path) -> NpzMembers:
    if not path.is_file():
        raise MissingFileError(f"no file '{path}'")
    return NpzMembers(path)
