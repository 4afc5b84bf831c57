"""What a backend does, and how one is found by name."""

import logging
from importlib import import_module
from typing import Any, Protocol, cast

from ptychostream.errors import BackendUnavailableError, ConfigurationError

logger = logging.getLogger(__name__)


class Backend(Protocol):
    """Functions of a backend's module; `workflows` says what they take and return."""

    def train_cdi_model(
        self, train_data: Any, test_data: Any, config: Any, execution_config: Any
    ) -> dict[str, Any]:
        """Train a model."""

    def run_cdi_example(
        self,
        train_data: Any,
        test_data: Any,
        config: Any,
        *,
        flip_x: bool,
        flip_y: bool,
        transpose: bool,
        M: int,
        do_stitching: bool,
        execution_config: Any,
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Train a model, and stitch the object of the test data.

        Parameters
        ----------
        M : int
            Edge of the central window of a patch that is stitched.
        """

    def load_inference_bundle(self, directory: Any) -> tuple[Any, dict[str, Any]]:
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
    """Import a backend by name; there is no other one that is tried instead.

    Raises
    ------
    ConfigurationError
        If there is no such backend.
    BackendUnavailableError
        If it can't be imported; the message says what to install.
    """
    if name not in _BACKENDS:
        raise ConfigurationError(
            f"backend={name!r} is unknown; there are {', '.join(map(repr, sorted(_BACKENDS)))}"
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
