"""What a result follows from: options, network and patterns, as its record keeps them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptychostream.datasets.store import GroupStore
from ptychostream.solver.start import probe_of

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle

#: Arguments that say where something is kept, and in how much memory.
_NO_MATTER = ("scratch_folder", "canvas_budget")

#: What results depend on among the options of the execution.
_OF_EXECUTION = ("precision", "middle_trim", "pad_eval")

#: Entries that are digests, and not options.
PATTERNS, MODEL = "patterns", "model"


def basis_of(
    arguments: Mapping[str, Any], model: str | None, store: GroupStore, experiment: int
) -> dict[str, Any]:
    """Return what a result follows from, in values that JSON keeps.

    Parameters
    ----------
    arguments : dict
        Of `reconstruct`.
    model : str, optional
        Digest of the network.
    """
    found: dict[str, Any] = {PATTERNS: _digest_of_patterns(store, experiment), MODEL: model}
    for name, value in arguments.items():
        if name == "execution":
            found |= {f"execution.{part}": getattr(value, part) for part in _OF_EXECUTION}
        elif is_dataclass(value) and not isinstance(value, type):
            found |= asdict(value)
        elif name not in _NO_MATTER:
            found[name] = value
    kept: dict[str, Any] = json.loads(json.dumps(found, default=str), parse_constant=str)
    return kept


def digest_of_model(bundle: "ModelBundle") -> str:
    """Return a digest of a network's weights."""
    return _digest(tensor.numpy(force=True) for tensor in bundle.model.state_dict().values())


def _digest_of_patterns(store: GroupStore, experiment: int) -> str:
    """Return a digest of positions, counts and probe: other patterns have other counts."""
    rows = store.rows(experiment)
    return _digest((store.positions[rows], store.total_counts[rows], probe_of(store, experiment)))


def _digest(arrays: Iterable[np.ndarray[Any, Any]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
