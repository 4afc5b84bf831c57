"""Find a model archive, open it, and recognise its backend; weights are not read."""

from pathlib import Path
from typing import Literal

from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.persistence.entries import FOLDER, Members
from ptychostream.plain_pickle import loads_plain

#: Name of the archive in its folder, as in PtychoPINN.
ARCHIVE_NAME = "wts.h5.zip"
#: Our own description of an archive, which is authoritative if there is one.
INDEX = "ptychostream.json"
#: The description that all backends write.
MANIFEST = "manifest.dill"

#: Bytes that a description may have.
DESCRIPTION_BYTES = 16 * 2**20

#: Advice for an archive of another backend than the requested one.
_WAYS_OUT = {
    "tensorflow": "set backend='tensorflow', or make it one of ours with `ptychostream convert`"
}

#: How much larger than its zipped folder an archive may be: all that is held in memory.
_LARGER = 8

#: Name of Lightning's files.
_SUFFIX = ".ckpt"

#: Writers of an archive: we, PtychoPINN's TensorFlow backend, or its PyTorch backend.
Kind = Literal["ptychostream", "tensorflow", "ptychopinn-torch"]


def find_archive(directory: str | Path) -> Path:
    """Find the archive in a folder."""
    path = Path(directory)
    if path.is_dir():
        path = path / ARCHIVE_NAME
    if not path.is_file():
        left = checkpoints_of(path.parent)
        advice = ""
        if left:
            advice = f": the run there is unfinished; end it by train --resume, or use '{left[0]}'"
        raise MissingFileError(f"no model archive '{path}'{advice}")
    return path


def checkpoints_of(folder: Path) -> list[Path]:
    """List the checkpoints of a run, newest first."""
    found = (folder / "checkpoints").glob(f"*{_SUFFIX}")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def open_archive(path: Path) -> Members:
    """Open an archive, or the one inside a zipped model folder.

    `path`: `wts.h5.zip`, or a zip file of the folder that holds it, as ptychodus saves it.
    """
    origin = f"'{path}'"
    with Members(path, origin, FOLDER) as folder:
        inner = sorted(name for name in folder.sizes if name.split("/")[-1] == ARCHIVE_NAME)
        if not inner:
            return Members(path, origin)
        if INDEX in folder.sizes or MANIFEST in folder.sizes:
            folder.refuse(inner[0], "is an archive inside an archive")
        if len(inner) > 1:
            raise DataContractError(
                f"{origin} holds several archives: {', '.join(map(repr, inner))}; unzip it, and "
                "choose one"
            )
        # An archive is compressed already, so its zipped folder is about as large.
        most = _LARGER * path.stat().st_size
        return Members(folder.read(inner[0], at_most=most), f"{origin}: '{inner[0]}'")


def kind_of(members: Members) -> Kind:
    """Return who wrote an archive."""
    if INDEX in members.sizes:
        return "ptychostream"
    if MANIFEST not in members.sizes:
        raise DataContractError(
            f"{members.origin} has neither '{INDEX}' nor '{MANIFEST}': it is no model archive"
        )
    manifest = read_manifest(members)
    backend = manifest.get("backend", "tensorflow")
    if not isinstance(backend, str):
        members.refuse(MANIFEST, f"names a backend that is {type(backend).__name__}, not text")
    if any(name.endswith("model.pth") for name in members.sizes) or backend == "pytorch":
        return "ptychopinn-torch"
    if backend != "tensorflow":
        members.refuse(MANIFEST, f"names the unknown backend {backend!r}")
    return "tensorflow"


def backend_of(kind: Kind) -> str:
    """Return the backend that an archive belongs to."""
    return "tensorflow" if kind == "tensorflow" else "pytorch"


def backend_of_file(path: Path) -> str:
    """Return the backend that a file belongs to.

    `path`: an archive, a zipped model folder, or a checkpoint of ours.
    """
    if is_checkpoint(path):
        return "pytorch"
    with open_archive(path) as members:
        return backend_of(kind_of(members))


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint, by its name."""
    return path.suffix == _SUFFIX


def check_backend(origin: str, found: str, wanted: str | None) -> None:
    """Check that an archive belongs to the requested backend."""
    if wanted not in (None, found):
        raise DataContractError(
            f"{origin} is an archive of the {found} backend but the {wanted} backend is wanted; "
            + _WAYS_OUT.get(found, f"set backend='{found}', or train again")
        )


def read_manifest(members: Members) -> dict[str, object]:
    """Read the description that all backends write."""
    manifest = read_dictionary(members, MANIFEST)
    if not {"models", "version"} <= set(manifest):
        members.refuse(MANIFEST, "lacks 'models' or 'version'")
    return manifest


def read_dictionary(members: Members, name: str) -> dict[str, object]:
    """Read a pickled dictionary of plain data."""
    data = members.read(name, at_most=DESCRIPTION_BYTES)
    values = loads_plain(data, f"{members.origin}: member '{name}'")
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        members.refuse(name, "is no dictionary")
    return values
