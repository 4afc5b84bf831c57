"""Train on grouped data that are in memory already, in the groups that they came in."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tensordict import TensorDict

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.config.scaling_profile import PROFILES
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.persistence import ModelBundle
from ptychostream.ptychopinn.container import PtychoDataContainerTorch
from ptychostream.training.checks import check_supported
from ptychostream.training.objective import needs_labels
from ptychostream.training.train import initial_model

if TYPE_CHECKING:
    from ptychostream.training.module import LoaderFactory


class ContainerLoader:
    """Batches of a container, shuffled anew each epoch; made for Lightning.

    Parameters
    ----------
    seed : int, optional
        Decides the shuffle, with the epoch; None keeps the order.
    """

    #: Lightning looks for one beside `sampler`.
    batch_sampler = None

    #: In a container they are zeros that nobody knows of.
    bad_pixels = None

    def __init__(
        self, container: PtychoDataContainerTorch, batch_size: int, seed: int | None
    ) -> None:
        self._container, self._batch_size, self._seed = container, batch_size, seed
        self._epoch = 0

    @property
    def sampler(self) -> "ContainerLoader":
        """Itself: Lightning sets the epoch through this attribute."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass, and with it the order."""
        self._epoch = epoch

    def reach(self, members: int) -> int:
        """Measure how far patterns lie from the centres of their groups.

        Returns
        -------
        int
            Pixels along an axis, rounded up; no group of any batch reaches farther.
        """
        return int(np.ceil(np.abs(self._container.local_offsets[..., :members].numpy()).max()))

    def __len__(self) -> int:
        return -(-len(self._container) // self._batch_size)

    def __iter__(self) -> Iterator[TensorDict]:
        order = np.arange(len(self._container))
        if self._seed is not None:
            order = np.random.default_rng((self._seed, self._epoch)).permutation(order)
        return self._container.as_batches(self._batch_size, order)


def train_container(
    config: TrainingConfig,
    container: PtychoDataContainerTorch,
    held_out: Any | None,
    execution: PyTorchExecutionConfig | None,
) -> ModelBundle:
    """Train a network on a container.

    Parameters
    ----------
    config : TrainingConfig
        What is trained; the groups are the container's, so grouping options do nothing more.

    Raises
    ------
    DataContractError
        If the groups do not fit the model, or the validation data are no container.
    """
    from ptychostream.training.callbacks import Description
    from ptychostream.training.fit import fit

    execution = execution or PyTorchExecutionConfig()
    check_supported(config, execution)
    if config.overlap_weight:
        raise ConfigurationError(
            f"overlap_weight={config.overlap_weight} needs a neighbour beyond each group, which a "
            "container does not have; train on a store, or set it to 0"
        )
    if config.scale_contract_version == "ci_intensity_v2":
        raise ConfigurationError(
            "scale_contract_version='ci_intensity_v2' compares with counts, but a container holds "
            "normalised amplitudes; train on a store, or set 'legacy_v1'"
        )
    refused: dict[str, Any] = {"validation_fraction": config.validation_fraction}
    if needs_labels(config):
        refused |= {
            "model_type": config.model.model_type,
            "realspace_mae_weight": config.realspace_mae_weight,
        }
    refused["recon_log_every_n_epochs"] = execution.recon_log_every_n_epochs
    unset = (0, None, "pinn")
    given = [f"{name}={value!r}" for name, value in refused.items() if value not in unset]
    if given:
        raise ConfigurationError(
            f"{', '.join(given)}: not available when training on a container; train on a store"
        )
    if execution.devices > 1:
        raise ConfigurationError(
            f"devices={execution.devices}: a container is not shared by processes; train on a store"
        )
    config = replace(
        config,
        overlap_weight=0.0,
        scale_contract_version="legacy_v1",
        measurement_domain=PROFILES["legacy_v1"],
        n_images=None,
    )
    shape = (config.model.N, config.model.N, config.model.group_size)
    for data in (container, held_out):
        if data is None:
            continue
        if not isinstance(data, PtychoDataContainerTorch):
            raise DataContractError(
                f"the training data are a container but the test data a {type(data).__name__}; "
                "make them a container too"
            )
        if data.shape[1:] != shape:
            raise DataContractError(
                f"the container's groups are {data.shape[1:]} but the model takes {shape}; set N "
                "and gridsize to fit"
            )
    probe = container.probe_modes[None]
    seed = config.subsample_seed or 0
    model = initial_model(
        config, cast("Any", SimpleNamespace(probe=probe, bad_pixels=None)), seed=seed
    )
    loaders: dict[str, LoaderFactory] = {
        "train": lambda *_: ContainerLoader(container, config.batch_size, seed)
    }
    if held_out is not None:
        loaders["validation"] = lambda *_: ContainerLoader(held_out, config.batch_size, None)
    scale = float(container.norm_Y_I)
    about = {"intensity_scale": scale, "probe_guess": probe}
    history = fit(config, execution, model, loaders, callbacks=[Description(config, about)])
    return ModelBundle(
        model=model.cpu().eval(),
        config=config,
        intensity_scale=scale,
        probe_guess=probe,
        history=history,
    )
