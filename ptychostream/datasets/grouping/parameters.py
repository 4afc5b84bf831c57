"""The parameters of a grouping, and the key under which a store keeps it."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from ptychostream.errors import ConfigurationError

NeighborFunction = Literal["nearest", "min_distance", "four_quadrant"]
Policy = Literal["default", "upstream"]

#: Fields that every key has; later ones are in it only where they differ from their default, so
#: that groupings of earlier versions are found again.
_ALWAYS_IN_KEY = frozenset(
    {
        *("gridsize", "neighbor_count", "num_groups", "groups_per_position"),
        *("neighbor_function", "sequential", "seed", "held_out"),
    }
)


@dataclass(frozen=True, kw_only=True)
class GroupingParameters:
    """The parameters of a grouping; equal parameters give the same groups.

    Attributes
    ----------
    gridsize : int
        Patterns along one side of a group.
    neighbor_count : int
        Nearest neighbours K that a group is drawn from.
    num_groups : int, optional
        Centres of groups in each experiment; None is all. With `enable_oversampling`,
        groups in each experiment.
    groups_per_position : int
        Groups drawn around each centre.
    neighbor_function : str
        `nearest` takes the K nearest positions for neighbours; `min_distance` the K nearest that
        lie between two distances; `four_quadrant` takes one neighbour in each quadrant.
    sequential : bool
        Whether the first positions are the centres, instead of a draw.
    seed : int
        Seed of the random draws.
    held_out : int
        Extra neighbours per group that the network does not see; the loss is evaluated on their
        patterns.
    n_subsample : int, optional
        Patterns drawn from each experiment before grouping; None is all.
    enable_oversampling : bool
        Whether more groups than positions may be drawn: different combinations of neighbours.
    neighbor_pool_size : int, optional
        Nearest neighbours that oversampling combines; None is `neighbor_count`.
    min_neighbor_distance : float
        Least distance from the centre, in pixels (`min_distance`).
    max_neighbor_distance : float, optional
        Largest distance from the centre, in pixels; None is any (`min_distance`).
    policy : str
        `default`, or `upstream` for PtychoPINN's draws, number for number.
    """

    gridsize: int
    neighbor_count: int
    num_groups: int | None = None
    groups_per_position: int = 1
    neighbor_function: NeighborFunction = "nearest"
    sequential: bool = False
    seed: int = 0
    held_out: int = 0
    n_subsample: int | None = None
    enable_oversampling: bool = False
    neighbor_pool_size: int | None = None
    min_neighbor_distance: float = 0.0
    max_neighbor_distance: float | None = None
    policy: Policy = "default"

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises
        ------
        ConfigurationError
            If a number is out of range, a name is unknown, or an option has no effect beside
            the others.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.generic):  # JSON holds plain numbers only
                object.__setattr__(self, item.name, value.item())
        for name in ("gridsize", "groups_per_position", "num_groups", "n_subsample"):
            value = getattr(self, name)
            if value is not None and (value < 1 or value != int(value)):
                raise ConfigurationError(f"{name}={value} must be at least 1, and whole")
        if self.seed < 0:
            raise ConfigurationError(f"seed={self.seed} must not be negative")
        for name, kind in (("neighbor_function", NeighborFunction), ("policy", Policy)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigurationError(
                    f"{name}={getattr(self, name)!r} is unknown; there are "
                    f"{', '.join(map(repr, get_args(kind)))}"
                )
        if self.neighbor_pool_size is not None and not self.enable_oversampling:
            raise ConfigurationError(
                f"neighbor_pool_size={self.neighbor_pool_size} does nothing without "
                "enable_oversampling=True; set it, or leave the pool size out"
            )
        self._check_neighbor_function()
        if self.policy == "upstream":
            self._allow_only("policy='upstream'", "nearest", max_held_out=0)
        elif self.enable_oversampling:
            self._allow_only("enable_oversampling", "nearest", max_held_out=self.held_out)

    def _check_neighbor_function(self) -> None:
        low, high = self.min_neighbor_distance, self.max_neighbor_distance
        if low < 0 or (high is not None and high <= low):
            raise ConfigurationError(
                f"min_neighbor_distance={low} and max_neighbor_distance={high} leave no neighbour; "
                "0 ≤ minimum < maximum"
            )
        if self.neighbor_function != "min_distance" and (low, high) != (0.0, None):
            raise ConfigurationError(
                f"min_neighbor_distance={low} and max_neighbor_distance={high} do nothing with "
                f"neighbor_function={self.neighbor_function!r}; set it to 'min_distance'"
            )
        if self.neighbor_function == "four_quadrant" and self.gridsize != 2:
            raise ConfigurationError(
                f"neighbor_function='four_quadrant' makes groups of four, but gridsize="
                f"{self.gridsize}; set gridsize to 2"
            )

    def _allow_only(self, option: str, function: str, *, max_held_out: int) -> None:
        """Refuse options that cannot be combined with this one."""
        for name, allowed in (
            ("neighbor_function", self.neighbor_function == function),
            ("groups_per_position", self.groups_per_position == 1),
            ("held_out", self.held_out <= max_held_out),
        ):
            if not allowed:
                raise ConfigurationError(
                    f"{name}={getattr(self, name)!r} does not go together with {option}"
                )

    @property
    def group_size(self) -> int:
        """Columns of the table: C, and the held-out neighbours."""
        return self.gridsize**2 + self.held_out

    @property
    def pool_size(self) -> int:
        """Nearest neighbours that oversampling combines."""
        return self.neighbor_count if self.neighbor_pool_size is None else self.neighbor_pool_size

    def key(self) -> str:
        """Return the key of the grouping: a digest of its parameters."""
        text = json.dumps(self.record(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def record(self) -> dict[str, Any]:
        """Return the values of which the key is a digest, and which are kept beside the table."""
        defaults = {item.name: item.default for item in fields(self)}
        # Stores of 0.1 know held-out neighbours by another name.
        names = {"held_out": "witnesses"}
        return {
            names.get(name, name): value
            for name, value in asdict(self).items()
            if name in _ALWAYS_IN_KEY or value != defaults[name]
        }
