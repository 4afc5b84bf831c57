"""PtychoPINN's description of a simulated scan: JSON text, in NPZ and HDF5 files."""

import json
import math

import h5py
import numpy as np

from ptychostream.errors import DataContractError
from ptychostream.plain_pickle import loads_text

#: Where it lies in a product that carries its patterns.
_IN_HDF5 = "raw_data/_metadata"


def photons_of_metadata(text: str, origin: str) -> dict[str, float]:
    """Take the mean photons per pattern out of the metadata that PtychoPINN writes."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataContractError(f"{origin} is not JSON ({error}); remove it") from error
    # Beside the others, or among the parameters of the physics.
    parts = [values, *values.values()] if isinstance(values, dict) else []
    found = [part["nphotons"] for part in parts if isinstance(part, dict) and "nphotons" in part]
    if not found:
        return {}
    if not isinstance(found[0], int | float) or not 0 < found[0] < math.inf:
        raise DataContractError(f"{origin} has nphotons={found[0]!r}, expected a positive number")
    return {"nphotons": float(found[0])}


def photons_of_hdf5(file: h5py.File, origin: str) -> float | None:
    """Read the mean photons per pattern from a product; None where it does not say."""
    if _IN_HDF5 not in file:
        return None
    where = f"{origin}: '{_IN_HDF5}'"
    value = file[_IN_HDF5][()]
    data = value if isinstance(value, bytes) else np.asarray(value).tobytes()
    # Text, or the pickle of a text.
    is_pickle = data[:1] == b"\x80"
    text = loads_text(data, where) if is_pickle else data.decode("utf-8", "replace")
    return photons_of_metadata(text, where).get("nphotons")
