"""Generators: from diffraction patterns to object patches. One a file, one line in `build`."""

from ptychostream.models.generators.base import Generator
from ptychostream.models.generators.build import GENERATORS, build_generator, check_fields

__all__ = ["GENERATORS", "Generator", "build_generator", "check_fields"]
