"""Several experiments that share one object: what has to agree between them."""

from collections.abc import Sequence

import numpy as np

from ptychostream.datasets.sources.ptychodus.conventions import object_pixel_size_m
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.solver.start import probe_of

#: Probes that correlate less are reported: the probe of the first is used for all.
_SAME_PROBE = 0.9

#: Relative difference of pixel sizes that counts as the same.
_SAME_PIXEL = 1e-3


def check_joining(store: GroupStore, experiments: Sequence[int]) -> None:
    """Refuse experiments whose object pixels differ: positions in pixels do not belong together."""
    sizes = [object_pixel_size_m(store.metadata_of(each), store.N) for each in experiments]
    first, is_assumed = sizes[0]
    for number, (size, is_also_assumed) in zip(experiments[1:], sizes[1:], strict=True):
        is_known = not (is_assumed or is_also_assumed)
        if is_known and abs(size / first - 1) > _SAME_PIXEL:
            raise DataContractError(
                f"experiments {experiments[0]} and {number} of '{store.path}' have object pixels "
                f"of {1e9 * first:.4g} and {1e9 * size:.4g} nm: they can't share an object; "
                "reconstruct each by itself"
            )


def remarks_on_joining(store: GroupStore, experiments: Sequence[int]) -> list[str]:
    """Return what a user should know of experiments that share an object, a sentence each."""
    remarks = []
    first, *others = (probe_of(store, each)[0] for each in experiments)
    for number, probe in zip(experiments[1:], others, strict=True):
        norms = np.linalg.norm(first) * np.linalg.norm(probe)
        likeness = float(np.abs(np.vdot(first, probe)) / norms)
        if likeness < _SAME_PROBE:
            remarks.append(
                f"the probes of experiments {experiments[0]} and {number} correlate by only "
                f"{likeness:.2f}, and the first one's is used for all; where beams differ, "
                "reconstruct each experiment by itself"
            )
    return remarks
