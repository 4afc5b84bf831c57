"""`PtychoDataContainerTorch` and `load`: grouped data as the tensors that models take."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from ptychostream import legacy
from ptychostream.datasets.batches.batch import check_batch
from ptychostream.errors import ConfigurationError, DataContractError

#: Entries of the grouped dictionary that every container needs.
_NEEDED = ("X_full", "coords_offsets", "coords_relative", "nn_indices")
#: Entries that are rows of groups, and so are split together.
_BY_GROUP = (*_NEEDED, "Y", "coords_start_relative")

Positions = Literal["true", "nominal"]


class PtychoDataContainerTorch:
    """Grouped data; arrays stay NumPy until a tensor is asked for.

    Parameters
    ----------
    grouped : dict
        The specification's grouped dictionary: `X_full`, `coords_offsets`, `coords_relative`,
        `nn_indices`; `Y`, `coords_start_relative` and `objectGuess` may be None or missing.
    probeGuess : (N, N), (N, N, 1) or (P, N, N) complex64
        Illumination.
    nphotons : float, optional
        Mean photons per pattern, for `norm_Y_I`; None takes the legacy dictionary's.
    positions : str
        What `coords`, `coords_nominal` and `coords_true` are: the `true` positions, as of
        PtychoPINN's PyTorch container, or the `nominal` ones, as of its TensorFlow container.

    Raises
    ------
    DataContractError
        If an entry is missing, or the entries disagree in their number of groups.
    """

    def __init__(
        self,
        grouped: dict[str, Any],
        probeGuess: NDArray[Any],
        *,
        nphotons: float | None = None,
        positions: Positions = "true",
    ) -> None:
        missing = [name for name in _NEEDED if grouped.get(name) is None]
        if missing:
            raise DataContractError(f"the grouped data lack {', '.join(map(repr, missing))}")
        self._arrays = {name: grouped.get(name) for name in _BY_GROUP}
        lengths = {name: len(a) for name, a in self._arrays.items() if a is not None}
        if len(set(lengths.values())) != 1:
            raise DataContractError(f"the grouped data differ in their number of groups: {lengths}")
        self._probe = np.asarray(probeGuess, dtype=np.complex64)
        guess = grouped.get("objectGuess")
        self._object = None if guess is None else np.asarray(guess, dtype=np.complex64)
        self._positions: Positions = positions
        #: Mean photons per pattern, where they were given.
        self.nphotons = nphotons

    def __len__(self) -> int:
        return len(self._array("X_full"))

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, N, N, C)."""
        return tuple(self._array("X_full").shape)

    @property
    def probe_modes(self) -> NDArray[np.complex64]:
        """(P, N, N) complex64: the probe as modes, however it was given."""
        probe = self._probe[..., 0] if self._probe.shape[-1] == 1 else self._probe
        return probe[None] if probe.ndim == 2 else probe

    @property
    def has_labels(self) -> bool:
        """Whether true patches are known."""
        return self._arrays["Y"] is not None

    @cached_property
    def X(self) -> Tensor:
        """(B, N, N, C) float32 amplitude, at a mean energy of (N/2)²."""
        return _tensor(self._array("X_full"), np.float32)

    @cached_property
    def Y(self) -> Tensor:
        """(B, N, N, C) complex64 true patches; ones where they are not known."""
        if self._arrays["Y"] is None:
            return torch.ones(self._array("X_full").shape, dtype=torch.complex64)
        return _tensor(self._array("Y"), np.complex64)

    @cached_property
    def Y_I(self) -> Tensor:
        """(B, N, N, C) float32 amplitude of the true patches; ones where they are not known."""
        return self.Y.abs()

    @cached_property
    def Y_phi(self) -> Tensor:
        """(B, N, N, C) float32 phase of the true patches; zeros where they are not known."""
        return self.Y.angle()

    @property
    def YY_full(self) -> NDArray[np.complex64] | None:
        """(H, W) complex64: the object guess, None where there is none."""
        return self._object

    @cached_property
    def coords_relative(self) -> Tensor:
        """(B, 1, 2, C) float32: centre minus member (x, y) of the true positions."""
        return _tensor(self._array("coords_relative"), np.float32)

    @cached_property
    def coords_nominal(self) -> Tensor:
        """(B, 1, 2, C) float32: centre minus member (x, y), of the positions asked for."""
        start = self._arrays["coords_start_relative"]
        if self._positions == "true" or start is None:
            return self.coords_relative
        return _tensor(start, np.float32)

    @property
    def coords_true(self) -> Tensor:
        """(B, 1, 2, C) float32: the same as `coords_nominal`."""
        return self.coords_nominal

    @property
    def coords(self) -> Tensor:
        """(B, 1, 2, C) float32: the same as `coords_nominal`."""
        return self.coords_nominal

    @cached_property
    def probe(self) -> Tensor:
        """(N, N), (N, N, 1) or (P, N, N) complex64 illumination."""
        return _tensor(self._probe, np.complex64)

    @cached_property
    def nn_indices(self) -> Tensor:
        """(B, C) int32 or int64 rows of the patterns."""
        nn_indices = self._array("nn_indices")
        return _tensor(nn_indices, nn_indices.dtype)

    @cached_property
    def global_offsets(self) -> Tensor:
        """(B, 1, 2, 1) float64 mean position (x, y) of each group, in pixels."""
        return _tensor(self._array("coords_offsets"), np.float64)

    @cached_property
    def local_offsets(self) -> Tensor:
        """(B, 1, 2, C) float64 centre minus member (x, y), in pixels."""
        return _tensor(self._array("coords_relative"), np.float64)

    @cached_property
    def norm_Y_I(self) -> Tensor:
        """() float32: √(nphotons / mean Σ X²), from normalised amplitude to √photons."""
        energy = np.square(self._array("X_full"), dtype=np.float64).sum(axis=(1, 2)).mean()
        nphotons = legacy.params.get("nphotons") if self.nphotons is None else self.nphotons
        return torch.tensor(np.sqrt(nphotons / energy), dtype=torch.float32)

    def labels(self) -> Tensor:
        """Return the true patches.

        Returns
        -------
        (B, N, N, C) complex64
            As `Y`, which is ones where they are not known.

        Raises
        ------
        DataContractError
            If they are not known.
        """
        if not self.has_labels:
            raise DataContractError(
                "the data have no labels: 'Y' is None, and a loss against labels needs it; give "
                "the scan an objectGuess, or set realspace_mae_weight=0 and model_type='pinn'"
            )
        return self.Y

    def part(self, rows: slice | NDArray[np.int64]) -> "PtychoDataContainerTorch":
        """Return some of the groups.

        Parameters
        ----------
        rows : slice or (B,) int64
            Which groups; a slice copies nothing.

        Returns
        -------
        PtychoDataContainerTorch
            Those groups.
        """
        taken = {n: None if a is None else a[rows] for n, a in self._arrays.items()}
        return PtychoDataContainerTorch(
            taken | {"objectGuess": self._object},
            self._probe,
            nphotons=self.nphotons,
            positions=self._positions,
        )

    def as_batches(
        self, batch_size: int, order: NDArray[np.int64] | None = None
    ) -> Iterator[TensorDict]:
        """Stream the groups as batches that a model takes.

        Parameters
        ----------
        batch_size : int
            Groups per batch; the last may have fewer.
        order : (B,) int64, optional
            Which groups, in which order; None is all, as they are.

        Yields
        ------
        TensorDict
            As `datasets.batch.ENTRIES` has it; amplitudes are normalised already, and `Y`
            (B, C, N, N) is there where labels are known.
        """
        if batch_size < 1:
            raise ConfigurationError(f"batch_size={batch_size} must be at least 1")
        photons = float(self.norm_Y_I)
        rows = np.arange(len(self)) if order is None else order
        for start in range(0, len(rows), batch_size):
            yield self.part(rows[start : start + batch_size])._batch(photons)

    def _batch(self, photons: float) -> TensorDict:
        number = len(self)
        ones = torch.ones(number, 1, 1, 1)
        entries = {
            "diffraction": self.X.movedim(-1, 1).contiguous(),
            "coords_offsets": self.global_offsets.movedim(-1, 1).float(),
            "coords_relative": self.local_offsets.movedim(-1, 1).float(),
            "nn_indices": self.nn_indices.long(),
            "experiment_id": torch.zeros(number, dtype=torch.int64),
            "rms_scale": ones,
            "physics_scale": ones * photons,
        }
        if self.has_labels:
            entries["Y"] = self.Y.movedim(-1, 1).contiguous()
        batch = TensorDict(entries, batch_size=[number])
        check_batch(batch)
        return batch

    def _array(self, name: str) -> NDArray[Any]:
        return cast("NDArray[Any]", self._arrays[name])


def load(
    cb: Callable[[], Any],
    probeGuess: NDArray[Any],
    which: Literal["train", "test"] | None = None,
    create_split: bool = False,
    *,
    nphotons: float | None = None,
) -> PtychoDataContainerTorch:
    """Make a container of grouped data, as PtychoPINN's TensorFlow loader does.

    Parameters
    ----------
    cb : callable
        Returns the grouped dictionary; with `create_split`, a pair of it and the fraction of the
        groups that is for training.
    probeGuess : (N, N), (N, N, 1) or (P, N, N) complex64
        Illumination.
    which : str, optional
        `train` or `test`: which part, with `create_split`; without it, all groups are either.
    create_split : bool
        Whether to take the first or the last part of the groups; every member is split alike.

    Raises
    ------
    ConfigurationError
        If a part is asked for by another name, or a split without a part.
    DataContractError
        If the dictionary lacks an entry, or the fraction is not between 0 and 1.

    Examples
    --------
    >>> grouped = {
    ...     "X_full": np.ones((4, 2, 2, 1)),
    ...     "coords_offsets": np.zeros((4, 1, 2, 1)),
    ...     "coords_relative": np.zeros((4, 1, 2, 1)),
    ...     "Y": None,
    ...     "coords_start_relative": np.zeros((4, 1, 2, 1)),
    ...     "nn_indices": np.arange(4)[:, None],
    ... }
    >>> len(load(lambda: (grouped, 0.75), np.ones((2, 2)), "train", create_split=True))
    3
    """
    if which not in ("train", "test") and (create_split or which is not None):
        raise ConfigurationError(f"which={which!r} must be 'train' or 'test'")
    if not create_split:
        return PtychoDataContainerTorch(cb(), probeGuess, nphotons=nphotons, positions="nominal")
    grouped, fraction = cb()
    if not 0 <= fraction <= 1:
        raise DataContractError(f"the fraction for training is {fraction}, expected 0 … 1")
    whole = PtychoDataContainerTorch(grouped, probeGuess, nphotons=nphotons, positions="nominal")
    border = int(len(whole) * fraction)
    return whole.part(slice(border) if which == "train" else slice(border, None))


def _tensor(array: NDArray[Any], kind: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))
