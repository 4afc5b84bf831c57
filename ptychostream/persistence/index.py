"""The index of our archives: its content, and checks of the other entries against it."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

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
    """Read the index of our archive, without the weights."""
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


class _Probe(BaseModel):
    modes: tuple[StrictInt, StrictInt]


class _Model(BaseModel):
    outputs: list[StrictStr]


class _Kinds(BaseModel):
    """What the entries of an index must be; others may be there, too."""

    backend: Literal["pytorch"]
    config: dict[str, Any]
    intensity_scale: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
    history: dict[str, list[StrictFloat]]
    sha256: dict[str, Any]
    legacy: dict[str, StrictStr | StrictBool | StrictInt | StrictFloat] = {}
    provenance: dict[str, Any] = {}
    probe: _Probe = _Probe(modes=(0, 0))
    models: dict[str, _Model] = {}
    versions: dict[str, StrictStr] = {}
    parameters: StrictInt | None = None


def _check_kinds(members: Members, index: dict[str, Any]) -> None:
    try:
        _Kinds.model_validate(index)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        members.refuse(
            INDEX, f"has a wrong {where}: {first['msg']}, got {first['input']!r:.99}", error
        )


def check_digest(
    members: Members, name: str, data: bytes, digest: Any, *, prefix: str = ""
) -> None:
    """Compare a member with its digest."""
    if digest != prefix + hashlib.sha256(data).hexdigest():
        members.refuse(name, "fails its checksum")
