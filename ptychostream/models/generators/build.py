"""Build a generator by the name of its architecture."""

from ptychostream.config import ModelConfig
from ptychostream.config.ptychopinn_settings import advice_for_value
from ptychostream.errors import ConfigurationError
from ptychostream.models.generators.autoencoder import Autoencoder
from ptychostream.models.generators.base import Generator
from ptychostream.models.generators.fast import Fast
from ptychostream.models.generators.ffno import FactorizedFourierNetwork
from ptychostream.models.generators.fno import FourierNetwork
from ptychostream.models.generators.unrolled import Unrolled

GENERATORS: dict[str, type[Generator]] = {
    "cnn": Autoencoder,
    "fast": Fast,
    "ffno": FactorizedFourierNetwork,
    "fno": FourierNetwork,
    "unrolled": Unrolled,
}


def build_generator(config: ModelConfig) -> Generator:
    """Build the generator that a configuration names."""
    return _named(config).from_config(config)


def check_fields(config: ModelConfig) -> None:
    """Refuse fields that the chosen generator does not use, and values that it can't have."""
    chosen = _named(config)
    chosen.check_config(config)
    default = ModelConfig()
    for name in sorted(set().union(*(kind.fields for kind in GENERATORS.values()))):
        value, usual = getattr(config, name), getattr(default, name)
        if name in chosen.fields or value == usual:
            continue
        owners = [key for key, kind in GENERATORS.items() if name in kind.fields]
        raise ConfigurationError(
            f"{name}={value!r} has no meaning for architecture {config.architecture!r}, only for "
            f"{', '.join(owners)}; leave it at {usual!r}"
        )


def _named(config: ModelConfig) -> type[Generator]:
    if config.architecture not in GENERATORS:
        advice = advice_for_value("architecture", config.architecture)
        raise ConfigurationError(
            f"no architecture {config.architecture!r}; there are {', '.join(sorted(GENERATORS))}"
            f"{advice and f'; {advice}'}"
        )
    return GENERATORS[config.architecture]
