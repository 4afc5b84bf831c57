"""What a store's own record holds: the kind and range of each entry, checked when it is opened."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from ptychostream.datasets.store.format import FORMAT_NAME, FORMAT_VERSION
from ptychostream.errors import DataContractError

#: Entries that are not named here belong to a later version.
_RULES = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class _Metadata(BaseModel):
    model_config = ConfigDict(**{**_RULES, "extra": "forbid"})

    energy_eV: float | None = None
    detector_distance_m: float | None = None
    detector_pixel_size_m: float | None = None
    object_pixel_size_m: float | None = None
    nphotons: float | None = None


class _Common(BaseModel):
    model_config = _RULES

    format: str
    version: Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)]
    patterns_per_chunk: PositiveInt


class StoreAttributes(_Common):
    """The record of what was built."""

    measurement_domain: Literal["counts", "amplitude"]
    whole_counts: bool
    probe_modes: Annotated[list[PositiveInt], Field(min_length=1)]
    metadata: list[_Metadata]
    provenance: list[dict[str, Any]]
    fingerprint: str | None = None
    growing: bool = False
    warnings: list[str] = []
    compacted: list[str] = []


class SegmentAttributes(_Common):
    """The record of what was appended."""

    sources: list[Any] | None = None
    provenance: Any = None
    experiment: NonNegativeInt | None = None
    begun: list[NonNegativeInt] = []
    probe_modes: list[PositiveInt] = []
    metadata: list[_Metadata] = []


def check_attributes(name: str, attributes: Any, *, is_appended: bool) -> None:
    """Check the record of a store or of an appended segment.

    Raises
    ------
    DataContractError
        If a newer version wrote it, or an entry is missing, of another kind or out of range; the
        message names it.
    """
    _check_version(name, attributes)
    kind = SegmentAttributes if is_appended else StoreAttributes
    try:
        kind.model_validate(attributes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        entry = ".".join(map(str, first["loc"]))
        seen = "" if first["type"] == "missing" else f", not {_short(first['input'])}"
        raise DataContractError(
            f"store '{name}' is damaged: its attribute '{entry}' is wrong: {first['msg']}{seen}; "
            "copy or build the store again"
        ) from None
    lists = {
        key: len(attributes[key])
        for key in ("probe_modes", "metadata", "provenance")
        if isinstance(attributes.get(key), list)
    }
    if not is_appended or "probe_modes" in lists:
        _check_lengths(name, lists)


def _check_lengths(name: str, lengths: Mapping[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{number} {key}" for key, number in lengths.items())
        raise DataContractError(
            f"store '{name}' is damaged: its attributes hold {listed}, one of each experiment is "
            "expected; copy or build the store again"
        )


def _check_version(name: str, attributes: Any) -> None:
    """Refuse what a newer version wrote, before anything else is asked of it."""
    try:
        (major, minor), written = attributes["version"], attributes["format"]
        is_newer = int(major) > FORMAT_VERSION[0]
    except (KeyError, TypeError, ValueError) as error:
        raise DataContractError(
            f"store '{name}' is damaged: its attributes name no format and version ({error}); copy "
            "or build the store again"
        ) from error
    if written != FORMAT_NAME or is_newer:
        raise DataContractError(
            f"store '{name}' has format version {major}.{minor}; this version reads "
            f"{FORMAT_VERSION[0]}.x: update ptychostream"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} …"
