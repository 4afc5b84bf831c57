"""From the name of an architecture to its generator."""

from collections.abc import Callable

from ptychostream.config import ModelConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.generators.autoencoder import Autoencoder
from ptychostream.models.generators.base import Generator
from ptychostream.models.generators.unrolled import Unrolled

GENERATORS: dict[str, Callable[[ModelConfig], Generator]] = {
    "cnn": Autoencoder.from_config,
    "unrolled": Unrolled.from_config,
}


def build_generator(config: ModelConfig) -> Generator:
    """Build the generator that a configuration names.

    Parameters
    ----------
    config : ModelConfig
        `architecture` is a key of `GENERATORS`.

    Returns
    -------
    Generator
        With freshly initialised weights.

    Raises
    ------
    ConfigurationError
        If there is no such generator, or it can't be built for these sizes.
    """
    if config.architecture not in GENERATORS:
        raise ConfigurationError(
            f"no architecture {config.architecture!r}; there are {', '.join(sorted(GENERATORS))}"
        )
    return GENERATORS[config.architecture](config)
