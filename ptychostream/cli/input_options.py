"""The options for reading scans, the same for all commands."""

from dataclasses import fields
from shlex import quote
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser
from numpy.typing import NDArray

from ptychostream.datasets.sources.options import InputOptions
from ptychostream.scan import Scan


def add_input_options(parser: ArgumentParser) -> None:
    """Add the options of `InputOptions` to a command's parser."""
    parser.add_class_arguments(InputOptions, None)


def input_options(parsed: Any) -> InputOptions:
    """Take the options of `InputOptions` out of what was parsed."""
    return InputOptions(**{item.name: getattr(parsed, item.name) for item in fields(InputOptions)})


def as_words(options: InputOptions) -> str:
    """Write options as a command line takes them."""
    return " ".join(
        f"--{name} {quote(str(value).lower() if isinstance(value, bool) else str(value))}"
        for name, value in options.given().items()
    )


def find_probe(scan: Scan, options: InputOptions) -> NDArray[np.complex64]:
    """Make a probe from the patterns; torch is imported only where that is asked for."""
    from ptychostream.solver.probe_from_patterns import find_probe

    return find_probe(scan, options)
