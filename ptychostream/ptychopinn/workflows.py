"""PtychoPINN's workflows: train, reconstruct, save and load; `config.backend` chooses the backend.

The order is fixed: the legacy dictionary is updated first, then the backend is looked up, then
its modules are imported. Nothing falls back to another backend.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptychostream.config.execution import check_execution_type
from ptychostream.errors import ConfigurationError
from ptychostream.legacy import params, update_legacy_dict
from ptychostream.ptychopinn.backends.base import Image, StitchingOptions, load_backend

if TYPE_CHECKING:
    from ptychostream.ptychopinn.backends.base import TrainingData

__all__ = [
    "load_inference_bundle",
    "load_inference_bundle_with_backend",
    "run_cdi_example",
    "run_cdi_example_with_backend",
    "save_outputs",
    "train_cdi_model",
    "train_cdi_model_with_backend",
]


def run_cdi_example(
    train_data: "TrainingData",
    test_data: "TrainingData | None",
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    torch_execution_config: PyTorchExecutionConfig | None = None,
) -> tuple[Image, Image, dict[str, Any]]:
    """Train a model, and stitch the object of the test data if it is wanted.

    Parameters
    ----------
    train_data, test_data : RawDataTorch, PtychoDataContainerTorch, GroupStore, Scan or path
        The scans; `test_data` may be None without stitching.
    config : TrainingConfig
        What is trained, and on which backend.
    flip_x, flip_y : bool
        Whether the sign of the positions' x or y is turned before stitching.
    transpose : bool
        Whether x and y of the positions change places, after that.
    M : int
        Edge of the central window of a patch that is stitched, in pixels.
    do_stitching : bool
        Whether the object is wanted.
    execution_config : PyTorchExecutionConfig, optional
        Where and how fast; for the PyTorch backend.
    torch_execution_config : PyTorchExecutionConfig, optional
        PtychoPINN's other name for `execution_config`.

    Returns
    -------
    amplitude : (P, P) float32 or None
        Of the object, on a canvas around the mean position; None without stitching.
    phase : (P, P) float32 or None
        In radians.
    results : dict
        `results['backend']` names the backend; the rest is as it returns it.

    Raises
    ------
    ConfigurationError
        If the backend is unknown, or can't do what is asked.
    BackendUnavailableError
        If it can't be imported.
    """
    update_legacy_dict(params.cfg, config)
    return load_backend(config.backend).run_cdi_example(
        train_data,
        test_data,
        config,
        StitchingOptions(
            do_stitching=do_stitching, flip_x=flip_x, flip_y=flip_y, transpose=transpose, M=M
        ),
        _one_of(execution_config, torch_execution_config),
    )


def train_cdi_model(
    train_data: "TrainingData",
    test_data: "TrainingData | None",
    config: TrainingConfig,
    execution_config: PyTorchExecutionConfig | None = None,
    *,
    torch_execution_config: PyTorchExecutionConfig | None = None,
) -> dict[str, Any]:
    """Train a model.

    Parameters
    ----------
    train_data, test_data : RawDataTorch, PtychoDataContainerTorch, GroupStore, Scan or path
        The scans; `test_data` may be None.
    config : TrainingConfig
        What is trained, and on which backend.
    execution_config : PyTorchExecutionConfig, optional
        Where and how fast; for the PyTorch backend.
    torch_execution_config : PyTorchExecutionConfig, optional
        PtychoPINN's other name for `execution_config`.

    Returns
    -------
    dict
        `backend`, `history`, and what else the backend returns.

    Raises
    ------
    ConfigurationError
        If the backend is unknown, or can't do what is asked.
    BackendUnavailableError
        If it can't be imported.
    """
    update_legacy_dict(params.cfg, config)
    return load_backend(config.backend).train_cdi_model(
        train_data, test_data, config, _one_of(execution_config, torch_execution_config)
    )


#: The names under which PtychoPINN chooses a backend; here the plain ones do.
run_cdi_example_with_backend = run_cdi_example
train_cdi_model_with_backend = train_cdi_model


def _one_of(
    execution: PyTorchExecutionConfig | None, same: PyTorchExecutionConfig | None
) -> PyTorchExecutionConfig | None:
    if execution is not None and same is not None:
        raise ConfigurationError(
            "execution_config and torch_execution_config are the same setting; pass one"
        )
    chosen = same if execution is None else execution
    check_execution_type(chosen)
    return chosen


def save_outputs(
    amplitude: NDArray[Any] | None,
    phase: NDArray[Any] | None,
    results: dict[str, Any],
    output_prefix: str | Path,
) -> list[Path]:
    """Save an object as pictures and arrays.

    Parameters
    ----------
    amplitude, phase : (H, W) float32 or None
        From `run_cdi_example`; None writes no picture.
    results : dict
        From `run_cdi_example`; its losses and the backend's name are kept with the arrays.
    output_prefix : str or Path
        Folder, made if need be.

    Returns
    -------
    list of Path
        `reconstructed_amplitude.png`, `reconstructed_phase.png` and `reconstruction.npz`.
    """
    from matplotlib.image import imsave

    folder = Path(output_prefix)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"backend": np.array(results.get("backend", "unknown"))}
    history = results.get("history", {})
    # Keras returns an object that holds its dictionary.
    for name, losses in getattr(history, "history", history).items():
        arrays[f"history_{name}"] = np.asarray(losses)
    written = []
    for name, image in (("amplitude", amplitude), ("phase", phase)):
        if image is not None:
            arrays[name] = np.squeeze(image)
            written.append(folder / f"reconstructed_{name}.png")
            imsave(written[-1], arrays[name], cmap="gray" if name == "amplitude" else "twilight")
    written.append(folder / "reconstruction.npz")
    np.savez_compressed(written[-1], **arrays)
    return written


def load_inference_bundle(
    directory: str | Path, *, backend: str | None = None
) -> tuple[Any, dict[str, Any]]:
    """Load a model with the backend that made it; the legacy dictionary is restored.

    Parameters
    ----------
    directory : str or Path
        Folder that holds `wts.h5.zip`, or the archive itself; for ours, what `load_bundle` takes.
    backend : str, optional
        The backend that the archive must belong to; None takes either.

    Returns
    -------
    model : ModelBundle, or PtychoPINN's Keras model
        With `predict`.
    values : dict
        The legacy dictionary of the model.

    Raises
    ------
    MissingFileError
        If there is no archive.
    DataContractError
        If it is no archive, or belongs to the other backend.
    BackendUnavailableError
        If its backend can't be imported.
    """
    # Imported late: where TensorFlow does the work, nothing of torch is imported for it.
    from ptychostream.persistence.open_archive import backend_of_file, check_backend, find_archive

    path = find_archive(directory)
    made_by = backend_of_file(path)
    check_backend(f"'{path}'", made_by, backend)
    return load_backend(made_by).load_inference_bundle(path)


def load_inference_bundle_with_backend(
    bundle_dir: str | Path,
    config: TrainingConfig | InferenceConfig,
    model_name: str = "diffraction_to_obj",
) -> tuple[Any, dict[str, Any]]:
    """Load a model, which must belong to the configuration's backend.

    Parameters
    ----------
    bundle_dir : str or Path
        Folder that holds `wts.h5.zip`, or the archive itself.
    config : TrainingConfig or InferenceConfig
        `backend` is the backend that the archive must belong to.
    model_name : str
        `diffraction_to_obj`, the model that predicts objects.

    Returns
    -------
    model : ModelBundle, or PtychoPINN's Keras model
        With `predict`.
    values : dict
        The legacy dictionary of the model.

    Raises
    ------
    ConfigurationError
        If another model is asked for.
    MissingFileError
        If there is no archive.
    DataContractError
        If it is no archive, or belongs to the other backend.
    BackendUnavailableError
        If its backend can't be imported.
    """
    if model_name != "diffraction_to_obj":
        raise ConfigurationError(
            f"model_name={model_name!r} is not loaded by itself; load 'diffraction_to_obj': with "
            "PyTorch, its `autoencode` gives what the other model returns"
        )
    return load_inference_bundle(bundle_dir, backend=config.backend)
