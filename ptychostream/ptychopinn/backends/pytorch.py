"""The PyTorch backend: training and inference of this package."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.batches.loader import make_loader
from ptychostream.datasets.batches.selection import select_groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.legacy import params
from ptychostream.persistence import ModelBundle, load_bundle, save_bundle
from ptychostream.ptychopinn.backends.base import Image, StitchingOptions
from ptychostream.ptychopinn.backends.training_data import as_store
from ptychostream.ptychopinn.container import PtychoDataContainerTorch
from ptychostream.ptychopinn.given_domain import warn_of_another_domain
from ptychostream.ptychopinn.raw_data import RawDataTorch
from ptychostream.ptychopinn.reassembly import reassemble_position
from ptychostream.stitching.phase_alignment import PhaseAlignment
from ptychostream.training.checks import check_supported
from ptychostream.training.train import train

if TYPE_CHECKING:
    from ptychostream.ptychopinn.backends.base import TrainingData

logger = logging.getLogger(__name__)


def train_cdi_model(
    train_data: "TrainingData",
    test_data: "TrainingData | None",
    config: TrainingConfig,
    execution_config: PyTorchExecutionConfig | None,
) -> dict[str, Any]:
    """Train a network, and write its archive into `config.output_dir`."""
    bundle = _train(train_data, test_data, config, execution_config)
    archive = save_bundle(bundle, config.output_dir)
    # Replaced in any case: the value of an earlier run belongs to other data.
    params.set("intensity_scale", bundle.intensity_scale)
    return {
        "backend": "pytorch",
        "history": bundle.history,
        "bundle": bundle,
        "models": {"autoencoder": bundle.model, "diffraction_to_obj": bundle},
        "archive": archive,
    }


def run_cdi_example(
    train_data: "TrainingData",
    test_data: "TrainingData | None",
    config: TrainingConfig,
    stitching: StitchingOptions,
    execution_config: PyTorchExecutionConfig | None,
) -> tuple[Image, Image, dict[str, Any]]:
    """Train a network, and stitch the object of the test data."""
    if stitching.do_stitching and test_data is None:
        raise DataContractError("do_stitching needs test_data: the object is stitched from them")
    results = train_cdi_model(train_data, test_data, config, execution_config)
    if test_data is None or not stitching.do_stitching:
        return None, None, results
    size = (execution_config and execution_config.inference_batch_size) or config.batch_size
    if isinstance(test_data, PtychoDataContainerTorch):
        patches, offsets = _predict(
            results["bundle"], test_data.as_batches(size), test_data.probe_modes[None]
        )
    else:
        with as_store(test_data, config) as store:
            patches, offsets = _predict(
                results["bundle"], _batches(store, config, size), store.probe, store.bad_pixels
            )
    moved = in_callers_axes(offsets, stitching)
    obj = reassemble_position(patches, moved, stitching.M)[..., 0]
    amplitude, phase = np.abs(obj), np.angle(obj)
    results |= {
        "obj_tensor_full": patches,
        "global_offsets": moved,
        "recon_amp": amplitude,
        "recon_phase": phase,
    }
    return amplitude, phase, results


def load_inference_bundle(archive: Path) -> tuple[ModelBundle, dict[str, Any]]:
    """Load a model, and restore the legacy dictionary that it was trained with."""
    return load_bundle(archive, backend="pytorch"), params.params()


def _train(
    train_data: "TrainingData",
    test_data: "TrainingData | None",
    config: TrainingConfig,
    execution: PyTorchExecutionConfig | None,
) -> ModelBundle:
    if isinstance(train_data, PtychoDataContainerTorch) and train_data.nphotons is not None:
        config = replace(config, nphotons=train_data.nphotons, n_images=None)
    if isinstance(train_data, RawDataTorch):
        warn_of_another_domain(train_data.scan, config)
    # Before data are prepared, which may take minutes.
    check_supported(config, execution or PyTorchExecutionConfig())
    with as_store(train_data, config) as store:
        if test_data is None:
            return train(config, store, execution=execution)
        with as_store(test_data, config) as held_out:
            return train(config, store, validation=held_out, execution=execution)


def _batches(store: GroupStore, config: TrainingConfig, batch_size: int) -> Iterable[TensorDict]:
    if store.num_experiments > 1:
        raise DataContractError(
            f"'{store.path}' holds {store.num_experiments} experiments: one is stitched; pass "
            "RawDataTorch.from_store(store, experiment)"
        )
    groups = select_groups(store, config)
    return make_loader(store, groups, batch_size=batch_size, order="table")


def _predict(
    bundle: ModelBundle,
    batches: Iterable[TensorDict],
    probe: NDArray[np.complex64],
    bad_pixels: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Predict the object around each group's centre, with the phases between them found."""
    bundle = replace(bundle, model=bundle.model.with_probe(probe, bad_pixels))
    logger.info("predicting on the CPU")
    patches, centres = [], []
    for batch in batches:
        amplitude = bundle.model.network_input(batch).movedim(1, -1) * bundle.intensity_scale
        patches.append(bundle.predict([amplitude, batch["coords_relative"].movedim(1, -1)]))
        centres.append(batch["coords_offsets"][:, 0, 0].numpy().astype(np.float64))
    objects, positions = np.concatenate(patches), np.concatenate(centres)
    light = bundle.model.scaled_probe(torch.zeros(1, dtype=torch.int64))[0].detach()
    alignment = PhaseAlignment(light.abs().square().sum(dim=0), positions)
    alignment.add(torch.as_tensor(objects[..., 0]), np.arange(len(positions)))
    turns = np.exp(1j * alignment.solve()).astype(np.complex64)
    return objects * turns[:, None, None, None], positions[:, None, :, None]


def in_callers_axes(
    offsets: NDArray[np.float64], stitching: StitchingOptions
) -> NDArray[np.float64]:
    """Mirror or transpose positions (B, 1, 2, 1) of data whose axes differ from the contract's."""
    signs = np.array([-1.0 if stitching.flip_x else 1.0, -1.0 if stitching.flip_y else 1.0])
    turned = offsets * signs[None, None, :, None]
    return turned[:, :, ::-1] if stitching.transpose else turned
