"""What a backend does, and how one is found by name."""

import logging
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import BackendUnavailableError, ConfigurationError

if TYPE_CHECKING:
    # For type checkers only: these need torch, which the TensorFlow backend does not.
    from ptychostream.datasets.store import GroupStore
    from ptychostream.ptychopinn.container import PtychoDataContainerTorch
    from ptychostream.ptychopinn.raw_data import RawDataTorch
    from ptychostream.scan import Scan

    #: Data to train on; the TensorFlow backend accepts PtychoPINN's own data, too.
    TrainingData: TypeAlias = (
        RawDataTorch | PtychoDataContainerTorch | GroupStore | Scan | str | Path
    )

logger = logging.getLogger(__name__)

Image: TypeAlias = NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True)
class StitchingOptions:
    """Whether and how `run_cdi_example` stitches an object, which describes each option."""

    do_stitching: bool
    flip_x: bool
    flip_y: bool
    transpose: bool
    M: int


class Backend(Protocol):
    """Functions of a backend's module; `workflows` documents what they take and return."""

    def train_cdi_model(
        self,
        train_data: "TrainingData",
        test_data: "TrainingData | None",
        config: TrainingConfig,
        execution_config: PyTorchExecutionConfig | None,
    ) -> dict[str, Any]:
        """Train a model."""

    def run_cdi_example(
        self,
        train_data: "TrainingData",
        test_data: "TrainingData | None",
        config: TrainingConfig,
        stitching: StitchingOptions,
        execution_config: PyTorchExecutionConfig | None,
    ) -> tuple[Image, Image, dict[str, Any]]:
        """Train a model, and stitch the object of the test data."""

    def load_inference_bundle(self, archive: Path) -> tuple[Any, dict[str, Any]]:
        """Load a model and its legacy dictionary."""


#: Name → its module, its name in messages, and what to install where it can't be imported.
_BACKENDS = {
    "pytorch": (
        "ptychostream.ptychopinn.backends.pytorch",
        "PyTorch",
        "pip install torch lightning tensordict",
    ),
    "tensorflow": (
        "ptychostream.ptychopinn.backends.tensorflow",
        "TensorFlow",
        "pip install tensorflow git+https://github.com/hoidn/PtychoPINN",
    ),
}


def load_backend(name: str) -> Backend:
    """Import a backend by name; no other one is tried instead.

    Raises
    ------
    ConfigurationError
        If there is no such backend.
    BackendUnavailableError
        If it can't be imported; the message says what to install.
    """
    if name not in _BACKENDS:
        raise ConfigurationError(
            f"backend={name!r} is unknown; choose one of {', '.join(map(repr, sorted(_BACKENDS)))}"
        )
    module, title, command = _BACKENDS[name]
    try:
        backend = import_module(module)
    except ImportError as error:
        raise BackendUnavailableError(
            f"{title} backend selected, but it can't be imported ({error}); {command}"
        ) from error
    logger.info("%s backend selected", title)
    return cast("Backend", backend)
