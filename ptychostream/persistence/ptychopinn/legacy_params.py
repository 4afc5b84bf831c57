"""The legacy dictionary that belongs to a model, and where it is restored to."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.legacy import DEFAULTS, dataclass_to_legacy_dict, installed_ptycho_cfg, params
from ptychostream.persistence.bundle import ModelBundle

#: Where loading restores the dictionary: ours, also that of the installed `ptycho`, or nowhere.
Restore = Literal["legacy", "ptycho"] | None

#: Version of the dictionary that existing readers look for.
_VERSION = "1.0"


def legacy_params(bundle: ModelBundle) -> dict[str, Any]:
    """Make the legacy dictionary of a model: defaults, configuration, scale and probe.

    Returns
    -------
    dict
        Plain values and one array, `probe` (N, N, 1) complex64: the first mode of the first
        experiment, normalised as existing readers expect it. What another dictionary of this
        process holds does not enter.
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
    """Normalise a probe as the legacy dictionary holds it.

    Parameters
    ----------
    probe : (N, N) complex64
        Illumination at any scale.

    Returns
    -------
    (N, N, 1) complex64
        Divided by `probe_scale` times the mean, over all pixels, of its modulus within a
        radius of N / 4.
    """
    edge = len(probe)
    along = np.arange(edge) - edge / 2 + 0.5
    disk = np.hypot(along[:, None], along) < edge // 4
    mean = float(np.abs(probe * disk).mean())
    scaled: NDArray[np.complex64] = (probe / (probe_scale * mean))[..., None].astype(np.complex64)
    return scaled


def restore_params(values: Mapping[str, Any], where: Restore) -> None:
    """Write a model's dictionary to where legacy readers look.

    Parameters
    ----------
    where : str or None
        `legacy` is `ptychostream.legacy.params.cfg`; `ptycho` is that and the installed
        package's `ptycho.params.cfg`; None is nowhere.

    Raises
    ------
    BackendUnavailableError
        If the installed package is asked for and is not there; nothing is written then.
    """
    if where is None:
        return
    theirs = installed_ptycho_cfg() if where == "ptycho" else None
    params.cfg.update(values)
    if theirs is not None:
        theirs.update(values)
