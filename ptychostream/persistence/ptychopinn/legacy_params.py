"""The legacy dictionary of a model, and where loading restores it."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.legacy import DEFAULTS, dataclass_to_legacy_dict, installed_ptycho_cfg, params
from ptychostream.models.probe_mask import hard_disk
from ptychostream.models.ptychopinn import scale_probe
from ptychostream.persistence.bundle import ModelBundle

#: Where loading restores the dictionary: ours, also that of the installed `ptycho`, or nowhere.
Restore = Literal["legacy", "ptycho"] | None

#: Version of the dictionary that PtychoPINN expects.
_VERSION = "1.0"


def legacy_params(bundle: ModelBundle) -> dict[str, Any]:
    """Make the legacy dictionary of a model: defaults, configuration, scale and probe.

    Returns plain values and one array, `probe` (N, N, 1) complex64: the first mode of the first
        experiment, normalised as PtychoPINN expects it. Other dictionaries of this process are not
        used.
    """
    chosen = dataclass_to_legacy_dict(bundle.config)
    return {
        **DEFAULTS,
        **bundle.legacy,
        **{key: value for key, value in chosen.items() if value is not None},
        "intensity_scale": bundle.intensity_scale,
        "probe": normalised_probe(bundle.probe_guess[0, 0], bundle.config.model.probe_scale),
        "_version": _VERSION,
    }


def normalised_probe(probe: NDArray[np.complex64], probe_scale: float) -> NDArray[np.complex64]:
    """Normalise a probe (N, N) as the legacy dictionary holds it, (N, N, 1)."""
    scaled = scale_probe(torch.as_tensor(probe), hard_disk(len(probe)), probe_scale)
    return scaled.numpy()[..., None].astype(np.complex64)


def restore_params(values: Mapping[str, Any], where: Restore) -> None:
    """Write a model's dictionary to the global ones.

    `where`: `legacy` is `ptychostream.legacy.params.cfg`; `ptycho` is that and the installed
        package's `ptycho.params.cfg`; None is nowhere.
    """
    if where is None:
        return
    theirs = installed_ptycho_cfg() if where == "ptycho" else None
    params.restore(values)
    if theirs is not None:
        theirs.update(values)
