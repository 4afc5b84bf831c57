"""The index of our archives: its content, and checks of the other entries against it."""

import hashlib
import json
import math
import sys
from typing import Any

from ptychostream.errors import DataContractError
from ptychostream.persistence.entries import Members
from ptychostream.persistence.open_archive import DESCRIPTION_BYTES, INDEX, MANIFEST, read_manifest

#: Version of our members; a newer major version is refused, a minor version only adds.
ARCHIVE_VERSION = (1, 1)

WEIGHTS = "diffraction_to_obj/weights.safetensors"
#: PtychoPINN's two models. They share their weights: `autoencoder` adds the diffraction.
MODELS = {
    "autoencoder": ["object", "amplitude", "intensity"],
    "diffraction_to_obj": ["object"],
}
#: What the zip file's comment begins with; the index's digest follows.
DIGEST = "sha256:"


def read_index(members: Members) -> dict[str, Any]:
    """Read the index of our archive, without the weights.

    Raises
    ------
    DataContractError
        If it is damaged, of a newer version, or does not list all entries.
    """
    data = members.read(INDEX, at_most=DESCRIPTION_BYTES)
    try:
        index: Any = json.loads(data)
    # json raises ValueError for huge integers and RecursionError for deep nesting.
    except (ValueError, RecursionError) as error:
        members.refuse(INDEX, f"is not a readable archive index: {error}", error)
    needed = {"version", "backend", "config", "intensity_scale", "history", "sha256"}
    if not isinstance(index, dict) or not needed <= set(index):
        members.refuse(INDEX, f"lacks some of {sorted(needed)}")
    version = index["version"]
    if not isinstance(version, list) or not all(type(part) is int for part in version):
        members.refuse(INDEX, f"has the version {version!r}")
    if version[:1] > [ARCHIVE_VERSION[0]]:
        raise DataContractError(
            f"{members.origin} has format version {version}; this version reads "
            f"{ARCHIVE_VERSION[0]}.x: update ptychostream"
        )
    if version >= [1, 1]:
        check_digest(members, INDEX, data, members.comment.decode("latin-1"), prefix=DIGEST)
    _check_kinds(members, index)
    for name in sorted({*index["sha256"], WEIGHTS, MANIFEST} - set(members.sizes)):
        members.refuse(name, "is missing: it can't be read")
    for name in sorted(set(members.sizes) - {*index["sha256"], INDEX}):
        members.refuse(name, f"is not listed in '{INDEX}'")
    backend = read_manifest(members).get("backend")
    if not isinstance(backend, str) or backend != index["backend"]:
        members.refuse(MANIFEST, f"names another backend than '{INDEX}'")
    return index


def _check_kinds(members: Members, index: dict[str, Any]) -> None:
    scale, history = index["intensity_scale"], index["history"]
    if not _is_number(scale) or not 0 < scale < math.inf:
        members.refuse(INDEX, f"has the intensity scale {scale!r}")
    if not isinstance(history, dict) or not all(
        isinstance(losses, list) and all(map(_is_number, losses)) for losses in history.values()
    ):
        members.refuse(INDEX, "has a history that is no lists of numbers")
    for key in ("config", "sha256", "legacy", "provenance", "probe", "models", "versions"):
        if not isinstance(index.get(key, {}), dict):
            found = type(index[key]).__name__
            members.refuse(INDEX, f"has a {key} that is no dictionary but a {found}")
    if "probe" in index:
        modes = index["probe"].get("modes")
        if not isinstance(modes, list) or [type(count) for count in modes] != [int, int]:
            members.refuse(INDEX, "has a probe whose 'modes' is no list of two whole numbers")
    for name, model in index.get("models", {}).items():
        outputs = model.get("outputs") if isinstance(model, dict) else None
        if not isinstance(outputs, list) or not all(isinstance(o, str) for o in outputs):
            members.refuse(INDEX, f"has a model {name!r} whose 'outputs' is no list of names")
    for key, value in index.get("versions", {}).items():
        if not isinstance(value, str):
            found = type(value).__name__
            members.refuse(INDEX, f"has a version of {key!r} that is no string but a {found}")
    if not isinstance(index.get("parameters"), int | None):
        members.refuse(INDEX, "has a number of parameters that is no whole number")
    if not all(isinstance(v, str | int | float) for v in index.get("legacy", {}).values()):
        members.refuse(INDEX, "has legacy values that are not plain")
    if index["backend"] != "pytorch":
        members.refuse(INDEX, f"names the backend {index['backend']!r}, expected 'pytorch'")


def _is_number(value: Any) -> bool:
    # Whole numbers can be too large for a float.
    large = isinstance(value, int) and abs(value) > sys.float_info.max
    return isinstance(value, int | float) and not isinstance(value, bool) and not large


def check_digest(
    members: Members, name: str, data: bytes, digest: Any, *, prefix: str = ""
) -> None:
    """Compare a member with its digest.

    Raises
    ------
    DataContractError
        If they differ.
    """
    if digest != prefix + hashlib.sha256(data).hexdigest():
        members.refuse(name, "fails its checksum")
